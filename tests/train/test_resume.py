"""A run that is stopped anywhere and taken up again ends with the weights of one that never was, bit for bit."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim import lr_scheduler

from neuropil.train import Run, RunError, fit
from neuropil.train.run import read_json, read_metrics

MEASURED = ("seconds", "peak_memory_bytes")

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-4),
    "adam, fused": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "adam, amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd, momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
}
SCHEDULES = {
    "none": lambda optimizer: None,
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 4),
    "milestones": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 3], gamma=0.1),
    "in sequence": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2), lr_scheduler.MultiStepLR(optimizer, [1])],
        milestones=[2],
    ),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=6),
}


class Killed(BaseException):
    """Stands for the kill: nothing may catch it."""


def told(history):
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in history]


def train(build, dataset, run, *, optimizer="adam", schedule="cosine", loss=F.cross_entropy, epochs=4, **settings):
    """One process's share of a run: everything is built anew from the seed."""
    net = build()
    optimizer = OPTIMIZERS[optimizer](net.parameters())
    scheduler = SCHEDULES[schedule](optimizer)
    result = fit(
        net, dataset, optimizer, epochs=epochs, batch_size=32, scheduler=scheduler, loss=loss, run=run, **settings
    )
    return net, optimizer, result


def assert_same_end(run, whole):
    """Compare network, optimizer, history and test figures of two runs."""
    for (name, a), (_, b) in zip(run[0].state_dict().items(), whole[0].state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    ours, theirs = (
        json.dumps(part[1].state_dict(), default=lambda tensor: tensor.tolist(), sort_keys=True)
        for part in (run, whole)
    )
    assert ours == theirs
    assert told(run[2].history) == told(whole[2].history)
    assert (run[2].test_loss, run[2].test_accuracy) == (whole[2].test_loss, whole[2].test_accuracy)


def dying_loss(n_steps):
    """Return a loss that raises at the call after ``n_steps``."""
    left = [n_steps]

    def loss(logits, labels):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return F.cross_entropy(logits, labels)

    return loss


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [*((name, "cosine") for name in OPTIMIZERS), *(("sgd, momentum", name) for name in SCHEDULES)],
)
def test_stopped_in_the_middle_of_epochs(few_digits, both_kernels, tmp_path, optimizer, schedule):
    settings = {"optimizer": optimizer, "schedule": schedule}
    whole = train(both_kernels, few_digits, None, **settings)
    # an epoch has 3 steps and one look at the validation split
    chance = random.Random(f"{optimizer} {schedule}")
    n_stops = 0
    while True:
        try:
            run = Run(tmp_path / "run", settings)
            end = train(both_kernels, few_digits, run, loss=dying_loss(chance.randint(2, 9)), **settings)
            break
        except Killed:
            n_stops += 1
    assert n_stops >= 1
    assert_same_end(end, whole)
    assert told(run.metrics()) == told(whole[2].history)


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"clip_norm": 0.1}, {"seed": 7}])
def test_stopped_with_other_settings(few_digits, both_kernels, tmp_path, settings):
    whole = train(both_kernels, few_digits, None, **settings)
    with pytest.raises(Killed):
        train(both_kernels, few_digits, Run(tmp_path / "run", {}), loss=dying_loss(11), **settings)
    assert_same_end(train(both_kernels, few_digits, Run(tmp_path / "run", {}), **settings), whole)


def test_stopped_after_any_number_of_epochs(few_digits, both_kernels, tmp_path):
    whole = train(both_kernels, few_digits, None, schedule="none")
    run = Run(tmp_path / "run", {})
    for epochs in (1, 3, 3, 4):
        end = train(both_kernels, few_digits, run, schedule="none", epochs=epochs)
        assert len(end[2].history) == epochs
    assert_same_end(end, whole)


