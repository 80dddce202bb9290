"""Every run below a root folder as one table."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuropil.compare.store.alive import held_locks, is_at_work
from neuropil.compare.store.filters import find_columns, keep_rows, sort_rows
from neuropil.compare.store.index import Entry, Index
from neuropil.compare.store.rows import FIRST, LAST, SECTIONS, Row, RowError, read_row
from neuropil.compare.store.scan import Problem, RunFolder, scan

_BATCH = 500  # rows that are read before the index is written: those are not lost when a user loses patience
_ORDER = ("comparison", "arm", "seed", "fold")  # and folder: so they are found
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunTable:
    """Runs as rows of plain values (numbers, words, None where something is not known), under common columns.

    Attributes:
        root: the folder below which they lie.
        columns: names, in an order for people: what a run is called, its state, its recipe, its summary, its
            environment, its times, its folder.
        rows: one a run; a column that a row lacks is not known of it.
        problems: what could not be read, and why.
    """

    root: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()

    def where(self, *filters: str) -> "RunTable":
        """Return the runs that all filters let through, see :func:`neuropil.compare.store.filters.keep_rows`."""
        return replace(self, rows=tuple(keep_rows(self.rows, filters, self.columns)))

    def select(self, *names: str) -> "RunTable":
        """Return some columns, see :func:`neuropil.compare.store.filters.find_columns`."""
        return replace(self, columns=tuple(find_columns(names, self.columns)))

    def sorted_by(self, *names: str) -> "RunTable":
        """Return the runs in another order, see :func:`neuropil.compare.store.filters.sort_rows`."""
        return replace(self, rows=tuple(sort_rows(self.rows, names, self.columns)))


def read_runs(
    root: str | os.PathLike[str], *, rebuild: bool = False, on_progress: OnProgress | None = None
) -> RunTable:
    """Read every run below a root folder, whatever lies between; runs may be at work meanwhile.

    A run folder is one that holds the ``recipe.yaml`` of :class:`neuropil.train.Run`; columns are described at
    :func:`neuropil.compare.store.rows.read_row`. ``state`` is ``done``, ``diverged``, ``failed``, ``running`` or
    ``unfinished``: begun and not ended, and nobody at work on it as far as one can see from this machine
    (:func:`neuropil.compare.store.alive.is_at_work`).

    What was read once is kept in an index, ``.neuropil-index.sqlite`` in the root, and read again when a file has
    changed. The index may be removed at any time; a root that cannot be written to does without.

    Args:
        root: the folder; a comparison's, or one above many.
        rebuild: throw the index away and read everything again.
        on_progress: called now and then with how many of how many runs have been read anew.

    Returns:
        The runs in the order of comparison, arm, seed, fold. What cannot be read is left out, and told in
        ``problems``.

    Raises:
        ValueError: there is no such folder.
    """
    root = _checked(root)
    remembered, problems = _refresh(root, rebuild=rebuild, on_progress=on_progress)
    held = held_locks()
    # in one go, so that rows share the names of their columns
    rows: list[Row] = json.loads(f"[{','.join(entry.row for _, entry in remembered)}]")
    for (run, entry), row in zip(remembered, rows, strict=True):
        if row["state"] == "unfinished" and row["reason"] is None and is_at_work(run, int(row["epochs"] or 0), held):
            row["state"] = "running"
        if entry.unread:
            problems.append(Problem(run.folder, f"damaged or not readable: {entry.unread}"))
    columns = _columns(rows)
    return RunTable(root, columns, tuple(sort_rows(rows, _ORDER, columns)), tuple(problems))


def find_runs(root: str | os.PathLike[str], identity: str) -> list[Path]:
    """Return the folders below a root that hold a certain run, done or not, under whatever names.

    Args:
        root: an existing folder.
        identity: of the run, see :func:`neuropil.compare.identity.run_identity`. For many at a time, see
            :func:`runs_by_identity`.

    Raises:
        ValueError: there is no such folder.
    """
    return runs_by_identity(root).get(identity, [])


def runs_by_identity(root: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Return all run folders below a root, by :func:`neuropil.compare.identity.run_identity` of what they hold.

    Raises:
        ValueError: there is no such folder.
    """
    root = _checked(root)
    found: dict[str, list[Path]] = {}
    for run, entry in _refresh(root)[0]:
        found.setdefault(entry.identity, []).append(root / run.folder)
    return found


def _checked(root: str | os.PathLike[str]) -> Path:
    if "://" in os.fspath(root):
        raise ValueError(f"results: the root must be a folder of this machine, got {root}; try a copy of it")
    if not Path(root).is_dir():
        raise ValueError(f"results: the root must be a folder of runs, got {root}, which is none; try --root FOLDER")
    return Path(root)


def _refresh(
    root: Path, *, rebuild: bool = False, on_progress: OnProgress | None = None
) -> tuple[list[tuple[RunFolder, Entry]], list[Problem]]:
    """Return what is known of each run folder by now, after those that are new or have changed were read."""
    index = Index(root)
    if rebuild:
        index.remove()
    known = {} if rebuild else index.load()
    runs, problems = scan(root)
    found: dict[RunFolder, Entry] = {}
    stale = []
    for run in runs:
        entry = known.get(run.folder)
        if entry is not None and entry.signature == run.signature:
            found[run] = entry
        else:
            stale.append(run)
    gone = known.keys() - {run.folder for run in runs}
    for start in range(0, len(stale), _BATCH):
        settled = []
        for run in stale[start : start + _BATCH]:
            try:
                row, unread = read_row(root, run)
            except FileNotFoundError:
                continue  # removed meanwhile
            except RowError as error:
                problems.append(Problem(run.folder, str(error)))
                continue
            found[run] = Entry(run.signature, str(row["identity"]), " ".join(unread), json.dumps(row))
            if run.settled and run.folder:  # a root that is a run holds nothing else
                settled.append((run.folder, found[run]))
        index.store(settled)
        if on_progress is not None:
            on_progress(min(start + _BATCH, len(stale)), len(stale))
    index.store([], gone)
    return [(run, found[run]) for run in runs if run in found], problems


def _columns(rows: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Return all columns of some rows in their order: within each group as they come first."""
    names = dict.fromkeys(FIRST)
    for keys in dict.fromkeys(map(tuple, rows)):
        names |= dict.fromkeys(keys)
    names |= dict.fromkeys(LAST)

    def place(name: str) -> tuple[int, int]:
        section = name.partition(".")[0]
        for group, members in enumerate((FIRST, SECTIONS, ("recipe",))):
            if section in members:
                return group, members.index(section)
        if name in LAST:
            return 5, LAST.index(name)
        return (4, 0) if section == "environment" else (3, 0)

    return tuple(sorted(names, key=place))
