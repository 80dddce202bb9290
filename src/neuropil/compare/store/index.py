"""What was read of run folders before, in an SQLite file: an aid to memory that may be lost at any time."""

import contextlib
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

logger = logging.getLogger(__name__)

NAME = ".neuropil-index.sqlite"
_VERSION = 1  # of what a row holds: another one makes all rows be read again
_WAIT = 10.0  # seconds, for another process that writes
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (folder TEXT PRIMARY KEY, signature TEXT, identity TEXT, unread TEXT, row TEXT,
    checksum INTEGER);
"""


class Entry(NamedTuple):
    """What is remembered of a run folder.

    Attributes:
        signature: of its files when they were read, see :class:`neuropil.compare.store.scan.RunFolder`.
        identity: of the run, see :func:`neuropil.compare.identity.run_identity`.
        unread: names of its files that cannot be read, parted by spaces.
        row: as JSON.
    """

    signature: str
    identity: str
    unread: str
    row: str


class Index:
    """The index of a root folder, shared by all processes that read it.

    Nothing depends on it but speed: where it cannot be read or written (a root that is read-only, a full disk, another
    process that holds it for long), all is read from the run folders; where it is damaged, it is made anew. Each entry
    carries a checksum, so that damage inside is seen too.

    Args:
        root: an existing folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / NAME

    def load(self) -> dict[str, Entry]:
        """Return what is remembered, by folder; nothing where there is no index, or it cannot be used."""
        if not self.path.is_file():
            return {}
        known = {}
        try:
            with self._open("ro") as connection:
                if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                    raise sqlite3.DatabaseError("made by another version")
                for folder, *fields, checksum in connection.execute("SELECT * FROM runs"):
                    entry = Entry(*fields)
                    if _checksum(folder, entry) != checksum:
                        raise sqlite3.DatabaseError(f"the entry of {folder} is damaged")
                    known[folder] = entry
        except sqlite3.OperationalError as error:
            logger.debug("%s is not used: %s", self.path, error)
            return {}
        except (sqlite3.DatabaseError, TypeError) as error:
            logger.debug("%s is made anew: %s", self.path, error)
            self.remove()
            return {}
        return known

    def store(self, entries: Iterable[tuple[str, Entry]], gone: Iterable[str] = ()) -> None:
        """Remember some folders and forget others; where that is not possible, nothing happens."""
        rows = [(folder, *entry, _checksum(folder, entry)) for folder, entry in entries]
        forgotten = [(folder,) for folder in gone]
        if not rows and not forgotten:
            return
        try:
            with self._open("rwc") as connection:
                connection.execute("PRAGMA synchronous = OFF")  # what a crash takes away is read again
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLES)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
                connection.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", rows)
                connection.executemany("DELETE FROM runs WHERE folder = ?", forgotten)
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            logger.debug("%s is not written: %s", self.path, error)
        except sqlite3.DatabaseError as error:
            logger.debug("%s is made anew: %s", self.path, error)
            self.remove()

    def remove(self) -> None:
        """Forget everything."""
        for path in (self.path, self.path.with_name(f"{NAME}-journal")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        where = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        connection = sqlite3.connect(where, uri=True, timeout=_WAIT, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()


def _checksum(folder: str, entry: Entry) -> int:
    return zlib.crc32("\0".join((folder, *entry)).encode())
