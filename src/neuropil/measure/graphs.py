"""Wirings read as graphs: for measures that need more than counts."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuropil.connect import SparseLinear, Wiring

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Ends = tuple[NDArray[np.int64], NDArray[np.int64]]
_ENTRIES_AT_ONCE = 4_000_000  # of a product that is not kept


def check_square(name: str, wiring: Wiring) -> None:
    """Refuse a wiring between two different layers where one of a layer with itself is needed."""
    if wiring.in_features != wiring.out_features:
        raise ValueError(
            f"{name}: wiring must be square, a layer's with itself, got {wiring.in_features} sources and "
            f"{wiring.out_features} targets"
        )


def transmitting(layer: SparseLinear) -> Wiring | None:
    """Return the wiring of a layer's connections that are not silent; None where all of them are."""
    wiring, silent = layer.wiring, layer.silent
    if silent is None:
        return wiring
    heard = ~silent.cpu().numpy()
    return wiring.rewired(wiring.block_rows[heard], wiring.block_columns[heard]) if heard.any() else None


def ends(wiring: Wiring) -> Ends:
    """Return target and source of each connection."""
    targets, sources = wiring.connections()
    return targets.numpy(), sources.numpy()


def edges(wiring: Wiring) -> Ends:
    """Return the pairs of different neurons that a square wiring joins in either direction, each once, u < v."""
    targets, sources = ends(wiring)
    n = wiring.in_features
    between = targets != sources
    targets, sources = targets[between], sources[between]
    keys = np.minimum(targets, sources) * n + np.maximum(targets, sources)
    keys.sort()
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])  # np.unique takes many times as long
    u, v = np.divmod(keys[first], n)
    return u, v


def symmetric(pairs: Ends, n: int) -> "csr_array":
    """Return edges between n nodes as a symmetric matrix of ones, int64 so that products of it count paths."""
    from scipy.sparse import csr_array

    u, v = pairs
    ones = np.ones(2 * len(u), dtype=np.int64)
    return csr_array((ones, (np.concatenate([u, v]), np.concatenate([v, u]))), shape=(n, n))


def counting(wiring: Wiring) -> "csr_array":
    """Return the wiring as ones, ``[out, in]``, int64 so that products of it count paths."""
    return wiring.to_scipy().astype(np.int64)


def row_slices(left: "csr_array", right: "csr_array") -> list[slice]:
    """Return slices of the rows of a product left @ right, each of a few million entries at most where it can be."""
    work = left @ np.diff(right.indptr).astype(np.int64)
    bounds = np.flatnonzero(np.diff(np.cumsum(work) // _ENTRIES_AT_ONCE, prepend=0))
    stops = sorted({0, *bounds.tolist(), left.shape[0]})
    return [slice(a, b) for a, b in pairwise(stops)]


def project(wiring: Wiring, side: str) -> "csr_array":
    """Return which two neurons of a side share a partner on the other, as a symmetric matrix of ones.

    Args:
        wiring: any.
        side: ``targets`` (they share a source) or ``sources`` (they share a target).
    """
    matrix = counting(wiring)
    shared = (matrix @ matrix.T if side == "targets" else matrix.T @ matrix).tocoo()
    u, v = shared.row.astype(np.int64), shared.col.astype(np.int64)
    return symmetric((u[u < v], v[u < v]), shared.shape[0])
