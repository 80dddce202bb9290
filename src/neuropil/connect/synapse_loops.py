"""Products with single synapses, by Numba: sums over the connections of a neuron, for many samples at once.

Samples are computed in tiles: ``lanes`` of them lie side by side for each neuron, ``[neurons, lanes]``, and one vector
holds them. The sums of a neuron stay in registers while the loop goes over its connections, each of which costs one
read of a tile's row and one multiply-add. A tile is transposed from ``[b, neurons]`` once, into memory that stays in
the processor's second cache. Where a neuron has many connections, they are taken ``width`` neurons of the tile at a
time, which stay in the first cache while a ``stretch`` of neurons reads them. What the loops give is transposed back
a stretch at a time.

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
add_product: Any = vectors.add_product
product_sum: Any = vectors.product_sum
transpose_8: Any = vectors.transpose_8

LANES = (1, 8, 16, 32, 64)  # that loops are compiled for


def _sums_of(lanes: int) -> Callable[..., None]:
    @_inner
    def sums(begin: int, end: int, others: Array, weights: Array, tile: Array, at: int, out: Array, to: int) -> None:
        a = load(lanes, out, to)
        for k in range(np.uint64(begin), np.uint64(end)):
            a = add_product(a, load(lanes, tile, at + np.int64(others[k]) * lanes), weights[k])
        store(a, out, to)

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


_sums_1, _sums_8, _sums_16, _sums_32, _sums_64 = (_sums_of(lanes) for lanes in LANES)
_dots_1, _dots_8, _dots_16, _dots_32, _dots_64 = (_dots_of(lanes) for lanes in LANES)
_both_1, _both_8, _both_16, _both_32 = (_sums_and_dots_of(lanes) for lanes in LANES[:4])


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
def _stretch_from(pointers: Array, stretch: int, unit: int) -> tuple[int, int]:
    """Return tile and stretch at which work begins that is shared out by connections, one after the other."""
    n = len(pointers) - 1
    total, n_stretches = pointers[n], (n + stretch - 1) // stretch
    tile, connection = unit // total, unit % total
    low, high = 0, n_stretches  # the first stretch that starts at this connection or later
    while low < high:
        middle = (low + high) // 2
        if pointers[middle * stretch] < connection:
            low = middle + 1
        else:
            high = middle
    return tile, low


@_inner
def _cuts(pointers: Array, others: Array, n: int, width: int, first: int, last: int) -> Array:
    """Return where the connections of neurons ``first`` to ``last`` with each section of ``width`` others begin.

    ``[section, neuron]``, with a last row for where the last ones end.
    """
    n_sections = max(1, (n + width - 1) // width)
    cuts = np.empty((n_sections + 1, last - first), np.int64)
    for o in range(first, last):
        k, end = pointers[o], pointers[o + 1]
        cuts[0, o - first], cuts[n_sections, o - first] = k, end
        for section in range(1, n_sections):
            while k < end and others[k] < section * width:
                k += 1
            cuts[section, o - first] = k
    return cuts


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
    width: int, stretch: int, y: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Compute y[r, o] = bias[o] + Σ_k weights[k] · x[r, others[k]], over the connections k of neuron o.

    Args:
        x: ``[b, n]``, flat.
        n: neurons that are read.
        row, rows: first row and number of rows to do.
        pointers: where each neuron's connections begin, ``[neurons + 1]``.
        others: whom each connection reads, ascending for each neuron.
        weights: of each connection.
        bias: of each neuron, or empty.
        lanes: rows in a tile.
        width: neurons of a tile that are read before the next ones are.
        stretch: neurons whose results are written together.
        y: ``[b, neurons]``, flat, written.
        first, last: part to do of tiles · connections.
    """
    n_neurons = len(pointers) - 1
    n_stretches = (n_neurons + stretch - 1) // stretch
    tile, number = _stretch_from(pointers, stretch, first)
    end_tile, end_number = _stretch_from(pointers, stretch, last)
    first_cut, last_cut = 0, n_neurons
    if tile == end_tile:
        first_cut, last_cut = number * stretch, min(n_neurons, end_number * stretch)
    cuts = _cuts(pointers, others, n, width, first_cut, max(first_cut, last_cut))
    # a row of x that is alone is a tile as it is
    copied, start = _aligned(n * lanes if lanes > 1 else 0, x)
    results, to = _aligned(stretch * lanes, x)
    none = x.dtype.type(0)
    filled = -1
    while tile * n_stretches + number < end_tile * n_stretches + end_number:
        if number == n_stretches:
            tile, number = tile + 1, 0
            continue
        here = row + tile * lanes
        there = min(lanes, row + rows - here)
        if lanes > 1 and filled != tile:
            _transpose_in(x, n, here, there, 0, n, lanes, copied, start)
            filled = tile
        first_neuron, last_neuron = number * stretch, min((number + 1) * stretch, n_neurons)
        for o in range(first_neuron, last_neuron):
            b = bias[o] if len(bias) else none
            for lane in range(lanes):
                results[to + (o - first_neuron) * lanes + lane] = b
        for section in range(len(cuts) - 1):
            begins, ends = cuts[section], cuts[section + 1]
            for o in range(first_neuron, last_neuron):
                begin, end, slot = begins[o - first_cut], ends[o - first_cut], to + (o - first_neuron) * lanes
                if lanes == 64:
                    _sums_64(begin, end, others, weights, copied, start, results, slot)
                elif lanes == 32:
                    _sums_32(begin, end, others, weights, copied, start, results, slot)
                elif lanes == 16:
                    _sums_16(begin, end, others, weights, copied, start, results, slot)
                elif lanes == 8:
                    _sums_8(begin, end, others, weights, copied, start, results, slot)
                else:
                    _sums_1(begin, end, others, weights, x, here * n, results, slot)
        _transpose_out(results, to, first_neuron, last_neuron, lanes, here, there, n_neurons, y)
        number += 1


