"""Loops over compressed rows and over ascending cells, by Numba.

What costs time here is waiting: for branches that no processor could foresee, and for memory that is not read in order.
Both are avoided. Unsigned numbers and slices of rows spare Numba the question whether an index counts from the end.
Threads do not pay: memory is what limits, and PyTorch's own threads keep the other cores busy after each operation.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from neuropil.connect.block_grid import IntArray

_STRETCH = 1024  # cells that are read at once
_RARE = 16  # columns for each block of a row, beyond which only blocks are looked at

_compiled = numba.njit(cache=True)


@_compiled
def _copy(target: NDArray[Any], source: NDArray[Any]) -> None:
    """Copy as much as the target holds: up to three times as fast as an assignment to a slice."""
    for k in range(len(target)):
        target[k] = source[k]


def merge_rows(
    indptr: IntArray, indices: IntArray, went: IntArray, cells: IntArray, n_columns: int
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Take blocks out of compressed rows and merge others in.

    Args:
        indptr, indices: rows of the grid, columns ascending within a row.
        went: numbers of the blocks that are taken out, ascending.
        cells: what comes, row · n_columns + column, ascending.
        n_columns: columns of the grid.

    Returns:
        New ``indptr`` and ``indices``; the cells of the blocks that went; and how many cells could not come because
        they are connected already, or came twice: unless this is 0, all else is of no use.
    """
    n_rows = len(indptr) - 1
    went_until = np.searchsorted(went, indptr)
    came_until = np.searchsorted(cells, np.arange(n_rows + 1) * n_columns)
    pointers = indptr - went_until + came_until
    columns, went_cells = np.empty(pointers[-1], dtype=np.int32), np.empty(len(went), dtype=np.int64)
    clashes = _merge_rows(
        indptr, indices, went, went_until, cells, came_until, n_columns, pointers, columns, went_cells
    )
    return pointers, columns, went_cells, int(clashes)


@_compiled
def _merge_row(
    k: int, end: int, indices: IntArray, went: IntArray, gone: int, gone_end: int, cells: IntArray, came: int,
    came_end: int, first_cell: int, at: int, columns: IntArray, went_cells: IntArray,
) -> int:  # fmt: skip
    """Merge one row with few blocks, which a look at every column would take longer than."""
    clashes, last = 0, -1
    while k < end or came < came_end:
        coming = cells[came] - first_cell if came < came_end else -1
        if k == end or (came < came_end and coming < indices[k]):
            clashes += coming == last
            columns[at] = last = coming
            at, came = at + 1, came + 1
        elif came < came_end and coming == indices[k]:
            clashes += 1
            came += 1
        else:
            if gone < gone_end and went[gone] == k:
                went_cells[gone] = first_cell + indices[k]
                gone += 1
            else:
                columns[at] = indices[k]
                at += 1
            k += 1
    return clashes


@_compiled
def _merge_rows(
    indptr: IntArray,
    indices: IntArray,
    went: IntArray,
    went_until: IntArray,
    cells: IntArray,
    came_until: IntArray,
    n_columns: int,
    pointers: IntArray,
    columns: IntArray,
    went_cells: IntArray,
) -> int:
    clashes = 0
    is_live = np.zeros(n_columns, dtype=np.uint8)
    merged = np.empty(n_columns + 1, dtype=np.int32)
    for row in range(len(indptr) - 1):
        if went_until[row] == went_until[row + 1] and came_until[row] == came_until[row + 1]:
            _copy(columns[pointers[row] : pointers[row + 1]], indices[indptr[row] : indptr[row + 1]])
            continue
        live = indices[indptr[row] : indptr[row + 1]]
        if n_columns > _RARE * (len(live) + came_until[row + 1] - came_until[row]):
            clashes += _merge_row(
                indptr[row], indptr[row + 1], indices, went, went_until[row], went_until[row + 1], cells,
                came_until[row], came_until[row + 1], row * n_columns, pointers[row], columns, went_cells,
            )  # fmt: skip
            continue
        is_live[:] = 0
        for k in range(len(live)):
            is_live[np.uint32(live[k])] = 1
        for n in range(came_until[row], came_until[row + 1]):
            column = cells[n] - row * n_columns
            clashes += is_live[column]
            is_live[column] = 1
        for n in range(went_until[row], went_until[row + 1]):
            column = indices[went[n]]
            went_cells[n] = row * n_columns + column
            is_live[column] = 0
        if clashes:
            continue
        at = np.uint32(0)
        for column in range(n_columns):
            merged[at] = column
            at += np.uint32(is_live[column])
        _copy(columns[pointers[row] : pointers[row + 1]], merged)
    return clashes


