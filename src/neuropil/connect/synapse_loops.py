"""Products with single synapses, by Numba: sums over the connections of a neuron, for many samples at once.

Samples are computed in tiles: ``lanes`` of them lie side by side for each neuron, ``[neurons, lanes]``, and one vector
holds them. The sums of a neuron stay in registers while the loop goes over its connections, each of which costs one
read of a tile's row and one multiply-add. A tile is transposed from ``[b, neurons]`` once, into memory that stays in
the processor's cache; what the loops give is transposed back in stretches of 16 neurons.

Every number is summed in an order that depends on the sizes alone.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from neuropil.connect import vectors

Array = NDArray[Any]
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_inner = numba.njit(nogil=True, error_model="numpy", forceinline=True)

# how they are called is told to Numba's compiler, not to Python's type checkers
load: Any = vectors.load
store: Any = vectors.store
splat: Any = vectors.splat
plus: Any = vectors.plus
add_product: Any = vectors.add_product
product_sum: Any = vectors.product_sum
transpose_8: Any = vectors.transpose_8

LANES = (1, 8, 16, 32)  # that loops are compiled for
_STRETCH = 64  # neurons whose results are written together


def _sums_of(lanes: int) -> Callable[..., None]:
    @_inner
    def sums(start: Any, begin: int, end: int, others: Array, weights: Array, tile: Array, at: int, out: Array,
             to: int) -> None:  # fmt: skip
        # two chains of additions: one alone waits for itself
        a, b = splat(lanes, start), splat(lanes, weights.dtype.type(0))
        first, pairs = np.uint64(begin), np.uint64(max(0, end - begin) // 2)
        for pair in range(pairs):
            k = first + pair + pair
            after = k + np.uint64(1)
            a = add_product(a, load(lanes, tile, at + np.int64(others[k]) * lanes), weights[k])
            b = add_product(b, load(lanes, tile, at + np.int64(others[after]) * lanes), weights[after])
        if (end - begin) % 2:
            k = np.uint64(end - 1)
            a = add_product(a, load(lanes, tile, at + np.int64(others[k]) * lanes), weights[k])
        store(plus(a, b), out, to)

    return sums


def _dots_of(lanes: int) -> Callable[..., None]:
    @_inner
    def dots(begin: int, end: int, others: Array, tile: Array, at: int, own: Array, of: int, products: Array) -> None:
        v = load(lanes, own, of)
        for k in range(np.uint64(begin), np.uint64(end)):
            products[k] += product_sum(load(lanes, tile, at + np.int64(others[k]) * lanes), v)

    return dots


def _sums_and_dots_of(lanes: int) -> Callable[..., None]:
    @_inner
    def sums_and_dots(begin: int, end: int, others: Array, weights: Array, tile: Array, at: int, own: Array, of: int,
                      products: Array, out: Array) -> None:  # fmt: skip
        v = load(lanes, own, of)
        a = splat(lanes, own.dtype.type(0))
        for k in range(np.uint64(begin), np.uint64(end)):
            u = load(lanes, tile, at + np.int64(others[k]) * lanes)
            a = add_product(a, u, weights[k])
            products[k] += product_sum(u, v)
        store(a, out, of)

    return sums_and_dots


_sums_1, _sums_8, _sums_16, _sums_32 = (_sums_of(lanes) for lanes in LANES)
_dots_1, _dots_8, _dots_16, _dots_32 = (_dots_of(lanes) for lanes in LANES)
_both_1, _both_8, _both_16, _both_32 = (_sums_and_dots_of(lanes) for lanes in LANES)


@_inner
def _aligned(n: int, like: Array) -> tuple[Array, Any]:
    """Return room for n numbers, and from where on it lies at the start of a cache line."""
    room = np.empty(n + 16, like.dtype)
    return room, np.int64((-room.ctypes.data) % 64 // room.itemsize)


@_inner
def _transpose_in(
    x: Array, n: int, row: int, rows: int, first: int, last: int, lanes: int, tile: Array, at: int
) -> None:
    """Write some rows of x ``[b, n]``, neurons ``first`` to ``last``, as a tile; lanes beyond them are 0."""
    for lane in range(0, lanes, 8):
        start = first
        if lane + 8 <= rows:
            base = (row + lane) * n
            while start + 8 <= last:
                transpose_8(x, base + start, n, tile, at + (start - first) * lanes + lane, lanes)
                start += 8
        for s in range(start, last):
            for j in range(lane, min(lane + 8, lanes)):
                tile[at + (s - first) * lanes + j] = x[(row + j) * n + s] if j < rows else 0


@_inner
def _transpose_out(
    tile: Array, at: int, first: int, last: int, lanes: int, row: int, rows: int, n: int, y: Array
) -> None:
    """Write a tile of neurons ``first`` to ``last`` into rows of y ``[b, n]``."""
    for lane in range(0, lanes, 8):
        start = first
        if lane + 8 <= rows:
            base = (row + lane) * n
            while start + 8 <= last:
                transpose_8(tile, at + (start - first) * lanes + lane, lanes, y, base + start, n)
                start += 8
        for s in range(start, last):
            for j in range(lane, min(lane + 8, rows)):
                y[(row + j) * n + s] = tile[at + (s - first) * lanes + j]


@_inner
def _stretch_from(pointers: Array, unit: int) -> tuple[int, int]:
    """Return tile and stretch at which work begins that is shared out by connections, one after the other."""
    n = len(pointers) - 1
    total, n_stretches = pointers[n], (n + _STRETCH - 1) // _STRETCH
    tile, connection = unit // total, unit % total
    low, high = 0, n_stretches  # the first stretch that starts at this connection or later
    while low < high:
        middle = (low + high) // 2
        if pointers[middle * _STRETCH] < connection:
            low = middle + 1
        else:
            high = middle
    return tile, low


@_compiled
def fill_tiles(x: Array, n: int, row: int, rows: int, lanes: int, tiles: Array, first: int, last: int) -> None:
    """Write neurons ``first`` to ``last`` of some rows of x ``[b, n]`` as tiles ``[tile, n, lanes]``."""
    step = 512  # a part of each row that stays in the nearest cache
    for tile in range((rows + lanes - 1) // lanes):
        for start in range(first, last, step):
            at = (tile * n + start) * lanes
            here = row + tile * lanes
            _transpose_in(x, n, here, min(lanes, row + rows - here), start, min(start + step, last), lanes, tiles, at)


@_compiled
def weighted_sums(
    x: Array, n: int, row: int, rows: int, pointers: Array, others: Array, weights: Array, bias: Array, lanes: int,
    y: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Compute y[r, o] = bias[o] + Σ_k weights[k] · x[r, others[k]], over the connections k of neuron o.

    Args:
        x: ``[b, n]``, flat.
        n: neurons that are read.
        row, rows: first row and number of rows to do.
        pointers: where each neuron's connections begin, ``[neurons + 1]``.
        others: whom each connection reads.
        weights: of each connection.
        bias: of each neuron, or empty.
        lanes: rows in a tile.
        y: ``[b, neurons]``, flat, written.
        first, last: part to do of tiles · connections.
    """
    n_neurons = len(pointers) - 1
    n_stretches = (n_neurons + _STRETCH - 1) // _STRETCH
    tile, stretch = _stretch_from(pointers, first)
    end_tile, end_stretch = _stretch_from(pointers, last)
    # a row of x that is alone is a tile as it is
    copied, start = _aligned(n * lanes if lanes > 1 else 0, x)
    results, to = _aligned(_STRETCH * lanes, x)
    none = x.dtype.type(0)
    filled = -1
    while tile * n_stretches + stretch < end_tile * n_stretches + end_stretch:
        if stretch == n_stretches:
            tile, stretch = tile + 1, 0
            continue
        here = row + tile * lanes
        there = min(lanes, row + rows - here)
        if lanes > 1 and filled != tile:
            _transpose_in(x, n, here, there, 0, n, lanes, copied, start)
            filled = tile
        first_neuron, last_neuron = stretch * _STRETCH, min((stretch + 1) * _STRETCH, n_neurons)
        for o in range(first_neuron, last_neuron):
            b = bias[o] if len(bias) else none
            begin, end, slot = pointers[o], pointers[o + 1], to + (o - first_neuron) * lanes
            if lanes == 32:
                _sums_32(b, begin, end, others, weights, copied, start, results, slot)
            elif lanes == 16:
                _sums_16(b, begin, end, others, weights, copied, start, results, slot)
            elif lanes == 8:
                _sums_8(b, begin, end, others, weights, copied, start, results, slot)
            else:
                _sums_1(b, begin, end, others, weights, x, here * n, results, slot)
        _transpose_out(results, to, first_neuron, last_neuron, lanes, here, there, n_neurons, y)
        stretch += 1


