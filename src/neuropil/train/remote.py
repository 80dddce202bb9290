"""Folders on remote file systems, each by a working copy on this machine that is kept in step with it."""

import contextlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

logger = logging.getLogger(__name__)

Checkpoints = Literal["needed", "all", "none"]
Folder = str | os.PathLike[str]
T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds, from one try to the next
_EVERY = 2.0  # seconds, from one look at a working copy to the next
_DEPTH = 5  # of a fold's files in a root of comparisons
_READ = {".yaml", ".json", ".jsonl", ".csv", ".html", ".txt"}
_CHECKPOINT = re.compile(r"checkpoint-\d+\.safetensors")
_FIRST, _LAST = re.compile(r"(recipe|comparison)\.yaml"), re.compile(r"summary\.json")
_LASTING = (PermissionError, FileExistsError, NotADirectoryError, NotImplementedError, TypeError)
_open: dict[Path, "Mirror"] = {}


class RemoteError(ValueError):
    """A remote folder cannot be reached or used."""


def is_remote(folder: Folder) -> bool:
    """Say whether a folder is named by a URL, such as ``s3://bucket/runs``; all others are on this machine."""
    return "://" in os.fspath(folder)


class Mirror:
    """A folder of this machine that holds what a remote one does, and sends on what changes.

    A file appears under its name once it is there as a whole, as far as the file system can move one in one piece. What
    a checkpoint relies on is sent before it, a summary last, and what is old goes after that: whenever this is
    interrupted, what lies there can be gone on with. Failures are tried again, later and later, for a quarter of a
    minute.

    Args:
        url: any that fsspec can write, with the packages that it needs for it.
        waits: seconds between tries; default: :data:`WAITS`.

    Attributes:
        url: of the remote folder.
        local: the working copy, which goes with this object, or with the process, unless something could not be sent.
        has_others: whether there are files that are none of a run's or a comparison's; they stay where they are.

    Raises:
        RemoteError: the URL is of no kind that fsspec knows, or a package is missing.
    """

    def __init__(self, url: str, *, waits: tuple[float, ...] | None = None) -> None:
        import fsspec

        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise RemoteError(f"{url} must be a folder that fsspec can write, got: {_in_short(error)}") from error
        self.url, self._root = url.rstrip("/"), root.rstrip("/")
        self.local = Path(tempfile.mkdtemp(prefix="neuropil-"))
        self.has_others = False
        self._waits = WAITS if waits is None else waits
        self._sent: dict[str, tuple[int, int]] = {}  # by name: size and time of what lies there
        self._made: set[str] = set()
        self._is_away = False
        self._remove_copy = weakref.finalize(self, shutil.rmtree, self.local, ignore_errors=True)

    # From there to here

    def download(self, checkpoints: Checkpoints = "needed", below: str = "") -> None:
        """Fetch what lies there.

        Args:
            checkpoints: those ``needed`` to go on, of runs that are not done; ``all``; or ``none``.
            below: name of a folder in it, of which alone files are fetched.

        Raises:
            RemoteError: it cannot be reached.
        """
        self._try(partial(self._fetch, checkpoints, below), "cannot be read")

    def _fetch(self, checkpoints: Checkpoints, below: str) -> None:
        self._fs.invalidate_cache()
        listed = self._fs.find(f"{self._root}/{below}".rstrip("/"), maxdepth=_DEPTH)
        names = [name for path in listed if (name := self._relative(path)) is not None]
        done = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] == "summary.json"}
        wanted = []
        for name in names:
            folder, _, file = name.rpartition("/")
            if _CHECKPOINT.fullmatch(file):
                if checkpoints == "all" or (checkpoints == "needed" and folder not in done):
                    wanted.append(name)
            elif Path(file).suffix in _READ:
                wanted.append(name)
            else:
                self.has_others = True
        for name in wanted:
            (self.local / name).parent.mkdir(parents=True, exist_ok=True)
        if wanted:
            self._fs.get([f"{self._root}/{name}" for name in wanted], [str(self.local / name) for name in wanted])
        self._sent = {name: _signature(self.local / name) for name in wanted}

    def _relative(self, path: str) -> str | None:
        """Return the name of a file below the root; None for what is no run's, or leads elsewhere."""
        if not path.startswith(f"{self._root}/"):
            return None
        name = path[len(self._root) + 1 :]
        parts = name.split("/")
        # whoever writes there might call a file "../../.profile"
        if any(part in ("", ".", "..") or re.search(r"[\\\x00-\x1f]", part) for part in parts) or Path(name).drive:
            logger.warning("%s holds a file called %r, which is passed over", self.url, name)
            return None
        return None if _stays(parts[-1]) else name

    # From here to there

    def upload(self) -> None:
        """Send what has changed since the last time, and remove what is here no longer.

        Raises:
            RemoteError: it cannot be reached; the working copy stays.
        """
        try:
            self._send(self._waits)
        except RemoteError as error:
            self._remove_copy.detach()
            raise RemoteError(
                f"{error}; what is done lies in {self.local}: copy it there, and give the same command again"
            ) from error

    def keep_up(self) -> None:
        """Send what has changed, or say once that this must wait: it is tried again at the next call."""
        try:
            self._send(() if self._is_away else self._waits)
            self._is_away = False
        except RemoteError as error:
            if not self._is_away:
                logger.warning("%s; work goes on in %s, and is sent later", error, self.local)
            self._is_away = True

    def _send(self, waits: tuple[float, ...]) -> None:
        # looked at in the opposite order of that in which they are sent: a run may be at work here
        found: dict[str, tuple[int, int]] = {}
        for turn in (3, 2, 1, 0):
            for path in sorted(self.local.rglob("*")):
                if _turn(path.name) == turn and not _stays(path.name):
                    with contextlib.suppress(FileNotFoundError):  # gone since
                        if path.is_file():
                            found.setdefault(path.relative_to(self.local).as_posix(), _signature(path))
        is_whole = True
        for name, signature in reversed(found.items()):
            if self._sent.get(name) == signature:
                continue
            if self._try(partial(self._put, name), "cannot be written", waits):
                self._sent[name] = signature
            else:
                is_whole = False
        if not is_whole:
            return  # what is old here may be the last that is there
        for name in sorted(self._sent.keys() - found.keys()):
            self._try(partial(self._remove, name), "cannot be written", waits)
            del self._sent[name]

    def _put(self, name: str) -> bool:
        """Send a file, of records whole ones only; say whether it was still here."""
        here, (folder, _, file) = self.local / name, f"{self._root}/{name}".rpartition("/")
        if folder not in self._made:
            self._fs.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        begun, whole = f"{folder}/.{file}.partial", f"{folder}/{file}"
        try:
            if _CHECKPOINT.fullmatch(file):  # may be too large for memory
                self._fs.put_file(str(here), begun)
            else:
                content = here.read_bytes()
                is_records = here.suffix == ".jsonl"
                self._fs.pipe_file(begun, content[: content.rfind(b"\n") + 1] if is_records else content)
        except FileNotFoundError:
            if here.exists():
                raise
            return False
        try:
            self._fs.mv(begun, whole)
        except FileExistsError:  # a file system that moves over nothing
            self._fs.rm_file(whole)
            self._fs.mv(begun, whole)
        return True

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")

    def _try(self, action: Callable[[], T], failure: str, waits: tuple[float, ...] | None = None) -> T:
        """Return what is done on the file system, tried again after each failure: packages raise all kinds of them."""
        for wait in (*(self._waits if waits is None else waits), None):
            try:
                return action()
            except Exception as error:
                if wait is None or isinstance(error, _LASTING):
                    raise RemoteError(f"{self.url} {failure}: {_in_short(error)}") from error
            time.sleep(wait)
        raise AssertionError


