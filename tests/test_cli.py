import io
import json
import logging
import re
import statistics
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest
import yaml
from typer.testing import CliRunner

from neuropil import __version__
from neuropil.cli.main import app, main
from neuropil.compare import bundled_recipes
from neuropil.compare.registry import ARRANGEMENTS, PATTERNS, REWIRINGS
from neuropil.data import SOURCES

SMALL = {
    "name": "small",
    "question": "Does it run?",
    "model": {"hidden": [16, 16]},
    "training": {"epochs": 2, "batch_size": 128},
    "seeds": 1,
    "arms": {"mixer": {"pattern": "mixer", "n_groups": 4}},
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def neuropil(monkeypatch):
    """Run the command as a user does, but in this process: exit status, output and errors."""

    def run(*words, cwd=None):
        monkeypatch.setattr(sys, "argv", ["neuropil", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "100")
        if cwd is not None:
            monkeypatch.chdir(cwd)
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
            try:
                main()
                status = 0
            except SystemExit as exit:
                status = exit.code or 0
        return Done(status, out.getvalue(), errors.getvalue())

    return run


def unwrapped(text):
    return " ".join(text.split())


def test_help_names_every_command(neuropil):
    done = neuropil("--help")
    assert done.returncode == 0
    for command in ("compare", "run", "search", "report", "list", "show", "data"):
        assert re.search(rf"\b{command}\b", done.stdout)
    assert neuropil("--version").stdout.strip() == f"neuropil {__version__}"


@pytest.mark.parametrize(
    "command", [["compare"], ["run"], ["search"], ["report"], ["list"], ["show"], ["data", "check"]]
)
def test_every_command_explains_itself(command):
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


def test_list_and_show():
    runner = CliRunner()
    listed = runner.invoke(app, ["list"]).stdout
    for name in (*bundled_recipes(), *PATTERNS, *ARRANGEMENTS, *REWIRINGS, *SOURCES):
        assert name in listed
        shown = runner.invoke(app, ["show", name])
        assert shown.exit_code == 0, name
        assert len(shown.stdout.splitlines()) >= 3
    assert "p_inter" in runner.invoke(app, ["show", "ensembles"]).stdout
    assert "2508.14140" in runner.invoke(app, ["show", "ensembles"]).stdout
    assert "training.epochs" in runner.invoke(app, ["show", "recipe"]).stdout
    assert "cifar-10" not in runner.invoke(app, ["list", "patterns"]).stdout
    shown = unwrapped(runner.invoke(app, ["show", "recipe"]).stdout)
    for text in ("folds None", "fold_order stratified", "intra_only False", "sweep: {setting: a list of values, …}"):
        assert text in shown


def test_list_and_show_rewiring():
    runner = CliRunner()
    listed = runner.invoke(app, ["list", "rewiring"]).stdout
    assert "RigL: drop the smallest weights" in listed
    assert "mixer" not in listed
    shown = runner.invoke(app, ["show", "rigl"]).stdout
    for text in ("1911.11134", "fraction     0.3", "until        0.75", "an arm: {pattern: mixer, rewiring: rigl}"):
        assert text in shown
    shown = runner.invoke(app, ["show", "gmp"]).stdout
    assert "(required)" in shown
    assert "rewiring: {rule: gmp, density: …}" in shown
    assert "rewiring: NAME or {rule: NAME, setting: value, …}" in unwrapped(
        runner.invoke(app, ["show", "recipe"]).stdout
    )


def test_names_to_show_are_no_two_things():
    names = [*bundled_recipes(), *PATTERNS, *ARRANGEMENTS, *REWIRINGS, "recipe"]
    assert len(set(names)) == len(names)
    assert not {*REWIRINGS, *PATTERNS} & {*SOURCES}


def test_compare_prints_a_table_and_writes_report_and_csv(neuropil, recipe, tmp_path):
    done = neuropil("compare", recipe, "epochs=1", "--out", tmp_path / "out", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("mixer", "dense-16", "erdos-renyi", "accuracy", "nothing can be concluded"):
        assert word in unwrapped(done.stdout)
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 5
    assert neuropil("report", tmp_path / "out").returncode == 0


def test_run_and_resume(neuropil, recipe, tmp_path):
    done = neuropil("run", recipe, "--seed", 3, "--arm", "dense-16", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "dense-16, seed 3: test accuracy" in done.stdout
    folder = tmp_path / "out" / "dense-16" / "seed-3"
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    assert len(list(folder.glob("checkpoint-*.safetensors"))) == 1
    assert neuropil("run", recipe, "--seed", 3, "--arm", "dense-16", "--out", tmp_path / "out").stdout == done.stdout


def test_run_does_all_folds_of_a_seed(neuropil, recipe, tmp_path):
    done = neuropil("run", recipe, "folds=3", "epochs=1", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert re.match(
        r"mixer, seed 0: accuracy on 3 held-out folds \d+\.\d\d ± \d+\.\d\d % after 1 epochs, ", done.stdout
    )
    folders = sorted((tmp_path / "out" / "mixer" / "seed-0").iterdir())
    assert [folder.name for folder in folders] == ["fold-0", "fold-1", "fold-2"]
    accuracies = [json.loads((folder / "summary.json").read_text())["test_accuracy"] for folder in folders]
    assert f"{100 * statistics.mean(accuracies):.2f} ± {100 * statistics.pstdev(accuracies):.2f} %" in done.stdout
    assert "test" not in unwrapped(done.stdout).replace(str(tmp_path), "")


def test_compare_with_folds_says_what_is_counted(neuropil, recipe, tmp_path):
    done = neuropil("compare", recipe, "folds=2", "epochs=1", "--out", tmp_path / "out", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    said = unwrapped(done.stdout)
    assert "folds" in said.partition("mixer")[0]
    assert "The sample is the folds, all of them with seed 0; they are not independent" in said
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 1 + 4 * 2


def test_the_first_arm_may_be_swept(neuropil, recipe, tmp_path):
    sweep = "arms.mixer.sweep.p_inter=[0,.1]"
    done = neuropil("run", recipe, sweep, "epochs=1", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mixer-0, seed 0: test accuracy")
    done = neuropil("run", recipe, sweep, "--arm", "mixer", "--out", tmp_path / "out")
    assert "--arm must be one of" in unwrapped(done.stderr)


def test_divergence_is_reported(neuropil, recipe, tmp_path):
    settings = ["training.optimizer=sgd", "training.learning_rate=1e30", "training.schedule=constant"]
    done = neuropil("run", recipe, *settings, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "the loss diverged" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare", "digit"], "recipe must be the path of a YAML file or one of .*, got 'digit'; try 'digits'"),
        (["compare", "digits", "epoch=3"], "setting 'epoch' is unknown; try 'training.epochs'"),
        (["compare", "digits", "epochs=many"], "training.epochs: input should be a valid integer.*, got 'many'"),
        (["compare", "digits", "arms.mixer.p_inter=2"], r"arms.mixer: Ensembles: p_inter must lie in \[0, 1\], got 2"),
        (
            ["compare", "digits", "hidden=[100, 100]"],
            "out_features must be divisible by n_groups, got 100 and 8; try 96",
        ),
        (["compare", "digits", "arms.index.p_intra=0", "arms.index.p_inter=0"], "at least one connection, got none"),
        (["compare", "mnist-but-not", "--jobs", "2"], "recipe must be the path"),
        (["compare", "digits", "folds=1"], "folds: input should be greater than or equal to 2, got 1"),
        (["compare", "digits", "folds=2000"], "folds must be at most 1078, the training images of digits, got 2000"),
        (["compare", "digits", "arms.mixer.sweep.p_inter=3"], r"sweep.p_inter must be a list of values, got 3"),
        (["run", "digits", "--arm", "mixr"], "--arm must be one of .*, got 'mixr'; try 'mixer'"),
        (["report", "nowhere"], "nowhere"),
        (
            ["list", "pattern"],
            "topic must be one of recipes, patterns, rewiring, rules, initialization, probes, data, got 'pattern'; try 'patterns'",
        ),
        (["show", "ensemble"], "name must be one that `neuropil list` shows, got 'ensemble'; try 'ensembles'"),
        (["show", "riggl"], "name must be one that `neuropil list` shows, got 'riggl'; try 'rigl'"),
        (["data", "check", "digit"], "name must be one of digits, .*, got 'digit'; try 'digits'"),
    ],
)
def test_a_users_mistake_is_one_sentence(neuropil, words, sentence, tmp_path):
    done = neuropil(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(sentence, unwrapped(done.stderr))
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("neuropil: ")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_data(neuropil, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        (folder / name).write_bytes(b"\0\0\x08\x07 no")
    done = neuropil("data", "check", "--data", tmp_path)
    assert done.returncode == 2
    assert "magic number" in unwrapped(done.stdout)
    assert "missing" in done.stdout
    done = neuropil("compare", "digits", "data.name=mnist", "--data", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "magic number" in unwrapped(done.stderr)
    assert not list((tmp_path / "out").rglob("summary.json"))
    assert neuropil("data", "check", "digits").returncode == 0


def test_a_folder_of_another_recipe_is_left_alone(neuropil, recipe, tmp_path):
    assert neuropil("run", recipe, "--out", tmp_path / "out").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    done = neuropil("run", recipe, "epochs=7", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "belongs to another recipe: training.epochs is 2 there and 7 here" in unwrapped(done.stderr)
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_is_passed_over_and_said(neuropil, recipe, tmp_path):
    neuropil("run", recipe, "--out", tmp_path / "out")
    folder = tmp_path / "out" / "mixer" / "seed-0"
    (folder / "summary.json").unlink()
    (checkpoint,) = folder.glob("checkpoint-*.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    done = neuropil("run", recipe, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert "checkpoint-00002.safetensors cannot be read" in (folder / "log.txt").read_text()
    assert any("starting anew" in w for w in json.loads((folder / "summary.json").read_text())["warnings"])


def test_the_command_leaves_the_log_to_others():
    assert logging.getLogger("neuropil").level == logging.NOTSET
