"""What came and what went between two wirings of the same neurons, and how whatever belongs to blocks follows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from neuropil.connect.block_grid import IntArray
from neuropil.connect.wiring import Wiring


@dataclass(frozen=True, eq=False)
class Change:
    """The step from one wiring to another of the same neurons and block.

    Cells of the block grid are numbered row by row: cell = row · columns of the grid + column.

    Attributes:
        before, after: the two wirings.
        went: cells that are connected in ``before`` alone, int64, ascending.
        came: cells that are connected in ``after`` alone, int64, ascending.
        origin: for each block of ``after`` its number in ``before``, or −1 where it is new, int32 ``[n_blocks]``.

    Example:
        >>> before = Wiring.from_mask([[1, 1, 0], [0, 0, 1]])
        >>> change = Change.of(before, went=[1], came=[4])
        >>> change.after.mask().int().tolist(), change.origin.tolist()
        ([[1, 0, 0], [0, 1, 1]], [0, -1, 2])
    """

    before: Wiring
    after: Wiring
    went: IntArray
    came: IntArray
    origin: IntArray

    @classmethod
    def of(cls, before: Wiring, *, went: ArrayLike, came: ArrayLike) -> "Change":
        """Return the change that takes some cells away and connects others.

        Args:
            before: the wiring as it is.
            went: numbers of *blocks* of ``before``, or a bool for each of them.
            came: numbers of *cells*, unconnected in ``before``, each once.

        Raises:
            ValueError: a cell lies outside the grid, comes twice, or is connected already.
        """
        from neuropil.connect.merge import merge_rows  # Numba takes a while to load

        goes = np.zeros(before.n_blocks, dtype=np.bool_)
        goes[np.asarray(went, dtype=None if len(np.asarray(went)) else np.int64)] = True
        cells = np.sort(np.asarray(came, dtype=np.int64))
        n_rows, n_columns = before.grid
        if len(cells) and (cells[0] < 0 or cells[-1] >= n_rows * n_columns):
            raise ValueError(
                f"Change: cells must be numbers from 0 to {n_rows * n_columns - 1}, got {cells[0]} to {cells[-1]}"
            )
        indptr, indices, origin, clashes = merge_rows(before.indptr, before.indices, goes, cells, n_columns)
        if clashes:
            raise ValueError(f"Change: cells that come must be unconnected, each once, got {clashes} that are not")
        gone = np.flatnonzero(goes)
        rows = np.searchsorted(before.indptr, gone, side="right") - 1
        return cls(before, before.with_rows(indptr, indices), rows * n_columns + before.indices[gone], cells, origin)

    @classmethod
    def between(cls, before: Wiring, after: Wiring) -> "Change":
        """Return the change from one wiring to another.

        Raises:
            ValueError: they differ in neurons, block or order.
        """
        same = before.shape == after.shape and before.block == after.block
        if not same or any(
            not np.array_equal(getattr(before, side), getattr(after, side)) for side in ("out_order", "in_order")
        ):
            raise ValueError(f"Change: both wirings must be of the same neurons, order and block, got {before!r} and "
                             f"{after!r}")  # fmt: skip
        old, new = before.cells(), after.cells()
        at = np.searchsorted(old, new)
        known = at < len(old)
        known[known] = old[at[known]] == new[known]
        origin = np.where(known, at, -1).astype(np.int32)
        stays = np.zeros(len(old), dtype=np.bool_)
        stays[at[known]] = True
        return cls(before, after, old[~stays], new[~known], origin)

    @cached_property
    def _touched(self) -> Tensor:
        """Flat positions, in a dense weight, of synapses that came or went; for blocks of one synapse."""
        return torch.from_numpy(np.concatenate([self.went, self.came]))

    @torch.no_grad()
    def carry(self, values: Tensor) -> Tensor:
        """Return what belonged to the blocks of ``before``, laid out for those of ``after``; new blocks get 0.

        Args:
            values: shaped like the weight of a :class:`neuropil.connect.SparseLinear` of ``before``. For single
                synapses it is changed in place: what went is cleared too.
        """
        if self.before.block == (1, 1):
            values.view(-1).index_fill_(0, self._touched.to(values.device), 0)
            return values
        origin = torch.from_numpy(self.origin.astype(np.int64)).to(values.device)
        carried = values.index_select(0, origin.clamp(min=0))
        carried[origin < 0] = 0
        return carried