def test_stopped_at_every_touch_of_the_disk(few_digits, both_kernels, tmp_path, monkeypatch):
    """Kill the run before, in the middle of, and after each write, in turn, until it gets through."""
    whole = train(both_kernels, few_digits, None, epochs=3)
    countdown = [0]

    def tick():
        countdown[0] -= 1
        if countdown[0] == 0:
            raise Killed

    def dying(function, *, cut=None):
        def wrapped(*args, **kwargs):
            tick()
            if cut is not None and countdown[0] == 1:  # the kill comes in the middle of this write
                cut(*args, **kwargs)
                tick()
            result = function(*args, **kwargs)
            tick()
            return result

        return wrapped

    def half_text(path, text, **_):
        path.write_bytes(text[: len(text) // 2].encode())

    def half_file(tensors, path, **_):
        Path(path).write_bytes(b"half a checkpoint")

    def half_line(run, record):
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record)[:20])

    stop, n_finished = 0, 0
    while not n_finished:
        stop += 1
        folder = tmp_path / str(stop)
        with monkeypatch.context() as patch:
            countdown[0] = stop
            patch.setattr("os.replace", dying(os.replace))
            patch.setattr("os.mkdir", dying(os.mkdir))
            patch.setattr(Path, "unlink", dying(Path.unlink))
            patch.setattr(Path, "write_text", dying(Path.write_text, cut=half_text))
            patch.setattr(Run, "append", dying(Run.append, cut=half_line))
            patch.setattr("neuropil.train.checkpoint.save_file", dying(save_file, cut=half_file))
            # resetting the memory's mark writes to a file too, but to none of the run's
            patch.setattr("neuropil.train.memory._CLEAR", tmp_path)
            try:
                train(both_kernels, few_digits, Run(folder, {"a": 1}), epochs=3)
                n_finished += 1
            except Killed:
                pass
        run = Run(folder, {"a": 1})
        end = train(both_kernels, few_digits, run, epochs=3)
        assert_same_end(end, whole)
        assert told(run.metrics()) == told(whole[2].history)
        run.finish({})
        left = {path.name for path in folder.iterdir() if not path.name.endswith(".partial")}
        assert left == {
            "recipe.yaml", "environment.json", "metrics.jsonl", "summary.json", "checkpoint-00003.safetensors"
        }  # fmt: skip
    assert stop > 30


@pytest.mark.parametrize("damage", ["cut off", "empty", "one byte", "another file"])
def test_damaged_checkpoint_is_passed_over(few_digits, both_kernels, tmp_path, caplog, damage):
    whole = train(both_kernels, few_digits, None)
    train(both_kernels, few_digits, Run(tmp_path / "run", {}), epochs=3, schedule="none")
    shutil.rmtree(tmp_path / "run")
    run = Run(tmp_path / "run", {})
    with pytest.raises(Killed):
        train(both_kernels, few_digits, run, loss=dying_loss(13))  # in the fourth epoch
    last = run.folder / "checkpoint-00003.safetensors"
    raw = last.read_bytes()
    last.write_bytes(
        {
            "cut off": raw[: len(raw) // 2],
            "empty": b"",
            "one byte": raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:],
            "another file": b"PK\x03\x04" + bytes(1000),
        }[damage]
    )
    with caplog.at_level(logging.WARNING, "neuropil.train.run"):
        end = train(both_kernels, few_digits, Run(run.folder, {}))
    sentences = [record.getMessage() for record in caplog.records if record.name == "neuropil.train.run"]
    assert len(sentences) == 1
    assert "checkpoint-00003.safetensors" in sentences[0]
    assert sentences[0].endswith("going on from the one before")
    assert_same_end(end, whole)
    assert told(run.metrics()) == told(whole[2].history)


def test_checkpoint_of_another_model_is_refused_and_kept(few_digits, both_kernels, tmp_path):
    net = torch.nn.Linear(2, 2)
    run = Run(tmp_path / "run", {})
    run.save(3, net, torch.optim.Adam(net.parameters()), None)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    with pytest.raises(RunError, match="checkpoint-00003.safetensors does not fit .*; try another folder") as caught:
        train(both_kernels, few_digits, run, schedule="none")
    assert "\n" not in str(caught.value)
    assert before == {path.name: path.read_bytes() for path in run.folder.iterdir()}


def test_all_checkpoints_damaged_starts_anew(few_digits, both_kernels, tmp_path, caplog):
    run = Run(tmp_path / "run", {})
    whole = train(both_kernels, few_digits, run)
    paths = sorted(run.folder.glob("checkpoint-*"))
    assert len(paths) == 2
    for path in paths:
        path.write_bytes(path.read_bytes()[:200])
    end = train(both_kernels, few_digits, Run(run.folder, {}))
    sentences = [record.getMessage() for record in caplog.records if record.name == "neuropil.train.run"]
    assert [sentence.rpartition("; ")[2] for sentence in sentences] == ["going on from the one before", "starting anew"]
    assert_same_end(end, whole)
    assert [record["epoch"] for record in run.metrics()] == [1, 2, 3, 4]


