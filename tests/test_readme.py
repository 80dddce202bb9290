"""The README's examples run, and its commands exist."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare import load_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def test_python_examples_run():
    examples = "\n".join(code for language, code in BLOCKS if language == "pycon")
    test = doctest.DocTestParser().get_doctest(examples, {}, "README.md", "README.md", 0)
    assert test.examples
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.failed == 0


COMMANDS = [
    line for language, code in BLOCKS if language == "sh" for line in code.splitlines() if line.startswith("neuropil ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist(line):
    words = shlex.split(line.partition(" #")[0])[1:]
    command = words[: 2 if words[0] == "data" else 1]
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0
    if words[0] in ("compare", "run"):
        positional = [word for word in words[1:] if not word.startswith("--")]
        load_recipe(positional[0], [word for word in positional[1:] if "=" in word])


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(re.findall(r"make (\w+)", " ".join(code for language, code in BLOCKS if language == "sh"))) <= set(
        targets
    )
