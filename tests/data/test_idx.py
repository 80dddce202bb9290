"""read_idx: gzip and plain files alike; each kind of damage has its sentence."""

import gzip
import re
import struct

import numpy as np
import pytest
import torch

from neuropil.data import DataError
from neuropil.data.idx import read_idx


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


@pytest.fixture
def values(rng):
    return rng.integers(0, 256, (5, 4, 3)).astype(np.uint8)


def test_gzip_and_plain_are_equal(tmp_path, values):
    (tmp_path / "images").write_bytes(idx(values))
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(values)))
    plain, packed = read_idx(tmp_path / "images", (5, 4, 3)), read_idx(tmp_path / "images.gz", (5, 4, 3))
    assert plain.dtype == torch.uint8
    assert np.array_equal(plain.numpy(), values)
    assert torch.equal(plain, packed)


def test_result_can_be_written_to(tmp_path, values):
    (tmp_path / "images").write_bytes(idx(values))
    images = read_idx(tmp_path / "images", (5, 4, 3))
    images[0] = 0
    assert int(images[0].max()) == 0


DAMAGE = {
    "magic of labels": (
        lambda whole: idx(np.zeros(60)),
        "must be an IDX file of bytes with 3 dimensions (magic number 0x00000803), got 0x00000801",
    ),
    "another type": (lambda whole: b"\0\0\x0d" + whole[3:], "got 0x00000d03"),
    "nothing in it": (lambda whole: b"", "magic number 0x00000803"),
    "ends in the header": (lambda whole: whole[:9], "must hold 76 bytes, got 9: the file is truncated"),
    "ends in the pixels": (lambda whole: whole[:-1], "must hold 76 bytes, got 75: the file is truncated"),
    "too long": (lambda whole: whole + b"\0", "must hold 76 bytes, got more: the file is too long"),
    "other count": (lambda whole: idx(np.zeros((4, 4, 3))), "must declare the dimensions 5 × 4 × 3, got 4 × 4 × 3"),
    "other shape": (lambda whole: idx(np.zeros((5, 3, 4))), "must declare the dimensions 5 × 4 × 3, got 5 × 3 × 4"),
    "absurd count": (
        lambda whole: whole[:4] + b"\xff\xff\xff\xff" + whole[8:],
        "must declare the dimensions 5 × 4 × 3, got 4294967295 × 4 × 3",
    ),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("damage", "sentence"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(tmp_path, values, damage, sentence, packed):
    path = tmp_path / ("images.gz" if packed else "images")
    content = damage(idx(values))
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=re.escape(f"{path}: ")) as caught:
        read_idx(path, (5, 4, 3))
    assert sentence in str(caught.value)


def flip(content: bytes) -> bytes:
    return content[:-6] + bytes([content[-6] ^ 255]) + content[-5:]  # in the checksum that ends a gzip file


@pytest.mark.parametrize(
    "damage",
    [lambda packed: packed[:-12], flip, lambda packed: packed[:10] + b"\xff" * 20, lambda packed: b"no gzip at all"],
    ids=["cut", "checksum", "stream", "no gzip"],
)
def test_damaged_gzip_is_named(tmp_path, values, damage):
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(idx(values))))
    with pytest.raises(
        DataError, match=re.escape(f"{path}: must be a whole gzip file, got a damaged or truncated one")
    ):
        read_idx(path, (5, 4, 3))


def test_what_a_gzip_file_expands_to_is_not_read_to_its_end(tmp_path, values, monkeypatch):
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or read(self, size))
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(values) + bytes(5_000_000)))
    with pytest.raises(DataError, match="must hold 76 bytes, got more"):
        read_idx(path, (5, 4, 3))
    assert asked == [77]


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"must be a readable file, got Is a directory"):
        read_idx(tmp_path, (5, 4, 3))
