"""Groups on the block grid, and how far connections keep to them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropil.connect import Wiring
from neuropil.connect.block_grid import IntArray


@dataclass(frozen=True)
class Groups:
    """Group of each row and column of a grid; −1 where a row or column reaches over several groups.

    Attributes:
        rows, columns: labels, int64.
    """

    rows: IntArray
    columns: IntArray

    @classmethod
    def of(cls, wiring: Wiring) -> "Groups | None":
        """Return the groups of a wiring, or None where its neurons carry no labels."""
        if wiring.out_groups is None or wiring.in_groups is None:
            return None
        return cls(
            _labels(wiring.out_groups, wiring.out_order, wiring.block[0]),
            _labels(wiring.in_groups, wiring.in_order, wiring.block[1]),
        )

    def are_within(self, cells: IntArray) -> NDArray[np.bool_]:
        """Return for each cell whether it lies within a group."""
        row, column = np.divmod(cells, len(self.columns))
        same: NDArray[np.bool_] = (self.rows[row] == self.columns[column]) & (self.rows[row] >= 0)
        return same

    def within(self, rows: slice) -> NDArray[np.bool_]:
        """Return which cells of some rows lie within a group, bool ``[rows, columns]``."""
        own = self.rows[rows, None]
        same: NDArray[np.bool_] = (own == self.columns) & (own >= 0)
        return same

    @property
    def n_cells_within(self) -> int:
        """Number of cells that lie within a group."""
        n = int(max(self.rows.max(initial=-1), self.columns.max(initial=-1))) + 1
        rows, columns = (np.bincount(side[side >= 0], minlength=n) for side in (self.rows, self.columns))
        return int(rows @ columns)


class Modularity:
    """Bipartite modularity of a wiring for its groups, kept up to date as blocks come and go.

    Q = Σ_g [L_g / m − K_g D_g / m²], with m blocks, L_g of them within group g, K_g and D_g those that end and start
    in it: in (−1, 1), 0 where groups do not matter. Costs what changes, not what is there.

    Reference:
        M. J. Barber, Modularity and community detection in bipartite networks, Phys. Rev. E 76, 066102 (2007).
    """

    def __init__(self, groups: Groups, cells: IntArray) -> None:
        self._groups = groups
        n = int(max(groups.rows.max(initial=-1), groups.columns.max(initial=-1))) + 1
        self._ends, self._starts = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.n_blocks = self.n_within = 0
        self.add(cells, 1)

    def add(self, cells: IntArray, sign: int) -> int:
        """Count cells in (sign 1) or out (sign −1); return how many of them lie within groups."""
        from neuropil.connect.merge import count_by_label  # Numba takes a while to load

        groups = self._groups
        within = int(count_by_label(cells, groups.rows, groups.columns, self._ends, self._starts, sign))
        self.n_blocks += sign * len(cells)
        self.n_within += sign * within
        return within

    @property
    def value(self) -> float:
        """Q."""
        m = self.n_blocks
        return self.n_within / m - float(self._ends @ self._starts) / m**2


def _labels(groups: IntArray, order: IntArray, side: int) -> IntArray:
    """Return the group of each row (or column): that of its neurons if they share one, else −1."""
    by_block = np.where(order >= 0, groups[order], -1).reshape(-1, side)
    first = by_block.max(axis=1)
    agree = ((by_block == first[:, None]) | (order.reshape(-1, side) < 0)).all(axis=1)
    return np.where(agree, first, -1).astype(np.int64)
