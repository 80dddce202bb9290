"""Why a run failed, in words."""

import errno

import torch

from neuropil.compare.engines import ATTEMPTS

LOST = f"its process was killed {ATTEMPTS} times, perhaps for lack of memory; try fewer runs at a time (--jobs)"
DISK_FULL = "no space is left on the disk; make some and give the same command again: it goes on where this one stopped"

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def describe_error(error: Exception) -> str:
    """Say in one sentence what went wrong."""
    if is_out_of_memory(error):
        gpu = " of the GPU" if isinstance(error, torch.OutOfMemoryError) else ""
        return f"memory{gpu} ran out ({_first_line(error)}); try fewer runs at a time (--jobs), or a smaller batch_size"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def is_out_of_memory(error: Exception) -> bool:
    """Say whether PyTorch, NumPy or Python did not get the memory that they wanted."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    on_cpu = ("can't allocate memory", "not enough memory")  # PyTorch, by system
    return isinstance(error, RuntimeError) and any(words in str(error) for words in on_cpu)


def is_disk_full(error: BaseException | None) -> bool:
    """Say whether a file could not be written for lack of space, or because a quota is used up."""
    if error is None:
        return False
    told = isinstance(error, OSError) and error.errno in _FULL
    # safetensors gives the system's number in its text
    return told or any(f"(os error {number})" in str(error) for number in _FULL)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
