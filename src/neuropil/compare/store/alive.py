"""Whether somebody is still at work on a run that has begun and not ended."""

import os
import time
from pathlib import Path

from neuropil.compare.store.scan import RunFolder

_PATIENCE = 120.0  # seconds without a word, at least, after which nobody counts as at work
_EPOCHS = 3  # or as many epochs, where those are longer


def held_locks() -> frozenset[tuple[int, int]] | None:
    """Return device and inode of each file that a process of this machine holds locked; None where nobody tells.

    A lock is looked up, not tried: trying would for a moment keep away a process that begins a run.
    """
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    held = set()
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK":
            major, minor, inode = words[5].split(":")
            held.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return frozenset(held)


def is_at_work(run: RunFolder, epochs: int, held: frozenset[tuple[int, int]] | None) -> bool:
    """Say whether a run that has not ended is at work, as far as one can see from here.

    It is if a process of this machine holds its lock. Where the lock lies on a disk of this machine, and the system
    tells of locks, it is not otherwise. Elsewhere (a network's file system, not Linux) it is as long as it was heard
    of within the last two minutes, or the time of three of its epochs.

    Args:
        run: as found.
        epochs: that are behind it.
        held: what :func:`held_locks` gives.
    """
    if held is not None and run.lock is not None:
        if run.lock in held:
            return True
        if os.major(run.lock[0]):  # numbers of disks; network and other virtual file systems have none
            return False
    pace = (run.written - run.begun) / 1e9 / epochs if epochs else 0.0
    return time.time() - run.written / 1e9 < max(_PATIENCE, _EPOCHS * pace)
