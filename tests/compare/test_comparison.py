import json
import subprocess
import sys
import time

import pytest
import yaml

from neuropil.compare import compare, execute, expand_arms, load_recipe, run_recipe
from neuropil.compare.parallel import Task, do_tasks
from neuropil.compare.recipe import parse_recipe
from neuropil.train import Run, RunError


@pytest.fixture
def recipe():
    return parse_recipe(
        {
            "name": "small",
            "question": "Does it run?",
            "model": {"hidden": [16, 16]},
            "training": {"epochs": 2, "batch_size": 128},
            "seeds": 1,
            "arms": {"mixer": {"pattern": "mixer", "n_groups": 4}},
        }
    )


def contents(folder, name):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(name)) if path.is_file()}


def test_every_run_is_done_and_none_twice(recipe, tmp_path):
    seen = []
    tasks = compare(recipe, tmp_path / "c", jobs=2, on_progress=lambda t: seen.append([task.state for task in t]))
    assert [task.state for task in tasks] == ["done"] * 4
    assert seen[-1] == ["done"] * 4
    summaries = contents(tmp_path / "c", "summary.json")
    assert len(summaries) == 4
    assert all(json.loads(text)["status"] == "finished" for text in summaries.values())
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("summary.json")}
    compare(recipe, tmp_path / "c", jobs=2)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("summary.json")}


def test_a_run_that_fails_does_not_stop_the_others(recipe, tmp_path):
    tasks = [
        Task(run_recipe(recipe, arm, 0), tmp_path / arm.name) for arm in expand_arms(recipe) if arm.name != "mixer"
    ]
    tasks[0].recipe["model"]["layers"] = [{"pattern": "nonsense"}] * 2
    do_tasks(tasks, jobs=2, threads=1)
    assert [task.state for task in tasks] == ["failed", "done", "done"]
    assert "pattern must be one of" in tasks[0].failure
    assert tasks[1].failure is None


def test_a_folder_of_another_recipe_is_refused_before_anything_runs(recipe, tmp_path):
    compare(recipe, tmp_path / "c", jobs=2)
    before = contents(tmp_path / "c", "*.*")
    other = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 5})})
    with pytest.raises(RunError, match="belongs to another recipe: training.epochs is 2 there and 5 here"):
        compare(other, tmp_path / "c", jobs=2)
    assert contents(tmp_path / "c", "*.*") == before


def test_bundled_recipes_run_with_a_small_budget(tmp_path):
    recipe = load_recipe("digits", ["epochs=1", "seeds=1"])
    tasks = compare(recipe, tmp_path / "digits", jobs=2)
    assert {task.state for task in tasks} == {"done"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_workers_end_with_whoever_asked_for_them(recipe, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump()))
    command = [
        sys.executable,
        "-m",
        "neuropil",
        "compare",
        str(path),
        "epochs=100000",
        "--jobs",
        "1",
        "--out",
        str(tmp_path / "o"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "o").rglob("metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    (metrics,) = (tmp_path / "o").rglob("metrics.jsonl")
    while time.monotonic() < deadline:
        before = metrics.read_text()
        time.sleep(0.5)
        if metrics.read_text() == before:
            return
    raise AssertionError("the worker goes on without its parent")


def test_two_processes_keep_off_each_others_run(recipe, tmp_path):
    arm = expand_arms(recipe)[0]
    run = Run(tmp_path / "run", run_recipe(recipe, arm, 0))
    with run.held(), pytest.raises(RunError, match="another process is at work on"):
        execute(run_recipe(recipe, arm, 0), tmp_path / "run")
