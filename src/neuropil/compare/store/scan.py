"""Which run folders lie below a root, and in what state their files are: found without opening any."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RECIPE = "recipe.yaml"
FILES = (RECIPE, "environment.json", "metrics.jsonl", "summary.json", "failure.json")
_LOCK = "lock"
# file systems count time in steps of up to two seconds: a file younger than that may change again without showing it
_UNSETTLED_NS = 2 * 10**9


class RunFolder(NamedTuple):
    """A run folder as it was found.

    Attributes:
        folder: below the root, parted by ``/``; empty where the root itself is one.
        signature: says of each file that counts when it changed and how large it is: it stays the same only as long
            as they do.
        begun, written: when its recipe and the file written last were written, in nanoseconds since 1970.
        settled: whether any change from now on will show in the signature.
        lock: device and inode of its lock file, where it has one and no summary.
    """

    folder: str
    signature: str
    begun: int
    written: int
    settled: bool
    lock: tuple[int, int] | None


class Problem(NamedTuple):
    """What could not be read, and why.

    Attributes:
        path: below the root.
        reason: in a few words.
    """

    path: str
    reason: str


def scan(root: Path) -> tuple[list[RunFolder], list[Problem]]:
    """Find the run folders below a root: those that hold a ``recipe.yaml``. Nothing inside of one is searched.

    Folders whose names begin with a dot, and the trials of searches, are passed over. Links to folders are followed,
    but not in circles. What appears or vanishes meanwhile may or may not be found; it does no harm.

    Args:
        root: an existing folder.

    Returns:
        The run folders, sorted; and what could not be looked into.
    """
    found: list[RunFolder] = []
    problems: list[Problem] = []
    now = time.time_ns()
    waiting: list[tuple[str, str, tuple[str, ...]]] = [("", os.fspath(root), (os.path.realpath(root),))]
    while waiting:
        folder, path, links = waiting.pop()
        try:
            with os.scandir(path) as listing:
                entries = {entry.name: entry for entry in listing}
            if RECIPE in entries:
                found.append(_describe(folder, entries, now))
                continue
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed while we looked
        except OSError as error:
            problems.append(Problem(folder, error.strerror or str(error)))
            continue
        for name, link in _subfolders(entries, links):
            below = f"{folder}/{name}" if folder else name
            try:
                below.encode()
            except UnicodeEncodeError:
                problems.append(Problem(ascii(below), "its name is not text"))
            else:
                waiting.append((below, entries[name].path, link))
    return sorted(found), sorted(problems)


def _subfolders(
    entries: dict[str, "os.DirEntry[str]"], links: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give the folders to look into, each with where the links on the way to it lead."""
    for name, entry in entries.items():
        if name.startswith(".") or (name == "trials" and "search.yaml" in entries) or not _is_folder(entry):
            continue
        if not entry.is_symlink():
            yield name, links
        elif (target := os.path.realpath(entry.path)) not in links:
            yield name, (*links, target)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _describe(folder: str, entries: dict[str, "os.DirEntry[str]"], now: int) -> RunFolder:
    signature, newest, begun, written = [], 0, 0, 0
    for name in FILES:
        if name not in entries:
            signature.append("-")
            continue
        try:
            stat = entries[name].stat()
        except FileNotFoundError:
            if name == RECIPE:
                raise
            signature.append("-")
            continue
        # a file copied over another may keep its time; ctime tells
        signature.append(f"{stat.st_mtime_ns}.{stat.st_ctime_ns}.{stat.st_size}")
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
        written = max(written, stat.st_mtime_ns)
        begun = begun or stat.st_mtime_ns
    lock = None
    if _LOCK in entries and "summary.json" not in entries:
        try:
            stat = entries[_LOCK].stat()
            lock = (stat.st_dev, stat.st_ino)
        except FileNotFoundError:
            pass
    return RunFolder(folder, " ".join(signature), begun, written, newest < now - _UNSETTLED_NS, lock)
