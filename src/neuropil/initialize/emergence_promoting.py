"""Early layers smaller, late layers larger: a scaling of any start that favours early layers in learning."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from neuropil.initialize.fan_in import Layer
from neuropil.initialize.layers import called, weight_layers

_NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class LayerScale:
    """What :func:`promote_emergence_` did to one layer, and the learning rates that it amounts to.

    Attributes:
        name: of the layer in the model.
        exponent: s, counted from the middle of the network.
        factor: α^s, by which the weights were multiplied.
        sgd_rate: α^(−2s), the factor on the learning rate of the unscaled layer to which this is equal under SGD.
        adam_rate: α^(−s), the same under Adam.
        normalization: name of the normalization that follows the layer and takes its scale out of the forward pass.
    """

    name: str
    exponent: int
    factor: float
    sgd_rate: float
    adam_rate: float
    normalization: str | None


@dataclass(frozen=True)
class EmergenceProfile:
    """The scales that :func:`promote_emergence_` gave to the layers of a model; ``str`` shows them as a table.

    Attributes:
        alpha: α as it was used.
        asked_alpha: α as it was asked for, which the cap on factors may have brought nearer to 1.
        layers: one entry a layer, in order.
    """

    alpha: float
    asked_alpha: float
    layers: tuple[LayerScale, ...]

    @property
    def output_factor(self) -> float:
        """By what a chain of bias-free ReLU layers has its output multiplied at the start.

        It is the product of the factors behind the last normalization; without any, of all of them, which is 1.
        """
        product = 1.0
        for layer in self.layers:
            product = 1.0 if layer.normalization is not None else product * layer.factor
        return product

    def __str__(self) -> str:
        capped = "" if self.alpha == self.asked_alpha else f" (asked for {self.asked_alpha:.4g}, capped)"
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        lines = [f"alpha {self.alpha:.4g}{capped}", f"{'layer':<{width}}   s   factor  SGD rate  Adam rate"]
        for one in self.layers:
            row = f"{one.name:<{width}}  {one.exponent:>2}  {one.factor:>7.4g}  {one.sgd_rate:>8.4g}"
            note = "" if one.normalization is None else f"  scale drops out in {one.normalization}"
            lines.append(f"{row}  {one.adam_rate:>9.4g}{note}")
        if any(one.normalization is not None for one in self.layers):
            lines.append(f"output at the start x {self.output_factor:.4g}: factors before a normalization drop out")
        return "\n".join(lines)


@torch.no_grad()
def promote_emergence_(
    model: nn.Module,
    alpha: float | None = None,
    total_ratio: float | None = None,
    *,
    sample: Tensor | None = None,
    largest: float = 4.0,
    zero_biases: bool = True,
) -> EmergenceProfile:
    """Multiply the weights of layer l of L by α^s(l), s = …, −2, −1, (0), 1, 2, … counted from the middle.

    0 is there only where L is odd, so the factors' product is 1. Any start may come before: this only scales.

    **What it is.** For ReLU networks without biases that differ from zero, the function at the start is unchanged
    (positive homogeneity). The gradient of a layer is divided by its factor, so one step, measured in the unscaled
    weights, is that of a learning rate multiplied by α^(−2s) under SGD, with momentum or without, and by α^(−s) under
    Adam (up to its ε). **For bias-free ReLU networks under SGD the scheme is exactly a layer-wise learning-rate
    profile**, early layers faster: compare it with such a profile, and at each arm's own best learning rate. Weight
    decay acts in other proportion (λ α^(2s) in the unscaled weights of SGD). Biases that learn break the equality.

    **Normalization.** A batch normalization behind a layer (or a layer, group, instance or RMS normalization) takes
    the layer's scale out of the forward pass, and that of the layers before it, up to its ε; in batch normalization
    only in training mode, or once running statistics have followed. The effect on step sizes stays. So the factors
    that still act do not multiply to 1: the logits are multiplied by those behind the last normalization, which the
    returned profile states as ``output_factor``. Nothing else is changed: no parameter of a normalization is touched.

    **Residual blocks.** Layers are scaled in the order of :func:`weight_layers`; give a ``sample`` for forward order.
    Where branches are added, the function at the start is *not* kept, as each branch has other factors.

    Args:
        model: changed in place; at least two weight layers.
        alpha: α > 0; 1 changes no weight, above 1 is the method.
        total_ratio: α^(L − 1), instead of ``alpha``; the ratio between the last and the first factor if L is odd
            (if L is even, no factor is 1 and that ratio is α^L).
        sample: a batch, for the order of one forward pass; None: the order of registration.
        largest: no factor is above this or below its inverse; α is brought nearer to 1 for all layers if need be, so
            that the product stays 1. At 4, α is at most 2 for 4 layers and 1.41 for 8, about where plain SGD begins
            to diverge; ``math.inf``: no cap.
        zero_biases: set the biases of the weight layers to 0.

    Returns:
        Layers, factors and the learning rates that they amount to.

    Raises:
        ValueError: both or neither of ``alpha`` and ``total_ratio`` is given, one is not positive and finite,
            ``largest`` is below 1, the model has fewer than two weight layers, weights are not finite or would not be,
            or as for :func:`weight_layers`; the model is then as it was.

    Reference:
        J. Li, V. George, G. Silva, Advancing Neural Network Performance through Emergence-Promoting Initialization
        Scheme, arXiv 2407.19044. That s counts from the middle and that biases start at 0 is our reading of it; the
        paper's values of α are not known to us, and the cap and the learning-rate view are ours.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> for line in str(promote_emergence_(model, alpha=2.0)).splitlines():
        ...     line
        'alpha 2'
        'layer   s   factor  SGD rate  Adam rate'
        '0      -1      0.5         4          2'
        '2       0        1         1          1'
        '4       1        2      0.25        0.5'
    """
    if (alpha is None) == (total_ratio is None):
        told = "neither" if alpha is None else "both"
        raise ValueError(f"promote_emergence_: exactly one of alpha and total_ratio must be given, got {told}")
    for name, value in (("alpha", alpha), ("total_ratio", total_ratio)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"promote_emergence_: {name} must be positive and finite, got {value}")
    if not largest >= 1:
        raise ValueError(f"promote_emergence_: largest must be at least 1, got {largest}")
    layers = weight_layers(model, sample)
    n_layers = len(layers)
    if n_layers < 2:
        raise ValueError(f"promote_emergence_: the model must have at least 2 weight layers, got {n_layers}")
    asked = alpha if alpha is not None else float(total_ratio or 1.0) ** (1 / (n_layers - 1))
    most = largest ** (1 / (n_layers // 2))
    used = min(max(asked, 1 / most), most)
    exponents = middle_exponents(n_layers)
    _check_range(layers, exponents, used)
    followers = _normalizations(model, sample)
    scales = []
    for (name, layer), exponent in zip(layers, exponents, strict=True):
        factor = used**exponent
        if factor != 1:
            layer.weight.mul_(factor)
        if zero_biases and layer.bias is not None:
            layer.bias.zero_()
        scales.append(LayerScale(name, exponent, factor, factor**-2, 1 / factor, followers.get(name)))
    return EmergenceProfile(used, asked, tuple(scales))


def middle_exponents(n_layers: int) -> list[int]:
    """Return s of each layer: symmetric around the middle, 0 only where the number of layers is odd."""
    half = n_layers // 2
    return [*range(-half, 0), *([0] if n_layers % 2 else []), *range(1, half + 1)]


def _check_range(layers: Sequence[tuple[str, Layer]], exponents: Sequence[int], alpha: float) -> None:
    """Refuse weights that are not finite or would not be, and rates, α^(−2s), that overflow."""
    if 2 * exponents[-1] * abs(math.log(alpha)) >= math.log(sys.float_info.max):
        raise ValueError(
            f"promote_emergence_: alpha must leave rates of α^{2 * exponents[-1]} within the range of numbers, got "
            f"{alpha:g}; try a finite largest"
        )
    for (name, layer), exponent in zip(layers, exponents, strict=True):
        largest = float(layer.weight.abs().max()) * alpha**exponent
        if not largest <= torch.finfo(layer.weight.dtype).max:
            raise ValueError(
                f"promote_emergence_: weights must be finite and stay so, got up to {largest:g} in layer {name!r} with "
                f"alpha={alpha:g}; try another start, or an alpha nearer to 1"
            )


def _normalizations(model: nn.Module, sample: Tensor | None) -> dict[str, str]:
    """Return, for each module that a normalization comes right behind, the normalization's name."""
    names = {module: name for name, module in model.named_modules()}
    if sample is None:
        order = [module for module in names if not any(True for _ in module.children())]
    else:
        order = called(model, sample)
    return {names[before]: names[after] for before, after in pairwise(order) if isinstance(after, _NORMALIZATIONS)}
