"""Whatever is killed or full, nothing is lost: the same command goes on, to the same table."""

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from neuropil.compare import compare, expand_arms, load_results, parallel, run_recipe, write_csv
from neuropil.compare.comparison import list_tasks
from neuropil.compare.engines import ATTEMPTS, Engine, LostError
from neuropil.compare.failures import LOST, describe_error, is_disk_full
from neuropil.compare.parallel import do_tasks
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.shared_data import data_key, share_data
from neuropil.compare.worker import Order, do_order
from neuropil.data import load
from neuropil.train import Run, RunError
from neuropil.train.whole_files import hold, whole_file, write_whole

MEASURED = ("seconds_per_epoch", "peak_memory_bytes")
FULL = Path("/dev/full")


@pytest.fixture
def recipe():
    return parse_recipe(
        {
            "name": "small",
            "question": "Does it run?",
            "model": {"hidden": [16, 16]},
            "training": {"epochs": 30, "batch_size": 32},
            "seeds": 1,
            "arms": {"mixer": {"pattern": "mixer", "n_groups": 4}},
        }
    )


class Here(Engine):
    """Does everything in this process, at once; the pieces named in ``lost`` never come back."""

    patience = 0.0

    def __init__(self, lost=()):
        self.lost, self.results, self.started = lost, {}, []

    def share(self, value):
        return value

    def room(self):
        return 1

    def start(self, index, work, argument, shared):
        self.started.append(index)
        self.results[index] = None if index in self.lost else work(argument, shared, lambda value: None)
        return index

    def wait(self, handles, seconds):
        return [*handles]

    def told(self):
        return {}

    def result(self, handle):
        if handle in self.lost:
            raise LostError
        return self.results[handle]

    def close(self):
        pass


@pytest.fixture
def here(monkeypatch):
    """Have runs done by such an engine."""

    def use(**settings):
        engine = Here(**settings)
        monkeypatch.setattr(parallel, "open_engine", lambda *_, **__: engine)
        return engine

    return use


def short(recipe):
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 1})})


def table(folder):
    """Return the table of a comparison, without what was measured with a clock."""
    with write_csv(load_results(folder), folder / "results.csv").open(encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key not in MEASURED} for row in csv.DictReader(file)]


def losses(folder):
    return {
        str(path.parent.relative_to(folder)): [json.loads(line)["train_loss"] for line in path.read_text().splitlines()]
        for path in folder.rglob("metrics.jsonl")
    }


def processes():
    """Return all that live, as number, parent's number and command."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 3) for line in listed.stdout.splitlines()]
    return [(int(pid), int(parent), command) for pid, parent, state, command in lines if state[0] != "Z"]


def workers(parent):
    """Return the processes in which runs are, of a comparison's process."""
    return [pid for pid, above, command in processes() if above == parent and "popen_loky" in command]


def wait_for(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_killed_at_random_moments_it_ends_in_the_same_table(recipe, tmp_path):
    path, folder = tmp_path / "small.yaml", tmp_path / "killed"
    path.write_text(yaml.safe_dump(recipe.model_dump()))
    command = [sys.executable, "-m", "neuropil", "compare", str(path), "--jobs", "2", "--out", str(folder)]
    moments = random.Random(0)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}

    def n_epochs():
        return sum(map(len, losses(folder).values()))

    def have_gone_on(before):
        wait_for(lambda: n_epochs() > before)
        time.sleep(moments.uniform(0, 0.3))

    # a worker, then the parent alone: its other workers must end by themselves
    process = subprocess.Popen(command, **quiet)
    have_gone_on(0)
    victim = moments.choice(workers(process.pid))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len({*workers(process.pid)} - {victim}) == 2)
    left = workers(process.pid)
    process.kill()
    process.wait()
    # and at once again, whether they have ended or not; then everything
    process = subprocess.Popen(command, **quiet)
    have_gone_on(n_epochs())
    wait_for(lambda: not {*left} & {pid for pid, _, _ in processes()})
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(folder.rglob("summary.json"))) < 4
    tasks = compare(recipe, folder, jobs=2)
    assert [task.failure for task in tasks] == [None] * 4
    compare(recipe, tmp_path / "whole", jobs=2)
    assert table(folder) == table(tmp_path / "whole")
    assert losses(folder) == losses(tmp_path / "whole")


