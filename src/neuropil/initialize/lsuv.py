"""Layer-sequential unit variance: each layer scaled, from first to last, until its output varies as it should."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.evaluation import run_watched
from neuropil.initialize.fan_in import Layer
from neuropil.initialize.layers import weight_layers
from neuropil.initialize.orthogonal import orthogonal_


@dataclass(frozen=True)
class LayerVariance:
    """What :func:`lsuv_` reached in one layer.

    Attributes:
        name: of the layer in the model.
        variance: of its output over the sample, at the end.
        iterations: how often its weights were scaled.
        factor: by which they were scaled, all iterations together.
    """

    name: str
    variance: float
    iterations: int
    factor: float


def lsuv_(
    model: nn.Module,
    sample: Tensor,
    *,
    tolerance: float = 0.01,
    max_iterations: int = 10,
    orthogonal: bool = True,
    zero_biases: bool = True,
    generator: torch.Generator | None = None,
) -> tuple[LayerVariance, ...]:
    """Start layers orthogonally, then, in forward order, divide weights by the deviation of the layer's output.

    W ← W / √Var(y) until Var(y) is within ``tolerance`` of 1, y being the layer's output (before what is non-linear)
    over all samples, neurons and places. Neurons that read nobody do not count. Without a bias one division is exact.

    All layers are scaled within one forward pass, in evaluation mode and without gradients: dropout is off, and batch
    normalization applies its running statistics and does not change them. Modes, gradients and hooks are as they were
    afterwards. A layer that is called more than once is scaled at its first call.

    Args:
        model: changed in place: the layers that the pass calls, see :func:`weight_layers`.
        sample: a batch of real inputs.
        tolerance: above 0; the paper's is 0.1.
        max_iterations: divisions a layer, at most; the variance that is returned tells whether they sufficed.
        orthogonal: draw orthogonal weights first, by :func:`orthogonal_`, which approximates them on a sparse wiring
            and takes singular value decompositions of the dense matrix; False: scale the weights as they are.
        zero_biases: set the layers' biases to 0. Biases that are kept add to the variance and are not scaled: if
            theirs alone is above 1, it cannot be reached.
        generator: where random numbers come from; default: PyTorch's default generator.

    Returns:
        One entry a layer, in forward order.

    Raises:
        ValueError: ``tolerance`` or ``max_iterations`` is out of range, the pass calls no weight layer, or the output
            of a layer does not vary or is not finite (layers before it are then scaled already); or as for
            :func:`weight_layers`.

    Reference:
        D. Mishkin and J. Matas, All you need is a good init, ICLR 2016, arXiv 1511.06422.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 5))
        >>> reached = lsuv_(model, torch.randn(200, 20, generator=generator), generator=generator)
        >>> [(one.name, round(one.variance, 3), one.iterations <= 2) for one in reached]
        [('0', 1.0, True), ('2', 1.0, True)]
    """
    if not (tolerance > 0 and math.isfinite(tolerance)):
        raise ValueError(f"lsuv_: tolerance must be above 0 and finite, got {tolerance}")
    if max_iterations < 1:
        raise ValueError(f"lsuv_: max_iterations must be at least 1, got {max_iterations}")
    names = {layer: name for name, layer in weight_layers(model, sample)}
    if not names:
        raise ValueError("lsuv_: the model must have a weight layer that a forward pass calls, got none")
    for layer in names:
        if orthogonal:
            orthogonal_(layer, generator=generator)
        if zero_biases and layer.bias is not None:
            with torch.no_grad():
                layer.bias.zero_()
    reached: dict[nn.Module, LayerVariance] = {}

    def scale(layer: Any, arguments: tuple[Tensor, ...], named: dict[str, Any], output: Tensor) -> Tensor | None:
        if layer in reached:
            return None
        total, variance, iterations = 1.0, _variance(layer, output, names[layer]), 0
        while abs(variance - 1) > tolerance and iterations < max_iterations:
            factor = variance**-0.5
            layer.weight.mul_(factor)
            output = layer.forward(*arguments, **named)
            total, variance, iterations = total * factor, _variance(layer, output, names[layer]), iterations + 1
        reached[layer] = LayerVariance(names[layer], variance, iterations, total)
        return output

    with torch.no_grad():
        run_watched(model, sample, [(layer, scale) for layer in names])
    return tuple(reached.values())


def _variance(layer: Layer, output: Tensor, name: str) -> float:
    """Return the variance of a layer's output over everything but neurons that read nobody."""
    if isinstance(layer, SparseLinear):
        output = output[..., (layer.wiring.fan_in() > 0).to(output.device)]
    variance = float(output.double().var(correction=0)) if output.numel() else 0.0
    if not (math.isfinite(variance) and variance > 0):
        raise ValueError(
            f"lsuv_: the output of every layer must be finite and vary over the sample, got variance {variance} in "
            f"layer {name!r}"
        )
    return variance
