"""Which cells of a block grid have been live so far."""

import numpy as np
import torch
from torch import Tensor

from neuropil.connect.block_grid import IntArray

_MOST_CELLS = 1 << 27


class Explored:
    """The cells that have been live: a byte for each cell, or where there are more than 2²⁷, a list of those that have.

    Args:
        n_cells: of the grid.

    Attributes:
        n: number of cells that have been live.
    """

    def __init__(self, n_cells: int) -> None:
        self.n_cells = n_cells
        self.n = 0
        self._is_list = n_cells > _MOST_CELLS
        self._cells: IntArray = np.empty(0, dtype=np.int64)
        self._seen = np.zeros(0 if self._is_list else n_cells, dtype=np.bool_)

    def visit(self, cells: IntArray) -> None:
        """Take note of cells that are live now, ascending."""
        from neuropil.connect.merge import in_common, visit  # Numba takes a while to load

        if self._is_list:
            _, is_known = in_common(self._cells, cells)
            # two ascending runs, which this sort merges
            self._cells = np.sort(np.concatenate([self._cells, cells[~is_known]]), kind="stable")
            self.n = len(self._cells)
        else:
            self.n += int(visit(self._seen, cells))

    def to_tensor(self) -> Tensor:
        """Return what must be stored: eight cells to a byte, or the list, int64."""
        return torch.from_numpy(self._cells.copy() if self._is_list else np.packbits(self._seen))

    def take(self, stored: Tensor | None) -> bool:
        """Take over what another one has stored; return whether it fits."""
        if not isinstance(stored, Tensor):
            return False
        array = stored.cpu().numpy()
        if self._is_list:
            if array.dtype != np.int64 or (len(array) and not 0 <= array.min() <= array.max() < self.n_cells):
                return False
            self._cells, self.n = array.copy(), len(array)
            return True
        if len(array) != -(-self.n_cells // 8):
            return False
        self._seen = np.unpackbits(array, count=self.n_cells).astype(np.bool_)
        self.n = int(self._seen.sum())
        return True
