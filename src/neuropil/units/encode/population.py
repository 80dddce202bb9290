"""Several neurons for one number, each with its own preferred value."""

import math

import torch
from torch import Tensor, nn

from neuropil.units.encode.checks import check_floating

_OVERLAP = 1.5  # spacing of the centres over the width of a field


class PopulationEncoder(nn.Module):
    """Represent each number by neurons with overlapping Gaussian receptive fields.

    a_k = exp(−(x − c_k)² / (2 width²)), with centres d = (high − low) / (n_neurons − 2) apart: c_k = low +
    (k − 1/2) d for k = 0 … n_neurons − 1, so that the first lies half a step below ``low`` and the last half a step
    above ``high``. Numbers outside the range excite only the outermost neurons, or none.

    The activations lie in [0, 1]; any encoder can follow: ``nn.Sequential(PopulationEncoder(10), RateEncoder(50))``.

    Args:
        n_neurons: neurons for each number, at least 3.
        low, high: the numbers' range, ``low`` below ``high``.
        width: standard deviation of a receptive field, in the numbers' unit; default: d / 1.5.

    Shape:
        ``[…, n]`` → ``[…, n · n_neurons]``, the neurons of a number side by side. The input gets a gradient.

    Raises:
        ValueError: an argument is outside its range.
        TypeError: at the call: the input is not of a floating-point type.

    Reference:
        S. M. Bohte, J. N. Kok and H. La Poutré, Error-backpropagation in temporally encoded networks of spiking
        neurons, Neurocomputing 2002 (β = 1.5). They turn activations into spike times: follow with
        :class:`LatencyEncoder`.

    Example:
        >>> PopulationEncoder(4)(torch.tensor([[0.25]])).round(decimals=2)
        tensor([[0.3200, 1.0000, 0.3200, 0.0100]])
    """

    def __init__(self, n_neurons: int, *, low: float = 0.0, high: float = 1.0, width: float | None = None) -> None:
        super().__init__()
        if not isinstance(n_neurons, int) or n_neurons < 3:
            raise ValueError(f"PopulationEncoder: n_neurons must be a whole number of at least 3, got {n_neurons!r}")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"PopulationEncoder: low must be below high and both finite, got {low} and {high}")
        if width is not None and not 0 < width < math.inf:
            raise ValueError(f"PopulationEncoder: width must be finite and above 0, got {width}")
        self.n_neurons = n_neurons
        self.low = low
        self.high = high
        self.width = (high - low) / (n_neurons - 2) / _OVERLAP if width is None else width

    @property
    def centers(self) -> Tensor:
        """The neurons' preferred values, ``[n_neurons]`` in float64."""
        spacing = (self.high - self.low) / (self.n_neurons - 2)
        return self.low + (torch.arange(self.n_neurons, dtype=torch.float64) - 0.5) * spacing

    def forward(self, x: Tensor) -> Tensor:
        """Return activations ``[…, n · n_neurons]`` of numbers ``[…, n]``."""
        check_floating("PopulationEncoder", x)
        distance = (x.unsqueeze(-1) - self.centers.to(x)) / self.width
        return torch.exp(-0.5 * distance.square()).flatten(-2)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"{self.n_neurons}, low={self.low}, high={self.high}, width={self.width:g}"
