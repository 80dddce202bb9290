"""Processes of this machine, started and watched by loky, joblib's back end.

Every place at which a run can be has a pool of one process: where that one is killed, it is known which run died.
"""

import contextlib
import functools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

from neuropil.compare.engines.engine import Engine, LostError, Work

# how many threads the libraries below PyTorch, NumPy and SciPy start: read once, when they are loaded
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_SHARED_MEMORY = Path("/dev/shm")
_ROOM_TO_LEAVE = 2 * 2**30
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_KEPT = 120.0  # after which a process without work ends


class LocalEngine(Engine):
    """Processes of this machine, which do one run after the other, and are kept a while for the next engine.

    What is shared is kept in a file that all of them map into memory.

    Args:
        jobs: how many.
        threads: of each.
    """

    patience = 10.0

    def __init__(self, jobs: int, threads: int) -> None:
        self._free = [_Place.take(threads) for _ in range(jobs)]
        self._busy: dict[Hashable, _Place] = {}
        self._folder: str | None = None

    def share(self, value: Any) -> Any:
        """Write a value to a file in shared memory, or where temporary files are kept; return its path."""
        import joblib
        from joblib.externals.loky.backend import resource_tracker

        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="neuropil-", dir=_roomy_folder())
            # whoever kills this process, the folder goes
            resource_tracker.register(self._folder, "folder")
        path = os.path.join(self._folder, f"{len(os.listdir(self._folder))}.joblib")
        joblib.dump(value, path)
        return path

    def room(self) -> int:
        """Return the number of processes."""
        return len(self._free) + len(self._busy)

    def start(self, index: int, work: Work, argument: Any, shared: Any) -> Hashable:
        """Hand a piece of work to a free process."""
        place = self._free.pop()
        future: Hashable = place.submit(index, work, argument, shared)
        self._busy[future] = place
        return future

    def wait(self, handles: Sequence[Any], seconds: float) -> list[Hashable]:
        """Return what has ended."""
        from concurrent.futures import FIRST_COMPLETED, wait

        return [*wait(handles, timeout=seconds, return_when=FIRST_COMPLETED).done]

    def told(self) -> Mapping[int, int]:
        """Return what has come through the pipes of the processes."""
        return {index: value for place in self._busy.values() for index, value in place.told()}

    def result(self, handle: Any) -> Any:
        """Return what came back; the process is free again, or a new one takes its place."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        place = self._busy.pop(handle)
        self._free.append(place)
        try:
            return handle.result()
        except BrokenProcessPool as error:
            place.close()
            raise LostError from error

    def close(self) -> None:
        """Kill what is at work, keep what is not, and remove what was shared."""
        for place in self._busy.values():
            place.close()
        for place in (*self._free, *self._busy.values()):
            place.keep()
        self._free, self._busy = [], {}
        if self._folder is not None:
            from joblib.externals.loky.backend import resource_tracker

            shutil.rmtree(self._folder, ignore_errors=True)
            resource_tracker.unregister(self._folder, "folder")
            self._folder = None


class _Place:
    """A pool of one process, started when there is work for it."""

    _kept: ClassVar[list["_Place"]] = []  # starting a process takes seconds

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: Any = None
        self._receiver: Connection | None = None
        self._kept_until = 0.0

    @classmethod
    def take(cls, threads: int) -> "_Place":
        """Return a place whose process is there still, or a new one."""
        now = time.monotonic()
        for place in [place for place in cls._kept if place._kept_until < now]:
            cls._kept.remove(place)
            place.close()
        found = next((place for place in cls._kept if place._threads == threads), None)
        if found is None:
            return cls(threads)
        cls._kept.remove(found)
        return found

    def keep(self) -> None:
        """Have the process ready for another engine."""
        if self._pool is not None:
            self._kept_until = time.monotonic() + _SECONDS_KEPT / 2
            self._kept.append(self)

    def submit(self, *piece: Any) -> Any:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        with _interrupts_later():
            try:
                return self._open().submit(_do_piece, *piece)
            except BrokenProcessPool:  # it was killed while it had nothing to do
                self.close()
                return self._open().submit(_do_piece, *piece)

    def told(self) -> Iterator[tuple[int, int]]:
        with contextlib.suppress(EOFError, OSError):
            while self._receiver is not None and self._receiver.poll():
                yield self._receiver.recv()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    def _open(self) -> Any:
        if self._pool is None:
            from joblib.externals.loky.process_executor import ProcessPoolExecutor

            self._receiver, sender = multiprocessing.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                timeout=_SECONDS_KEPT,
                initializer=_begin,
                initargs=(os.getpid(), sender),
                env={name: str(self._threads) for name in _THREADS},
            )
        return self._pool


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Put Ctrl-C off while the block runs, and for good in the processes that it starts: this one ends them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _roomy_folder() -> str | None:
    """Return where files lie in memory, if there is much room, or None: where temporary files are."""
    if _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK):
        return str(_SHARED_MEMORY) if shutil.disk_usage(_SHARED_MEMORY).free > _ROOM_TO_LEAVE else None
    return None


_sender: Connection | None = None  # of a worker: by which it tells how far it is


def _begin(parent: int, sender: Connection) -> None:
    """Become a worker, which ends with its parent and leaves Ctrl-C to it."""
    global _sender
    _sender = sender
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the one that asked for it is gone, however it went."""
    if sys.platform == "win32":
        process = multiprocessing.parent_process()
        if process is not None:
            process.join()
    else:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _do_piece(index: int, work: Work, argument: Any, shared: str) -> Any:
    """Do a piece of work, in a worker."""

    def tell(value: int) -> None:
        with contextlib.suppress(OSError):  # there is nobody to listen any more
            if _sender is not None:
                _sender.send((index, value))

    return work(argument, _read(shared), tell)


@functools.lru_cache(maxsize=4)
def _read(path: str) -> Any:
    """Return what is shared: its arrays are pages of the file, which all processes have together."""
    import joblib

    return joblib.load(path, mmap_mode="c")
