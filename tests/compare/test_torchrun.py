"""``torchrun -m neuropil run``: one run by several processes, one of which is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare import torchrun
from neuropil.compare.execute import execute
from neuropil.train.run import read_metrics


@pytest.fixture
def launched(monkeypatch):
    """Be the first of two processes, as torchrun tells them."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def children(process):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    return [int(line) for line in listed.split()]


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes with ps")
def test_a_process_is_killed_and_one_goes_on(tmp_path):
    run = tmp_path / "runs" / "mixer-set" / "seed-0"
    settings = ["epochs=30", "hidden=[64]", "--arm", "mixer-set", "--out", str(tmp_path / "runs")]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "neuropil", "run", "rewiring-digits", *settings],
            stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 240
            while not (run / "checkpoint-00002.safetensors").exists() and time.monotonic() < deadline:
                assert process.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.05)
            ranks = children(process)
            assert len(ranks) == 2
            os.kill(ranks[1], signal.SIGKILL)
            assert process.wait(timeout=120) != 0
        finally:
            process.kill()
        said.seek(0)
        words = " ".join(said.read().split())
    assert "one of them is lost; the same command goes on from the last checkpoint" in words
    before = read_metrics(run)
    assert len(before) >= 2
    assert not (run / "summary.json").exists()
    summary = execute(yaml.safe_load((run / "recipe.yaml").read_text()), run)
    assert summary["status"] == "finished"
    records = read_metrics(run)
    assert [record["epoch"] for record in records] == list(range(1, 31))
    assert records[:2] == before[:2]  # not done again


def test_which_device_is_whose(launched, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert torchrun._own_device("cpu") == "cpu"
    assert torchrun._own_device("cuda") == "cuda:3"
    with pytest.raises(
        ValueError, match="--device must be cpu or cuda, of which each process takes its own, got 'cuda"
    ):
        torchrun._own_device("cuda:1")


def test_who_leads(launched, monkeypatch):
    assert (torchrun.n_processes(), torchrun.is_lead()) == (2, True)
    monkeypatch.setenv("RANK", "1")
    assert not torchrun.is_lead()
    monkeypatch.delenv("LOCAL_RANK")  # some cluster's own numbers
    assert (torchrun.n_processes(), torchrun.is_lead()) == (1, True)


def test_a_comparison_is_not_started_twice(launched, tmp_path):
    done = CliRunner().invoke(app, ["compare", "digits", "--out", str(tmp_path / "runs")])
    assert str(done.exception) == (
        "compare must start its runs itself, got torchrun; try torchrun with neuropil run, or --jobs"
    )
    assert not (tmp_path / "runs").exists()
