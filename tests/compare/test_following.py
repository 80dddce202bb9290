"""Runs of a comparison are followed from their folders alone."""

import json

import pytest
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare import Following
from neuropil.compare.arms import expand_arms
from neuropil.compare.comparison import list_tasks
from neuropil.compare.execute import execute
from neuropil.compare.results import load_results

pytest.importorskip("tensorboard", reason="neuropil[tracking] is not installed")


def steps(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, round(event.value, 6)) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.fixture
def tasks(made_up):
    folder = made_up.comparison(seeds=1)
    recipe = load_results(folder).recipe
    return list_tasks(recipe, expand_arms(recipe), recipe.seeds, folder)


def test_every_run_is_sent_once(tasks, made_up):
    mixer = next(task for task in tasks if task.recipe["arm"] == "mixer")
    lines = (mixer.folder / "metrics.jsonl").read_text().splitlines()
    mixer.state = "running"
    (mixer.folder / "metrics.jsonl").write_text(lines[0] + "\n" + lines[1][:10])  # half a line, as while it is written
    with Following(["tensorboard"], made_up.folder) as following:
        following.update(tasks)
        following.update(tasks)
    board = made_up.folder / "tensorboard"
    assert sorted(path.name for path in board.iterdir()) == ["mixer"]  # all others wait
    assert steps(board / "mixer" / "seed-0")["validation_accuracy"] == [(1, 0.5)]
    (mixer.folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    for task in tasks:
        task.state = "done"
    for _ in range(2):  # the second command finds everything there
        with Following(["tensorboard"], made_up.folder) as following:
            following.update(tasks)
            following.update(tasks)
    for task in tasks:
        found = steps(board / task.recipe["arm"] / "seed-0")
        accuracy = json.loads((task.folder / "summary.json").read_text())["test_accuracy"]
        assert [step for step, _ in found["validation_accuracy"]] == [1, 2]
        assert found["final/test_accuracy"] == [(2, pytest.approx(accuracy))]


def test_a_word_that_is_no_tracker(made_up):
    with pytest.raises(
        ValueError, match="track must be one of tensorboard, mlflow, got 'tensorbord'; try 'tensorboard'"
    ):
        Following(["tensorbord"], made_up.folder)


def test_the_command_tracks_its_runs(tmp_path, monkeypatch):
    def do_here(tasks, *, on_progress, **others):
        for task in tasks:
            task.state = "running"
            on_progress(tasks)
            execute(task.recipe, task.folder)
            task.state = "done"

    monkeypatch.setattr("neuropil.compare.do_tasks", do_here)
    words = ["run", "digits", "epochs=2", "hidden=[16]", "--out", str(tmp_path), "--track", "tensorboard"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = steps(tmp_path / "tensorboard" / "index" / "seed-0")
    assert [step for step, _ in found["train_loss"]] == [1, 2]
    assert len(found["final/test_accuracy"]) == 1
