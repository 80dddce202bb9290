"""Leaky integrate-and-fire neurons."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.units.scans.lif import RESETS, Dynamics
from neuropil.units.surrogate import ATan, Surrogate
from neuropil.units.unit import Number, State, Unit


class LIFState(NamedTuple):
    """What a leaky integrate-and-fire neuron remembers.

    Attributes:
        potential: ``[b, n]``; with a delayed reset that of the last step, which may be above threshold.
    """

    potential: Tensor


class LIF(Unit):
    """Leaky integrate-and-fire neurons: a potential that leaks, sums up current, and spikes above a threshold.

    With the reset delayed by a step (snnTorch), R_t = [U_{t−1} > θ]:

        U_t = β U_{t−1} + I_t − θ R_t  (``subtract``),  β U_{t−1} (1 − R_t) + I_t  (``zero``);  S_t = [U_t > θ].

    With an immediate one (SpikingJelly, Norse), the potential is reset before it is carried on:

        H_t = β U_{t−1} + I_t;  S_t = [H_t > θ];  U_t = H_t − θ S_t  (``subtract``),  H_t (1 − S_t)  (``zero``).

    The current is not scaled by 1 − β, as some do. Current equal to the threshold does not make a spike.

    Args:
        decay: β, in [0, 1): one number, or a tensor ``[n]``. One that is learned is clamped to [0, 1] where it is used.
        threshold: θ, above 0, likewise.
        learn: which of ``decay`` and ``threshold`` are parameters.
        reset: ``subtract``, ``zero`` or ``none``.
        reset_delay: whether a spike resets in the next step, or at once.
        detach_reset: whether no gradient flows through the reset.
        surrogate: stands in for the derivative of a spike.
        kernel: see :class:`Unit`.

    Shape:
        current ``[t, b, n]`` → spikes ``[t, b, n]``, 0 or 1, and :class:`LIFState`.

    Raises:
        ValueError: a number is out of range, or a name unknown.

    Reference:
        J. Eshraghian et al., snnTorch, arXiv 2109.12894, with the defaults; its learned decay is clamped likewise.

    Example:
        >>> spikes, state = LIF(decay=0.5)(torch.ones(4, 1, 1))
        >>> spikes.flatten().tolist(), state.potential.item()
        ([0.0, 1.0, 0.0, 1.0], 1.375)
    """

    decay: Tensor
    threshold: Tensor

    def __init__(
        self,
        decay: Number = 0.9,
        threshold: Number = 1.0,
        *,
        learn: Sequence[str] = (),
        reset: str = "subtract",
        reset_delay: bool = True,
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(),  # noqa: B008 (an immutable value)
        kernel: str = "auto",
    ) -> None:
        super().__init__(kernel)
        self._check_learned(learn, ("decay", "threshold"))
        self._set_decay(decay, learn)
        self._set_number("threshold", threshold, learn)
        if not bool((self.threshold > 0).all()):
            raise ValueError(f"{type(self).__name__}: threshold must be above 0, got {_worst(self.threshold.min())}")
        if not bool(self.threshold.isfinite().all()):
            raise ValueError(f"{type(self).__name__}: threshold must be finite, got {_worst(self.threshold.max())}")
        if reset not in RESETS:
            raise ValueError(f"{type(self).__name__}: reset must be one of {', '.join(RESETS)}, got {reset!r}")
        self.reset, self.reset_delay, self.detach_reset = reset, reset_delay, detach_reset
        self._set_surrogate(surrogate)

    def _set_decay(self, decay: Number, learn: Sequence[str]) -> None:
        self._set_fraction("decay", decay, learn)

    def effective_decay(self) -> Tensor:
        """Return β as it is used, in [0, 1]."""
        return self.decay.clamp(0, 1)

    def rest(self, current: Tensor) -> LIFState:
        """Return potentials of 0."""
        return LIFState(torch.zeros_like(current))

    def step(self, current: Tensor, state: State | None = None) -> tuple[Tensor, LIFState]:
        """Go one time step: from current ``[b, n]`` and state to spikes ``[b, n]`` and state."""
        (potential,) = self.rest(current) if state is None else state
        decay = self._per_neuron(self.effective_decay(), current)
        threshold = self._per_neuron(self.threshold, current)
        if self.reset_delay:
            above = self.surrogate.spike(potential - threshold)
            above = above.detach() if self.detach_reset else above
            if self.reset == "zero":
                potential = (1 - above) * potential
            potential = decay * potential + current
            if self.reset == "subtract":
                potential = potential - above * threshold
            return self.surrogate.spike(potential - threshold), LIFState(potential)
        potential = decay * potential + current
        spikes = self.surrogate.spike(potential - threshold)
        above = spikes.detach() if self.detach_reset else spikes
        if self.reset == "subtract":
            potential = potential - above * threshold
        elif self.reset == "zero":
            potential = (1 - above) * potential
        return spikes, LIFState(potential)

    @property
    def compiled(self) -> tuple[str, ...]:
        """Names of the compiled kernels; none for a surrogate that they do not know."""
        return () if self.surrogate.code is None else ("numba", "triton")

    @property
    def traced(self) -> bool:
        """True: the compiled scan is an operator of PyTorch's."""
        return True

    def run(self, current: Tensor, state: State, kernel: str) -> tuple[Tensor, LIFState]:
        """Run a whole sequence in one compiled call."""
        from neuropil.units.scans.lif import scan

        decay = self._per_neuron(self.effective_decay(), current)
        threshold = self._per_neuron(self.threshold, current)
        dynamics = Dynamics(self.reset, self.reset_delay, self.detach_reset, self.surrogate)
        spikes, potential = scan(current, state[0], decay, threshold, dynamics, kernel)
        return spikes, LIFState(potential)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the neurons."""
        return (
            f"{self._told(('decay', 'threshold'))}, reset={self.reset}{' a step later' if self.reset_delay else ''}, "
            f"surrogate={self.surrogate}, kernel={self.kernel}"
        )


def _worst(value: Tensor) -> str:
    return f"{value.item():g}"
