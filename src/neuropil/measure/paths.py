"""Paths through the layers of a network: who can hear whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from neuropil.connect import Dense, SparseLinear, Wiring
from neuropil.connect.conv import synapses_of_convolutions

_BITS = 64


@dataclass(frozen=True)
class PathStatistics:
    """How inputs are joined to the layers behind them; the last entry of a tuple is that of the outputs.

    Attributes:
        joined: share of the pairs of an input and a neuron of the layer that some path joins, in [0, 1], by layer.
        mean_paths: mean number of paths of such a pair, joined or not, by layer.
        reached: share of the neurons of the layer that some input reaches, in [0, 1], by layer.
        inputs_heard: share of the inputs that reach any output, in [0, 1].
    """

    joined: tuple[float, ...]
    mean_paths: tuple[float, ...]
    reached: tuple[float, ...]
    inputs_heard: float


def wirings_of(model: nn.Module) -> list[Wiring]:
    """Return the wirings of a model's linear layers, in the order in which they were registered.

    That of an ``nn.Linear`` is dense, whatever its weights. Silent connections count. Convolutions, ways round a layer
    and all else are left out.

    Raises:
        ValueError: there is no linear layer, or one does not fit onto the one before.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> layer = SparseLinear(Ensembles(n_groups=2, p_inter=0.0).wire(8, 4))
        >>> wirings_of(nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2)))[1]
        Wiring(4 → 2, block=(2, 4), density=1, n_connections=8)
    """
    in_convolutions = synapses_of_convolutions(model)
    chain = [
        layer.wiring if isinstance(layer, SparseLinear) else Dense().wire(layer.in_features, layer.out_features)
        for layer in model.modules()
        if isinstance(layer, SparseLinear | nn.Linear) and layer not in in_convolutions
    ]
    _check_chain("wirings_of", chain)
    return chain


def path_statistics(
    chain: Sequence[Wiring], *, n_inputs: int | None = None, generator: torch.Generator | None = None
) -> PathStatistics:
    """Follow the paths from the inputs through a chain of wirings.

    Numbers of paths are those of W_L … W_1 with ones for connections: their mean is 1ᵀ W_L … W_1 1 / (I O).
    Which pairs are joined is found for 64 inputs at a time, one bit each. Costs connections × inputs / 64 for
    ``joined``, a pass over the connections for each of the rest, and no product of two wirings.

    Args:
        chain: wirings, each of as many sources as the one before has targets; one is a chain too.
        n_inputs: from how many inputs, drawn at random, ``joined`` is estimated; default: all, exactly.
        generator: draws them.

    Raises:
        ValueError: the chain is empty or does not fit, or inputs are to be drawn without a generator.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> wiring = Ensembles(n_groups=4, p_inter=0.0).wire(16, 16)
        >>> found = path_statistics([wiring, wiring])
        >>> found.joined, found.mean_paths
        ((0.25, 0.25), (0.25, 1.0))
    """
    from neuropil.measure.swap_loops import count_bits, gather_bits  # Numba takes a while to load

    _check_chain("path_statistics", chain)
    if n_inputs is not None and n_inputs < 1:
        raise ValueError(f"path_statistics: n_inputs must be at least 1, got {n_inputs}")
    if n_inputs is not None and generator is None:
        raise ValueError(f"path_statistics: generator must be given to draw {n_inputs} inputs, got none")
    n = chain[0].in_features
    inputs = np.arange(n)
    if n_inputs is not None and n_inputs < n:
        inputs = torch.randperm(n, generator=generator, device="cpu")[:n_inputs].numpy()

    matrices = [wiring.to_scipy() for wiring in chain]
    pairs = [0] * len(chain)
    for first in range(0, len(inputs), _BITS):
        asked = inputs[first : first + _BITS]
        bits = np.zeros(n, dtype=np.uint64)
        bits[asked] = np.uint64(1) << np.arange(len(asked), dtype=np.uint64)
        for layer, matrix in enumerate(matrices):
            bits = gather_bits(matrix.indptr, matrix.indices, bits)
            pairs[layer] += int(count_bits(bits))

    paths, forward, means, reached = np.ones(n), np.ones(n, dtype=np.bool_), [], []
    for matrix in matrices:
        paths = matrix @ paths
        forward = matrix @ forward.astype(np.int64) > 0
        means.append(float(paths.mean()) / n)
        reached.append(float(forward.mean()))
    backward = np.ones(chain[-1].out_features, dtype=np.bool_)
    for matrix in reversed(matrices):
        backward = matrix.T @ backward.astype(np.int64) > 0
    joined = tuple(count / (len(inputs) * wiring.out_features) for count, wiring in zip(pairs, chain, strict=True))
    return PathStatistics(joined, tuple(means), tuple(reached), float(backward.mean()))


def _check_chain(name: str, chain: Sequence[Wiring]) -> None:
    if not chain:
        raise ValueError(f"{name}: a chain must have at least one linear layer, got none")
    for n, (before, after) in enumerate(pairwise(chain), start=1):
        if before.out_features != after.in_features:
            raise ValueError(
                f"{name}: each layer must read what the one before gives, got {before.out_features} targets in layer "
                f"{n - 1} and {after.in_features} sources in layer {n}; try path_statistics on the part that fits"
            )
