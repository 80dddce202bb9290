"""Files that appear whole or not at all, and folders that one process has for itself."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; what lies there takes the place of the file when the block ends.

    Where the block fails, as on a full disk, the file is left as it was, and what was written goes.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that it appears whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def hold(lock: Path, refusal: Exception, *, patience: float = 0) -> Iterator[None]:
    """Hold a lock file while the block runs; the system lets go of it where the process dies.

    Args:
        lock: the file, which is made and stays; nothing is written to it.
        refusal: what is raised where another process holds it.
        patience: seconds to wait for that one; below 0: as long as it takes.
    """
    import filelock

    file = filelock.FileLock(lock)
    try:
        file.acquire(timeout=patience)
    except filelock.Timeout:
        raise refusal from None
    try:
        yield
    finally:
        file.release()
