"""What was measured, as rows of a CSV, with the machine and the versions that it was measured with."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from neuropil.train.environment import describe_environment

Row = dict[str, Any]
_VERSIONS = ("numba", "triton", "snntorch")
_TEXTS = ("date", "commit", "neuropil", "python", "torch", "numpy", *_VERSIONS)


def describe_machine(device: str) -> Row:
    """Return the columns that tell with what rows were measured."""
    facts = describe_environment()
    processor = torch.cuda.get_device_name() if device == "cuda" else facts["processor"]
    row: Row = {"device": device, "processor": processor}
    row |= {key: facts[key] for key in ("cores", "threads", "date", "commit", "neuropil", "python", "torch", "numpy")}
    for package in _VERSIONS:
        try:
            row[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            row[package] = None
    # of the last minute: what else the machine was doing
    row["load"] = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return row


class Records:
    """The rows of one suite: kept beside the CSV while they come, and in its place when all have come.

    Args:
        path: the CSV. Until :meth:`finish`, rows lie in ``NAME.partial.csv`` beside it, and it stays as it was.
        machine: columns that are added to every row.
    """

    def __init__(self, path: Path, machine: Mapping[str, Any]) -> None:
        self.path = path
        self.partial = path.with_suffix(".partial.csv")
        self.rows: list[Row] = []
        self.machine = dict(machine)

    def add(self, rows: Iterable[Row]) -> None:
        """Keep some more rows, on disk too."""
        self.rows += [row | self.machine for row in rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(self.partial, self.rows, last=[*self.machine])

    def finish(self) -> None:
        """Put the rows in the place of the CSV, in one go."""
        if self.rows:
            os.replace(self.partial, self.path)


def write_rows(path: Path, rows: Sequence[Row], *, last: Sequence[str] = ()) -> None:
    """Write rows as a CSV with all columns that any of them has, in one go: a reader sees the old file or the new.

    Args:
        path: the file.
        rows: to write.
        last: columns that come behind all others.
    """
    found = dict.fromkeys(key for row in rows for key in row)
    columns = [key for key in found if key not in last] + [key for key in last if key in found]
    beside = path.with_suffix(".writing")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(beside, path)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV, numbers as numbers and empty cells as None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: text if key in _TEXTS else _value(text) for key, text in row.items()} for row in csv.DictReader(file)
        ]


def _value(text: str) -> Any:
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
