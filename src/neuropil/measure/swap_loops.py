"""Loops of degree-preserving randomization and of reachability, by Numba.

Which pairs are connected is kept in a table of keys, open addressing with linear probing; a swap takes two keys out and
puts two in, so that the table never grows. Numbers are drawn by SplitMix64 from one seed.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

_compiled = numba.njit(cache=True)
_FREE = -1


@_compiled
def _hash(key: Any, mask: Any) -> Any:
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(mask))


@_compiled
def _slot(table: IntArray, key: Any) -> Any:
    """Return where a key is, or the free slot where it would be put."""
    mask = len(table) - 1
    k = _hash(key, mask)
    while table[k] != _FREE and table[k] != key:
        k = (k + 1) & mask
    return k


@_compiled
def _remove(table: IntArray, key: Any) -> None:
    """Take a key out, and move those up that had to go past it."""
    mask = len(table) - 1
    hole = _slot(table, key)
    k = hole
    while True:
        k = (k + 1) & mask
        if table[k] == _FREE:
            break
        home = _hash(table[k], mask)
        if ((k - home) & mask) >= ((k - hole) & mask):
            table[hole] = table[k]
            hole = k
    table[hole] = _FREE


@_compiled
def _key(u: Any, v: Any, n: Any, undirected: Any) -> Any:
    return v * n + u if undirected and u > v else u * n + v


@_compiled
def swap_ends(
    u: IntArray, v: IntArray, n: int, n_attempts: int, seed: int, apart: bool, undirected: bool, table: IntArray
) -> Any:
    """Try to swap the ends of two random edges, many times, in place: u→v, x→y become u→y, x→v.

    Args:
        u, v: ends of each edge.
        n: number of nodes on the side of ``v`` (of both sides where ``undirected``).
        n_attempts: how many pairs of edges to draw; a swap that would double an edge is not done but counts.
        seed: what the draws start from.
        apart: whether no edge may join a node to itself.
        undirected: whether u→v and v→u are the same edge.
        table: filled with −1, a power of two long, at least twice as long as there are edges.

    Returns:
        How many swaps were done.
    """
    m = len(u)
    for k in range(m):
        key = _key(u[k], v[k], n, undirected)
        table[_slot(table, key)] = key
    state, done = np.uint64(seed), 0
    for _ in range(n_attempts):
        state += np.uint64(0x9E3779B97F4A7C15)
        z = state
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        # 32 bits for each edge, the lowest also turns the second one round, which its place does not depend on much
        e = np.int64(((z >> np.uint64(32)) * np.uint64(m)) >> np.uint64(32))
        f = np.int64(((z & np.uint64(0xFFFFFFFF)) * np.uint64(m)) >> np.uint64(32))
        a, b, c, d = u[e], v[e], u[f], v[f]
        if undirected and z & np.uint64(1):
            c, d = d, c
        if apart and (a == d or c == b):
            continue
        one, other = _key(a, d, n, undirected), _key(c, b, n, undirected)
        if table[_slot(table, one)] == one or table[_slot(table, other)] == other:
            continue
        _remove(table, _key(a, b, n, undirected))
        _remove(table, _key(c, d, n, undirected))
        table[_slot(table, one)] = one
        table[_slot(table, other)] = other
        v[e], u[f], v[f] = d, c, b
        done += 1
    return done


@_compiled
def gather_bits(indptr: IntArray, indices: NDArray[Any], bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return for each row the bits that any of its columns has: 64 questions who is reached, at once."""
    found = np.zeros(len(indptr) - 1, dtype=np.uint64)
    for row in range(len(found)):
        for k in range(indptr[row], indptr[row + 1]):
            found[row] |= bits[indices[k]]
    return found


@_compiled
def count_bits(words: NDArray[np.uint64]) -> Any:
    """Return how many bits are set."""
    total = 0
    for n in range(len(words)):
        word = words[n]
        while word:
            word &= word - np.uint64(1)
            total += 1
    return total