@_compiled
def dot_products(
    tiles: Array, n: int, own: Array, row: int, rows: int, pointers: Array, others: Array, lanes: int, width: int,
    stretch: int, products: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Add Σ_r own[r, o] · x[r, others[k]] to products[k], for each connection k of a neuron o.

    Args:
        tiles: of x, ``[tile, n, lanes]``, flat.
        n: neurons that are read.
        own: ``[b, neurons]``, flat.
        row, rows: first row of ``own`` and number of rows to do.
        pointers, others, lanes, width, stretch: as for :func:`weighted_sums`.
        products: added to.
        first, last: part to do of the connections.
    """
    n_neurons = len(pointers) - 1
    begin_neuron, end_neuron = _neurons_of(pointers, stretch, first, last)
    cuts = _cuts(pointers, others, n, width, begin_neuron, end_neuron)
    values, of = _aligned(stretch * lanes, own)
    for tile in range((rows + lanes - 1) // lanes):
        here, at = row + tile * lanes, tile * n * lanes
        there = min(lanes, row + rows - here)
        for first_neuron in range(begin_neuron, end_neuron, stretch):
            last_neuron = min(first_neuron + stretch, end_neuron)
            _transpose_in(own, n_neurons, here, there, first_neuron, last_neuron, lanes, values, of)
            for section in range(len(cuts) - 1):
                begins, ends = cuts[section], cuts[section + 1]
                for o in range(first_neuron, last_neuron):
                    begin, end = begins[o - begin_neuron], ends[o - begin_neuron]
                    slot = of + (o - first_neuron) * lanes
                    if lanes == 64:
                        _dots_64(begin, end, others, tiles, at, values, slot, products)
                    elif lanes == 32:
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
    stretch: int, sums: Array, products: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Compute what :func:`weighted_sums` and :func:`dot_products` do, in one pass over the connections."""
    n_neurons = len(pointers) - 1
    begin_neuron, end_neuron = _neurons_of(pointers, stretch, first, last)
    values, of = _aligned(stretch * lanes, own)
    for tile in range((rows + lanes - 1) // lanes):
        here, at = row + tile * lanes, tile * n * lanes
        there = min(lanes, row + rows - here)
        for first_neuron in range(begin_neuron, end_neuron, stretch):
            last_neuron = min(first_neuron + stretch, end_neuron)
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


@_inner
def _neurons_of(pointers: Array, stretch: int, first: int, last: int) -> tuple[int, int]:
    """Return the first neuron, and the one after the last, of a part of the connections that is done by stretches."""
    n_neurons = len(pointers) - 1
    _, begin = _stretch_from(pointers, stretch, first)
    if last == pointers[n_neurons]:
        return begin * stretch, n_neurons
    _, end = _stretch_from(pointers, stretch, last)
    return begin * stretch, max(begin, end) * stretch


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
