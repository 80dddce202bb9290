import csv
import json
import subprocess
import sys
from functools import partial

import pytest
import yaml
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare import compare, execute, expand_arms, load_recipe, search, sharing
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.search_space import Span, read_space

optuna = pytest.importorskip("optuna")
from neuropil.compare.search_study import Study  # noqa: E402

MODULE = sys.modules["neuropil.compare.search"]
SMALL = {
    "name": "small",
    "question": "Which is best at its best?",
    "model": {"hidden": [16, 16]},
    "training": {"epochs": 3, "batch_size": 128},
    "seeds": [0],
    "arms": {"mixer": {"pattern": "mixer", "n_groups": 4}},
}
RATE = {"training.learning_rate": "0.0001..1.0:log"}
DENSE = {"dense": {"pattern": "dense"}}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    def do(tasks, **_):
        for task in tasks:
            if task.summary is None:
                execute(task.recipe, task.folder)
            task.state = "done"

    monkeypatch.setattr(sharing, "do_tasks", do)


@pytest.fixture
def trials_alone(monkeypatch):
    """Search without the comparison at the end."""
    monkeypatch.setattr(MODULE, "compare", lambda *_, **__: [])
    monkeypatch.setattr(MODULE, "write_search_report", lambda *_: None)


def small(**changes):
    return parse_recipe({**SMALL, **changes})


def rows_of(path):
    with path.open() as file:
        return [*csv.DictReader(file)]


def test_all_arms_and_controls_have_one_budget_and_are_compared_at_their_best(monkeypatch, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    words = ["search", str(path), "--tune", "training.learning_rate=0.0001..1.0:log", "--trials", "4", "--out"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "s")], env={"COLUMNS": "150"})
    assert done.exit_code == 0, done.output
    folder = tmp_path / "s"
    rows = rows_of(folder / "trials.csv")
    arms = {row["arm"]: [other for other in rows if other["arm"] == row["arm"]] for row in rows}
    assert len(arms) == 4
    assert {len(trials) for trials in arms.values()} == {4}
    # the same values at first, and no figure of the test set
    assert len({tuple(row["training.learning_rate"] for row in trials[:3]) for trials in arms.values()}) == 1
    assert not list((folder / "trials").rglob("summary.json"))
    recipes = [yaml.safe_load(path.read_text()) for path in (folder / "trials").rglob("recipe.yaml")]
    assert {recipe["seed"] for recipe in recipes} == {1}
    # those that fall behind are stopped, and leave no weights
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    assert all(int(row["epochs"]) < 3 for row in pruned)
    ends = [json.loads(path.read_text()) for path in (folder / "trials").rglob("trial.json")]
    assert sorted(end["state"] for end in ends) == sorted(row["state"] for row in rows)
    assert not list((folder / "trials").rglob("checkpoint*"))
    # the best of those that were not is what is compared
    tuned = load_recipe(folder / "tuned.yaml")
    found = {arm.name: arm for arm in expand_arms(tuned)}
    assert found.keys() == arms.keys()
    for name, trials in arms.items():
        whole = [row for row in trials if row["state"] == "complete"]
        best = max(whole, key=lambda row: float(row["validation_accuracy"]))
        assert found[name].training == {"learning_rate": float(best["training.learning_rate"])}
        assert best["training.learning_rate"] in done.output
    assert len(list((folder / "tuned").rglob("summary.json"))) == 4
    assert "tuned/report.html" in (folder / "report.html").read_text()
    assert "4 trials of each arm" in tuned.source
    # once more: nothing is left to do
    monkeypatch.setattr("neuropil.compare.search_report.write_report", lambda _: None)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json*")}
    assert CliRunner().invoke(app, [*words, str(folder)]).exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json*")}
    # and what came out can be had without the search
    tasks = compare(tuned, tmp_path / "again")
    assert all("taken_from" in task.summary for task in tasks)


