"""Running a suite: its rows on disk as they come, its picture at the end."""

from collections.abc import Callable
from pathlib import Path

import torch

import neuropil
from neuropil.bench.picture import draw
from neuropil.bench.records import Records, Row, describe_machine
from neuropil.bench.settings import Settings
from neuropil.bench.suites import SUITES
from neuropil.compare.registry import nearest
from neuropil.train import flush_subnormals, keep_memory


def prepare(settings: Settings) -> None:
    """Set this process up: before the first tensor operation, as threads take its settings over."""
    torch.set_num_threads(settings.threads)
    flush_subnormals()
    keep_memory()


def default_folder(settings: Settings) -> Path:
    """Return where results go: into the source tree, if this is one and they are not quick ones."""
    root = Path(neuropil.__file__).parents[2]
    kept = root / "benchmarks" / "results"
    return kept if kept.is_dir() and (root / "pyproject.toml").exists() and not settings.quick else Path("bench")


def new_records(name: str, settings: Settings, folder: Path) -> Records:
    """Return the records of a suite, still empty, for a CSV in a folder.

    Raises:
        ValueError: there is no such suite.
    """
    if name not in SUITES:
        raise ValueError(f"bench: suites must be of {', '.join(SUITES)}, got {name!r}{nearest(name, [*SUITES])}")
    stem = name if settings.device == "cpu" else f"{name}-{settings.device}"
    return Records(folder / f"{stem}.csv", describe_machine(settings.device))


def run_suite(
    name: str, settings: Settings, records: Records, *, on_rows: Callable[[list[Row]], None] = lambda rows: None
) -> list[Path]:
    """Run one suite into its records; return the files that were written, the CSV and perhaps a picture.

    Args:
        name: one of ``SUITES``.
        settings: see there.
        records: from :func:`new_records`.
        on_rows: called with rows as they come.
    """
    for rows in SUITES[name](settings):
        records.add(rows)
        on_rows(rows)
    records.finish()
    picture = draw(name, records.rows, records.path.with_suffix(".png"))
    return [records.path] if picture is None else [records.path, picture]
