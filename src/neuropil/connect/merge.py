"""Changing compressed rows in one pass: Numba loops, each linear in the number of blocks."""

import numba
import numpy as np
from numpy.typing import NDArray

from neuropil.connect.block_grid import IntArray


@numba.njit(cache=True)
def merge_rows(
    indptr: IntArray, indices: IntArray, goes: NDArray[np.bool_], cells: IntArray, n_columns: int
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Take blocks out of compressed rows and merge others in.

    Args:
        indptr, indices: rows of the grid, columns ascending within a row.
        goes: of each block, whether it is taken out.
        cells: what comes, row · n_columns + column, ascending.
        n_columns: columns of the grid.

    Returns:
        New ``indptr`` and ``indices``; ``origin`` of each block, its old number or −1; and how many cells could not
        come because they are connected and stay so, or came twice.
    """
    n_stay = 0
    for k in range(len(goes)):
        n_stay += not goes[k]
    n_rows, n_new = len(indptr) - 1, n_stay + len(cells)
    pointers = np.zeros(n_rows + 1, dtype=np.int64)
    columns = np.empty(n_new, dtype=np.int32)
    origin = np.empty(n_new, dtype=np.int32)
    at, comes, clashes = 0, 0, 0
    for row in range(n_rows):
        first, last = row * n_columns, (row + 1) * n_columns
        start = at
        for k in range(indptr[row], indptr[row + 1]):
            if goes[k]:
                continue
            column = indices[k]
            while comes < len(cells) and cells[comes] < first + column:
                columns[at] = cells[comes] - first
                clashes += at > start and columns[at] == columns[at - 1]
                origin[at] = -1
                at += 1
                comes += 1
            clashes += comes < len(cells) and cells[comes] == first + column
            columns[at] = column
            origin[at] = k
            at += 1
            while comes < len(cells) and cells[comes] == first + column:
                columns[at] = column
                origin[at] = -1
                at += 1
                comes += 1
        while comes < len(cells) and cells[comes] < last:
            columns[at] = cells[comes] - first
            clashes += at > start and columns[at] == columns[at - 1]
            origin[at] = -1
            at += 1
            comes += 1
        pointers[row + 1] = at
    return pointers, columns, origin, clashes


@numba.njit(cache=True)
def nth_dead_cells(indptr: IntArray, indices: IntArray, n_columns: int, ordinals: IntArray) -> IntArray:
    """Return the cells that are the n-th unconnected ones, counted row by row, for ascending ordinals n from 0."""
    cells = np.empty(len(ordinals), dtype=np.int64)
    n = 0
    for row in range(len(indptr) - 1):
        start, end = indptr[row], indptr[row + 1]
        dead_before = row * n_columns - start
        dead_after = (row + 1) * n_columns - end
        k = start
        while n < len(ordinals) and ordinals[n] < dead_after:
            nth = ordinals[n] - dead_before
            while k < end and indices[k] - (k - start) <= nth:
                k += 1
            cells[n] = row * n_columns + nth + (k - start)
            n += 1
    return cells
