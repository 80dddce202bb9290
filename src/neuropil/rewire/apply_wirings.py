"""Putting chosen wirings into a model that keeps its weights."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from neuropil.connect import SparseConv2d, SparseLinear, Wiring, sparsify
from neuropil.connect.convert import can_be_sparse, check_names, check_not_shared


def with_wirings(model: nn.Module, wirings: Mapping[str, Wiring], *, kernel: str = "auto") -> nn.Module:
    """Return a copy of a model whose named layers have these wirings, and the weights that they had.

    Weights that no connection uses any longer are gone; connections that a sparse layer did not have start at 0.
    Biases, and layers that are not named, stay as they are.

    Args:
        model: any module; it is not changed.
        wirings: a wiring for each layer by name: ``nn.Linear`` or ``nn.Conv2d``, or a sparse one of either kind, whose
            new wiring must be of the same block and orders. That of a convolution is from taps to channels. The name
            of the model itself is ``""``.
        kernel: of layers that were dense, as for ``SparseLinear``.

    Raises:
        ValueError: nothing is named, a name is not that of such a layer, a weight is shared between layers, or a
            wiring does not fit its layer.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> with_wirings(model, {"0": Wiring.from_mask([[1, 0, 0], [0, 1, 1]])})[0].wiring
        Wiring(3 → 2, block=(1, 1), density=0.5, n_connections=3)
    """
    if not wirings:
        raise ValueError("with_wirings: wirings must name at least one layer, got none")
    check_names("with_wirings", model, wirings)
    dense: dict[str, Wiring] = {}
    for name, wiring in wirings.items():
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear | nn.Conv2d) and can_be_sparse(layer):
            dense[name] = wiring
            owner, weight, shape = name, layer.weight, (len(layer.weight), layer.weight[0].numel())
        elif (synapses := synapses_of(layer)) is not None:
            owner = next(found for found, module in model.named_modules() if module is synapses)
            weight, shape = synapses.weight, synapses.wiring.shape
        else:
            raise ValueError(
                f"with_wirings: every name must be that of an nn.Linear, an nn.Conv2d without groups, padded with "
                f"zeros, or a sparse layer, got {name!r}, a {type(layer).__name__}"
            )
        if wiring.shape != shape:
            raise ValueError(
                f"with_wirings: layer {name!r}: its wiring must be from {shape[1]} to {shape[0]} neurons, got "
                f"{wiring!r}"
            )
        check_not_shared("with_wirings", model, owner, weight)
    if dense:
        # the new layers' first weights are overwritten: what they are drawn from does not matter
        result = sparsify(model, dense, keep_weights=True, kernel=kernel, generator=torch.Generator())
    else:
        result = copy.deepcopy(model)
    for name in wirings.keys() - dense.keys():
        synapses = synapses_of(result.get_submodule(name))
        assert synapses is not None
        try:
            synapses.rewire(wirings[name])
        except ValueError as error:
            raise ValueError(f"with_wirings: layer {name!r}: {error}") from error
    return result


def synapses_of(layer: nn.Module) -> SparseLinear | None:
    """Return the connections of a sparse layer, be it linear or a convolution; None of another one."""
    if isinstance(layer, SparseConv2d):
        return layer.synapses
    return layer if isinstance(layer, SparseLinear) else None
