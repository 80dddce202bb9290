"""The block grid behind a wiring: checked positions, group labels and compressed rows, as frozen arrays."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

IntArray = NDArray[np.signedinteger[Any]]


def check_block(block: tuple[int, int]) -> None:
    """Raise a ``ValueError`` unless a block has two positive sides."""
    if len(block) != 2 or min(block) < 1:
        raise ValueError(f"Wiring: block must be two positive integers (rows, columns), got {block!r}")


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array after making it read-only."""
    array.setflags(write=False)
    return array


def checked_order(name: str, order: ArrayLike | None, n: int, side: int) -> IntArray:
    """Return neuron numbers by position, padded with −1 to whole blocks, after checking them."""
    if order is None:
        positions = np.full(-(-n // side) * side, -1, dtype=np.int32)
        positions[:n] = np.arange(n, dtype=np.int32)
        return frozen(positions)
    positions = np.array(order, dtype=np.int32)
    present = positions[positions >= 0]
    whole = positions.ndim == 1 and len(positions) % side == 0 and (positions >= -1).all() and len(present) == n
    if not whole or not np.array_equal(np.sort(present), np.arange(n)):
        raise ValueError(
            f"Wiring: {name} must hold each of the {n} neurons once, and otherwise −1, in whole blocks of {side}, "
            f"got {len(positions)} positions with {len(np.unique(present))} different neurons"
        )
    return frozen(positions)


def checked_groups(name: str, groups: ArrayLike | None, n: int) -> IntArray | None:
    """Return the group of each of ``n`` neurons after checking them, or None."""
    if groups is None:
        return None
    labels = np.array(groups, dtype=np.int32)
    if labels.shape != (n,) or labels.min() < 0:
        raise ValueError(f"Wiring: {name} must be {n} group numbers from 0 up, got shape {labels.shape}")
    return frozen(labels)


def compressed_rows(rows: ArrayLike, columns: ArrayLike, grid: tuple[int, int]) -> tuple[IntArray, IntArray]:
    """Sort block coordinates by row, then column, and compress the rows to pointers."""
    row, column = np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64)
    if row.ndim != 1 or row.shape != column.shape:
        raise ValueError(
            f"Wiring: block_rows and block_columns must be two lists of equal length, got shapes {row.shape} "
            f"and {column.shape}"
        )
    if len(row) and (row.min() < 0 or column.min() < 0 or row.max() >= grid[0] or column.max() >= grid[1]):
        raise ValueError(
            f"Wiring: blocks must lie on the grid of {grid[0]} × {grid[1]} blocks, got rows {row.min()} to "
            f"{row.max()} and columns {column.min()} to {column.max()}"
        )
    keys = row * grid[1] + column
    keys.sort()
    if (keys[1:] == keys[:-1]).any():
        raise ValueError("Wiring: each block must be named once, got one twice")
    indptr = np.zeros(grid[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys // grid[1], minlength=grid[0]), out=indptr[1:])
    return frozen(indptr), frozen((keys % grid[1]).astype(np.int32))


def renumbered(
    rows: IntArray, columns: IntArray, indptr: IntArray, indices: IntArray, shape: tuple[int, int]
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Return orders and compressed rows of single synapses with neurons in their own order.

    Args:
        rows, columns: neuron at each position, −1 for nobody.
        indptr, indices: compressed rows of positions.
        shape: number of neurons on either side.
    """
    own = [frozen(np.arange(n, dtype=np.int32)) for n in shape]
    if np.array_equal(rows, own[0]) and np.array_equal(columns, own[1]):
        return rows, columns, indptr, indices
    targets, sources = np.repeat(rows, np.diff(indptr)), columns[indices]
    real = (targets >= 0) & (sources >= 0)
    return own[0], own[1], *compressed_rows(targets[real], sources[real], shape)


def per_neuron(per_block: NDArray[Any], order: IntArray, side: int, n: int) -> Tensor:
    """Spread a count per block row (or column) over the neurons at its positions."""
    counts = np.zeros(n, dtype=np.int64)
    real = order >= 0
    counts[order[real]] = np.repeat(per_block, side)[real]
    return torch.from_numpy(counts)
