"""The weight layers of a model, in order."""

from typing import Any

import torch
from torch import Tensor, nn

from neuropil.evaluation import run_watched
from neuropil.initialize.fan_in import Layer


def weight_layers(model: nn.Module, sample: Tensor | None = None) -> tuple[tuple[str, Layer], ...]:
    """Return name and layer of every weight layer: ``nn.Linear``, ``nn.Conv2d`` and ``SparseLinear``, in order.

    A ``SparseConv2d`` counts by its ``synapses``. Matrices that are not layers of their own, such as the input
    projection in PyTorch's attention, are not found.

    Args:
        model: any module, or a layer itself, whose name is then empty.
        sample: a batch. With it the order is that in which one forward pass calls the layers (the branch of a
            residual block that runs first comes first; a layer that is called again keeps its first place; one that
            is never called is left out). Without it the order is that in which they were registered. The pass is in
            evaluation mode and without gradients; modes are put back.

    Raises:
        ValueError: two layers share one weight, or a weight is computed from other parameters (parametrized) or not
            yet there (lazy), so that it cannot be set.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [name for name, _ in weight_layers(model)]
        ['0', '2']
    """
    names = {module: name for name, module in model.named_modules()}
    if sample is None:
        found = [(name, module) for module, name in names.items() if isinstance(module, Layer)]
    else:
        found = [(names[module], module) for module in called(model, sample) if isinstance(module, Layer)]
    owners: dict[int, str] = {}
    for name, layer in found:
        weight = layer._parameters.get("weight")
        if weight is None or isinstance(weight, nn.UninitializedParameter):
            raise ValueError(
                f"weight_layers: the weight of every layer must be a parameter that can be set, got layer {name!r}, "
                f"where it is computed or not yet there"
            )
        if id(weight) in owners:
            raise ValueError(
                f"weight_layers: every layer must have a weight of its own, got one that layers "
                f"{owners[id(weight)]!r} and {name!r} share"
            )
        owners[id(weight)] = name
    return tuple(found)


def called(model: nn.Module, sample: Tensor) -> list[nn.Module]:
    """Return the weight layers and the modules without children that one forward pass calls, each once, in order.

    The order is that of their first call. A weight layer has children where its weight is parametrized.
    """
    order: dict[nn.Module, None] = {}

    def note(module: nn.Module, *_: Any) -> None:
        order.setdefault(module)

    parts = [
        module for module in model.modules() if isinstance(module, Layer) or not any(True for _ in module.children())
    ]
    with torch.no_grad():
        run_watched(model, sample, [(part, note) for part in parts])
    return list(order)