def test_a_search_goes_on_where_it_was_interrupted(trials_alone, monkeypatch, tmp_path):
    seek = partial(search, small(arms=DENSE), space=RATE, trials=5, pruner="none")
    whole = seek(folder=tmp_path / "whole")
    count = 0

    def interrupted(*arguments, after_epoch, **others):
        def stop(record):
            nonlocal count
            count += 1
            if count in (4, 8):  # after an epoch of the second trial, and of the third
                raise KeyboardInterrupt
            after_epoch(record)

        return execute(*arguments, after_epoch=stop, **others)

    monkeypatch.setattr(MODULE, "execute", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            seek(folder=tmp_path / "s")
    resumed = seek(folder=tmp_path / "s")
    assert [(t.values, t.accuracy, t.epochs, t.state) for t in resumed.arms[0].trials] == [
        (t.values, t.accuracy, t.epochs, t.state) for t in whole.arms[0].trials
    ]
    assert resumed.recipe == whole.recipe
    assert count == 15  # epochs: none was done twice


def test_the_same_values_are_not_tried_twice(trials_alone, monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(MODULE, "execute", lambda made, run, **others: (done.append(run), execute(made, run, **others)))
    found = search(small(arms=DENSE), tmp_path / "s", {"training.learning_rate": [0.01, 0.1]}, trials=6, pruner="none")
    assert len(found.arms[0].trials) == 6
    assert len(done) == len(set(done)) == 2


def test_controls_are_those_of_the_chosen_wiring(trials_alone, tmp_path):
    space = {"p_inter": [0.0, 0.5], "training.learning_rate": [0.01]}
    found = search(small(), tmp_path / "s", space, trials=2, epochs=1)
    mixer = found.arms[0]
    assert mixer.values.keys() == space.keys()
    controls = [arm for arm in found.arms if arm.is_control]
    assert {arm.name for arm in controls} == {arm.name for arm in expand_arms(found.recipe) if arm.is_control}
    assert [arm.values for arm in controls] == [{"training.learning_rate": 0.01}] * 3
    assert {len(arm.trials) for arm in found.arms} == {2}


def test_a_failed_trial_counts_and_says_why(trials_alone, monkeypatch, tmp_path):
    calls = []

    def fails_first(*arguments, **others):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return execute(*arguments, **others)

    monkeypatch.setattr(MODULE, "execute", fails_first)
    found = search(small(arms=DENSE), tmp_path / "s", RATE, trials=2, epochs=1)
    assert [(trial.state, trial.reason) for trial in found.arms[0].trials] == [
        ("failed", "RuntimeError: out of memory"),
        ("complete", None),
    ]
    monkeypatch.setattr(MODULE, "execute", lambda *_, **__: fails())
    with pytest.raises(ValueError, match="arms.dense: a trial must end well, got none of 2, the first because no"):
        search(small(arms=DENSE), tmp_path / "t", RATE, trials=2, epochs=1)


def fails():
    raise ValueError("no")


OTHER = """
import sys, time
from pathlib import Path
from neuropil.compare.search_space import read_space
from neuropil.compare.search_study import Study
spaces = {arm: read_space({"x": "0.0..1.0"}) for arm in "ab"}
with Study(Path(sys.argv[1]), trials=10, epochs=1, seed=0, pruner="none") as study:
    for _ in range(4):
        study.complete(study.propose(spaces), 1.0)
    print(study.propose(spaces).values["x"], flush=True)
    time.sleep(600)
"""


def test_processes_share_the_trials_and_those_of_the_dead_are_taken_up(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    spaces = {arm: read_space({"x": "0.0..1.0"}) for arm in "ab"}
    try:
        with Study(tmp_path, trials=10, epochs=1, seed=0, pruner="none") as study:
            held = float(other.stdout.readline())  # by now it has done four, and is at work on a fifth
            for _ in range(8):
                study.complete(study.propose(spaces), 0.5)
            other.kill()
            other.wait()
            values = []
            while (proposal := study.propose(spaces)) is not None:
                values.append(proposal.values["x"])
                study.complete(proposal, 0.5)
            assert held in values
            for arm in "ab":
                trials = study.ended(arm, spaces[arm])
                assert len(trials) == 10
                assert sum(trial.accuracy == 1.0 for trial in trials) == 2
                assert len({trial.values["x"] for trial in trials}) == 10
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path):
    spaces = {"a": read_space({"x": "0.0..1.0"})}
    make = partial(Study, tmp_path, trials=2, epochs=1, seed=0, pruner="none")
    with make() as study:
        study.complete(study.propose(spaces), 1.0)
    with (tmp_path / "study.journal").open("a") as file:
        file.write('{"op_code": 4, "wor')
    with make() as study:
        study.complete(study.propose(spaces), 0.5)
        assert [trial.accuracy for trial in study.ended("a", spaces["a"])] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("changes", "space", "sentence"),
    [
        ({}, {}, "search needs a setting to tune, got none"),
        ({}, {"training.learning_rte": [1]}, "training.learning_rte must be the same.*; try 'learning_rate'"),
        ({}, {"training.epochs": [1, 2]}, "search: training.epochs must be the same for all arms"),
        ({}, {"p_iter": [0.1]}, "search: p_iter must be a setting of an arm; try 'p_inter'"),
        ({}, {"learning_rate": [0.1]}, "search: learning_rate must be a setting .*; try 'training.learning_rate'"),
        ({}, {"start.alpha": [1]}, "search: start.alpha must be a setting of an arm"),
        ({}, {"p_inter": "0.0..2.0"}, r"arms.mixer with p_inter = 2.0: Ensembles: p_inter must lie in \[0, 1\]"),
        ({}, {"training.learning_rate": "0.1..0.01"}, "must go from a lower to a higher number, got 0.1..0.01"),
        ({}, {"training.learning_rate": "0.0..0.1:log"}, "to a higher number above 0, got 0.0..0.1:log"),
        ({}, {"training.learning_rate": "0.1-0.2"}, "must be LOW..HIGH or a list of values, got '0.1-0.2'"),
        ({}, {"training.learning_rate": []}, r"training.learning_rate must be a list of values, got \[\]"),
        ({"folds": 2}, RATE, "search needs the validation split, got folds"),
        ({"grid": {"training.epochs": [1, 2]}}, RATE, "search: training.epochs must be one value, got a grid"),
        ({"arms": {"m": {"pattern": "dense", "tune": {"start": ["kaiming"]}}}}, RATE, "arms.m must not be tuned by"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_begun(changes, space, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        search(small(**changes), tmp_path / "s", space)
    assert not (tmp_path / "s").exists()


def test_other_mistakes_and_a_missing_package(monkeypatch, trials_alone, tmp_path):
    seek = partial(search, small(arms=DENSE), tmp_path / "s", RATE, epochs=1)
    with pytest.raises(ValueError, match="search: trials must be at least 1, got 0"):
        seek(trials=0)
    with pytest.raises(ValueError, match="search: arms must be among dense, got 'dence'; try 'dense'"):
        seek(arms=["dence"])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)
        with pytest.raises(ValueError, match=r"search needs optuna; try pip install 'neuropil\[search\]'"):
            seek()
    assert not (tmp_path / "s").exists()
    seek(trials=1)
    with pytest.raises(ValueError, match="belongs to another search: trials differs, 1 there and 2 here; try another"):
        seek(trials=2)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "comparison.yaml").touch()
    with pytest.raises(ValueError, match="must be a search's folder, got a comparison's"):
        search(small(), tmp_path / "c", RATE)
    done = CliRunner().invoke(app, ["search", "digits", "--tune", "p_inter", "--out", str(tmp_path / "d")])
    assert "--tune must be SETTING=CHOICE, got 'p_inter'" in str(done.exception)


def test_spans_are_read_and_their_values_rounded():
    space = read_space({"a": "1e-4..1e-1:log", "b": "1..8", "c": Span(0.5, 1.0)})
    assert space == {"a": Span(0.0001, 0.1, log=True), "b": Span(1, 8, whole=True), "c": Span(0.5, 1.0)}
    assert [read_space({"x": str(span)})["x"] for span in space.values()] == [*space.values()]
    assert space["a"].rounded(0.000100001) == 0.0001
    assert space["a"].rounded(0.0123456) == 0.0123
    assert space["b"].rounded(3) == 3
