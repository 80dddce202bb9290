"""Products of single synapses with inputs that are mostly zero, by Numba: only those of active sources are visited."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")


@_compiled
def _between(ascending: Array, begin: int, end: int, first: int, last: int) -> tuple[Any, Any]:
    """Return which places from ``begin`` to ``end`` hold numbers from ``first`` to ``last``, the latter excluded."""
    return (
        begin + np.searchsorted(ascending[begin:end], first),
        begin + np.searchsorted(ascending[begin:end], last),
    )


@_compiled
def forward(
    pointers: Array, sources: Array, values: Array, column_pointers: Array, targets: Array, positions: Array,
    weights: Array, bias: Array, first_row: int, last_row: int, first: int, last: int, y: Array,
) -> None:  # fmt: skip
    """Compute targets ``first`` to ``last`` of some rows of y = x Wᵀ + b.

    Args:
        pointers, sources, values: the events of x.
        column_pointers, targets: compressed columns.
        positions: where in ``weights`` each connection's is, in the order of columns; empty: just there.
        weights: of each connection.
        bias: of each target, or empty.
        first_row, last_row, first, last: part to do.
        y: ``[r, o]``, written.
    """
    is_part, in_order = last - first < y.shape[1], len(positions) == 0
    for r in range(first_row, last_row):
        out = y[r]
        if len(bias):
            out[first:last] = bias[first:last]
        else:
            out[first:last] = 0
        for event in range(pointers[r], pointers[r + 1]):
            s, x = sources[event], values[event]
            begin, end = column_pointers[s], column_pointers[s + 1]
            if is_part:
                begin, end = _between(targets, begin, end, first, last)
            if in_order:
                for k in range(np.uint64(begin), np.uint64(end)):
                    out[np.uint32(targets[k])] += x * weights[k]
            else:
                for k in range(np.uint64(begin), np.uint64(end)):
                    out[np.uint32(targets[k])] += x * weights[np.uint32(positions[k])]


@_compiled
def weight_gradient(
    pointers: Array, sources: Array, values: Array, column_pointers: Array, targets: Array, gradient: Array,
    first: int, last: int, products: Array,
) -> None:  # fmt: skip
    """Add up dW for sources ``first`` to ``last``, by compressed columns.

    Args:
        pointers, sources, values: the events of x.
        column_pointers, targets: compressed columns.
        gradient: of y, ``[r, o]``.
        first, last: sources to do.
        products: gradient of the weights in the order of columns, zeros at first.
    """
    for r in range(len(gradient)):
        g = gradient[r]
        begin_event, end_event = _between(sources, pointers[r], pointers[r + 1], first, last)
        for event in range(begin_event, end_event):
            s, x = sources[event], values[event]
            for k in range(np.uint64(column_pointers[s]), np.uint64(column_pointers[s + 1])):
                products[k] += x * g[np.uint32(targets[k])]


@_compiled
def spread(
    weights: Array, column_pointers: Array, targets: Array, positions: Array, matrix: Array, first: int, last: int
) -> None:
    """Write the weights of sources ``first`` to ``last`` into their rows of a matrix ``[sources, targets]``."""
    for s in range(first, last):
        for k in range(np.uint64(column_pointers[s]), np.uint64(column_pointers[s + 1])):
            matrix[s, np.uint32(targets[k])] = weights[np.uint32(positions[k])]


@_compiled
def collect(
    weights: Array, column_pointers: Array, targets: Array, positions: Array, matrix: Array, first: int, last: int
) -> None:
    """Do the reverse of :func:`spread`."""
    for s in range(first, last):
        for k in range(np.uint64(column_pointers[s]), np.uint64(column_pointers[s + 1])):
            weights[np.uint32(positions[k])] = matrix[s, np.uint32(targets[k])]
