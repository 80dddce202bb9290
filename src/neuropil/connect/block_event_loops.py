"""Products of blocks with inputs that are mostly zero, by Numba: only what is not zero is multiplied.

A block's weights from one source are contiguous: one row of the stored weights. So are its targets, by position.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")

TILE = 128  # rows whose events are grouped by source: what they write or read stays in a cache


@_compiled
def _group(
    pointers: Array,
    sources: Array,
    values: Array,
    begin: int,
    stop: int,
    stride: Any,
    begins: Array,
    row_of: Array,
    value_of: Array,
) -> None:
    """Sort the events of a few rows by source.

    Args:
        pointers, sources, values: the events.
        begin, stop: rows to sort.
        stride: numbers of a row of what the events meet.
        begins: where those of each source begin, uint64 ``[i + 2]``; nobody, behind the last source, has none; written.
        row_of: where the row of each event begins, uint64, written.
        value_of: its value, written.
    """
    one = np.uint64(1)
    begins[:] = np.uint64(0)
    for event in range(pointers[begin], pointers[stop]):
        begins[np.uint64(sources[event]) + one] += one
    for s in range(1, len(begins)):
        begins[s] += begins[s - 1]
    for r in range(begin, stop):
        for event in range(pointers[r], pointers[r + 1]):
            source = np.uint64(sources[event])
            row_of[begins[source]] = np.uint64(r) * stride
            value_of[begins[source]] = values[event]
            begins[source] += one
    _move_on(begins)


@_compiled
def _move_on(begins: Array) -> None:
    """Put beginnings back that have each moved to where the next one was."""
    for s in range(len(begins) - 1, 0, -1):
        begins[s] = begins[s - 1]
    begins[0] = np.uint64(0)


@_compiled
def forward(
    pointers: Array,
    sources: Array,
    values: Array,
    cuts: Array,
    columns: Array,
    starts: Array,
    lengths: Array,
    weights: Array,
    bias: Array,
    n_sources: int,
    first: int,
    last: int,
    y: Array,
) -> None:
    """Compute rows ``first`` to ``last`` of y = x Wᵀ + b, by position.

    Events are grouped by source, a few rows at a time, so that a weight is read once for several of them.

    Args:
        pointers, sources, values: the events of x, see :class:`neuropil.connect.kernels.event_product.Events`.
        cuts: where each row of blocks begins among the rows of the weights, ``[n + 1]``.
        columns: source of each row of the weights, ``[columns]``; the number of sources where there is nobody.
        starts, lengths: what each row of blocks writes, by position, ``[n]``.
        weights: ``[columns, rows]``.
        bias: by position.
        n_sources: number of sources.
        first, last: rows to do.
        y: ``[r, positions]``, written.
    """
    stride, width = np.uint64(y.shape[1]), np.uint64(weights.shape[1])
    numbers, all_weights = y.reshape(-1), weights.reshape(-1)
    begins = np.empty(n_sources + 2, np.uint64)
    most = np.int64(0)
    for begin in range(first, last, TILE):
        most = max(most, pointers[min(begin + TILE, last)] - pointers[begin])
    row_of = np.empty(most, np.uint64)
    value_of = np.empty(most, weights.dtype)
    for begin in range(first, last, TILE):
        stop = min(begin + TILE, last)
        for r in range(begin, stop):
            y[r] = bias
        _group(pointers, sources, values, begin, stop, stride, begins, row_of, value_of)
        for piece in range(len(starts)):
            n, a = np.uint64(lengths[piece]), np.uint64(starts[piece])
            for column in range(cuts[piece], cuts[piece + 1]):
                source = np.uint64(columns[column])
                w = all_weights[column * width : column * width + n]
                for k in range(begins[source], begins[source + np.uint64(1)]):
                    at, x = row_of[k] + a, value_of[k]
                    for j in range(n):
                        numbers[at + j] += x * w[j]


@_compiled
def weight_gradient(
    pointers: Array,
    sources: Array,
    values: Array,
    cuts: Array,
    columns: Array,
    starts: Array,
    lengths: Array,
    gradient: Array,
    n_sources: int,
    first_piece: int,
    last_piece: int,
    first: int,
    last: int,
    weights: Array,
) -> None:
    """Add up dW = gᵀ x, for rows of blocks ``first_piece`` to ``last_piece`` and their targets ``first`` to ``last``.

    Events are grouped by source, a few rows at a time, so that a weight is read and written once for several of them.

    Args:
        pointers, sources, values, cuts, columns, starts, lengths, n_sources: as for :func:`forward`.
        gradient: g by position, ``[r, positions]``.
        first_piece, last_piece: rows of blocks to do.
        first, last: targets of each of them to do.
        weights: dW, ``[columns, rows]``, zeros at first.
    """
    next_ = np.uint64(1)
    stride, width = np.uint64(gradient.shape[1]), np.uint64(weights.shape[1])
    numbers, all_weights = gradient.reshape(-1), weights.reshape(-1)
    rows = len(gradient)
    begins = np.empty(n_sources + 2, np.uint64)
    most = np.int64(0)
    for begin in range(0, rows, TILE):
        most = max(most, pointers[min(begin + TILE, rows)] - pointers[begin])
    row_of = np.empty(most, np.uint64)
    value_of = np.empty(most, weights.dtype)
    for begin in range(0, rows, TILE):
        stop = min(begin + TILE, rows)
        _group(pointers, sources, values, begin, stop, stride, begins, row_of, value_of)
        for piece in range(first_piece, last_piece):
            to: Any = min(last, lengths[piece])
            if to <= first:
                continue
            n, a = np.uint64(to - first), np.uint64(starts[piece] + first)
            for column in range(cuts[piece], cuts[piece + 1]):
                source = np.uint64(columns[column])
                k, end = begins[source], begins[source + next_]
                w_at = column * width + np.uint64(first)
                w = all_weights[w_at : w_at + n]
                while k + np.uint64(4) <= end:
                    k1, k2, k3 = k + next_, k + np.uint64(2), k + np.uint64(3)
                    g0, g1, g2, g3 = row_of[k] + a, row_of[k1] + a, row_of[k2] + a, row_of[k3] + a
                    x0, x1, x2, x3 = value_of[k], value_of[k1], value_of[k2], value_of[k3]
                    for j in range(n):
                        w[j] += (
                            x0 * numbers[g0 + j] + x1 * numbers[g1 + j] + (x2 * numbers[g2 + j] + x3 * numbers[g3 + j])
                        )
                    k += np.uint64(4)
                while k < end:
                    g0, x0 = row_of[k] + a, value_of[k]
                    for j in range(n):
                        w[j] += x0 * numbers[g0 + j]
                    k += next_


@_compiled
def count_needed(potentials: Array, threshold: Array, sharpness: Any, first: int, last: int, counts: Array) -> None:
    """Write how many entries of rows ``first`` to ``last`` lie where a surrogate is not 0 into ``counts``, ``[r]``."""
    one = sharpness / sharpness
    n = np.uint64(len(threshold))
    for r in range(first, last):
        row = potentials[r]
        count = np.int32(0)
        for j in range(n):
            count += np.int32(sharpness * abs(row[j] - threshold[j]) <= one)
        counts[r] = count


@_compiled
def input_gradient(
    potentials: Array,
    threshold: Array,
    sharpness: Any,
    cuts: Array,
    columns: Array,
    starts: Array,
    lengths: Array,
    gradient: Array,
    weights: Array,
    first: int,
    last: int,
    of_x: Array,
) -> None:
    """Compute rows ``first`` to ``last`` of g W where a surrogate is not 0; 0 elsewhere.

    Args:
        potentials: of the neurons that made the input, ``[r, i]``.
        threshold: theirs, ``[i]``.
        sharpness: of their surrogate, 0 from a distance of 1 / sharpness on.
        cuts, columns, starts, lengths: as for :func:`forward`.
        gradient: g by position, ``[r, positions]``.
        weights: ``[columns, rows]``.
        first, last: rows to do.
        of_x: ``[r, i]``, written.
    """
    one = sharpness / sharpness
    next_ = np.uint64(1)
    n_sources, stride, width = np.uint64(len(threshold)), np.uint64(gradient.shape[1]), np.uint64(weights.shape[1])
    numbers, all_weights = gradient.reshape(-1), weights.reshape(-1)
    begins = np.empty(n_sources + np.uint64(2), np.uint64)
    by_row = np.empty(TILE * n_sources + next_, np.uint32)  # the sources that are needed, row after row
    row_ends = np.empty(TILE, np.uint64)
    row_of = np.empty(TILE * n_sources, np.uint64)  # by source: where the row's gradient begins
    sums = np.empty(TILE * n_sources, weights.dtype)
    for begin in range(first, last, TILE):
        stop = min(begin + TILE, last)
        total = np.uint64(0)
        for r in range(begin, stop):
            row = potentials[r]
            for s in range(n_sources):
                by_row[total] = s
                total += np.uint64(sharpness * abs(row[s] - threshold[s]) <= one)
            row_ends[np.uint64(r - begin)] = total
        begins[:] = np.uint64(0)
        for e in range(total):
            begins[np.uint64(by_row[e]) + next_] += next_
        for s in range(next_, n_sources + np.uint64(2)):
            begins[s] += begins[s - next_]
        place = np.uint64(0)
        for r in range(begin, stop):
            while place < row_ends[np.uint64(r - begin)]:
                source = np.uint64(by_row[place])
                row_of[begins[source]] = np.uint64(r) * stride
                begins[source] += next_
                place += next_
        _move_on(begins)
        sums[:total] = one - one
        for piece in range(len(starts)):
            n, a = np.uint64(lengths[piece]), np.uint64(starts[piece])
            for column in range(cuts[piece], cuts[piece + 1]):
                source = np.uint64(columns[column])
                k, end = begins[source], begins[source + next_]
                w = all_weights[column * width : column * width + n]
                while k + np.uint64(4) <= end:
                    k1, k2, k3 = k + next_, k + np.uint64(2), k + np.uint64(3)
                    g0, g1, g2, g3 = row_of[k] + a, row_of[k1] + a, row_of[k2] + a, row_of[k3] + a
                    t0 = t1 = t2 = t3 = one - one
                    for j in range(n):
                        t0 += numbers[g0 + j] * w[j]
                        t1 += numbers[g1 + j] * w[j]
                        t2 += numbers[g2 + j] * w[j]
                        t3 += numbers[g3 + j] * w[j]
                    sums[k] += t0
                    sums[k1] += t1
                    sums[k2] += t2
                    sums[k3] += t3
                    k += np.uint64(4)
                while k < end:
                    g0 = row_of[k] + a
                    t0 = one - one
                    for j in range(n):
                        t0 += numbers[g0 + j] * w[j]
                    sums[k] += t0
                    k += next_
        place = np.uint64(0)
        for r in range(begin, stop):
            out = of_x[r]
            out[:] = one - one
            while place < row_ends[np.uint64(r - begin)]:
                source = np.uint64(by_row[place])
                out[source] = sums[begins[source]]  # a source's sums are in the order of its rows
                begins[source] += next_
                place += next_
