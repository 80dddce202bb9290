"""Whether the files of a data set are there, whole, and what they should be."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from neuropil.data.errors import DataError
from neuropil.data.load import data_root, find_files, find_source, load, missing_file


@dataclass(frozen=True)
class Check:
    """What is found of one data set.

    Attributes:
        name: the data set.
        state: ``ok``, ``missing`` or ``damaged``.
        detail: in words: where the files lie and what they hold, or what is wrong.
        published: how many files are, byte for byte, the publisher's, as "2 of 4"; empty where that cannot be told
            (unpacked archives, other copies). Other copies are fine if their structure is.
        train_counts: training images of each class; empty unless the state is ``ok``.
        test_counts: test images of each class, likewise.
    """

    name: str
    state: Literal["ok", "missing", "damaged"]
    detail: str
    published: str = ""
    train_counts: tuple[int, ...] = ()
    test_counts: tuple[int, ...] = ()


def check(name: str, root: str | os.PathLike[str] | None = None) -> Check:
    """Look at a data set's files without downloading anything.

    Args:
        name: one of ``SOURCES``.
        root: as for :func:`neuropil.data.load`.

    Raises:
        DataError: the name is unknown. What is wrong with files is returned, not raised.

    Example:
        >>> check("digits").detail
        '1,078 training and 719 test images of 10 classes, mean 0.306, deviation 0.377'
    """
    source = find_source(name)
    published = ""
    if source.layout != "builtin":
        files = find_files(source, data_root(root))
        if files is None:
            return Check(name, "missing", f"{missing_file(source, data_root(root))} is not in {data_root(root) / name}")
        if source.layout == "idx":
            known = {file.name: file.md5 for file in source.files}
            paths = [*files.train, *files.test]
            same = sum(path.name in known and _md5(path) == known[path.name] for path in paths)
            published = f"{same} of {len(paths)}"
    try:
        dataset = load(name, root, download=False)
    except DataError as error:
        return Check(name, "damaged", str(error), published)
    mean, std = (", ".join(f"{value:.3f}" for value in values) for values in (dataset.mean, dataset.std))
    detail = (
        f"{len(dataset.train):,} training and {len(dataset.test):,} test images of {dataset.n_classes} classes, "
        f"mean {mean}, deviation {std}"
    )
    train_counts, test_counts = (
        tuple(torch.bincount(part.labels, minlength=dataset.n_classes).tolist())
        for part in (dataset.train, dataset.test)
    )
    return Check(name, "ok", detail, published, train_counts, test_counts)


def _md5(path: Path) -> str | None:
    """Return a file's checksum, or None where it cannot be read: :func:`load` then says why."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:
        return None
