"""Peak memory grows by what is taken. Only Linux can set the mark back, so only there is it tested."""

import mmap
import sys

import pytest

from neuropil.train import PeakMemory
from neuropil.train.memory import _CLEAR

MEGABYTE = 2**20

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not _CLEAR.exists(), reason="needs Linux's high-water mark"
)


def take(n_bytes):
    """Take fresh memory from the system, past the allocator, which may have kept some."""
    block = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, n_bytes, mmap.PAGESIZE):
        block[at] = 1
    return block


def test_grows_by_what_is_taken_and_keeps_the_peak():
    peak = PeakMemory()
    idle = peak.bytes()
    take(96 * MEGABYTE).close()
    first = peak.bytes()
    assert idle < 16 * MEGABYTE
    assert 88 * MEGABYTE < first < 112 * MEGABYTE
    take(32 * MEGABYTE).close()
    assert peak.bytes() == pytest.approx(first, abs=4 * MEGABYTE)


def test_what_was_taken_before_does_not_count():
    take(96 * MEGABYTE).close()
    peak = PeakMemory("cpu")
    kept = take(32 * MEGABYTE)
    assert 24 * MEGABYTE < peak.bytes() < 48 * MEGABYTE
    kept.close()
