import json
import shutil

import pytest
import yaml

from neuropil.compare import compare, execute, run_identity, sharing
from neuropil.compare.recipe import parse_recipe
from neuropil.train.environment import describe_environment

SMALL = {
    "name": "small",
    "question": "Is it done twice?",
    "model": {"hidden": [16, 16]},
    "training": {"epochs": 1, "batch_size": 256},
    "seeds": 1,
    "arms": {"a": {"pattern": "dense"}, "b": {"pattern": "dense"}},
}


@pytest.fixture
def asked(monkeypatch):
    """Do tasks in this process; give the folders of those that were to be done."""
    asked = []

    def do(tasks, *, jobs, keep_checkpoints=False, on_progress=None, **others):
        for task in tasks:
            if task.summary is None:
                asked.append("/".join(task.folder.parts[-3:]))
                execute(task.recipe, task.folder, keep_checkpoint=keep_checkpoints)
            task.state = "done"

    monkeypatch.setattr(sharing, "do_tasks", do)
    return asked


@pytest.fixture
def here(monkeypatch, made_up):
    """Write a comparison whose runs were all made on this machine; give its folder."""
    folder = made_up.comparison(seeds=1, arms={"mixer": {"pattern": "mixer", "n_groups": 8}})
    write_environments(folder)
    return folder


def write_environments(folder, **changes):
    facts = {**describe_environment(), "threads": 1, **changes}
    for path in folder.rglob("environment.json"):
        path.write_text(json.dumps(facts))


def again(made_up, **changes):
    """Return the same comparison by other names."""
    return made_up.recipe(name="again", seeds=1, arms={"m": {"pattern": "mixer", "n_groups": 8}}, **changes)


def summary(folder, arm):
    return json.loads((folder / arm / "seed-0" / "summary.json").read_text())


def test_runs_of_another_comparison_are_taken_over(here, made_up, asked, tmp_path):
    tasks = compare(again(made_up), tmp_path / "again")
    assert asked == []
    assert {task.state for task in tasks} == {"done"}
    source, copy = here / "mixer" / "seed-0", tmp_path / "again" / "m" / "seed-0"
    expected = {**json.loads((source / "summary.json").read_text()), "taken_from": "made-up/mixer/seed-0"}
    assert json.loads((copy / "summary.json").read_text()) == expected
    assert (copy / "metrics.jsonl").read_bytes() == (source / "metrics.jsonl").read_bytes()
    assert (copy / "environment.json").read_bytes() == (source / "environment.json").read_bytes()
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    assert (recipe["comparison"], recipe["arm"]) == ("again", "m")
    assert run_identity(recipe) == run_identity(yaml.safe_load((source / "recipe.yaml").read_text()))


@pytest.mark.parametrize("changed", [{"threads": 2}, {"processor": "another"}, {"torch": "1.0"}, {"commit": "abc"}])
def test_runs_of_another_machine_or_version_are_not(here, made_up, asked, tmp_path, changed, monkeypatch):
    write_environments(here, **changed)
    monkeypatch.setattr(sharing, "do_tasks", lambda tasks, **_: asked.extend(task.folder for task in tasks))
    tasks = compare(again(made_up), tmp_path / "again")
    assert asked == [task.folder for task in tasks]
    assert not list((tmp_path / "again").rglob("summary.json"))


def test_another_root_is_looked_through(here, made_up, asked, tmp_path):
    place = tmp_path / "deep" / "below"
    compare(again(made_up), place / "again", root=tmp_path)
    assert asked == []
    assert summary(place / "again", "m")["taken_from"] == "made-up/mixer/seed-0"


def test_folders_that_are_no_comparison_are_not_looked_into(here, made_up, asked, tmp_path, monkeypatch):
    (here / "comparison.yaml").unlink()
    monkeypatch.setattr(sharing, "do_tasks", lambda tasks, **_: asked.extend(task.folder for task in tasks))
    tasks = compare(again(made_up), tmp_path / "again")
    assert asked == [task.folder for task in tasks]


def test_with_ray_whose_machines_are_not_known_nothing_is_taken_over(here, made_up, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "do_tasks", lambda tasks, **_: asked.extend(task.folder for task in tasks))
    tasks = compare(again(made_up), tmp_path / "again", on="ray")
    assert asked == [task.folder for task in tasks]


def test_a_half_done_run_gives_way(here, made_up, asked, tmp_path):
    compare(again(made_up), tmp_path / "again")
    run = tmp_path / "again" / "m" / "seed-0"
    (run / "summary.json").unlink()  # as if killed at any moment before
    (run / "checkpoint-00001.safetensors").write_bytes(b"half")
    (run / "failure.json").write_text("{}")
    compare(again(made_up), tmp_path / "again")
    assert asked == []
    assert not list(run.glob("checkpoint-*"))
    assert not (run / "failure.json").exists()
    assert summary(tmp_path / "again", "m")["taken_from"] == "made-up/mixer/seed-0"


def test_of_two_arms_that_are_one_run_one_is_done(asked, tmp_path):
    seen = []
    compare(parse_recipe(SMALL), tmp_path / "c", keep_checkpoints=True, on_progress=lambda t: seen.append(len(t)))
    assert asked == ["c/a/seed-0"]
    assert seen[-1] == 2
    first, second = summary(tmp_path / "c", "a"), summary(tmp_path / "c", "b")
    assert second == {**first, "taken_from": "c/a/seed-0"}
    weights = [(tmp_path / "c" / arm / "seed-0" / "checkpoint-00001.safetensors").read_bytes() for arm in "ab"]
    assert weights[0] == weights[1]
    shutil.rmtree(tmp_path / "c" / "a")  # now the other one is what the first takes over
    compare(parse_recipe(SMALL), tmp_path / "c")
    assert asked == ["c/a/seed-0"]
    assert summary(tmp_path / "c", "a")["taken_from"] == "c/b/seed-0"


def test_where_weights_are_kept_they_must_be_there(asked, tmp_path):
    small = {**SMALL, "arms": {"a": {"pattern": "dense"}}}
    compare(parse_recipe(small), tmp_path / "c")
    compare(parse_recipe(small), tmp_path / "d", keep_checkpoints=True)
    assert asked == ["c/a/seed-0", "d/a/seed-0"]


def test_both_fail_where_one_does(monkeypatch, tmp_path):
    def fail(tasks, **_):
        for task in tasks:
            task.state, task.failure = "failed", "out of memory"

    monkeypatch.setattr(sharing, "do_tasks", fail)
    tasks = compare(parse_recipe(SMALL), tmp_path / "c")
    assert [task.state for task in tasks] == ["failed"] * 2
    assert tasks[1].failure.endswith("a/seed-0: out of memory")


def test_the_report_says_what_was_taken_over(here, made_up, asked, tmp_path):
    from neuropil.compare.notices import collect_notices
    from neuropil.compare.results import load_results

    compare(again(made_up), tmp_path / "again")
    notices = {notice.text: notice.runs for notice in collect_notices(load_results(tmp_path / "again"))}
    text = "The same run had been done as made-up/mixer, and was not repeated: its times were measured there."
    assert notices[text] == ("m (seed 0)",)
