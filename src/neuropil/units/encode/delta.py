"""Spikes where a signal changes."""

import torch
from torch import Tensor, nn

from neuropil.units.encode.checks import check_floating


class DeltaEncoder(nn.Module):
    """Spike where a signal has risen by a threshold or more since the step before.

    S[t] = 1 if x[t] − x[t−1] ≥ threshold; with OFF spikes −1 if x[t] − x[t−1] ≤ −threshold; else 0. No gradient
    reaches x.

    Args:
        threshold: smallest change that spikes, above 0.
        off_spikes: also spike, with −1, where the signal falls.
        from_zero: the signal was 0 before its first step; if False, it was what it is at the first step, so that
            nothing spikes there.

    Shape:
        ``[t, b, …]`` → ``[t, b, …]``, in the input's type.

    Raises:
        ValueError: the threshold is not above 0.
        TypeError: at the call: the input is not of a floating-point type.

    Reference:
        snnTorch ``spikegen.delta``: the same values, ``from_zero=False`` being its ``padding=True``. Other libraries
        give OFF spikes channels of their own: ``torch.cat([s.clamp(min=0), -s.clamp(max=0)], dim=-1)``.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 0.0, 2.0, 2.5]).view(5, 1, 1)
        >>> DeltaEncoder(threshold=1.0, off_spikes=True)(x).view(5).tolist()
        [1.0, 1.0, -1.0, 1.0, 0.0]
    """

    def __init__(self, threshold: float = 0.1, *, off_spikes: bool = False, from_zero: bool = True) -> None:
        super().__init__()
        if not threshold > 0:
            raise ValueError(f"DeltaEncoder: threshold must be above 0, got {threshold}")
        self.threshold = threshold
        self.off_spikes = off_spikes
        self.from_zero = from_zero

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return spikes ``[t, b, …]`` of signals ``[t, b, …]``."""
        check_floating("DeltaEncoder", x)
        before = torch.zeros_like(x[:1]) if self.from_zero else x[:1]
        change = x - torch.cat([before, x[:-1]])
        spikes = (change >= self.threshold).to(x.dtype)
        return spikes - (change <= -self.threshold).to(x.dtype) if self.off_spikes else spikes

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"threshold={self.threshold}, off_spikes={self.off_spikes}, from_zero={self.from_zero}"
