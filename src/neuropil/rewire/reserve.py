"""Weights that wait outside a layer, to come back with the value they had."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from neuropil.connect import SparseLinear
from neuropil.connect.block_grid import IntArray
from neuropil.connect.change import Change
from neuropil.connect.rewire_layer import rewire_layer


class Reserve:
    """All blocks that a layer may ever use: which are live, which of these transmit, and what each one weighs.

    Takes the memory of the layer's weights as it was built, beside those that are live.

    Attributes:
        layer: whose wiring holds the live blocks; its silent ones are those that do not transmit.
        pool: the layer's wiring as it was built; blocks are numbered as there.
        live: numbers of the live blocks, int64, ascending.
        sending: numbers of those that transmit, int64, ascending.
    """

    def __init__(self, layer: SparseLinear) -> None:
        self.layer = layer
        self.pool = layer.wiring
        self.live: IntArray = np.arange(self.pool.n_blocks)
        self.sending: IntArray = self.live
        self._cells, self._sizes = self.pool.cells(), self.pool.block_sizes()
        self._values = _blocks(layer).clone()

    def worth(self) -> NDArray[Any]:
        """Return the mean |w| of each block, live or not, ``[pool.n_blocks]``."""
        values = _blocks(self.layer)
        self._values = self._values.to(values)  # the layer may have moved since
        self._values.index_copy_(0, torch.from_numpy(self.live).to(values.device), values)
        wide = torch.promote_types(values.dtype, torch.float32)
        total = self._values.abs().sum(dim=(1, 2), dtype=wide).cpu().numpy()
        worth: NDArray[Any] = total / self._sizes.astype(total.dtype)
        return worth

    def choose(self, live: IntArray, sending: IntArray, optimizer: Optimizer) -> Change:
        """Make some blocks live, and some of these transmit; to be called after :meth:`worth` alone.

        Blocks that come have the weight that they had when they went; the optimizer's state of them is 0.
        """
        stays = np.zeros(self.pool.n_blocks, dtype=np.bool_)
        stays[live] = True
        goes = ~stays[self.live]
        stays[self.live] = False
        comes = np.flatnonzero(stays)  # to be live, and not so now
        layer = self.layer
        change = Change.of(layer.wiring, went=goes, came=self._cells[comes])
        if len(change.went) or len(change.came):
            rewire_layer(layer, optimizer, change)
            is_dense = layer.stores_dense
            target = layer.weight.data.view(-1, 1, 1) if is_dense else layer.weight.data
            where = change.came if is_dense else np.flatnonzero(change.origin < 0)
            known = self._values.index_select(0, torch.from_numpy(comes).to(target.device))
            target.index_copy_(0, torch.from_numpy(where).to(target.device), known)
        self.live, self.sending = live, sending
        self._silence()
        return change

    @property
    def density(self) -> float:
        """Connections that transmit over possible ones."""
        return int(self._sizes[self.sending].sum()) / (self.pool.in_features * self.pool.out_features)

    @property
    def neurons_without_input(self) -> int:
        """Number of target neurons that nobody transmits to."""
        hears = np.zeros(self.pool.grid[0], dtype=np.bool_)
        hears[self.pool.block_rows[self.sending]] = True
        return int((np.repeat(~hears, self.pool.block[0]) & (self.pool.out_order >= 0)).sum())

    def state_dict(self) -> dict[str, Tensor]:
        """Return what must be stored beside the layer's own state: weights that are not live, and who is what."""
        n_rows, n_columns = self.pool.grid
        return {
            "pool": _bits(self._cells, n_rows * n_columns),
            "live": _bits(self.live, self.pool.n_blocks),
            "sending": _bits(self.sending, self.pool.n_blocks),
            "reserve": self._values[torch.from_numpy(self._waiting()).to(self._values.device)],
        }

    def load_state_dict(self, state: Mapping[str, Any], name: str) -> None:
        """Take over a stored state; the layer, called ``name``, must already have the wiring of that time.

        Raises:
            ValueError: it does not fit the layer.
        """
        wiring = self.layer.wiring
        n_rows, n_columns = wiring.grid
        pool = state.get("pool")
        if not isinstance(pool, Tensor) or len(pool) != -(-n_rows * n_columns // 8):
            raise ValueError(f"TopKast: a stored state must be of layer {name!r} and its size, got another")
        cells = _numbers(pool, n_rows * n_columns)
        live, sending = (_numbers(state[key], len(cells)) for key in ("live", "sending"))
        if not np.array_equal(cells[live], wiring.cells()):
            raise ValueError(
                f"TopKast: a stored state must be of the wiring that layer {name!r} has, got another; load the "
                "model's own state first"
            )
        self.pool = wiring.rewired(*np.divmod(cells, n_columns))
        self.live, self.sending = live, sending
        self._cells, self._sizes = cells, self.pool.block_sizes()
        own = _blocks(self.layer)
        self._values = own.new_zeros(len(cells), *own.shape[1:])
        self._values[torch.from_numpy(self._waiting()).to(own.device)] = state["reserve"].to(own)
        self._silence()

    def _waiting(self) -> IntArray:
        """Return the numbers of the blocks that are not live, ascending."""
        waits = np.ones(self.pool.n_blocks, dtype=np.bool_)
        waits[self.live] = False
        return np.flatnonzero(waits)

    def _silence(self) -> None:
        silent = np.ones(self.pool.n_blocks, dtype=np.bool_)
        silent[self.sending] = False
        self.layer.set_silent(torch.from_numpy(silent[self.live]))


def _blocks(layer: SparseLinear) -> Tensor:
    """Return the live weights of a layer, ``[n_blocks, columns, rows]``."""
    weight = layer.weight.detach()
    if not layer.stores_dense:
        return weight
    return weight.reshape(-1, 1, 1).index_select(0, torch.from_numpy(layer.wiring.cells()).to(weight.device))


def _bits(numbers: IntArray, n: int) -> Tensor:
    """Return which of n are named, eight to a byte."""
    named = np.zeros(n, dtype=np.bool_)
    named[numbers] = True
    return torch.from_numpy(np.packbits(named))


def _numbers(bits: Tensor, n: int) -> IntArray:
    """Undo :func:`_bits`."""
    return np.flatnonzero(np.unpackbits(bits.cpu().numpy(), count=n))
