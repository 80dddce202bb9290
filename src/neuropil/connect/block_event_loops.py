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
NEEDED_TILE = 64  # likewise, those of which a gradient is needed


@_compiled
def _group(
    pointers: Array, sources: Array, values: Array, begin: int, stop: int, begins: Array, row_of: Array, value_of: Array
) -> None:
    """Sort the events of a few rows by source; ``begins``, ``[i + 2]``: where those of each source begin."""
    begins[:] = 0
    for event in range(pointers[begin], pointers[stop]):
        begins[np.uint64(sources[event]) + np.uint64(1)] += 1
    for s in range(1, len(begins)):
        begins[s] += begins[s - 1]
    for r in range(begin, stop):
        for event in range(pointers[r], pointers[r + 1]):
            source = np.uint64(sources[event])
            row_of[begins[source]] = r
            value_of[begins[source]] = values[event]
            begins[source] += 1
    _move_on(begins)


@_compiled
def _move_on(begins: Array) -> None:
    """Put beginnings back that have each moved to where the next one was."""
    for s in range(len(begins) - 1, 0, -1):
        begins[s] = begins[s - 1]
    begins[0] = 0


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
    begins = np.empty(n_sources + 2, np.int64)  # where the events of each source begin; nobody has none
    most = np.int64(0)
    for begin in range(first, last, TILE):
        most = max(most, pointers[min(begin + TILE, last)] - pointers[begin])
    row_of = np.empty(most, np.int64)
    value_of = np.empty(most, weights.dtype)
    for begin in range(first, last, TILE):
        stop = min(begin + TILE, last)
        for r in range(begin, stop):
            y[r] = bias
        _group(pointers, sources, values, begin, stop, begins, row_of, value_of)
        for piece in range(len(starts)):
            n = np.uint64(lengths[piece])
            a = np.int64(starts[piece])
            b = a + np.int64(n)
            for column in range(cuts[piece], cuts[piece + 1]):
                source = np.uint64(columns[column])
                w = weights[column]
                for k in range(begins[source], begins[source + np.uint64(1)]):
                    out, x = y[row_of[k], a:b], value_of[k]
                    for j in range(n):
                        out[j] += x * w[j]


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
    rows = len(gradient)
    begins = np.empty(n_sources + 2, np.int64)  # where the events of each source begin; nobody has none
    most = np.int64(0)
    for begin in range(0, rows, TILE):
        most = max(most, pointers[min(begin + TILE, rows)] - pointers[begin])
    row_of = np.empty(most, np.int64)
    value_of = np.empty(most, weights.dtype)
    for begin in range(0, rows, TILE):
        stop = min(begin + TILE, rows)
        _group(pointers, sources, values, begin, stop, begins, row_of, value_of)
        for piece in range(first_piece, last_piece):
            to: Any = min(last, lengths[piece])
            n = np.uint64(max(0, to - first))
            a, b = np.int64(starts[piece]) + first, np.int64(starts[piece]) + to
            if n == 0:
                continue
            for column in range(cuts[piece], cuts[piece + 1]):
                source = np.uint64(columns[column])
                k, end = begins[source], begins[source + np.uint64(1)]
                if k == end:
                    continue
                w = weights[column, first:to]
                while k + 4 <= end:
                    g0, g1 = gradient[row_of[k], a:b], gradient[row_of[k + 1], a:b]
                    g2, g3 = gradient[row_of[k + 2], a:b], gradient[row_of[k + 3], a:b]
                    x0, x1, x2, x3 = value_of[k], value_of[k + 1], value_of[k + 2], value_of[k + 3]
                    for j in range(n):
                        w[j] += x0 * g0[j] + x1 * g1[j] + (x2 * g2[j] + x3 * g3[j])
                    k += 4
                while k < end:
                    g0, x0 = gradient[row_of[k], a:b], value_of[k]
                    for j in range(n):
                        w[j] += x0 * g0[j]
                    k += 1


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
    n_sources = len(threshold)
    begins = np.empty(n_sources + 2, np.int64)
    row_of = np.empty(NEEDED_TILE * n_sources, np.int64)
    sums = np.empty(NEEDED_TILE * n_sources, weights.dtype)
    for begin in range(first, last, NEEDED_TILE):
        stop = min(begin + NEEDED_TILE, last)
        begins[:] = 0
        for r in range(begin, stop):
            row = potentials[r]
            for s in range(n_sources):
                begins[s + 1] += np.int64(sharpness * abs(row[s] - threshold[s]) <= one)
        for s in range(1, n_sources + 2):
            begins[s] += begins[s - 1]
        for r in range(begin, stop):
            row = potentials[r]
            for s in range(n_sources):
                if sharpness * abs(row[s] - threshold[s]) <= one:
                    row_of[begins[s]] = r
                    begins[s] += 1
        _move_on(begins)
        sums[: begins[n_sources]] = one - one
        for piece in range(len(starts)):
            n = np.uint64(lengths[piece])
            a = np.int64(starts[piece])
            b = a + np.int64(n)
            for column in range(cuts[piece], cuts[piece + 1]):
                source = np.uint64(columns[column])
                k, end = begins[source], begins[source + np.uint64(1)]
                w = weights[column]
                while k + 4 <= end:
                    r0, r1, r2, r3 = row_of[k], row_of[k + 1], row_of[k + 2], row_of[k + 3]
                    g0, g1, g2, g3 = gradient[r0, a:b], gradient[r1, a:b], gradient[r2, a:b], gradient[r3, a:b]
                    t0 = t1 = t2 = t3 = one - one
                    for j in range(n):
                        t0 += g0[j] * w[j]
                        t1 += g1[j] * w[j]
                        t2 += g2[j] * w[j]
                        t3 += g3[j] * w[j]
                    sums[k] += t0
                    sums[k + 1] += t1
                    sums[k + 2] += t2
                    sums[k + 3] += t3
                    k += 4
                while k < end:
                    g0 = gradient[row_of[k], a:b]
                    t0 = one - one
                    for j in range(n):
                        t0 += g0[j] * w[j]
                    sums[k] += t0
                    k += 1
        for r in range(begin, stop):
            of_x[r, :] = one - one
        for s in range(n_sources):
            for k in range(begins[s], begins[s + 1]):
                of_x[row_of[k], s] = sums[k]
