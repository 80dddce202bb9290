"""Leaky integrate-and-fire neurons whose synapses leak too."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.units.lif import LIF
from neuropil.units.surrogate import ATan, Surrogate
from neuropil.units.unit import Number, State


class CurrentLIFState(NamedTuple):
    """What a current-based leaky integrate-and-fire neuron remembers.

    Attributes:
        current: synaptic current, ``[b, n]``.
        potential: as in :class:`LIFState`.
    """

    current: Tensor
    potential: Tensor


class CurrentLIF(LIF):
    """Current-based leaky integrate-and-fire neurons: what comes in decays as a current before it drives the potential.

        i_t = α i_{t−1} + x_t, and i_t is the current of :class:`LIF`

    A single input thus raises the potential for several steps: it rises and falls as a difference of exponentials.

    Args:
        decay: β of the potential, in [0, 1): one number, or a tensor ``[n]``. One that is learned is clamped to [0, 1]
            where it is used.
        threshold: θ, above 0, likewise.
        synaptic_decay: α of the current, in [0, 1), likewise; 0 makes it a :class:`LIF`.
        learn: which of ``decay``, ``threshold`` and ``synaptic_decay`` are parameters.
        reset, reset_delay, detach_reset, surrogate: see :class:`LIF`; a reset leaves the synaptic current alone.
        kernel: see :class:`Unit`.

    Shape:
        current ``[t, b, n]`` → spikes ``[t, b, n]``, 0 or 1, and :class:`CurrentLIFState`.

    Raises:
        ValueError: a number is out of range, or a name unknown.

    Reference:
        snnTorch's ``Synaptic``, arXiv 2109.12894. With the reset ``zero`` it also drops the current that comes in
        during the step of the reset; here, as in :class:`LIF`, only the potential is zeroed. Norse's ``LIF`` feeds
        i_{t−1} to the potential, one step later.

    Example:
        >>> x = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(4, 1, 1)
        >>> spikes, state = CurrentLIF(decay=0.5, synaptic_decay=0.5, reset="none", threshold=0.9)(x)
        >>> spikes.flatten().tolist(), state.current.item(), state.potential.item()
        ([1.0, 1.0, 0.0, 0.0], 0.125, 0.5)
    """

    synaptic_decay: Tensor

    def __init__(
        self,
        decay: Number = 0.9,
        threshold: Number = 1.0,
        *,
        synaptic_decay: Number = 0.8,
        learn: Sequence[str] = (),
        reset: str = "subtract",
        reset_delay: bool = True,
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(),  # noqa: B008 (an immutable value)
        kernel: str = "auto",
    ) -> None:
        self._check_learned(learn, ("decay", "threshold", "synaptic_decay"))
        super().__init__(
            decay,
            threshold,
            learn=[name for name in learn if name != "synaptic_decay"],
            reset=reset,
            reset_delay=reset_delay,
            detach_reset=detach_reset,
            surrogate=surrogate,
            kernel=kernel,
        )
        self._set_fraction("synaptic_decay", synaptic_decay, learn)

    def effective_synaptic_decay(self) -> Tensor:
        """Return α as it is used, in [0, 1]."""
        return self.synaptic_decay.clamp(0, 1)

    def rest(self, current: Tensor) -> CurrentLIFState:  # type: ignore[override]
        """Return currents and potentials of 0."""
        return CurrentLIFState(torch.zeros_like(current), torch.zeros_like(current))

    def step(self, current: Tensor, state: State | None = None) -> tuple[Tensor, CurrentLIFState]:  # type: ignore[override]
        """Go one time step: from input ``[b, n]`` and state to spikes ``[b, n]`` and state."""
        synaptic, potential = self.rest(current) if state is None else state
        synaptic = self._per_neuron(self.effective_synaptic_decay(), current) * synaptic + current
        spikes, end = super().step(synaptic, (potential,))
        return spikes, CurrentLIFState(synaptic, *end)

    @property
    def compiled(self) -> tuple[str, ...]:
        """Names of the compiled kernels; none for a surrogate that they do not know."""
        return () if self.surrogate.code is None else ("numba",)

    @property
    def traced(self) -> bool:
        """True: compiled scans are operators of PyTorch's."""
        return True

    def run(self, current: Tensor, state: State, kernel: str) -> tuple[Tensor, CurrentLIFState]:  # type: ignore[override]
        """Run a whole sequence in two compiled calls: first the currents, then the potentials."""
        from neuropil.units.scans.leaky import scan

        synaptic, potential = state
        synaptic_decay = self._per_neuron(self.effective_synaptic_decay(), current)
        currents, synaptic = scan(current, synaptic, synaptic_decay)
        spikes, end = super().run(currents, (potential,), kernel)
        return spikes, CurrentLIFState(synaptic, *end)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the neurons."""
        return f"{self._told(('synaptic_decay',))}, {super().extra_repr()}"
