"""Starts at the edge of chaos, where small differences neither die out nor grow from layer to layer."""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from neuropil.initialize.fan_in import Layer, kaiming_normal_

Activation = str | Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "leaky_relu": F.leaky_relu,
    "linear": torch.clone,
    "relu": torch.relu,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}
_LEAST, _MOST = 1e-12, 1e4  # variances q between which a fixed point is looked for
_FLAT = 1e-9  # what counts as no difference between variances, relative to q


def critical_gain(activation: Activation, bias_std: float = 0.0) -> float:
    """Return the gain σ_w at which a wide network of an activation is critical: weights N(0, σ_w²/fan_in).

    In mean field, with z ~ N(0, 1), variances of inputs go from layer to layer as q ← σ_w² E[φ(√q z)²] + σ_b², and
    differences between two inputs grow by χ = σ_w² E[φ'(√q z)²]. Returned is the σ_w for which χ = 1 at a fixed point
    of q: the q ≥ 0 at which q − E[φ²] / E[φ'²] = σ_b², the smallest if there are several, then σ_w² = 1 / E[φ'²].

    Where φ(0) = 0 and σ_b = 0 that is q → 0, as for tanh, whose gain is then 1 / |φ'(0)|; for linear units and ReLU
    every q is a fixed point, and the gain, 1 and √2, does not depend on it. These two have none with σ_b > 0, as q
    then grows without end.

    The expectations are sums over 2,000 equal steps of z in [−10, 10] (midpoint rule), and φ' is by automatic
    differentiation, both in float64: exact to about 1e-9 for smooth φ and q up to about 10,
    and for those that are linear on either side of a kink at 0. The nodes of a
    Gauss–Hermite rule lie too far apart for units that saturate, where q is large.

    Args:
        activation: elu, gelu, leaky_relu (slope 0.01), linear, relu, selu, sigmoid, silu, softplus or tanh; or a
            function that acts on each entry of a tensor by itself and is differentiable almost everywhere.
        bias_std: σ_b ≥ 0, standard deviation of the biases.

    Raises:
        ValueError: the activation is unknown, ``bias_std`` is negative or not finite, or there is no such point with q
            up to 10,000.

    Reference:
        B. Poole et al., Exponential expressivity in deep neural networks through transient chaos, arXiv 1606.05340;
        S. Schoenholz et al., Deep information propagation, arXiv 1611.01232.

    Example:
        >>> round(critical_gain("relu"), 6), round(critical_gain("tanh"), 6), round(critical_gain("tanh", 0.3), 3)
        (1.414214, 1.0, 1.396)
    """
    if not (math.isfinite(bias_std) and bias_std >= 0):
        raise ValueError(f"critical_gain: bias_std must be at least 0 and finite, got {bias_std}")
    if isinstance(activation, str) and activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ValueError(f"critical_gain: activation must be a function or one of {known}, got {activation!r}")
    function = _ACTIVATIONS[activation] if isinstance(activation, str) else activation
    variance = float(bias_std) ** 2
    q = _known_fixed_point(activation, variance) if isinstance(activation, str) else _fixed_point(function, variance)
    if q is None:
        remedy = "a smaller bias_std" if variance else "another activation"
        raise ValueError(
            f"critical_gain: there must be a variance up to {_MOST:g} that stays as it is while differences neither "
            f"grow nor die out, got none for {activation!r} with bias_std={bias_std}; try {remedy}"
        )
    return 1.0 / math.sqrt(moments(function, q)[1])


def critical_normal_(
    layer: Layer,
    activation: Activation,
    *,
    bias_std: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw weights N(0, σ_w²/fan_in) with the gain of :func:`critical_gain`, and biases N(0, σ_b²).

    Args:
        layer: a dense, convolutional or sparse layer; fan-in is that of each neuron.
        activation: what follows the layers, as for :func:`critical_gain`; it should be the same in all of them.
        bias_std: σ_b; 0 sets biases to 0.
        generator: where random numbers come from; default: PyTorch's default generator.

    Raises:
        ValueError: as for :func:`critical_gain`; or ``bias_std`` is above 0 and the layer has no bias.

    Reference:
        As for :func:`critical_gain`. Its theory is that of wide dense networks; a fan-in of each neuron's own keeps
        the variances it speaks of, in random sparse wirings too, as long as fan-in is large.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> layer = torch.nn.Linear(1000, 1000)
        >>> weights = critical_normal_(layer, "relu", generator=generator)
        >>> bool((weights.std() * 1000**0.5 - 2**0.5).abs() < 0.01)
        True
    """
    gain = critical_gain(activation, bias_std)
    if bias_std > 0 and layer.bias is None:
        raise ValueError(f"critical_normal_: bias_std must be 0 for a layer without a bias, got {bias_std}")
    kaiming_normal_(layer, nonlinearity="linear", generator=generator)
    with torch.no_grad():
        layer.weight.mul_(gain)
        if layer.bias is not None:
            biases = torch.randn(layer.bias.shape, generator=generator, device="cpu", dtype=torch.float64)
            layer.bias.copy_(bias_std * biases)
    return layer.weight


def moments(function: Callable[[Tensor], Tensor], q: float) -> tuple[float, float]:
    """Return E[φ(√q z)²] and E[φ'(√q z)²] for z ~ N(0, 1)."""
    steps = 2000
    z = (torch.arange(steps, device="cpu", dtype=torch.float64) + 0.5) * (20 / steps) - 10
    density = torch.exp(-(z**2) / 2) * (20 / steps / math.sqrt(2 * math.pi))
    with torch.enable_grad():
        x = (math.sqrt(q) * z).requires_grad_()
        y = function(x)
        slope = torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)  # steps have no graph
    return float((y.detach().square() * density).sum()), float((slope.square() * density).sum())


def _excess(function: Callable[[Tensor], Tensor], q: float, bias_variance: float) -> float:
    """Return q − E[φ²] / E[φ'²] − σ_b², which is 0 at a critical fixed point; −∞ where φ is flat."""
    square, slope = moments(function, q)
    return q - square / slope - bias_variance if slope > 0 else -math.inf


@functools.lru_cache(maxsize=64)
def _known_fixed_point(name: str, bias_variance: float) -> float | None:
    """Return the fixed point of an activation known by name: every layer of a model asks for the same."""
    return _fixed_point(_ACTIVATIONS[name], bias_variance)


def _fixed_point(function: Callable[[Tensor], Tensor], bias_variance: float) -> float | None:
    """Return the smallest variance that is a fixed point where χ = 1; None: there is none."""
    if bias_variance == 0 and abs(_excess(function, _LEAST, 0.0)) <= _FLAT * _LEAST:
        return _LEAST
    low, below = _LEAST, _excess(function, _LEAST, bias_variance)
    for step in range(1, 161):
        high = _LEAST * math.exp(math.log(_MOST / _LEAST) * step / 160)
        above = _excess(function, high, bias_variance)
        # variances that grow without end, as with ReLU, approach 0 from below and must not cross it by rounding
        if below < 0 <= above - _FLAT * high:
            break
        low, below = high, above
    else:
        return None
    for _ in range(50):
        middle = math.sqrt(low * high)
        if _excess(function, middle, bias_variance) < 0:
            low = middle
        else:
            high = middle
    return float(high)