@_compiled
def dot_products(
    tiles: Array, n: int, own: Array, row: int, rows: int, pointers: Array, others: Array, lanes: int,
    products: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Add Σ_r own[r, o] · x[r, others[k]] to products[k], for each connection k of a neuron o.

    Args:
        tiles: of x, ``[tile, n, lanes]``, flat.
        n: neurons that are read.
        own: ``[b, neurons]``, flat.
        row, rows: first row of ``own`` and number of rows to do.
        pointers, others: as for :func:`weighted_sums`.
        lanes: rows in a tile.
        products: added to.
        first, last: part to do of the connections.
    """
    n_neurons = len(pointers) - 1
    n_stretches = (n_neurons + _STRETCH - 1) // _STRETCH
    _, begin_stretch = _stretch_from(pointers, first)
    _, end_stretch = _stretch_from(pointers, last) if last < pointers[n_neurons] else (0, n_stretches)
    values, of = _aligned(_STRETCH * lanes, own)
    for tile in range((rows + lanes - 1) // lanes):
        here, at = row + tile * lanes, tile * n * lanes
        there = min(lanes, row + rows - here)
        for stretch in range(begin_stretch, end_stretch):
            first_neuron, last_neuron = stretch * _STRETCH, min((stretch + 1) * _STRETCH, n_neurons)
            _transpose_in(own, n_neurons, here, there, first_neuron, last_neuron, lanes, values, of)
            for o in range(first_neuron, last_neuron):
                begin, end, slot = pointers[o], pointers[o + 1], of + (o - first_neuron) * lanes
                if lanes == 32:
                    _dots_32(begin, end, others, tiles, at, values, slot, products)
                elif lanes == 16:
                    _dots_16(begin, end, others, tiles, at, values, slot, products)
                elif lanes == 8:
                    _dots_8(begin, end, others, tiles, at, values, slot, products)
                else:
                    _dots_1(begin, end, others, tiles, at, values, slot, products)


@_compiled
def sums_and_products(
    tiles: Array, n: int, own: Array, row: int, rows: int, pointers: Array, others: Array, weights: Array, lanes: int,
    sums: Array, products: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Compute what :func:`weighted_sums` and :func:`dot_products` do, in one pass over the connections."""
    n_neurons = len(pointers) - 1
    n_stretches = (n_neurons + _STRETCH - 1) // _STRETCH
    _, begin_stretch = _stretch_from(pointers, first)
    _, end_stretch = _stretch_from(pointers, last) if last < pointers[n_neurons] else (0, n_stretches)
    values, of = _aligned(_STRETCH * lanes, own)
    for tile in range((rows + lanes - 1) // lanes):
        here, at = row + tile * lanes, tile * n * lanes
        there = min(lanes, row + rows - here)
        for stretch in range(begin_stretch, end_stretch):
            first_neuron, last_neuron = stretch * _STRETCH, min((stretch + 1) * _STRETCH, n_neurons)
            _transpose_in(own, n_neurons, here, there, first_neuron, last_neuron, lanes, values, of)
            for o in range(first_neuron, last_neuron):
                # a neuron's sums take the place of its own values, which have been read by then
                begin, end, slot = pointers[o], pointers[o + 1], of + (o - first_neuron) * lanes
                if lanes == 32:
                    _both_32(begin, end, others, weights, tiles, at, values, slot, products, values)
                elif lanes == 16:
                    _both_16(begin, end, others, weights, tiles, at, values, slot, products, values)
                elif lanes == 8:
                    _both_8(begin, end, others, weights, tiles, at, values, slot, products, values)
                else:
                    _both_1(begin, end, others, weights, tiles, at, values, slot, products, values)
            _transpose_out(values, of, first_neuron, last_neuron, lanes, here, there, n_neurons, sums)


@_compiled
def compress_columns(pointers: Array, sources: Array, column_pointers: Array, targets: Array, positions: Array) -> None:
    """Write compressed columns of compressed rows: a sort by counting.

    Args:
        pointers, sources: rows.
        column_pointers: int64 ``[columns + 1]``, zeros at first; written.
        targets: row of each connection, by column, then row; written.
        positions: place of each in the order of rows; written.
    """
    for k in range(len(sources)):
        column_pointers[sources[k] + 1] += 1
    for s in range(1, len(column_pointers)):
        column_pointers[s] += column_pointers[s - 1]
    following = column_pointers[:-1].copy()
    for o in range(len(pointers) - 1):
        for k in range(pointers[o], pointers[o + 1]):
            place = following[sources[k]]
            following[sources[k]] = place + 1
            targets[place] = o
            positions[place] = k


@_compiled
def take(values: Array, positions: Array, taken: Array, first: int, last: int) -> None:
    """Write taken[k] = values[positions[k]] for some k."""
    for k in range(first, last):
        taken[k] = values[positions[k]]


@_compiled
def put(values: Array, positions: Array, filled: Array, first: int, last: int) -> None:
    """Write filled[positions[k]] = values[k] for some k."""
    for k in range(first, last):
        filled[positions[k]] = values[k]
