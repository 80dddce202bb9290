"""Products with inputs that are mostly zero, by Numba: only what is not zero is multiplied.

Weights come transposed, so that whatever one source sends out is contiguous.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")


@_compiled
def count_events(x: Array, first: int, last: int, counts: Array) -> None:
    """Write how many entries of rows ``first`` to ``last`` of ``x``, ``[r, i]``, are not 0 into ``counts``, ``[r]``."""
    for r in range(first, last):
        row = x[r]
        count = np.int32(0)
        for j in range(len(row)):
            count += np.int32(row[j] != 0)
        counts[r] = count


@_compiled
def list_events(x: Array, pointers: Array, first: int, last: int, sources: Array, values: Array) -> None:
    """Write the columns and values of the entries that are not 0, row after row.

    Args:
        x: ``[r, i]``.
        pointers: where each row's events begin, ``[r + 1]``.
        first, last: rows to do.
        sources, values: written.
    """
    n = x.shape[1]
    found = np.empty(n + 1, np.int32)
    for r in range(first, last):
        row = x[r]
        k = np.uint32(0)
        for j in range(n):
            found[k] = j
            k += np.uint32(row[j] != 0)
        for event in range(pointers[r], pointers[r + 1]):
            j = found[event - pointers[r]]
            sources[event] = j
            values[event] = row[j]


@_compiled
def forward(
    pointers: Array, sources: Array, values: Array, weights: Array, bias: Array, first: int, last: int, y: Array
) -> None:
    """Compute rows ``first`` to ``last`` of y = x Wᵀ + b.

    Args:
        pointers, sources, values: the events of x.
        weights: Wᵀ, ``[i, o]``.
        bias: ``[o]``.
        first, last: rows to do.
        y: ``[r, o]``, written.
    """
    n = np.uint64(y.shape[1])
    for r in range(first, last):
        out = y[r]
        out[:] = bias
        k, stop = pointers[r], pointers[r + 1]
        while k + 4 <= stop:
            w0, w1 = weights[sources[k]], weights[sources[k + 1]]
            w2, w3 = weights[sources[k + 2]], weights[sources[k + 3]]
            x0, x1, x2, x3 = values[k], values[k + 1], values[k + 2], values[k + 3]
            for j in range(n):
                out[j] += x0 * w0[j] + x1 * w1[j] + (x2 * w2[j] + x3 * w3[j])
            k += 4
        while k < stop:
            w0, x0 = weights[sources[k]], values[k]
            for j in range(n):
                out[j] += x0 * w0[j]
            k += 1


@_compiled
def weight_gradient(
    pointers: Array, sources: Array, values: Array, gradient: Array, weights: Array, first: int, last: int
) -> None:
    """Add up targets ``first`` to ``last`` of dW = gᵀ x.

    Args:
        pointers, sources, values: the events of x.
        gradient: g, ``[r, o]``.
        weights: dWᵀ, ``[i, o]``, zeros at first.
        first, last: targets to do.
    """
    n = np.uint64(last - first)
    for r in range(len(gradient)):
        g = gradient[r, first:last]
        for k in range(pointers[r], pointers[r + 1]):
            w, x = weights[sources[k], first:last], values[k]
            for j in range(n):
                w[j] += x * g[j]
