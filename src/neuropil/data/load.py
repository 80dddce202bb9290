"""Finding a data set's files, reading them, and checking that they are what they should be."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuropil.data.cifar import CIFAR_FILES, CIFAR_FOLDERS, read_cifar
from neuropil.data.dataset import Dataset, Split, make_dataset, stratified_choice
from neuropil.data.download import download as download_files
from neuropil.data.errors import DataError
from neuropil.data.idx import read_idx
from neuropil.data.sources import SOURCES, Source
from neuropil.randomness import stream


def load(
    name: str, root: str | os.PathLike[str] | None = None, *, download: bool = True, progress: bool = False
) -> Dataset:
    """Load a data set into memory, after checking its structure.

    Args:
        name: one of ``SOURCES``: digits, mnist, fashion-mnist, cifar-10, cifar-100.
        root: folder that holds a folder of the data set's name, or that folder itself; default: the environment
            variable ``NEUROPIL_DATA``, else a cache folder of the user's.
        download: fetch missing files from the publisher into ``root/name``, and verify their checksums.
        progress: show a progress bar while downloading.

    Returns:
        Training and test images as bytes, without a validation split.

    Raises:
        DataError: the name is unknown, or files are missing, cannot be downloaded, or have the wrong magic number,
            shape, length or labels.

    Example:
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.test), digits.input_shape
        (1078, 719, (1, 8, 8))
    """
    source = find_source(name)
    if source.layout == "builtin":
        return _load_digits(source)
    folder = data_root(root)
    files = find_files(source, folder)
    if files is None and download:
        download_files(source, folder / name, progress=progress)
        files = find_files(source, folder)
    if files is None:
        raise DataError(
            f"{name}: {missing_file(source, folder)} must be in {folder / name}, got no such file; name the folder of "
            f"data sets with root=, --data or NEUROPIL_DATA, or let it be downloaded"
        )
    train, test = read_files(source, files)
    return make_dataset(name, train, test, source.classes, 255)


@dataclass(frozen=True)
class FoundFiles:
    """Where the files of a data set lie.

    Attributes:
        train: files of the training part.
        test: files of the test part.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...]


def find_source(name: str) -> Source:
    """Return what is known of a data set, or raise a ``DataError`` with the nearest name."""
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.5)
        hint = f"; try {near[0]!r}" if near else ""
        raise DataError(f"load: name must be one of {', '.join(SOURCES)}, got {name!r}{hint}")
    return SOURCES[name]


def data_root(root: str | os.PathLike[str] | None) -> Path:
    """Return the folder of data sets: the argument, else ``NEUROPIL_DATA``, else the user's cache folder."""
    if root is None:
        root = os.environ.get("NEUROPIL_DATA") or None
    if root is None:
        import pooch

        return Path(pooch.os_cache("neuropil"))
    return Path(root).expanduser()


def find_files(source: Source, root: Path) -> FoundFiles | None:
    """Return the files of a data set below a root folder, or None where one is missing."""
    # IDX files are named alike for every data set, so only a folder of the data set's own name is trusted
    itself = [root] if source.layout == "cifar" or root.name == source.name else []
    for folder in (root / source.name, *itself):
        if source.layout == "idx":
            paths = [_gzip_or_plain(folder / file.name) for file in source.files]
            if all(path is not None for path in paths):
                return FoundFiles(tuple(p for p in paths[:2] if p), tuple(p for p in paths[2:] if p))
        elif source.layout == "cifar":
            for inner in (folder / CIFAR_FOLDERS[source.name], folder):
                train, test = ([inner / file for file in part] for part in CIFAR_FILES[source.name])
                if all(path.is_file() for path in (*train, *test)):
                    return FoundFiles(tuple(train), tuple(test))
    return None


def missing_file(source: Source, root: Path) -> str:
    """Name the first file of a data set that is not in ``root/name``."""
    folder = root / source.name
    if source.layout == "cifar":
        names = [f"{CIFAR_FOLDERS[source.name]}/{file}" for part in CIFAR_FILES[source.name] for file in part]
    else:
        names = [file.name for file in source.files if _gzip_or_plain(folder / file.name) is None]
    return next((name for name in names if not (folder / name).is_file()), names[0])


def read_files(source: Source, files: FoundFiles) -> tuple[Split, Split]:
    """Read and check training and test part."""
    if source.layout == "idx":
        _, height, width = source.image_shape
        parts = []
        for (images_path, labels_path), n in ((files.train, source.n_train), (files.test, source.n_test)):
            labels = read_idx(labels_path, (n,)).long()
            _check_labels(labels, source.n_classes, labels_path)
            parts.append(Split(read_idx(images_path, (n, height, width)).unsqueeze(1), labels))
        return parts[0], parts[1]
    return tuple(  # type: ignore[return-value]
        _read_cifar_part(source, paths, n) for paths, n in ((files.train, source.n_train), (files.test, source.n_test))
    )


def _read_cifar_part(source: Source, paths: tuple[Path, ...], n: int) -> Split:
    images, labels = [], []
    for path in paths:
        some_images, some_labels = read_cifar(path, n // len(paths), n_classes=source.n_classes)
        _check_labels(some_labels, source.n_classes, path)
        images.append(some_images)
        labels.append(some_labels)
    return Split(torch.cat(images), torch.cat(labels))


def _check_labels(labels: Tensor, n_classes: int, path: Path) -> None:
    if int(labels.max()) >= n_classes:
        raise DataError(f"{path}: labels must lie in 0 to {n_classes - 1}, got {int(labels.max())}")


def _gzip_or_plain(path: Path) -> Path | None:
    return next((found for found in (path, path.with_suffix("")) if found.is_file()), None)


def _load_digits(source: Source) -> Dataset:
    """Return scikit-learn's digits; they have no test part, so a stratified one is drawn, always the same."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype("uint8")).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype("int64"))
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    held_out[stratified_choice(labels, source.n_test, stream(0, "digits", "test"))] = True
    train, test = (Split(images[part], labels[part]) for part in (~held_out, held_out))
    return make_dataset(source.name, train, test, source.classes, 16)
