"""Leaky integrate-and-fire neurons that tire: each spike raises their threshold."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.units.lif import LIF
from neuropil.units.scans.lif import Dynamics
from neuropil.units.surrogate import ATan, Surrogate
from neuropil.units.unit import Number, State


class AdaptiveLIFState(NamedTuple):
    """What a neuron with an adaptive threshold remembers.

    Attributes:
        potential: as in :class:`LIFState`.
        adaptation: ``[b, n]``; with a delayed reset b of the last step, otherwise already b of the next one.
    """

    potential: Tensor
    adaptation: Tensor


class AdaptiveLIF(LIF):
    """Adaptive leaky integrate-and-fire neurons, of the LSNN: each spike raises the threshold, which then falls back.

        b_t = ρ b_{t−1} + S_{t−1};  θ_t = θ + κ b_t;  S_t = [U_t > θ_t]

    The potential is that of :class:`LIF`, and so is its reset: ``subtract`` takes away the resting threshold θ, not
    θ_t. The gradient through the adaptation is kept whether or not that through the reset is: it is what carries
    credit over long times.

    Args:
        decay: β, in [0, 1): one number, or a tensor ``[n]``. One that is learned is clamped to [0, 1] where it is used.
        threshold: θ, above 0, likewise.
        adaptation: κ, at least 0, likewise: by how much a spike raises the threshold. One that is learned is clamped
            to at least 0 where it is used. 0 makes it a :class:`LIF`.
        adaptation_decay: ρ, in [0, 1), likewise: exp(−1/τ) for a time constant of τ steps.
        learn: which of these four are parameters.
        reset, reset_delay, detach_reset, surrogate: see :class:`LIF`.
        kernel: see :class:`Unit`.

    Shape:
        current ``[t, b, n]`` → spikes ``[t, b, n]``, 0 or 1, and :class:`AdaptiveLIFState`.

    Raises:
        ValueError: a number is out of range, or a name unknown.

    Reference:
        G. Bellec et al., Nature Communications 11, 3625 (2020), by the public code of e-prop, without its refractory
        steps. The LSNN of 2018 (arXiv 1803.09574) has b_t = ρ b_{t−1} + (1 − ρ) S_{t−1}, so that its strength is
        κ / (1 − ρ), and takes away θ_t at a reset; its code divides x by θ_t, that of e-prop by θ, before the
        surrogate, a triangle of height 0.3. Norse's ``LSNN`` resets to 0 at once, and by default its adaptation lasts
        800 s.

    Example:
        >>> neurons = AdaptiveLIF(decay=0.5, adaptation=1.0, adaptation_decay=0.5)
        >>> spikes, state = neurons(torch.full((6, 1, 1), 1.5))
        >>> spikes.flatten().tolist(), state.adaptation.item()
        ([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 1.3125)
    """

    adaptation: Tensor
    adaptation_decay: Tensor

    def __init__(
        self,
        decay: Number = 0.9,
        threshold: Number = 1.0,
        *,
        adaptation: Number = 0.2,
        adaptation_decay: Number = 0.98,
        learn: Sequence[str] = (),
        reset: str = "subtract",
        reset_delay: bool = True,
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(),  # noqa: B008 (an immutable value)
        kernel: str = "auto",
    ) -> None:
        self._check_learned(learn, ("decay", "threshold", "adaptation", "adaptation_decay"))
        super().__init__(
            decay,
            threshold,
            learn=[name for name in learn if not name.startswith("adaptation")],
            reset=reset,
            reset_delay=reset_delay,
            detach_reset=detach_reset,
            surrogate=surrogate,
            kernel=kernel,
        )
        self._set_number("adaptation", adaptation, learn)
        outside = self.adaptation[~((self.adaptation >= 0) & (self.adaptation < math.inf))]
        if outside.numel():
            raise ValueError(
                f"{type(self).__name__}: adaptation must be at least 0 and finite, got {outside.flatten()[0].item():g}"
            )
        self._set_fraction("adaptation_decay", adaptation_decay, learn)

    def effective_adaptation(self) -> tuple[Tensor, Tensor]:
        """Return κ, at least 0, and ρ, in [0, 1], as they are used."""
        return self.adaptation.clamp(min=0), self.adaptation_decay.clamp(0, 1)

    def rest(self, current: Tensor) -> AdaptiveLIFState:  # type: ignore[override]
        """Return potentials and adaptations of 0."""
        return AdaptiveLIFState(torch.zeros_like(current), torch.zeros_like(current))

    def step(self, current: Tensor, state: State | None = None) -> tuple[Tensor, AdaptiveLIFState]:  # type: ignore[override]
        """Go one time step: from current ``[b, n]`` and state to spikes ``[b, n]`` and state."""
        potential, adaptation = self.rest(current) if state is None else state
        decay, threshold, strength, persistence = self._numbers(current)
        if self.reset_delay:
            spiked = self.surrogate.spike(potential - (threshold + strength * adaptation))
            above = spiked.detach() if self.detach_reset else spiked
            adaptation = persistence * adaptation + spiked
            if self.reset == "zero":
                potential = (1 - above) * potential
            potential = decay * potential + current
            if self.reset == "subtract":
                potential = potential - above * threshold
            spikes = self.surrogate.spike(potential - (threshold + strength * adaptation))
            return spikes, AdaptiveLIFState(potential, adaptation)
        potential = decay * potential + current
        spikes = self.surrogate.spike(potential - (threshold + strength * adaptation))
        above = spikes.detach() if self.detach_reset else spikes
        if self.reset == "subtract":
            potential = potential - above * threshold
        elif self.reset == "zero":
            potential = (1 - above) * potential
        return spikes, AdaptiveLIFState(potential, persistence * adaptation + spikes)

    @property
    def compiled(self) -> tuple[str, ...]:
        """Names of the compiled kernels; none for a surrogate that they do not know."""
        return () if self.surrogate.code is None else ("numba",)

    @property
    def traced(self) -> bool:
        """False: ``torch.compile`` unrolls the steps."""
        return False

    def run(self, current: Tensor, state: State, kernel: str) -> tuple[Tensor, AdaptiveLIFState]:  # type: ignore[override]
        """Run a whole sequence in one compiled call."""
        from neuropil.units.scans.adaptive_lif import scan

        dynamics = Dynamics(self.reset, self.reset_delay, self.detach_reset, self.surrogate)
        potential, adaptation = state
        spikes, potential, adaptation = scan(current, (potential, adaptation), self._numbers(current), dynamics)
        return spikes, AdaptiveLIFState(potential, adaptation)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the neurons."""
        return f"{self._told(('adaptation', 'adaptation_decay'))}, {super().extra_repr()}"

    def _numbers(self, current: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return β, θ, κ and ρ of each neuron."""
        strength, persistence = self.effective_adaptation()
        return (
            self._per_neuron(self.effective_decay(), current),
            self._per_neuron(self.threshold, current),
            self._per_neuron(strength, current),
            self._per_neuron(persistence, current),
        )
