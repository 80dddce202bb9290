"""The part of a layer that lies between some of its units and some of its inputs."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear, Wiring
from neuropil.connect.block_grid import IntArray


def cut_(model: nn.Module, name: str, units: Tensor | None, inputs: Tensor | None) -> None:
    """Leave of a module in a model only some units and inputs, in place; a sparse layer is replaced by a smaller one.

    Args:
        model: holds it.
        name: of an ``nn.Linear``, an ``nn.Conv2d``, a sparse one of either, or of a batch normalization or an
            ``nn.PReLU``, which have units alone.
        units, inputs: numbers of those that stay, int64, ascending; None: all.

    Raises:
        ValueError: nothing would connect those that stay.
    """
    module = model.get_submodule(name)
    if isinstance(module, SparseLinear | SparseConv2d):
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, _part(module, units, inputs))
    elif isinstance(module, nn.Linear | nn.Conv2d):
        names = ("in_features", "out_features") if isinstance(module, nn.Linear) else ("in_channels", "out_channels")
        if inputs is not None:
            _select_(module, "weight", inputs, dim=1)
            setattr(module, names[0], len(inputs))
        if units is not None:
            for key in ("weight", "bias"):
                _select_(module, key, units)
            setattr(module, names[1], len(units))
    elif units is not None:
        for key in ("weight", "bias", "running_mean", "running_var"):
            _select_(module, key, units)
        setattr(module, "num_parameters" if isinstance(module, nn.PReLU) else "num_features", len(units))


def _select_(module: nn.Module, key: str, numbers: Tensor, *, dim: int = 0) -> None:
    """Leave some entries of a module's parameter or buffer, if it has it."""
    tensor = getattr(module, key, None)
    if tensor is None:
        return
    chosen = tensor.detach().index_select(dim, numbers.to(tensor.device))
    is_learned = isinstance(tensor, nn.Parameter)
    setattr(module, key, nn.Parameter(chosen, requires_grad=tensor.requires_grad) if is_learned else chosen)


def _part(layer: SparseLinear | SparseConv2d, units: Tensor | None, inputs: Tensor | None) -> nn.Module:
    synapses = layer.synapses if isinstance(layer, SparseConv2d) else layer
    assert isinstance(synapses, SparseLinear)
    if synapses.silent is not None:
        raise ValueError("its connections must all transmit, got silent ones")
    taps = 1 if not isinstance(layer, SparseConv2d) else layer.kernel_size[0] * layer.kernel_size[1]
    targets = torch.arange(synapses.out_features) if units is None else units
    channels = torch.arange(synapses.in_features // taps) if inputs is None else inputs
    sources = (channels[:, None] * taps + torch.arange(taps)).flatten()
    settings: dict[str, Any] = {
        "bias": synapses.bias is not None,
        "kernel": synapses.kernel,
        "generator": torch.Generator(),  # what is drawn is overwritten
        "device": synapses.weight.device,
        "dtype": synapses.weight.dtype,
    }
    wiring = part_of(synapses.wiring, targets.numpy(), sources.numpy())
    smaller: SparseLinear | SparseConv2d
    if isinstance(layer, SparseConv2d):
        sizes = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation")}
        smaller = SparseConv2d(wiring, len(channels), **sizes, **settings)
        own = smaller.synapses
    else:
        smaller = own = SparseLinear(wiring, input_gradient=synapses.input_gradient, **settings)
    own.copy_dense_weight(synapses.dense_weight().detach().cpu()[targets][:, sources])
    own.weight.requires_grad_(synapses.weight.requires_grad)
    if synapses.bias is not None and own.bias is not None:
        own.bias.data.copy_(synapses.bias.detach()[targets.to(synapses.bias.device)])
        own.bias.requires_grad_(synapses.bias.requires_grad)
    return smaller.train(layer.training)


def part_of(wiring: Wiring, targets: IntArray, sources: IntArray) -> Wiring:
    """Return the wiring between some neurons of either side, in the order in which they are named, in the same blocks.

    Blocks that lose all neurons of a side go; where one loses some, nobody is in their place.

    Args:
        wiring: of all neurons.
        targets, sources: numbers of those that stay, each once.

    Raises:
        ValueError: nothing connects them.

    Example:
        >>> wiring = Wiring.from_mask([[1, 0, 1], [0, 1, 1]])
        >>> part_of(wiring, np.array([1]), np.array([0, 2])).mask().int().tolist()
        [[0, 1]]
    """
    out_order, rows = _renumbered(wiring.out_order, wiring.out_features, targets, wiring.block[0])
    in_order, columns = _renumbered(wiring.in_order, wiring.in_features, sources, wiring.block[1])
    block_rows, block_columns = rows[wiring.block_rows], columns[wiring.block_columns]
    stays = (block_rows >= 0) & (block_columns >= 0)
    return Wiring(
        len(sources),
        len(targets),
        block_rows[stays],
        block_columns[stays],
        block=wiring.block,
        out_order=out_order,
        in_order=in_order,
        out_groups=None if wiring.out_groups is None else wiring.out_groups[targets],
        in_groups=None if wiring.in_groups is None else wiring.in_groups[sources],
    )


def _renumbered(order: IntArray, n: int, kept: IntArray, side: int) -> tuple[IntArray, IntArray]:
    """Return who is at each position that is left, and for each row of blocks which one it becomes, −1 for none."""
    numbers = np.full(n + 1, -1, dtype=np.int64)  # −1 reads the −1 at the end
    numbers[kept] = np.arange(len(kept))
    by_row = numbers[order].reshape(-1, side)
    stays = (by_row >= 0).any(axis=1)
    return by_row[stays].ravel(), np.where(stays, np.cumsum(stays) - 1, -1)
