"""Subnormal numbers are flushed to zero in every thread, which only a fresh process can show."""

import os
import subprocess
import sys

import pytest
import torch

from neuropil.connect.kernels.event_product import event_linear
from neuropil.threads import renew_threads
from neuropil.train import flush_subnormals

CODE = """
import logging
logging.basicConfig(format="%(message)s")
import torch
torch.set_num_threads(2)
{before}
from neuropil.train import flush_subnormals
print(flush_subnormals())
# large enough that both threads take a share
product = torch.full((1_000_000,), 1e-30) * 1e-9
print(int((product != 0).sum()))
sum_of_products = torch.full((2000, 64), 1e-30) @ torch.full((64, 200), 1e-9)
print(int((sum_of_products != 0).sum()))
"""


def run(before):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    return done.stdout.split(), done.stderr


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush subnormal numbers")
def test_flushed_on_all_threads():
    flushed, warnings = run("")
    assert flushed == ["True", "0", "0"]
    assert "subnormal" not in warnings


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush subnormal numbers")
def test_threads_that_were_running_already_are_told():
    (flushed, _, _), warnings = run("torch.ones(10_000_000).exp()")
    if flushed == "False":
        assert "threads were started before subnormal numbers were switched off" in warnings
        assert "call neuropil.train.flush_subnormals() before the first tensor operation" in warnings


def test_threads_of_compiled_loops_flush_too():
    """They keep the setting that they were started with: those that were there before make way for others."""
    before = torch.get_num_threads()
    weight, x = torch.full((8, 64), 1e-30), torch.zeros(20, 64)
    x[:, 3] = 1e-9
    try:
        torch.set_num_threads(2)
        # their bits: a comparison of the numbers themselves may flush them
        assert (event_linear(x, weight).view(torch.int32) != 0).all()
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot flush subnormal numbers")
        flush_subnormals()
        assert (event_linear(x, weight).view(torch.int32) == 0).all()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
        renew_threads()
