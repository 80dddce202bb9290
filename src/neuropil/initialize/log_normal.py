"""Log-normal magnitudes under random signs, of single synapses or of whole neurons."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.initialize.fan_in import Fan, Layer, fan_of, fill, gain_of, normal

Signs = Literal["weight", "neuron"]


def log_normal_(
    layer: Layer,
    *,
    ratio: float = 1.5,
    signs: Signs = "weight",
    a: float = 0.0,
    nonlinearity: str = "relu",
    mode: Fan = "fan_in",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw weights of log-normal magnitude and random sign, of mean 0 and variance gain² / fan.

    The magnitude has a standard deviation of gain / √(fan (1 + ratio²)), and a mean of ``ratio`` times that.

    Args:
        layer: a dense, convolutional or sparse layer; biases are left alone.
        ratio: of the mean to the standard deviation of magnitudes, above 0; the larger, the more equal they are.
        signs: ``weight``: each weight has one of its own; ``neuron``: all that come from a source (of a convolution, a
            channel) have the same, as Dale's law wants.
        a, nonlinearity, mode, generator: as for :func:`kaiming_uniform_`.

    Raises:
        ValueError: a setting is unknown or out of range.

    Reference:
        J. Cornford et al., bioRxiv 2024.10.25.620272, whose code draws a sign for each weight, for training by
        :class:`neuropil.learn.ExponentiatedGradient`; fans as in G2GNet, arXiv 2508.14140.

    Example:
        >>> layer = nn.Linear(400, 300)
        >>> weight = log_normal_(layer, signs="neuron", generator=torch.Generator().manual_seed(0))
        >>> bool((weight.sign() == weight[0].sign()).all()), round(weight.std().item() * (400 / 2) ** 0.5, 1)
        (True, 1.0)
    """
    if not (math.isfinite(ratio) and ratio > 0):
        raise ValueError(f"log_normal_: ratio must be finite and above 0, got {ratio}")
    if signs not in get_args(Signs):
        raise ValueError(f"log_normal_: signs must be one of {', '.join(get_args(Signs))}, got {signs!r}")
    mean = gain_of(nonlinearity, a) * ratio / math.sqrt(1 + ratio**2) * fan_of(layer, mode).rsqrt()
    variance = math.log1p(ratio**-2)  # of the logarithm
    magnitude = torch.exp(math.sqrt(variance) * normal(layer, generator) - variance / 2) * mean
    if signs == "weight":
        sign = torch.where(normal(layer, generator) < 0, -1.0, 1.0)
    else:
        sources = _sources(layer)
        n_sources = int(sources.max()) + 1
        sign = (torch.randint(2, (n_sources,), generator=generator, device="cpu") * 2.0 - 1)[sources]
    return fill(layer, magnitude * sign)


def _sources(layer: Layer) -> Tensor:
    """Return the source neuron, or channel, of every entry of ``layer.weight``, broadcastable to it."""
    if isinstance(layer, SparseLinear):
        return layer.weight_units()[1].clamp(min=0) // layer.taps
    if isinstance(layer, nn.Linear):
        return torch.arange(layer.in_features, device="cpu")[None, :]
    group = torch.arange(layer.out_channels, device="cpu") // (layer.out_channels // layer.groups)
    within = torch.arange(layer.weight.shape[1], device="cpu")
    return (group[:, None] * len(within) + within)[:, :, None, None]
