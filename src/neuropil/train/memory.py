"""How much memory a piece of work takes at its peak."""

import contextlib
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Measure the most memory taken since the object was made, in bytes.

    On a GPU: PyTorch's own count of allocated memory. On Linux: the process's resident memory, its high-water mark
    reset at the start. Elsewhere the mark cannot be reset, and memory taken earlier hides what is taken later.

    Args:
        device: where the work runs.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._start = torch.cuda.memory_allocated(self._device)
            return
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
