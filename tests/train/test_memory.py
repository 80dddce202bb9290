"""Peak memory grows by what is taken, and memory is kept. Only Linux can set the mark back, so only there is it tested."""

import mmap
import subprocess
import sys

import pytest

from neuropil.train import PeakMemory, keep_memory
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


KEEPING = """
import resource, torch
from neuropil.train import keep_memory
from neuropil.train.memory import _resident

def left_and_faults():
    before, faults = _resident("VmRSS"), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MB, freed at once
    return _resident("VmRSS") - before, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults

given_back, _ = left_and_faults()
is_kept = keep_memory() and keep_memory()
kept, _ = left_and_faults()
for _ in range(4):  # once more may be taken, where the hole is too small by a few bytes
    again, faults = left_and_faults()
print(given_back, int(is_kept), kept, again, faults)
"""


def test_memory_that_is_freed_is_kept():
    """In a process of its own: the setting cannot be taken back."""
    done = subprocess.run([sys.executable, "-c", KEEPING], capture_output=True, text=True, check=True)
    given_back, is_kept, kept, again, faults = map(int, done.stdout.split())
    if not is_kept:
        pytest.skip("needs the GNU C library")
    assert given_back < 8 * MEGABYTE
    assert kept > 56 * MEGABYTE
    assert again < 8 * MEGABYTE
    assert faults < 2000  # of 16,384 pages, hardly any is taken from the system


def test_systems_without_that_setting(monkeypatch):
    class WithoutMallopt:
        pass

    monkeypatch.setattr("ctypes.CDLL", lambda _: WithoutMallopt())
    assert keep_memory() is False
    monkeypatch.setattr("ctypes.CDLL", None)  # not even asked
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert keep_memory() is False
