"""Connections as compiled loops read them: compressed rows, and the same connections by column."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.connect.wiring import Wiring


class Synapses:
    """The single synapses of a wiring by target and by source, as tensors on the CPU; a value, as the wiring is.

    Takes 8 bytes a connection, and 8 a neuron, beside the wiring, whose rows it shares.

    Attributes:
        pointers: int64 ``[out_features + 1]``, where each target's connections begin.
        sources: int32 ``[n_connections]``, by target, then source.
        column_pointers: int64 ``[in_features + 1]``, where those of each source begin, by source, then target.
        targets: int32 ``[n_connections]``, in that order.
        positions: int32 ``[n_connections]``: where each connection of that order is in the order by target.
    """

    def __init__(self, wiring: Wiring) -> None:
        from neuropil.connect import synapse_loops  # Numba takes a while to load

        self.wiring = wiring
        self.pointers, self.sources = _shared(wiring.indptr), _shared(wiring.indices)
        self.column_pointers = torch.zeros(wiring.grid[1] + 1, dtype=torch.int64, device="cpu")
        self.targets = torch.empty(wiring.n_blocks, dtype=torch.int32, device="cpu")
        self.positions = torch.empty_like(self.targets)
        synapse_loops.compress_columns(*(tensor.numpy() for tensor in self.tensors()))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return all of them, in the order above."""
        return self.pointers, self.sources, self.column_pointers, self.targets, self.positions

    def __deepcopy__(self, memo: dict[int, Any]) -> "Synapses":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Synapses, (self.wiring,)


class _Memory:
    """What NumPy needs to see an array that must not be written as one that may be."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._owner = array
        interface = dict(array.__array_interface__)
        interface["data"] = interface["data"][0], False
        self.__array_interface__ = interface


def _shared(array: NDArray[Any]) -> Tensor:
    """Return a tensor of the same memory, which nobody may write: PyTorch warns of arrays that are read-only."""
    return torch.from_numpy(np.asarray(_Memory(array)))