@_compiled
def nth_dead_cells(indptr: IntArray, indices: IntArray, n_columns: int, ordinals: IntArray) -> IntArray:
    """Return the cells that are the n-th unconnected ones, counted row by row, for ascending ordinals n from 0."""
    cells = np.empty(len(ordinals), dtype=np.int64)
    n = 0
    for row in range(len(indptr) - 1):
        start, end = indptr[row], indptr[row + 1]
        dead_before, dead_after = row * n_columns - start, (row + 1) * n_columns - end
        k = start
        while n < len(ordinals) and ordinals[n] < dead_after:
            nth = ordinals[n] - dead_before
            while k < end and indices[k] - (k - start) <= nth:
                k += 1
            cells[n] = row * n_columns + nth + (k - start)
            n += 1
    return cells


def those_allowed(
    indptr: IntArray, indices: IntArray, n_columns: int, opened: IntArray, closed: IntArray, cells: IntArray
) -> IntArray:
    """Return which of some cells are unconnected or opened, and not closed, each once.

    Args:
        indptr, indices, n_columns: the connected cells, as for :func:`merge_rows`.
        opened, closed: cells, ascending, int64.
        cells: ascending, int32 or int64, perhaps several times.

    Returns:
        Cells, int64, ascending.
    """
    n_rows = len(indptr) - 1
    ends = np.arange(n_rows + 1) * n_columns
    until = np.searchsorted(cells, ends.astype(cells.dtype))  # of one type, or all cells would be copied
    opened_until, closed_until = (np.searchsorted(some, ends) for some in (opened, closed))
    found = np.empty(len(cells), dtype=np.int64)
    n_found = _those_allowed(
        indptr, indices, n_columns, opened, opened_until, closed, closed_until, cells, until, found
    )
    return found[:n_found]


@_compiled
def _those_allowed(
    indptr: IntArray,
    indices: IntArray,
    n_columns: int,
    opened: IntArray,
    opened_until: IntArray,
    closed: IntArray,
    closed_until: IntArray,
    cells: IntArray,
    until: IntArray,
    found: IntArray,
) -> int:
    may_come = np.empty(n_columns, dtype=np.uint8)
    at = np.uint64(0)
    for row in range(len(indptr) - 1):
        first = row * n_columns
        may_come[:] = 1
        live = indices[indptr[row] : indptr[row + 1]]
        for k in range(len(live)):
            may_come[np.uint32(live[k])] = 0
        for k in range(opened_until[row], opened_until[row + 1]):
            may_come[opened[k] - first] = 1
        for k in range(closed_until[row], closed_until[row + 1]):
            may_come[closed[k] - first] = 0
        for n in range(until[row], until[row + 1]):
            column = np.uint32(cells[n] - first)
            found[at] = cells[n]
            at += np.uint64(may_come[column])
            may_come[column] = 0
    return int(at)


@_compiled
def cells_of(indptr: IntArray, indices: IntArray, n_columns: int, blocks: IntArray) -> IntArray:
    """Return the cells of some blocks, given by their numbers in ascending order."""
    cells = np.empty(len(blocks), dtype=np.int64)
    n = 0
    for row in range(len(indptr) - 1):
        while n < len(blocks) and blocks[n] < indptr[row + 1]:
            cells[n] = row * n_columns + indices[blocks[n]]
            n += 1
    return cells


