"""read_cifar against a loop over bytes; each kind of damage has its sentence."""

import re

import numpy as np
import pytest
import torch

from neuropil.data import DataError
from neuropil.data.cifar import read_cifar


def content(rng, n_rows: int, n_classes: int) -> bytearray:
    labels = [rng.integers(0, limit, (n_rows, 1)) for limit in ([20, 100] if n_classes == 100 else [10])]
    return bytearray(np.hstack([*labels, rng.integers(0, 256, (n_rows, 3072))]).astype(np.uint8).tobytes())


@pytest.mark.parametrize("n_classes", [10, 100])
@pytest.mark.parametrize("n_rows", [1, 3])
def test_equals_a_loop_over_bytes(tmp_path, rng, n_rows, n_classes):
    whole = content(rng, n_rows, n_classes)
    (tmp_path / "batch.bin").write_bytes(whole)
    images, labels = read_cifar(tmp_path / "batch.bin", n_rows, n_classes=n_classes)
    assert (images.dtype, images.shape) == (torch.uint8, (n_rows, 3, 32, 32))
    assert labels.dtype == torch.int64
    first = 2 if n_classes == 100 else 1
    for row in range(n_rows):
        start = row * (first + 3072)
        assert int(labels[row]) == whole[start + first - 1]
        for channel, y, x in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 31, 31)]:
            assert int(images[row, channel, y, x]) == whole[start + first + 1024 * channel + 32 * y + x]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda whole: whole[:-1], "must hold 9,219 bytes (3 images), got 9,218: the file is truncated"),
        (lambda whole: whole + b"\0", "must hold 9,219 bytes (3 images), got 9,220: the file is too long"),
        (lambda whole: whole[:3073], "must hold 9,219 bytes (3 images), got 3,073: the file is truncated"),
        (lambda whole: b"", "must hold 9,219 bytes (3 images), got 0: the file is truncated"),
    ],
)
def test_wrong_length_is_named(tmp_path, rng, change, sentence):
    path = tmp_path / "batch.bin"
    path.write_bytes(change(content(rng, 3, 10)))
    with pytest.raises(DataError, match=re.escape(f"{path}: {sentence}")):
        read_cifar(path, 3, n_classes=10)


def test_coarse_label_out_of_range_is_named(tmp_path, rng):
    whole = content(rng, 3, 100)
    whole[3074] = 20
    (tmp_path / "train.bin").write_bytes(whole)
    with pytest.raises(DataError, match=r"train\.bin: coarse labels must lie in 0 to 19, got 20"):
        read_cifar(tmp_path / "train.bin", 3, n_classes=100)
