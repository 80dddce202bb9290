"""Kaiming and Xavier starts with the fan-in and fan-out that each neuron really has.

A dense scheme on a masked matrix starts too small: a target that reads k of n sources receives k/n of the variance
that the scheme counts on. G2GNet (arXiv 2508.14140) multiplies each row's live weights by √(n/k); scaling each
connection by its own neurons' fans is the same for fan-in, and holds for fan-out too.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.connect.storage import drawn

Layer = nn.Linear | nn.Conv2d | SparseLinear
Fan = Literal["fan_in", "fan_out"]


def kaiming_uniform_(
    layer: Layer,
    *,
    a: float = 0.0,
    nonlinearity: str = "relu",
    mode: Fan = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw weights U(−b, b) with b = gain · √(3 / fan), fan being that of each connection's own neuron.

    Args:
        layer: a dense, convolutional or sparse layer; biases are left alone.
        a: negative slope, for ``nonlinearity="leaky_relu"``.
        nonlinearity: what follows the layer, as for :func:`torch.nn.init.calculate_gain`.
        mode: ``fan_in`` keeps the variance of activities, ``fan_out`` that of gradients.
        generator: where random numbers come from; default: PyTorch's default generator.

    Raises:
        ValueError: ``mode`` or ``nonlinearity`` is unknown.

    Reference:
        K. He et al., Delving Deep into Rectifiers, ICCV 2015; fans as in G2GNet, arXiv 2508.14140.

    Example:
        >>> from neuropil.connect import ErdosRenyi
        >>> generator = torch.Generator().manual_seed(0)
        >>> layer = SparseLinear(ErdosRenyi(0.1).wire(1000, 1000, generator=generator), generator=generator)
        >>> weights = kaiming_uniform_(layer, generator=generator)
        >>> y = torch.relu(layer(torch.randn(100, 1000, generator=generator)))
        >>> bool(((y**2).mean() - 1).abs() < 0.1)
        True
    """
    bound = gain_of(nonlinearity, a) * math.sqrt(3.0) * fan_of(layer, mode).rsqrt()
    return fill(layer, _uniform(layer, generator) * bound)


def kaiming_normal_(
    layer: Layer,
    *,
    a: float = 0.0,
    nonlinearity: str = "relu",
    mode: Fan = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw weights N(0, σ²) with σ = gain / √fan; arguments, errors and reference as :func:`kaiming_uniform_`."""
    deviation = gain_of(nonlinearity, a) * fan_of(layer, mode).rsqrt()
    return fill(layer, normal(layer, generator) * deviation)


def xavier_uniform_(layer: Layer, *, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Draw weights U(−b, b) with b = gain · √(6 / (fan_in + fan_out)), both of each connection's own neurons.

    Args:
        layer: a dense, convolutional or sparse layer; biases are left alone.
        gain: factor on every weight.
        generator: where random numbers come from; default: PyTorch's default generator.

    Reference:
        X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural networks,
        AISTATS 2010.
    """
    return fill(layer, _uniform(layer, generator) * (gain * math.sqrt(6.0)) * _both_fans(layer).rsqrt())


def xavier_normal_(layer: Layer, *, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Draw weights N(0, σ²) with σ = gain · √(2 / (fan_in + fan_out)); otherwise as :func:`xavier_uniform_`."""
    return fill(layer, normal(layer, generator) * (gain * math.sqrt(2.0)) * _both_fans(layer).rsqrt())


@torch.no_grad()
def reset_(layer: Layer, *, generator: torch.Generator | None = None) -> Tensor:
    """Start a layer as PyTorch does by default, weights and biases, but from a generator and with its real fan-in.

    Weights are U(−1/√fan_in, 1/√fan_in), biases the same with the mean fan-in.
    """
    if isinstance(layer, SparseLinear):
        layer.reset_parameters(generator)
        return layer.weight
    kaiming_uniform_(layer, a=math.sqrt(5.0), nonlinearity="leaky_relu", generator=generator)
    if layer.bias is not None:
        bound = 1.0 / math.sqrt(layer.weight[0].numel())
        layer.bias.copy_((torch.rand(layer.bias.shape, generator=generator, device="cpu") * 2 - 1) * bound)
    return layer.weight


def fans(layer: Layer) -> tuple[Tensor, Tensor]:
    """Return fan-in and fan-out of every entry of ``layer.weight``, broadcastable to it, at least 1.

    In a convolution the fan-out is that of all taps of a channel, as each unit of it is seen by each of them.
    """
    if isinstance(layer, SparseLinear):
        targets, sources = (side.clamp(min=0) for side in layer.weight_units())
        by_unit = layer.wiring.fan_out().view(-1, layer.taps).sum(1)
        fan_in, fan_out = layer.wiring.fan_in()[targets], by_unit[sources // layer.taps]
    else:
        field = layer.weight[0, 0].numel()
        n_targets = layer.weight.shape[0] // (layer.groups if isinstance(layer, nn.Conv2d) else 1)
        fan_in, fan_out = torch.tensor(layer.weight.shape[1] * field), torch.tensor(n_targets * field)
    return fan_in.clamp(min=1).double(), fan_out.clamp(min=1).double()


def fan_of(layer: Layer, mode: Fan) -> Tensor:
    """Return one of the :func:`fans`, by name."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"initialize: mode must be fan_in or fan_out, got {mode!r}")
    return fans(layer)[0 if mode == "fan_in" else 1]


def _both_fans(layer: Layer) -> Tensor:
    fan_in, fan_out = fans(layer)
    return fan_in + fan_out


def gain_of(nonlinearity: str, a: float) -> float:
    """Return the gain that PyTorch recommends before a nonlinearity."""
    try:
        return nn.init.calculate_gain(nonlinearity, a)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"initialize: nonlinearity must be one that PyTorch knows, got {nonlinearity!r}") from error


def _uniform(layer: Layer, generator: torch.Generator | None) -> Tensor:
    return _drawn(torch.rand, layer, generator) * 2 - 1


def normal(layer: Layer, generator: torch.Generator | None) -> Tensor:
    """Draw a standard normal number for every entry of ``layer.weight``, float64 on the CPU."""
    return _drawn(torch.randn, layer, generator)


def _drawn(draw: Callable[..., Tensor], layer: Layer, generator: torch.Generator | None) -> Tensor:
    if isinstance(layer, SparseLinear):
        return drawn(draw, layer.weight.shape, layer.wiring, generator)
    return draw(layer.weight.shape, generator=generator, device="cpu", dtype=torch.float64)


@torch.no_grad()
def fill(layer: Layer, values: Tensor) -> Tensor:
    """Put values in the place of a layer's weights, where it connects."""
    layer.weight.copy_(values)
    if isinstance(layer, SparseLinear):
        layer.clear_dead_weights()
    return layer.weight
