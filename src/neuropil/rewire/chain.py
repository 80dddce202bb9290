"""Connections that lead nowhere: to a neuron without output, or from one without input."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import nn

from neuropil.connect import SparseLinear, Wiring
from neuropil.connect.block_grid import IntArray, per_neuron


def followers(model: nn.Module, layers: Mapping[str, SparseLinear]) -> list[tuple[str, str]]:
    """Return the pairs of sparse layers of which the second takes as many features as the first gives.

    Layers follow upon each other as they are listed in the model, with no other linear or convolutional layer
    between them.
    """
    weighted = (SparseLinear, nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)
    listed = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, weighted)]
    return [
        (name, next_name)
        for (name, layer), (next_name, next_layer) in pairwise(listed)
        if name in layers
        and next_name in layers
        and isinstance(layer, SparseLinear)
        and isinstance(next_layer, SparseLinear)
        and layer.out_features == next_layer.in_features
    ]


def drop_chains(
    wirings: Mapping[str, Wiring],
    pairs: Sequence[tuple[str, str]],
    goes: Mapping[str, NDArray[np.bool_]],
    eligible: Mapping[str, NDArray[np.bool_]],
) -> None:
    """Mark also the blocks that lead nowhere once those marked are gone, again and again until none is left.

    A layer that would lose all its blocks so loses only those that were marked before.

    Args:
        wirings: of each layer, as they are.
        pairs: layers that follow upon each other.
        goes: of each block of a layer, whether it goes; changed in place.
        eligible: of each block, whether it may go.
    """
    before = {name: blocks.copy() for name, blocks in goes.items()}
    changed = True
    while changed:
        changed = False
        for first, second in pairs:
            has_input = _per_neuron(wirings[first], goes[first], side="out") > 0
            has_output = _per_neuron(wirings[second], goes[second], side="in") > 0
            alive = has_input & has_output
            for name, order, side, blocks in (
                (first, wirings[first].out_order, wirings[first].block[0], wirings[first].block_rows),
                (second, wirings[second].in_order, wirings[second].block[1], wirings[second].block_columns),
            ):
                useful = np.where(order >= 0, alive[order], False).reshape(-1, side).max(axis=1)
                more = ~useful[blocks] & ~goes[name] & eligible[name]
                if more.any():
                    goes[name][more] = True
                    changed = True
    for name, marked in goes.items():
        if marked.all():
            marked[:] = before[name]


def _per_neuron(wiring: Wiring, goes: NDArray[np.bool_], *, side: str) -> IntArray:
    """Return how many of the remaining blocks each target (``out``) or source (``in``) neuron takes part in."""
    blocks, order, length, n = (
        (wiring.block_rows, wiring.out_order, wiring.block[0], wiring.out_features)
        if side == "out"
        else (wiring.block_columns, wiring.in_order, wiring.block[1], wiring.in_features)
    )
    per_block = np.bincount(blocks[~goes], minlength=len(order) // length)
    return per_neuron(per_block, order, length, n).numpy()