@contextmanager
def working_copy(folder: Folder, *, checkpoints: Checkpoints = "needed", below: str = "") -> Iterator[Path]:
    """Give a folder to work in: the folder itself, or a copy of a remote one, kept in step while the block runs.

    Args:
        folder: a path, or a URL.
        checkpoints, below: what is fetched of a remote one, see :meth:`Mirror.download`.

    Raises:
        RemoteError: the remote folder cannot be reached at the beginning, or at the end; what was done is named then.
    """
    if not is_remote(folder):
        yield Path(folder)
        return
    mirror = _opened(os.fspath(folder), checkpoints, below)
    over = threading.Event()

    def keep_up() -> None:
        while not over.wait(_EVERY):
            mirror.keep_up()

    thread = threading.Thread(target=keep_up, daemon=True)
    thread.start()
    try:
        yield mirror.local
    finally:
        over.set()
        thread.join()
        mirror.upload()


def local_copy(folder: Folder, *, checkpoints: Checkpoints = "none") -> Path:
    """Return a folder to read from: the folder itself, or, of a remote one, a copy that lasts as long as the process.

    Raises:
        RemoteError: the remote folder cannot be reached.
    """
    return _opened(os.fspath(folder), checkpoints).local if is_remote(folder) else Path(folder)


def remote_of(path: Path) -> str | None:
    """Return the URL of what lies in a working copy; None for any other path."""
    for local, mirror in _open.items():
        if path.is_relative_to(local):
            below = path.relative_to(local).as_posix()
            return mirror.url if below == "." else f"{mirror.url}/{below}"
    return None


def _opened(url: str, checkpoints: Checkpoints, below: str = "") -> Mirror:
    mirror = Mirror(url)
    mirror.download(checkpoints, below)
    _open[mirror.local] = mirror
    return mirror


def _signature(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _turn(name: str) -> int:
    """Return when a file is sent: before what relies on it."""
    if _FIRST.fullmatch(name):
        return 0
    if _CHECKPOINT.fullmatch(name):
        return 2
    return 3 if _LAST.fullmatch(name) else 1


def _stays(name: str) -> bool:
    """Say whether a file is of no use elsewhere: half written, damaged, or a lock."""
    return name == "lock" or name.endswith((".partial", ".damaged"))


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
