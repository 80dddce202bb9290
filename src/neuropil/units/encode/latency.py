"""One spike a neuron, the earlier the larger its input."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from neuropil.units.encode.checks import check_floating, check_steps, into_unit_interval

Kind = Literal["linear", "log", "rc"]


class LatencyEncoder(nn.Module):
    """Give each input one spike, whose time tells its size: large inputs spike early.

    The spike falls at step round(t(x)) of 0 … T−1, with

    * ``linear``: t = (T−1) (1 − x);
    * ``log``: t = T − 1 − ln(α x + 1), α = e^(T−1) − 1; about −ln x, so inputs above 1 % share the first five steps;
    * ``rc``: t = τ ln(x / (x − θ)), when a leaky integrator that starts at 0 and is driven by x reaches θ.

    No gradient reaches x.

    Args:
        steps: number of time steps T, at least 1.
        kind: which of the formulas.
        threshold: θ, in [0, 1); inputs at or below it count as no input; above 0 for ``rc``.
        tau: τ of ``rc`` in steps, above 0; default: ``steps``. The other kinds have none.
        silent: inputs at or below the threshold never spike, nor do those whose time lies after the last step.
            If False, they spike all the same: at the formula's time, where it has one inside the window, else at
            the last step.

    Shape:
        ``[b, …]`` → ``[t, b, …]``, zeros and ones in the input's type.

    Raises:
        ValueError: an argument is outside its range; at the call: the input lies outside [0, 1].
        TypeError: at the call: the input is not of a floating-point type.

    Reference:
        ``linear`` and ``log``: SpikingJelly's latency encoder (W. Fang et al., Science Advances 2023), where every
        input spikes (``silent=False``). ``rc`` and the threshold: snnTorch's ``spikegen.latency`` (``clip=True`` and
        ``bypass=True``; ``linear`` is its ``linear=True, normalize=True``). There an input of exactly θ spikes.

    Example:
        >>> spikes = LatencyEncoder(5)(torch.tensor([[1.0, 0.5, 0.02, 0.0]]))
        >>> spikes[:, 0].int().tolist()
        [[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    """

    def __init__(
        self,
        steps: int,
        *,
        kind: Kind = "linear",
        threshold: float = 0.01,
        tau: float | None = None,
        silent: bool = True,
    ) -> None:
        super().__init__()
        self.steps = check_steps("LatencyEncoder", steps)
        if kind not in ("linear", "log", "rc"):
            raise ValueError(f"LatencyEncoder: kind must be linear, log or rc, got {kind!r}")
        if not 0 <= threshold < 1:
            raise ValueError(f"LatencyEncoder: threshold must be in [0, 1), got {threshold}")
        if kind == "rc" and threshold == 0:
            raise ValueError(
                "LatencyEncoder: threshold of kind rc must be above 0, got 0; every spike would be at once"
            )
        if kind != "rc" and tau is not None:
            raise ValueError(f"LatencyEncoder: tau must be None for kind {kind}, got {tau}; only rc has one")
        if tau is not None and not 0 < tau < math.inf:
            raise ValueError(f"LatencyEncoder: tau must be finite and above 0, got {tau}")
        self.kind = kind
        self.threshold = threshold
        self.tau = float(steps) if tau is None else tau
        self.silent = silent

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return spikes ``[t, b, …]`` of samples ``[b, …]``."""
        check_floating("LatencyEncoder", x)
        last = self.steps - 1
        wide = into_unit_interval("LatencyEncoder", "x", x.to(torch.promote_types(x.dtype, torch.float32)))
        times = self._times(wide).round()
        spikes = torch.zeros(self.steps, *x.shape, dtype=x.dtype, device=x.device)
        fires = (wide > self.threshold) & (times <= last) if self.silent else torch.ones_like(wide, dtype=torch.bool)
        step = times.clamp(max=last).long()
        return spikes.scatter_(0, step.unsqueeze(0), fires.to(x.dtype).unsqueeze(0))

    def _times(self, x: Tensor) -> Tensor:
        """Return when each input spikes, in steps; infinite where it never reaches the threshold of ``rc``."""
        last = self.steps - 1
        if self.kind == "linear":
            return last * (1 - x)
        if self.kind == "log":
            if last == 0:
                return torch.zeros_like(x)
            log_alpha = last + math.log1p(-math.exp(-last))  # α itself overflows at 90 steps in float32
            return last - torch.logaddexp(x.log() + log_alpha, torch.zeros_like(x))
        return -self.tau * torch.log1p(-self.threshold / x.clamp(min=self.threshold))

    def extra_repr(self) -> str:
        """Return the arguments."""
        tau = f", tau={self.tau}" if self.kind == "rc" else ""
        return f"{self.steps}, kind={self.kind!r}, threshold={self.threshold}{tau}, silent={self.silent}"
