"""Picking exactly n of many: the smallest, the largest, or any, with ties broken by chance."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect.block_grid import IntArray
from neuropil.rewire.pool import Pool, strips

Scores = NDArray[np.float32]
Strip = Callable[[slice], Scores]


def largest(scores: Scores, n: int, generator: torch.Generator | None = None) -> IntArray:
    """Return the numbers of the n largest scores, ascending; among equal ones at the border chance decides.

    Args:
        scores: ``[m]``; NaN counts as less than anything.
        n: 0 to m.
        generator: breaks ties.
    """
    return _extreme(scores, n, generator, at=len(scores) - n, beyond=np.greater_equal)


def smallest(scores: Scores, n: int, generator: torch.Generator | None = None) -> IntArray:
    """Return the numbers of the n smallest scores, NaN among them: see :func:`largest`."""
    return _extreme(scores, n, generator, at=n - 1, beyond=np.less_equal)


def _extreme(scores: Scores, n: int, generator: torch.Generator | None, *, at: int, beyond: np.ufunc) -> IntArray:
    """Return the n scores on one side of the one that comes at a place in ascending order."""
    if n <= 0:
        return np.empty(0, dtype=np.int64)
    if n >= len(scores):
        return np.arange(len(scores))
    if np.isnan(scores.max()):  # which is NaN if any is
        scores = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    border = np.partition(scores, at)[at]
    chosen = np.flatnonzero(beyond(scores, border))
    if len(chosen) == n:
        return chosen
    ties = np.flatnonzero(scores[chosen] == border)
    out = torch.randperm(len(ties), generator=generator)[: len(chosen) - n].numpy()
    keep = np.ones(len(chosen), dtype=np.bool_)
    keep[ties[out]] = False
    return chosen[keep]


def largest_cells(strip: Strip, pool: Pool, n: int, generator: torch.Generator | None = None) -> IntArray:
    """Return the n cells of a pool whose scores are largest, without ever holding the scores of the whole grid.

    The grid is scored in strips of whole rows, in random order, and only what may still be among the n largest is
    kept, so memory grows with n and a strip. Where scores are equal, chance decides inside a strip, and between
    strips the one that comes first.

    Args:
        strip: gives the scores ``[rows, columns]`` of a slice of rows.
        pool: the cells that may be chosen; it holds at least n.
        n: how many.
        generator: of the order, and to break ties.

    Returns:
        Cells, int64, ascending.
    """
    if n <= 0:
        return np.empty(0, dtype=np.int64)
    slices = strips(pool.wiring)
    kept: list[tuple[IntArray, Scores]] = []
    n_kept, border = 0, np.float32(-np.inf)

    def best() -> tuple[IntArray, Scores]:
        cells, scores = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        chosen = largest(scores, n, generator)
        return cells[chosen], scores[chosen]

    for i in torch.randperm(len(slices), generator=generator).tolist():
        rows = slices[i]
        allowed, values = pool.allowed(rows).ravel(), strip(rows).ravel()
        # once n are known, a cell must beat the least of them
        good = np.flatnonzero(allowed & (values > border) if n_kept >= n else allowed)
        if len(good) > n:
            good = good[largest(values[good], n, generator)]
        kept.append((good + rows.start * pool.wiring.grid[1], values[good]))
        n_kept += len(good)
        if n_kept >= (n if border == -np.inf else 2 * n):
            kept = [best()]
            n_kept, border = n, np.nan_to_num(kept[0][1].min(), nan=-np.inf, neginf=-np.inf, posinf=np.inf)
    return np.sort(best()[0])


def largest_in_rows(strip: Strip, pool: Pool, quotas: IntArray, generator: torch.Generator | None = None) -> IntArray:
    """Return, for each row of the grid, as many cells of a pool as its quota says, those with the largest scores.

    Args:
        strip, pool, generator: as for :func:`largest_cells`.
        quotas: ``[rows]``; none larger than the row's share of the pool.

    Returns:
        Cells, int64, ascending.
    """
    chosen = []
    for rows in strips(pool.wiring):
        if not quotas[rows].any():
            continue
        allowed, values = pool.allowed(rows), strip(rows)
        for row in np.flatnonzero(quotas[rows]):
            columns = np.flatnonzero(allowed[row])
            best = columns[largest(values[row, columns], int(quotas[rows][row]), generator)]
            chosen.append((rows.start + row) * pool.wiring.grid[1] + best)
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
