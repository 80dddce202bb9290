"""Peak memory grows by what is allocated. Only Linux can set the mark back, so only there is it tested."""

import sys

import numpy as np
import pytest

from neuropil.train import PeakMemory
from neuropil.train.memory import _CLEAR

MEGABYTE = 2**20

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not _CLEAR.exists(), reason="needs Linux's high-water mark"
)


def test_grows_by_what_is_allocated_and_keeps_the_peak():
    peak = PeakMemory()
    idle = peak.bytes()
    block = np.ones(96 * MEGABYTE, dtype=np.uint8)
    first = peak.bytes()
    del block
    assert idle < 16 * MEGABYTE
    assert 88 * MEGABYTE < first < 112 * MEGABYTE
    assert peak.bytes() == pytest.approx(first, abs=MEGABYTE)


def test_what_was_taken_before_does_not_count():
    before = np.ones(96 * MEGABYTE, dtype=np.uint8)
    del before
    peak = PeakMemory("cpu")
    kept = np.ones(32 * MEGABYTE, dtype=np.uint8)
    assert 24 * MEGABYTE < peak.bytes() < 48 * MEGABYTE
    assert kept.all()
