"""Leaky integrators, which do not spike."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.units.unit import Number, State, Unit


class LeakyIntegratorState(NamedTuple):
    """What a leaky integrator remembers.

    Attributes:
        potential: ``[b, n]``.
    """

    potential: Tensor


class LeakyIntegrator(Unit):
    """Neurons without spikes: a potential that leaks and sums up current, for the last layer of a spiking network.

        U_t = β U_{t−1} + I_t

    The outputs are the potentials. Their mean over time (``mean_potential``) is the most robust
    read-out of a class: it has a gradient at every step.

    Args:
        decay: β, in [0, 1): one number, or a tensor ``[n]``. One that is learned is clamped to [0, 1] where it is used.
        learn: ``("decay",)`` makes it a parameter.
        kernel: see :class:`Unit`.

    Shape:
        current ``[t, b, n]`` → potentials ``[t, b, n]`` and :class:`LeakyIntegratorState`.

    Raises:
        ValueError: the decay is out of range, or a name unknown.

    Reference:
        snnTorch's ``Leaky`` with ``reset_mechanism="none"`` has the same potential; Norse's ``LI`` filters its input
        first and scales it by a time constant.

    Example:
        >>> potentials, state = LeakyIntegrator(decay=0.5)(torch.ones(3, 1, 1))
        >>> potentials.flatten().tolist(), state.potential.item()
        ([1.0, 1.5, 1.75], 1.75)
    """

    decay: Tensor

    def __init__(self, decay: Number = 0.9, *, learn: Sequence[str] = (), kernel: str = "auto") -> None:
        super().__init__(kernel)
        self._check_learned(learn, ("decay",))
        self._set_fraction("decay", decay, learn)

    def effective_decay(self) -> Tensor:
        """Return β as it is used, in [0, 1]."""
        return self.decay.clamp(0, 1)

    def rest(self, current: Tensor) -> LeakyIntegratorState:
        """Return potentials of 0."""
        return LeakyIntegratorState(torch.zeros_like(current))

    def step(self, current: Tensor, state: State | None = None) -> tuple[Tensor, LeakyIntegratorState]:
        """Go one time step: from current ``[b, n]`` and state to potential ``[b, n]`` and state."""
        (potential,) = self.rest(current) if state is None else state
        potential = self._per_neuron(self.effective_decay(), current) * potential + current
        return potential, LeakyIntegratorState(potential)

    @property
    def compiled(self) -> tuple[str, ...]:
        """Names of the compiled kernels."""
        return ("numba",)

    @property
    def traced(self) -> bool:
        """True: compiled scans are operators of PyTorch's."""
        return True

    def run(self, current: Tensor, state: State, kernel: str) -> tuple[Tensor, LeakyIntegratorState]:
        """Run a whole sequence in one compiled call."""
        from neuropil.units.scans.leaky import scan

        potentials, end = scan(current, state[0], self._per_neuron(self.effective_decay(), current))
        return potentials, LeakyIntegratorState(end)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the neurons."""
        return f"{self._told(('decay',))}, kernel={self.kernel}"
