"""Activations that Hebbian networks were published with."""

import torch
from torch import Tensor, nn


class RectifiedPower(nn.Module):
    """f(u) = max(u, 0)ⁿ, each unit by itself.

    Args:
        power: n, above 0.

    Shape:
        any → the same.

    Raises:
        ValueError: power is not above 0.

    Reference:
        D. Krotov, J. Hopfield, PNAS 116, 2019: what their read-out reads.

    Example:
        >>> RectifiedPower(2.0)(torch.tensor([-1.0, 3.0])).tolist()
        [0.0, 9.0]
    """

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        if not power > 0:
            raise ValueError(f"{type(self).__name__}: power must be above 0, got {power:g}")
        self.power = power

    def forward(self, u: Tensor) -> Tensor:
        """Return what units give for their currents."""
        if self.power < 1:  # the slope is infinite at 0, and 0 times that is not a number
            active = u > 0
            return torch.where(active, torch.where(active, u, 1).pow(self.power), 0)
        rectified = u.relu()
        return rectified if self.power == 1 else rectified.pow(self.power)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the activation."""
        return f"power={self.power:g}"


class Triangle(RectifiedPower):
    """f(u) = max(u − ū, 0)ᵖ, ū the mean over the neurons, or channels, of a sample at a place.

    Args:
        power: p, above 0.

    Shape:
        ``[b, channels, …]`` → the same.

    Reference:
        A. Coates, A. Ng, H. Lee, 2011, with distances; with currents and a power: A. Journé et al., SoftHebb,
        arXiv 2209.11883.

    Example:
        >>> Triangle()(torch.tensor([[1.0, 2.0, 6.0]])).tolist()
        [[0.0, 0.0, 3.0]]
    """

    def forward(self, u: Tensor) -> Tensor:
        """Return what units give for their currents."""
        return super().forward(u - u.mean(1, keepdim=True))