def test_a_run_whose_process_always_dies_fails_and_the_others_go_on(recipe, tmp_path, here):
    engine = here(lost=[1])
    (tmp_path / "c" / expand_arms(recipe)[1].name / "seed-0").mkdir(parents=True)
    tasks = compare(short(recipe), tmp_path / "c")
    assert [task.state for task in tasks] == ["done", "failed", "done", "done"]
    assert engine.started == [0, *[1] * ATTEMPTS, 2, 3]
    assert tasks[1].failure == LOST
    results = load_results(tmp_path / "c")
    (run,) = results.arms[expand_arms(recipe)[1].name].runs.values()
    assert (run.state, run.reason) == ("failed", LOST)
    here()
    assert [task.state for task in compare(short(recipe), tmp_path / "c")] == ["done"] * 4


def test_two_comparisons_keep_off_each_others_folder(recipe, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    with (
        hold(folder / ".lock", RunError("held")),
        pytest.raises(
            RunError, match=f"^compare: {folder} must be free, got one that another comparison is at work on$"
        ),
    ):
        compare(recipe, folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_lock_dies_with_its_process(tmp_path):
    code = "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="held"), hold(lock, RunError("held")):
            pass
        process.kill()
    with hold(lock, RunError("held"), patience=5):
        pass


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("what", ["summary.json", "recipe.yaml"])
def test_a_full_disk_is_told_and_the_run_goes_on_where_there_is_room(what, recipe, tmp_path):
    made_by = run_recipe(short(recipe), expand_arms(recipe)[0], 0)
    order = Order(made_by, str(tmp_path), 1, False, "cpu", 0)
    shared = share_data(load("digits"), made_by["data"])
    if what != "recipe.yaml":
        Run(tmp_path, made_by)
    (tmp_path / f"{what}.partial").symlink_to(FULL)
    outcome = do_order(order, shared, lambda epochs: None)
    assert outcome.is_disk_full, outcome
    assert not (tmp_path / what).exists()
    assert not (tmp_path / f"{what}.partial").exists()
    told = []
    outcome = do_order(order, shared, told.append)
    assert (outcome.failure, outcome.is_disk_full) == (None, False)
    assert told == ([] if what == "summary.json" else [1])
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "finished"


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_comparison_stops_where_the_disk_is_full(recipe, tmp_path, here):
    here()
    tasks = list_tasks(short(recipe), expand_arms(recipe), [0], tmp_path / "c")
    tasks[1].folder.mkdir(parents=True)
    (tasks[1].folder / "recipe.yaml.partial").symlink_to(FULL)
    with pytest.raises(OSError, match="no space is left on the disk; make some and give the same") as caught:
        do_tasks(tasks)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tasks[1].folder))
    assert [task.state for task in tasks] == ["done", "waiting", "waiting", "waiting"]
    do_tasks(tasks)
    assert [task.state for task in tasks] == ["done"] * 4


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    path = tmp_path / "results.csv"
    write_whole(path, "before")

    def write_half():
        with whole_file(path) as partial:
            partial.write_text("half of")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        write_half()
    assert caught.value.filename == str(path)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.csv"]


def test_reasons_are_told_in_words():
    hint = "; try fewer runs at a time (--jobs), or a smaller batch_size"
    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
    assert describe_error(gpu) == f"memory of the GPU ran out (CUDA out of memory. Tried to allocate 2 GiB){hint}"
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert describe_error(caught.value).startswith("memory ran out (")
    assert describe_error(MemoryError()) == f"memory ran out (MemoryError){hint}"
    assert describe_error(ValueError("a sentence")) == "a sentence"
    assert describe_error(KeyError("x")) == "KeyError: 'x'"
    assert not is_disk_full(OSError(errno.EACCES, "not allowed"))


def test_folds_share_what_they_are_cut_from(recipe):
    folded = recipe.model_copy(update={"folds": 3})
    described = [run_recipe(folded, expand_arms(folded)[0], 0, fold)["data"] for fold in range(3)]
    assert len({data_key(one) for one in described}) == 1
    shared = share_data(load("digits"), described[0])
    assert not shared.is_divided
    parts = [shared.dataset(one).test.labels for one in described]
    assert sum(map(len, parts)) == len(load("digits").train)
    whole = share_data(load("digits"), run_recipe(recipe, expand_arms(recipe)[0], 0)["data"])
    assert whole.dataset({}).train.images.data_ptr() == whole.arrays["train"][0].ctypes.data  # no copy
