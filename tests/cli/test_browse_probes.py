"""What the command says of probes."""

import pytest
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare.probes import PROBES


def output(*words: str) -> str:
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == 0
    return " ".join(done.stdout.split())


def test_probes_are_listed() -> None:
    listed = output("list", "probes")
    assert all(name in listed for name in PROBES)
    assert "ensembles" not in listed
    assert "representation-change" in output("list")


@pytest.mark.parametrize("name", PROBES)
def test_each_is_shown(name: str) -> None:
    shown = output("show", name)
    for text in (f"probe {name}", PROBES[name].source, *PROBES[name].quantities, f"n_samples {PROBES[name].n_samples}"):
        assert text in shown


def test_the_recipe_says_how_to_have_them() -> None:
    shown = output("show", "recipe")
    assert "probes [] measures recorded in the course of training" in shown
    assert "{measure: NAME, every: STEPS, epochs: [0, 5, …]" in shown
