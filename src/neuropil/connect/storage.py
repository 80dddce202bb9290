"""Weights of single synapses from one way of storing them to the other: as a matrix, or the live ones in a row."""

import torch
from torch import Tensor

from neuropil.connect.wiring import Wiring


def as_stored(weight: Tensor, wiring: Wiring, *, dense: bool) -> Tensor:
    """Return the weights of single synapses in the way that is asked for; all others, and misfits, as they are.

    Args:
        weight: ``[out_features, in_features]`` or ``[n_connections, 1, 1]``.
        wiring: whose weights they are.
        dense: as the matrix.
    """
    if wiring.block != (1, 1):
        return weight
    by_synapse = (wiring.n_blocks, 1, 1)
    if dense and tuple(weight.shape) == by_synapse:
        matrix = weight.new_zeros(wiring.shape)
        matrix.view(-1)[_cells(wiring, weight)] = weight.view(-1)
        return matrix
    if not dense and weight.dim() == 2 and tuple(weight.shape) == wiring.shape:
        return weight.reshape(-1)[_cells(wiring, weight)].view(by_synapse)
    return weight


def _cells(wiring: Wiring, weight: Tensor) -> Tensor:
    return torch.from_numpy(wiring.cells()).to(weight.device)
