"""Two processes that train one network come to what one process comes to with the same batches."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuropil.train import Ranks, Run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by a fork")
SCRIPT = Path(__file__).with_name("two_ranks.py")
spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
two_ranks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(two_ranks)


@pytest.fixture(scope="module")
def digits():
    return two_ranks.few_digits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("ranks")
    two_ranks.train("synapses set", digits, run=Run(folder / "one", {}), epochs=2)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def told(folder):
    """What each of the two ranks has come to."""
    return [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(2)]


def assert_alike(ours, theirs, tolerance=1e-5):
    for key in ("losses", "weights"):
        for a, b in zip(ours[key], theirs[key], strict=True):
            assert a == pytest.approx(b, rel=tolerance, abs=tolerance)
    assert ours["wirings"] == theirs["wirings"]


@pytest.mark.parametrize("case", two_ranks.CASES)
def test_same_as_one_process(told, digits, case):
    one = two_ranks.train(case, digits)
    assert told[0][case] == told[1][case]  # to the last bit
    assert_alike(told[0][case], one)
    assert told[0][case]["events"] == one["events"]
    if two_ranks.CASES[case][1] is not None:
        assert one["events"] >= 2


def test_spiking_with_a_rate_penalty(told, digits):
    assert told[0]["spiking"] == told[1]["spiking"]
    assert_alike(told[0]["spiking"], two_ranks.train_spiking(digits))


def test_goes_on_with_another_number_of_processes(told, folder, digits):
    whole = two_ranks.train("synapses set", digits, epochs=4)
    assert_alike(told[0]["after one"], whole)
    assert told[0]["after one"] == told[1]["after one"]
    run = Run(folder / "two", {})
    assert [record["epoch"] for record in run.metrics()] == [1, 2]
    assert_alike(two_ranks.train("synapses set", digits, run=run, epochs=4), whole)


def test_what_cannot_be_shared_is_said(told):
    for rank in told:
        assert rank["oja"] == (
            "fit: a rule that several processes share must learn from averages over the batch alone, got Oja, which "
            "does not as it is set; try one process, or backpropagation"
        )
        assert rank["normalized"] == (
            "fit: batch normalization that several processes share must be SyncBatchNorm, which needs GPUs, got "
            "another; try one process"
        )


def test_ranks_that_rewire_otherwise_are_stopped(told):
    sentence = (
        "fit: all processes must rewire alike, got another wiring on rank 1 than on rank 0 after step 5; try processes "
        "on machines of one kind"
    )
    assert [rank["strange"] for rank in told] == [sentence, sentence]


def test_a_group_must_be_there():
    with pytest.raises(ValueError, match="Ranks: a process group must be there, got none; try torchrun"):
        Ranks()
