"""The IDX files of MNIST and its kin: a magic number, the dimensions, then bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuropil.data.errors import DataError


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read an IDX file of bytes, gzip or plain, that must have a given shape.

    Args:
        path: the file; gzip where its name ends in ``.gz``.
        shape: the dimensions that it must declare and fill.

    Returns:
        uint8 tensor of that shape.

    Raises:
        DataError: the magic number, the dimensions or the length are wrong, or the file is damaged.
    """
    header = 4 + 4 * len(shape)
    size = math.prod(shape)
    try:
        # one byte more than expected is read, so that a file that is too long shows, whatever it expands to
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(header + size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: must be a whole gzip file, got a damaged or truncated one ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: must be a readable file, got {error.strerror or error}") from error
    magic = 0x0800 | len(shape)
    found = int.from_bytes(content[:4], "big")
    if len(content) < 4 or found != magic:
        raise DataError(
            f"{path}: must be an IDX file of bytes with {len(shape)} dimensions (magic number {magic:#010x}), "
            f"got {found:#010x}"
        )
    if len(content) < header:
        raise DataError(f"{path}: must hold {header + size:,} bytes, got {len(content):,}: the file is truncated")
    declared = struct.unpack(f">{len(shape)}I", content[4:header])
    if declared != shape:
        raise DataError(f"{path}: must declare the dimensions {_times(shape)}, got {_times(declared)}")
    if len(content) != header + size:
        got, state = ("more", "too long") if len(content) > header + size else (f"{len(content):,}", "truncated")
        raise DataError(f"{path}: must hold {header + size:,} bytes, got {got}: the file is {state}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
