"""One sparse layer as rules see it while it is rewired."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.connect import SparseLinear, Wiring
from neuropil.connect.block_grid import IntArray
from neuropil.rewire.pool import EMPTY, strips
from neuropil.rewire.record import Samples
from neuropil.rewire.scores import magnitude
from neuropil.rewire.select import Scores, Strip

Reduction = Literal["mean", "sum"]
_TALL = 128  # rows of a block


@dataclass(frozen=True)
class Site:
    """A layer, and all that its rules may look at.

    Attributes:
        name: of the layer in its model.
        layer: its weights, and their gradients.
        samples: what was recorded in the latest steps, newest last; empty where no rule asked for it.
        progress: share of training that is done, in [0, 1].
        generator: where chance comes from.
        reduction: ``mean`` or ``sum``: how the scores of its synapses make a block's.
        gone: numbers of the blocks that have been dropped so far in this event.
    """

    name: str
    layer: SparseLinear
    samples: tuple[Samples, ...]
    progress: float
    generator: torch.Generator
    reduction: Reduction = "mean"
    gone: IntArray = field(default_factory=lambda: EMPTY)

    @property
    def wiring(self) -> Wiring:
        """Who connects to whom."""
        return self.layer.wiring

    @cached_property
    def gone_cells(self) -> IntArray:
        """Cells of the blocks that have been dropped in this event, int64, ascending."""
        from neuropil.connect.merge import cells_of  # Numba takes a while to load

        return cells_of(self.wiring.indptr, self.wiring.indices, self.wiring.grid[1], self.gone)

    def remaining_cells(self) -> IntArray:
        """Return the cells of the blocks that have not been dropped in this event, int64, ascending."""
        return np.delete(self.wiring.cells(), self.gone)

    def of_blocks(self, values: Tensor) -> Scores:
        """Return the score of each block from those of its synapses, which have the shape of the layer's weight.

        Entries that no connection uses must be 0.
        """
        wiring = self.wiring
        if self.layer.stores_dense:
            if values.device.type == "cpu" and values.dtype == torch.float32:
                return self._live_entries(values.detach().reshape(-1).numpy(), slice(0, wiring.grid[0]))
            cells = torch.from_numpy(wiring.cells()).to(values.device)
            return _to_numpy(values.reshape(-1).index_select(0, cells))
        if wiring.block == (1, 1):
            return _to_numpy(values.reshape(-1))
        total = _to_numpy(values.float().sum(dim=(1, 2)))
        if self.reduction == "sum":
            return total
        rows, columns = self._real()
        return total / (rows[wiring.block_rows] * columns[wiring.block_columns])

    def magnitudes(self) -> Scores:
        """Return |w| of each live block."""
        weight = self.layer.weight.detach()
        if self.layer.stores_dense:  # without a second matrix of the weight's size
            live = self.of_blocks(weight)
            return np.abs(live, out=live)
        return self.of_blocks(magnitude(weight))

    def live_of(self, strip: Strip) -> Scores:
        """Return the scores of the live blocks from scores of the whole grid, ``[n_blocks]``."""
        indptr = self.wiring.indptr
        used = [rows for rows in strips(self.wiring) if indptr[rows.start] < indptr[rows.stop]]
        return np.concatenate([self._live_entries(strip(rows).ravel(), rows) for rows in used])

    def _live_entries(self, dense: Scores, rows: slice) -> Scores:
        """Return the scores of the live blocks in some rows of the grid, from those of all cells in these rows."""
        from neuropil.connect.merge import live_entries  # Numba takes a while to load

        wiring, first = self.wiring, self.wiring.indptr[rows.start]
        indptr = wiring.indptr[rows.start : rows.stop + 1] - first
        entries: Scores = live_entries(indptr, wiring.indices[first : first + indptr[-1]], wiring.grid[1], dense)
        return entries

    def products(self, targets: Tensor, sources: Tensor, *, absolute: bool) -> Strip:
        """Return the scores of blocks from Σ_s targets[s, o] · sources[s, i] for each synapse (o, i).

        Args:
            targets: ``[samples, out_features]``.
            sources: ``[samples, in_features]``.
            absolute: take the absolute value for each synapse. Otherwise a block's score is a product of sums, which
                costs far less.
        """
        wiring = self.wiring
        (n_rows, n_columns), (height, width) = wiring.grid, wiring.block
        left = _by_position(targets, wiring.out_order).T.reshape(n_rows, height, -1)
        right = _by_position(sources, wiring.in_order).T.reshape(n_columns, width, -1)
        scale = None
        if self.reduction == "mean" and wiring.block != (1, 1):
            rows_real, columns_real = self._real()
            scale = rows_real[:, None], columns_real[None, :]
        if not absolute:
            left, right = left.sum(1, keepdim=True), right.sum(1, keepdim=True)
        columns = right.reshape(n_columns * right.shape[1], -1).contiguous()

        if absolute and height >= _TALL:
            product_of = self._tall_sums(left, columns)
        else:

            def product_of(rows: slice) -> Tensor:
                product = left[rows].flatten(0, 1) @ columns.T
                if absolute and wiring.block != (1, 1):
                    product = product.abs_().reshape(-1, height, len(columns)).sum(dim=1)
                return product.abs_() if absolute else product

        def strip(rows: slice) -> Scores:
            # a few rows of synapses at a time: no dense matrix stands here for blocks
            product = product_of(rows)
            if absolute and width > 1:
                product = product.reshape(-1, n_columns, width).sum(dim=2)
            scores = _to_numpy(product)
            return scores if scale is None else scores / (scale[0][rows] * scale[1])

        return strip

    def _tall_sums(self, left: Tensor, columns: Tensor) -> Callable[[slice], Tensor]:
        """Return Σ |left @ columnsᵀ| over the rows of each tall block, for a slice of rows of the grid.

        Once blocks have been dropped, those that remain are passed over: nothing can come where they are.

        Args:
            left: ``[rows of the grid, height, samples]``.
            columns: ``[columns, samples]``, of synapses.
        """
        (n_rows, n_columns), width = self.wiring.grid, self.wiring.block[1]
        is_asked = np.ones(n_rows * n_columns, dtype=np.bool_)
        if len(self.gone):
            is_asked[self.remaining_cells()] = False
        asked = torch.from_numpy(np.repeat(is_asked.reshape(n_rows, n_columns), width, axis=1)).to(left.device)

        def sums(rows: slice) -> Tensor:
            found = left.new_zeros(rows.stop - rows.start, len(columns))
            for i, row in enumerate(range(rows.start, rows.stop)):
                # one fast sweep over what has just been computed
                product = columns[asked[row]] @ left[row].T
                found[i, asked[row]] = torch.linalg.vector_norm(product, ord=1, dim=1)
            return found

        return sums

    def live_products(self, targets: Tensor, sources: Tensor) -> Tensor:
        """Return Σ_s targets[s, o] · sources[s, i] for each synapse of blocks larger than one, shaped like the weight.

        Args:
            targets: ``[samples, out_features]``.
            sources: ``[samples, in_features]``.
        """
        wiring, weight = self.wiring, self.layer.weight
        (n_rows, n_columns), (height, width) = wiring.grid, wiring.block
        left = _by_position(targets, wiring.out_order).T.reshape(n_rows, height, -1)
        right = _by_position(sources, wiring.in_order).T.reshape(n_columns, width, -1)
        products = torch.empty(weight.shape, device=weight.device)
        for row in range(n_rows):
            live = slice(int(wiring.indptr[row]), int(wiring.indptr[row + 1]))
            columns = torch.from_numpy(wiring.indices[live].astype(np.int64)).to(weight.device)
            products[live] = right[columns] @ left[row].T  # [blocks, width, height]
        return products

    def _real(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return how many neurons there are in each row and in each column of the grid."""
        wiring = self.wiring
        rows, columns = (
            (order.reshape(n, -1) >= 0).sum(axis=1).astype(np.float32)
            for order, n in zip((wiring.out_order, wiring.in_order), wiring.grid, strict=True)
        )
        return rows, columns


def _by_position(values: Tensor, order: IntArray) -> Tensor:
    """Return ``[samples, neurons]`` as ``[samples, positions]``, 0 where nobody is."""
    positions = torch.from_numpy(order.astype(np.int64)).to(values.device)
    if len(order) == values.shape[1] and bool((positions == torch.arange(len(order), device=positions.device)).all()):
        return values
    return values.index_select(1, positions.clamp(min=0)) * (positions >= 0)


def _to_numpy(values: Tensor) -> Scores:
    array: Scores = values.detach().to(device="cpu", dtype=torch.float32).numpy()
    return array
