"""How deep a network is for its width: how much its gradients vary from one start to the next."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.initialize.fan_in import Layer
from neuropil.initialize.layers import weight_layers


@dataclass(frozen=True)
class DepthToWidth:
    """Depth over effective width of a model; ``str`` shows it as a table.

    Attributes:
        layers: name of each weight layer, and the mean of 1 / fan_in over its neurons that read somebody.
    """

    layers: tuple[tuple[str, float], ...]

    @property
    def ratio(self) -> float:
        """Σ 1 / fan_in over all layers but the first, whose fan-in is not a width of the network."""
        return sum(inverse for _, inverse in self.layers[1:])

    @property
    def depth(self) -> int:
        """Number of weight layers."""
        return len(self.layers)

    @property
    def width(self) -> float:
        """The width at which equally wide dense layers have the same ratio; infinite without a hidden layer."""
        return (self.depth - 1) / self.ratio if self.ratio > 0 else float("inf")

    def __str__(self) -> str:
        width = max(len("layer"), *(len(name) for name, _ in self.layers))
        lines = [f"{'layer':<{width}}  1/fan_in", *(f"{name:<{width}}  {one:8.4g}" for name, one in self.layers)]
        return "\n".join([*lines, f"depth {self.depth}, effective width {self.width:.4g}, ratio {self.ratio:.4g}"])


def depth_to_width(model: nn.Module, sample: Tensor | None = None) -> DepthToWidth:
    """Report Σ_l 1/n_l over the hidden layers of a model, n_l being what the neurons of the next layer really read.

    For dense ReLU networks of N(0, 2/fan_in) weights, the relative variance of squared gradients over starts grows
    exponentially in Σ 1/n_l over hidden widths n_l: depth over width, if all are equal. Far below 1 starts behave
    alike; at 1 and above they do not, whatever the gain. A
    convolution counts by its taps, which share weights: a rough figure.

    That a sparse neuron counts by its own fan-in (the mean of 1/fan_in over neurons) is our extension, and the upper
    end: it is right for ensembles that are not connected, each a narrow network of its own. In random wirings paths
    mix over the whole layer, and the length of the output varies as in dense layers of the same width (measured:
    width 64, 9 linear layers, the same at density 0.25 as at 1).

    Args:
        model: its weight layers are counted as if each followed the one before.
        sample: a batch, for the order of one forward pass, see :func:`weight_layers`.

    Raises:
        ValueError: the model has no weight layer; or as for :func:`weight_layers`.

    Reference:
        B. Hanin, Which Neural Network Architectures Give Rise to Exploding and Vanishing Gradients?, arXiv 1801.03744.

    Example:
        >>> report = depth_to_width(nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Linear(50, 25), nn.Linear(25, 2)))
        >>> for line in str(report).splitlines():
        ...     line
        'layer  1/fan_in'
        '0         0.125'
        '2          0.02'
        '3          0.04'
        'depth 3, effective width 33.33, ratio 0.06'
    """
    layers = weight_layers(model, sample)
    if not layers:
        raise ValueError("depth_to_width: the model must have a weight layer, got none")
    return DepthToWidth(tuple((name, _mean_inverse(layer)) for name, layer in layers))


def _mean_inverse(layer: Layer) -> float:
    if not isinstance(layer, SparseLinear):
        return 1.0 / layer.weight[0].numel()
    fan_in = layer.wiring.fan_in().to(torch.float64)
    live = fan_in[fan_in > 0]
    return float((1 / live).mean()) if live.numel() else float("inf")
