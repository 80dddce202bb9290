"""Copying columns of a matrix to where blocks multiply them, and adding them back, by Numba.

PyTorch's own index operations take a good part of the time of the products themselves.

What is copied consists of *pieces*, one for each row of blocks: matrices ``[r, columns]``, one behind the other.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def gather(x: Array, cuts: Array, sources: Array, width: int, first: int, last: int, gathered: Array) -> None:
    """Copy columns of rows ``first`` to ``last``.

    Args:
        x: ``[r, i]``.
        cuts: where each piece begins in ``sources``, uint64 ``[pieces + 1]``.
        sources: the columns of all pieces, uint32.
        width: so many columns, from every ``width``-th place of ``sources`` on, lie side by side in ``x``.
        first, last: rows to do.
        gathered: all pieces, flat; written.
    """
    step = np.uint64(width)
    rows, begin = np.uint64(len(x)), cuts[0]
    for r in range(first, last):
        row = x[r]
        for piece in range(len(cuts) - 1):
            start, n = cuts[piece], cuts[piece + 1] - cuts[piece]
            at = rows * (start - begin) + np.uint64(r) * n
            out, columns = gathered[at : at + n], sources[start : start + n]
            if width == 1:
                for k in range(n):
                    out[k] = row[columns[k]]
            else:
                for k in range(n // step):
                    run = row[columns[k * step] :]
                    to = out[k * step :]
                    for j in range(step):
                        to[j] = run[j]


@_compiled
def add_back(
    gathered: Array, cuts: Array, sources: Array, width: int, fresh: bool, first: int, last: int, x: Array
) -> None:
    """Add to each column of ``x`` whatever :func:`gather` would have copied from it.

    Args:
        gathered, cuts, sources, width, first, last: as there.
        fresh: whether ``x`` starts at 0, whatever it holds.
        x: ``[r, i]``, added to.
    """
    step = np.uint64(width)
    rows, begin = np.uint64(len(x)), cuts[0]
    for r in range(first, last):
        row = x[r]
        if fresh:
            row[:] = x.dtype.type(0)
        for piece in range(len(cuts) - 1):
            start, n = cuts[piece], cuts[piece + 1] - cuts[piece]
            at = rows * (start - begin) + np.uint64(r) * n
            out, columns = gathered[at : at + n], sources[start : start + n]
            if width == 1:
                for k in range(n):
                    row[columns[k]] += out[k]
            else:
                for k in range(n // step):
                    run = row[columns[k * step] :]
                    given = out[k * step :]
                    for j in range(step):
                        run[j] += given[j]


@_compiled
def permute(x: Array, order: Array, first: int, last: int, y: Array) -> None:
    """Write rows ``first`` to ``last`` of y[:, j] = x[:, order[j]]; 0 where the order is negative."""
    zero = x.dtype.type(0)
    n = np.uint64(y.shape[1])
    for r in range(first, last):
        row, out = x[r], y[r]
        for j in range(n):
            k = order[j]
            out[j] = zero if k < 0 else row[np.uint64(k)]
