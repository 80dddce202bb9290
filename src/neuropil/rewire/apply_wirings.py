"""Putting chosen wirings into a model that keeps its weights."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from neuropil.connect import SparseLinear, Wiring, sparsify
from neuropil.connect.convert import check_names, check_not_shared


def with_wirings(model: nn.Module, wirings: Mapping[str, Wiring], *, kernel: str = "auto") -> nn.Module:
    """Return a copy of a model whose named layers have these wirings, and the weights that they had.

    Weights that no connection uses any longer are gone; connections that a sparse layer did not have start at 0.
    Biases, and layers that are not named, stay as they are.

    Args:
        model: any module; it is not changed.
        wirings: a wiring for each layer by name: ``nn.Linear``, or :class:`neuropil.connect.SparseLinear`, whose new
            wiring must be of the same block and orders. The name of the model itself is ``""``.
        kernel: of layers that were dense, as for ``SparseLinear``.

    Raises:
        ValueError: nothing is named, a name is not that of a linear layer, a weight is shared between layers, or a
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
        if type(layer) is nn.Linear:
            dense[name] = wiring
        elif not isinstance(layer, SparseLinear):
            raise ValueError(
                f"with_wirings: every name must be that of an nn.Linear or a SparseLinear, got {name!r}, a "
                f"{type(layer).__name__}"
            )
        if wiring.shape != (layer.out_features, layer.in_features):
            raise ValueError(
                f"with_wirings: layer {name!r}: its wiring must be from {layer.in_features} to {layer.out_features} "
                f"neurons, got {wiring!r}"
            )
        check_not_shared("with_wirings", model, name, layer.weight)
    if dense:
        # the new layers' first weights are overwritten: what they are drawn from does not matter
        result = sparsify(model, dense, keep_weights=True, kernel=kernel, generator=torch.Generator())
    else:
        result = copy.deepcopy(model)
    for name in wirings.keys() - dense.keys():
        layer = result.get_submodule(name)
        assert isinstance(layer, SparseLinear)
        try:
            layer.rewire(wirings[name])
        except ValueError as error:
            raise ValueError(f"with_wirings: layer {name!r}: {error}") from error
    return result
