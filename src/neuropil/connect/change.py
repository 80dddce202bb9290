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
        from neuropil.connect.merge import in_common, merge_rows  # Numba takes a while to load

        numbers, cells = _block_numbers(went, before.n_blocks), _ascending(np.asarray(came, dtype=np.int64))
        n_rows, n_columns = before.grid
        if len(cells) and (cells[0] < 0 or cells[-1] >= n_rows * n_columns):
            raise ValueError(
                f"Change: cells must be numbers from 0 to {n_rows * n_columns - 1}, got {cells[0]} to {cells[-1]}"
            )
        indptr, indices, gone, clashes = merge_rows(before.indptr, before.indices, numbers, cells, n_columns)
        if clashes:
            n_both = int(in_common(gone, cells)[0].sum())
            which = "each once, " if clashes > n_both else ""
            what = f"{clashes - n_both} that are not" if clashes > n_both else f"{n_both} that go in the same change"
            raise ValueError(f"Change: cells that come must be unconnected, {which}got {what}")
        return cls(before, before.with_rows(indptr, indices), gone, cells)

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
        from neuropil.connect.merge import in_common  # Numba takes a while to load

        old, new = before.cells(), after.cells()
        stays, is_known = in_common(old, new)
        return cls(before, after, old[~stays], new[~is_known])

    @cached_property
    def origin(self) -> IntArray:
        """For each block of ``after`` its number in ``before``, or −1 where it is new, int32 ``[n_blocks]``."""
        from neuropil.connect.merge import in_common

        goes, _ = in_common(self.before.cells(), self.went)
        is_new, _ = in_common(self.after.cells(), self.came)
        origin = np.full(self.after.n_blocks, -1, dtype=np.int32)
        origin[~is_new] = np.flatnonzero(~goes)
        return origin

    @torch.no_grad()
    def carry(self, values: Tensor) -> Tensor:
        """Return what belonged to the blocks of ``before``, laid out for those of ``after``; new blocks get 0.

        Args:
            values: shaped like the weight of a :class:`neuropil.connect.SparseLinear` of ``before``: of the blocks,
                ``[n_blocks, columns, rows]``, or of all cells, ``[out_features, in_features]``. Changed in place, and
                returned, unless it has another number of blocks now.
        """
        if values.dim() == 2:
            self.fill(values)
            return values
        if values.device.type == "cpu" and values.is_contiguous() and self.before.n_blocks == self.after.n_blocks:
            from neuropil.connect.merge import move_rows

            move_rows(_as_integers(values).reshape(len(values), -1).numpy(), self.origin)
            return values
        origin = torch.from_numpy(self.origin.astype(np.int64)).to(values.device)
        carried = values.index_select(0, origin.clamp(min=0))
        carried[origin < 0] = 0
        return carried

    @torch.no_grad()
    def fill(self, values: Tensor, *, came: float = 0.0) -> None:
        """Write 0 where single synapses went and ``came`` where they came, in place.

        Args:
            values: of all cells, ``[out_features, in_features]``.
            came: what new synapses get.
        """
        flat = values.view(-1)
        if values.device.type == "cpu":
            from neuropil.connect.merge import overwrite

            bits = _as_integers(values.new_full((1,), came))
            overwrite(_as_integers(flat).numpy(), self.went, self.came, int(bits))
            return
        for cells, value in ((self.went, 0.0), (self.came, came)):
            flat.index_fill_(0, torch.from_numpy(cells).to(flat.device), value)


def _block_numbers(chosen: ArrayLike, n_blocks: int) -> IntArray:
    """Return the numbers of some blocks, ascending, from their numbers or from a bool for each block."""
    array = np.asarray(chosen)
    if array.dtype == np.bool_ and array.shape == (n_blocks,):
        return np.flatnonzero(array)
    numbers = _ascending(array.astype(np.int64))
    if array.dtype == np.bool_ or (len(numbers) and (numbers[0] < 0 or numbers[-1] >= n_blocks)):
        raise ValueError(
            f"Change: blocks that go must be numbers from 0 to {n_blocks - 1}, or a bool for each of them, got "
            f"{array.dtype} of shape {array.shape}"
        )
    return numbers if (numbers[1:] > numbers[:-1]).all() else np.unique(numbers)


def _ascending(numbers: IntArray) -> IntArray:
    return numbers if (numbers[1:] >= numbers[:-1]).all() else np.sort(numbers)


def _as_integers(values: Tensor) -> Tensor:
    """Return a view of the same bits, in a type that NumPy and Numba know."""
    return values.detach().view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()])
