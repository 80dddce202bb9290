"""The cells of a block grid that may be connected."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect import Wiring
from neuropil.connect.block_grid import IntArray
from neuropil.connect.sampling import draw_distinct

EMPTY: IntArray = np.empty(0, dtype=np.int64)
_STRIP_SYNAPSES = 1 << 19  # of the blocks that are looked at together: 2 MiB of scores


def strips(wiring: Wiring) -> list[slice]:
    """Return slices of rows that make up the grid, each of a size that is handled at once."""
    n_rows, n_columns = wiring.grid
    step = max(1, _STRIP_SYNAPSES // (n_columns * wiring.block[0] * wiring.block[1]))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


@dataclass(frozen=True)
class Pool:
    """The unconnected cells of a wiring from which a growth rule may choose.

    Attributes:
        wiring: its blocks are not in the pool,
        opened: except these, which have just been taken away; cells, int64, ascending.
        closed: cells that are not in the pool either, int64, ascending.
        barred: cells that may never change, bool, of the shape of the grid; or None.
        part: which cells belong to the part of the grid that the pool is limited to, for a slice of rows; or None.
    """

    wiring: Wiring
    opened: IntArray = field(default_factory=lambda: EMPTY)
    closed: IntArray = field(default_factory=lambda: EMPTY)
    barred: NDArray[np.bool_] | None = None
    part: Callable[[slice], NDArray[np.bool_]] | None = None

    def allowed(self, rows: slice) -> NDArray[np.bool_]:
        """Return which cells of some rows are in the pool, bool ``[rows, columns]``."""
        wiring, n_columns = self.wiring, self.wiring.grid[1]
        first_cell, last_cell = rows.start * n_columns, rows.stop * n_columns

        def inside(cells: IntArray) -> IntArray:
            first, last = np.searchsorted(cells, (first_cell, last_cell))
            local: IntArray = cells[first:last] - first_cell
            return local

        allowed = np.ones(last_cell - first_cell, dtype=np.bool_)
        live = slice(wiring.indptr[rows.start], wiring.indptr[rows.stop])
        starts = np.arange(0, last_cell - first_cell, n_columns)
        allowed[np.repeat(starts, np.diff(wiring.indptr[rows.start : rows.stop + 1])) + wiring.indices[live]] = False
        allowed[inside(self.opened)] = True
        allowed[inside(self.closed)] = False
        grid = allowed.reshape(-1, n_columns)
        if self.part is not None:
            grid &= self.part(rows)
        if self.barred is not None:
            grid &= ~self.barred[rows]
        return grid

    @cached_property
    def sizes(self) -> IntArray:
        """Number of cells in each row, int64 ``[rows]``."""
        if self.part is not None or self.barred is not None:
            return np.concatenate([self.allowed(rows).sum(axis=1) for rows in strips(self.wiring)])
        n_rows, n_columns = self.wiring.grid
        ends = np.arange(n_rows + 1) * n_columns
        opened, closed = (np.diff(np.searchsorted(cells, ends)) for cells in (self.opened, self.closed))
        return n_columns - np.diff(self.wiring.indptr) + opened - closed

    def without(self, cells: IntArray) -> "Pool":
        """Return the pool less some of its cells, ascending."""
        return replace(self, closed=np.sort(np.concatenate([self.closed, cells]))) if len(cells) else self

    def draw(self, n: int, generator: torch.Generator | None = None) -> IntArray:
        """Return n cells of the pool, each set equally likely, int64, ascending."""
        n_rows, n_columns = self.wiring.grid
        size, is_whole = int(self.sizes.sum()), self.part is None and self.barred is None
        if is_whole and n <= size // 4 and n_rows * n_columns <= 8 * size:
            return self._draw_some(n, size, generator)
        ordinals = np.sort(draw_distinct(size, n, generator).numpy())
        if is_whole and not len(self.closed):
            from neuropil.connect.merge import nth_dead_cells  # Numba takes a while to load

            dead = ordinals[: np.searchsorted(ordinals, size - len(self.opened))]
            again = self.opened[ordinals[len(dead) :] - (size - len(self.opened))]
            cells = nth_dead_cells(self.wiring.indptr, self.wiring.indices, n_columns, dead)
            return np.sort(np.concatenate([cells, again]))
        ends = np.cumsum(self.sizes)
        chosen = [EMPTY]
        for rows in strips(self.wiring):
            before = ends[rows.start - 1] if rows.start else 0
            first, last = np.searchsorted(ordinals, (before, ends[rows.stop - 1]))
            if first < last:
                cells = np.flatnonzero(self.allowed(rows))
                chosen.append(cells[ordinals[first:last] - before] + rows.start * self.wiring.grid[1])
        return np.concatenate(chosen)

    def _draw_some(self, n: int, size: int, generator: torch.Generator | None) -> IntArray:
        """Do as :meth:`draw` does, for few of many: draw from the whole grid until n have been found in the pool.

        Any set of cells that is found is as likely as any other of its size; and so is what a further draw leaves of
        those that are too many.
        """
        from neuropil.connect.merge import those_allowed  # Numba takes a while to load

        wiring, n_cells = self.wiring, self.wiring.grid[0] * self.wiring.grid[1]
        dtype = torch.int32 if n_cells <= torch.iinfo(torch.int32).max else torch.int64
        found = EMPTY
        while len(found) < n:
            expected = n_cells * math.log((size - len(found)) / (size - n))  # draws until n are found
            drawn = torch.randint(
                n_cells, (int(1.01 * expected) + 16,), generator=generator, dtype=dtype, device="cpu"
            ).numpy()
            cells = np.sort(np.concatenate([found, drawn]) if len(found) else drawn)
            found = those_allowed(wiring.indptr, wiring.indices, wiring.grid[1], self.opened, self.closed, cells)
        too_many = draw_distinct(len(found), len(found) - n, generator).numpy()
        return np.delete(found, too_many)
