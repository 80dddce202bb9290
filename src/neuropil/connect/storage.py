"""Weights of single synapses from one way of storing them to the other: as a matrix, or the live ones in a row."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neuropil.connect.wiring import Wiring

_MOST_CELLS = 1 << 24


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


def drawn(
    draw: Callable[..., Tensor], shape: Sequence[int], wiring: Wiring, generator: torch.Generator | None
) -> Tensor:
    """Draw a number for every entry of a layer's weight, float64 on the CPU.

    In a layer of up to 2²⁴ possible connections (4,096 × 4,096), single synapses get the numbers that they would get
    in the dense matrix, however they are stored; in larger ones, only those that are stored are drawn.

    Args:
        draw: ``torch.rand`` or ``torch.randn``.
        shape: of the weight.
        wiring: whose weight it is.
        generator: where the numbers come from.
    """
    size = wiring.out_features * wiring.in_features
    as_matrix = wiring.block == (1, 1) and size <= _MOST_CELLS
    numbers = draw(wiring.shape if as_matrix else shape, generator=generator, device="cpu", dtype=torch.float64)
    return as_stored(numbers, wiring, dense=len(shape) == 2) if as_matrix else numbers


def _cells(wiring: Wiring, weight: Tensor) -> Tensor:
    return torch.from_numpy(wiring.cells()).to(weight.device)
