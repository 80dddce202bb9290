"""Memory: how much a piece of work takes at its peak, and keeping what was taken once."""

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


# parameters of the GNU C library's mallopt
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_PAD = 64 * 2**20


def keep_memory() -> bool:
    """Make this process keep memory that it has freed, for its next tensors; return whether that could be done.

    Otherwise every large tensor is taken from the system anew and given back, page by page: for the tensors of a
    spiking network, which hold all time steps, that takes longer than computing them (measured: 45 ms against 8 for a
    pass over 13 million potentials). For Linux with the GNU C library; elsewhere nothing is changed.
    :func:`neuropil.train.fit` calls it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _PAD))
    return all(mallopt(name, value) == 1 for name, value in settings)


def release_memory() -> None:
    """Give what this process has freed back to the system, and to other users of its GPU.

    After :func:`keep_memory`, that happens only here and where :class:`PeakMemory` begins. Of the heap, for Linux with
    the GNU C library.
    """
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    _trim_heap()


def _trim_heap() -> None:
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class PeakMemory:
    """Measure the most memory taken since the object was made, in bytes.

    On a GPU: PyTorch's own count of allocated memory. On Linux: the process's resident memory, its high-water mark
    reset at the start, when what was freed is given back, so that taking it again counts. Elsewhere the mark cannot be
    reset, and memory taken earlier hides what is taken later.

    Args:
        device: where the work runs.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._start = torch.cuda.memory_allocated(self._device)
            return
        _trim_heap()
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
        self._start = _resident("VmRSS")

    def bytes(self) -> int:
        """Return the peak so far, above what was taken at the start."""
        if self._device.type == "cuda":
            return max(0, torch.cuda.max_memory_allocated(self._device) - self._start)
        return max(0, _resident("VmHWM") - self._start)


def _resident(field: str) -> int:
    """Return a field of Linux's process status in bytes; elsewhere the process's peak."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
