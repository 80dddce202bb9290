"""Made-up data sets in the publishers' layouts, small enough to write in a test."""

import dataclasses
import gzip
import hashlib
import struct

import numpy as np
import pytest

from neuropil.data.sources import SOURCES, DataFile

IDX_NAMES = [file.name for file in SOURCES["mnist"].files]


def idx_bytes(values: np.ndarray) -> bytes:
    """Write an array as the IDX format says: 0, 0, type, number of dimensions, dimensions, bytes."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def cifar_bytes(rng: np.random.Generator, n_rows: int, n_classes: int) -> bytes:
    labels = np.stack([rng.integers(0, limit, n_rows) for limit in ([20, 100] if n_classes == 100 else [10])], axis=1)
    return np.concatenate([labels, rng.integers(0, 256, (n_rows, 3072))], axis=1).astype(np.uint8).tobytes()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def idx_files(rng):
    """Name and content of the four files of a set of 20 and 10 images of 4 × 3 pixels."""
    files = {}
    for n, images, labels in ((20, *IDX_NAMES[:2]), (10, *IDX_NAMES[2:])):
        files[images] = gzip.compress(idx_bytes(rng.integers(0, 256, (n, 4, 3))), mtime=0)
        files[labels] = gzip.compress(idx_bytes(np.arange(n) % 10), mtime=0)
    return files


@pytest.fixture
def small_mnist(monkeypatch, idx_files):
    """Make ``mnist`` mean the made-up files, checksums included."""
    source = dataclasses.replace(
        SOURCES["mnist"],
        n_train=20,
        n_test=10,
        image_shape=(1, 4, 3),
        files=tuple(DataFile(name, hashlib.md5(content).hexdigest()) for name, content in idx_files.items()),
    )
    monkeypatch.setitem(SOURCES, "mnist", source)
    return source


@pytest.fixture
def mnist_root(tmp_path, small_mnist, idx_files):
    """Return a folder of data sets that holds the made-up mnist."""
    folder = tmp_path / "root" / "mnist"
    folder.mkdir(parents=True)
    for name, content in idx_files.items():
        (folder / name).write_bytes(content)
    return folder.parent


@pytest.fixture
def small_cifar(monkeypatch):
    """Make ``cifar-10`` and ``cifar-100`` mean sets of 10 and 4 images."""
    for name in ("cifar-10", "cifar-100"):
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(SOURCES[name], n_train=10, n_test=4))


@pytest.fixture
def cifar_files(rng):
    """Path and content of the members of both archives."""
    return {
        "cifar-10": {f"cifar-10-batches-bin/data_batch_{k}.bin": cifar_bytes(rng, 2, 10) for k in range(1, 6)}
        | {"cifar-10-batches-bin/test_batch.bin": cifar_bytes(rng, 4, 10)},
        "cifar-100": {
            "cifar-100-binary/train.bin": cifar_bytes(rng, 10, 100),
            "cifar-100-binary/test.bin": cifar_bytes(rng, 4, 100),
        },
    }


@pytest.fixture
def lay_out():
    """Write files, given as path to content, below a folder."""

    def write(folder, files):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return write
