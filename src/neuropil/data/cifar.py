"""The binary layout of CIFAR-10 and CIFAR-100: rows of label bytes and 3,072 pixel bytes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuropil.data.errors import DataError

_PIXELS = 3 * 32 * 32
_COARSE_CLASSES = 20

# the publisher's folder, and its files with training and with test images
CIFAR_FOLDERS = {"cifar-10": "cifar-10-batches-bin", "cifar-100": "cifar-100-binary"}
CIFAR_FILES = {
    "cifar-10": ([f"data_batch_{k}.bin" for k in range(1, 6)], ["test_batch.bin"]),
    "cifar-100": (["train.bin"], ["test.bin"]),
}


def read_cifar(path: Path, n_rows: int, *, n_classes: int) -> tuple[Tensor, Tensor]:
    """Read one binary file.

    A row is one label byte, for CIFAR-100 preceded by the coarse label, and the red, green and blue planes.

    Args:
        path: the file.
        n_rows: images that it must hold.
        n_classes: 10, or 100 for CIFAR-100.

    Returns:
        Images uint8 ``[n_rows, 3, 32, 32]`` and labels int64 ``[n_rows]``.

    Raises:
        DataError: the length is wrong, or a label is out of range.
    """
    n_labels = 2 if n_classes == 100 else 1
    expected = n_rows * (n_labels + _PIXELS)
    length = path.stat().st_size
    if length != expected:
        state = "truncated" if length < expected else "too long"
        raise DataError(
            f"{path}: must hold {expected:,} bytes ({n_rows:,} images), got {length:,}: the file is {state}"
        )
    try:
        rows = np.fromfile(path, np.uint8, count=expected).reshape(n_rows, n_labels + _PIXELS)
    except OSError as error:
        raise DataError(f"{path}: must be a readable file, got {error.strerror or error}") from error
    if n_labels == 2 and rows[:, 0].max(initial=0) >= _COARSE_CLASSES:
        raise DataError(f"{path}: coarse labels must lie in 0 to {_COARSE_CLASSES - 1}, got {rows[:, 0].max()}")
    labels = torch.from_numpy(rows[:, n_labels - 1].astype(np.int64))
    images = torch.from_numpy(rows[:, n_labels:].reshape(n_rows, 3, 32, 32).copy())
    return images, labels