@_compiled
def live_entries(indptr: IntArray, indices: IntArray, n_columns: int, dense: NDArray[Any]) -> NDArray[Any]:
    """Return the entries of a dense matrix at the cells that are connected, ``[n_blocks]``.

    Args:
        indptr, indices, n_columns: the connected cells, as for :func:`merge_rows`.
        dense: flat, ``[rows · columns]``.
    """
    entries = np.empty(len(indices), dtype=dense.dtype)
    for row in range(len(indptr) - 1):
        live = indices[indptr[row] : indptr[row + 1]]
        found = entries[indptr[row] : indptr[row + 1]]
        of_row = dense[row * n_columns : (row + 1) * n_columns]
        for k in range(len(live)):
            found[k] = of_row[np.uint32(live[k])]
    return entries


def overwrite(dense: NDArray[Any], went: IntArray, came: IntArray, value: int) -> None:
    """Write 0 to the entries of ``went`` and ``value`` to those of ``came``, in place and in one sweep.

    Args:
        dense: flat, of integers: any other type is to be viewed as such.
        went, came: cells, each ascending.
        value: an integer of that type.
    """
    _overwrite(dense, went, came, dense.dtype.type(value))


@_compiled
def _overwrite(dense: NDArray[Any], went: IntArray, came: IntArray, value: Any) -> int:
    i, j, bits = 0, 0, 0
    while i < len(went) or j < len(came):
        cell = went[i] if j == len(came) or (i < len(went) and went[i] < came[j]) else came[j]
        first = cell // _STRETCH * _STRETCH
        end = first + _STRETCH
        stretch = dense[first:end]
        # read it in order, for no other reason than to have it in the cache: this halves the time of the whole
        for k in range(len(stretch)):
            bits |= stretch[k]
        while i < len(went) and went[i] < end:
            stretch[went[i] - first] = 0
            i += 1
        while j < len(came) and came[j] < end:
            # most often it is so already, and what is not written need not go back to memory
            if stretch[came[j] - first] != value:
                stretch[came[j] - first] = value
            j += 1
    return bits  # lest the reading be optimized away


@_compiled
def move_rows(values: NDArray[Any], origin: IntArray) -> None:
    """Put row ``origin[k]`` of a matrix at row k, and zeros where it is −1, in place.

    Args:
        values: of integers, any other type is to be viewed as such, ``[rows, columns]``.
        origin: int32 ``[rows]``, ascending but for −1.
    """
    if values.shape[1] == 1:  # a copy of single numbers takes less than two passes over them
        numbers = values[:, 0]
        before = numbers.copy()
        for row in range(len(origin)):
            numbers[row] = before[origin[row]] if origin[row] >= 0 else 0
        return
    # what moves up leaves room for what follows; what moves down, for what comes before
    for row in range(len(origin)):
        source = origin[row]
        if source > row:
            _copy(values[row], values[source])
    for row in range(len(origin) - 1, -1, -1):
        source = origin[row]
        if 0 <= source < row:
            _copy(values[row], values[source])
    for row in range(len(origin)):
        if origin[row] < 0:
            values[row] = 0


@_compiled
def in_common(some: IntArray, others: IntArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of some cells are among others, and which of the others are among them; all ascending."""
    among, hit = np.zeros(len(some), dtype=np.bool_), np.zeros(len(others), dtype=np.bool_)
    i, j = 0, 0
    while i < len(some) and j < len(others):
        a, b = some[i], others[j]
        among[i] = hit[j] = a == b
        i += a <= b
        j += b <= a
    return among, hit


@_compiled
def visit(seen: NDArray[np.bool_], cells: IntArray) -> int:
    """Mark cells as seen, and return how many were not before; none may come twice."""
    n_new = 0
    for n in range(len(cells)):
        n_new += not seen[cells[n]]
        seen[cells[n]] = True
    return n_new


@_compiled
def count_by_label(
    cells: IntArray, row_labels: IntArray, column_labels: IntArray, in_rows: IntArray, in_columns: IntArray, sign: int
) -> int:
    """Add ``sign`` for each cell to the counts of its row's and its column's label, those below 0 left out.

    Returns:
        How many cells have a row and a column of one label.
    """
    n_columns, n_same = len(column_labels), 0
    for n in range(len(cells)):
        row = cells[n] // n_columns
        one, other = row_labels[row], column_labels[cells[n] - row * n_columns]
        if one >= 0:
            in_rows[one] += sign
        if other >= 0:
            in_columns[other] += sign
        n_same += one == other and one >= 0
    return n_same