def test_metrics_with_a_last_line_cut_off(few_digits, both_kernels, tmp_path):
    run = Run(tmp_path / "run", {})
    whole = train(both_kernels, few_digits, run)
    path = run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    # killed while epoch 4 was written: its checkpoint is not there yet
    path.write_text("".join(lines[:3]) + lines[3][:30])
    (run.folder / "checkpoint-00004.safetensors").unlink()
    assert [record["epoch"] for record in run.metrics()] == [1, 2, 3]
    assert_same_end(train(both_kernels, few_digits, Run(run.folder, {})), whole)
    assert told(run.metrics()) == told(whole[2].history)


def test_epochs_written_but_not_kept_are_run_again(few_digits, both_kernels, tmp_path):
    run = Run(tmp_path / "run", {})
    whole = train(both_kernels, few_digits, run)
    (run.folder / "checkpoint-00004.safetensors").unlink()
    assert_same_end(train(both_kernels, few_digits, Run(run.folder, {})), whole)
    assert [record["epoch"] for record in run.metrics()] == [1, 2, 3, 4]


def test_a_run_that_diverged_diverges_again(few_digits, both_kernels, tmp_path):
    settings = {"epochs": 4, "loss": lambda logits, labels: F.cross_entropy(logits * 1e38, labels)}
    first = train(both_kernels, few_digits, Run(tmp_path / "run", {}), **settings)[2]
    again = train(both_kernels, few_digits, Run(tmp_path / "run", {}), **settings)[2]
    assert first.status == again.status == "diverged"
    assert told(first.history) == told(again.history)


def test_nothing_in_a_run_folder_is_a_pickle(few_digits, both_kernels, tmp_path):
    run = Run(tmp_path / "run", {"a": 1})
    train(both_kernels, few_digits, run)
    run.finish({"done": True})
    for path in run.folder.iterdir():
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                assert {name.split(".")[0] for name in file.keys()} == {"model", "optimizer"}  # noqa: SIM118
                description = json.loads(file.metadata()["neuropil"])
            assert description["epoch"] == 4
        else:
            assert path.suffix in (".yaml", ".json", ".jsonl")
            path.read_text(encoding="utf-8")
    assert len(list(run.folder.glob("*.safetensors"))) == 1


# imports once; each line on its input is a folder, for which a process is forked that trains there
SCRIPT = """
import os
import sys
import torch
from neuropil import data, models
from neuropil.connect import Ensembles
from neuropil.randomness import stream
from neuropil.train import Run, fit

dataset = data.with_validation(data.load("digits"), 0.1, stream(0, "validation"))

def train(folder):
    pattern = [Ensembles(n_groups=4, block=block) for block in ((1, 1), ("group", 1))]
    net = models.ensemble_net((1, 8, 8), 10, hidden=[64, 64], pattern=pattern, seed=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    run = Run(folder, {"seed": 1})
    result = fit(
        net, dataset, optimizer, epochs=12, batch_size=32, scheduler=scheduler, clip_norm=1.0, seed=1, run=run
    )
    run.finish({"test_loss": result.test_loss, "test_accuracy": result.test_accuracy})

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        train(line.strip())
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_process_killed_at_random_moments(tmp_path):
    chance = random.Random(0)
    n_kills = 0
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as trainer:

        def train(folder, *, kill):
            print(folder, file=trainer.stdin, flush=True)
            process = int(trainer.stdout.readline())
            if kill:
                # once it trains, anywhere in the next epochs
                before, deadline = epochs_done(folder), time.monotonic() + 30
                while epochs_done(folder) <= before and time.monotonic() < deadline:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0.0, 0.1))
                os.kill(process, signal.SIGKILL)
            return int(trainer.stdout.readline())

        assert train(tmp_path / "whole", kill=False) == 0
        for _ in range(3):
            n_kills += train(tmp_path / "killed", kill=True) == -signal.SIGKILL
        assert n_kills >= 2
        assert train(tmp_path / "killed", kill=False) == 0
        trainer.stdin.close()

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert read_json(whole / "summary.json") == read_json(killed / "summary.json") is not None
    expected, found = (load_file(folder / "checkpoint-00012.safetensors") for folder in (whole, killed))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert [record["epoch"] for record in read_metrics(killed)] == list(range(1, 13))
    assert told(read_metrics(whole)) == told(read_metrics(killed))


def epochs_done(folder):
    return max((int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*.safetensors")), default=0)
