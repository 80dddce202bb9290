"""Izhikevich's neurons: two equations that spike as cortical neurons do."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropil.units.surrogate import ATan, Surrogate
from neuropil.units.unit import Number, State, Unit

PEAK = 30.0  # mV
_START = -65.0  # mV

# a, b, c and d of kinds of neurons of the cortex and the thalamus
KINDS: dict[str, tuple[float, float, float, float]] = {
    "regular_spiking": (0.02, 0.2, -65.0, 8.0),
    "intrinsically_bursting": (0.02, 0.2, -55.0, 4.0),
    "chattering": (0.02, 0.2, -50.0, 2.0),
    "fast_spiking": (0.1, 0.2, -65.0, 2.0),
    "low_threshold_spiking": (0.02, 0.25, -65.0, 2.0),
    "thalamo_cortical": (0.02, 0.25, -65.0, 0.05),
    "resonator": (0.1, 0.26, -65.0, 2.0),
}


class IzhikevichState(NamedTuple):
    """What an Izhikevich neuron remembers.

    Attributes:
        potential: v in mV, after the reset, ``[b, n]``.
        recovery: u, ``[b, n]``.
    """

    potential: Tensor
    recovery: Tensor


class Izhikevich(Unit):
    """Izhikevich's neurons: a potential that shoots up by itself, and a recovery variable that pulls it back.

        v̇ = 0.04 v² + 5 v + 140 − u + I,  u̇ = a (b v − u);  once v > 30: S = 1, v ← c, u ← u + d

    integrated by Euler's explicit method, one step of ``dt`` milliseconds for each step of the current. Both
    derivatives are taken at the state before the step, and the reset is at once. At rest, v = −65 and u = b v.

    Potentials are in millivolts, and a current of about 4 to 10 makes most kinds fire. The surrogate's unit is 1 mV
    too: the default has the shape that :class:`LIF` has by default if the roughly 100 mV from rest to peak count as 1.
    During a spike's rise the gradient grows by up to 1 + dt (0.08 · 30 + 5) a step: clip it in long sequences.

    Args:
        a: rate of the recovery, per ms: one number, or a tensor ``[n]``.
        b: how far the recovery follows the potential, likewise.
        c: potential after a spike, in mV, likewise; below 30.
        d: what a spike adds to the recovery, likewise.
        dt: milliseconds a step, in (0, 0.5]: below −112.5 mV a step of 0.5 ms is unstable already, and a longer one
            sooner.
        learn: which of ``a``, ``b``, ``c`` and ``d`` are parameters. They are not clamped.
        detach_reset: whether no gradient flows through the reset.
        surrogate: stands in for the derivative of a spike by v − 30.
        kernel: see :class:`Unit`.

    Shape:
        current ``[t, b, n]`` → spikes ``[t, b, n]``, 0 or 1, and :class:`IzhikevichState`.

    Raises:
        ValueError: a number is out of range, or a name unknown.

    Reference:
        E. Izhikevich, IEEE Transactions on Neural Networks 14, 1569 (2003). The code printed there steps v twice by
        0.5 ms, then u once by 1 ms at the new v; a spike at exactly 30 mV counts there, not here.

    Example:
        >>> spikes, _ = Izhikevich.of_kind("fast_spiking")(torch.full((400, 1, 1), 10.0))
        >>> int(spikes.sum())  # in 200 ms
        23
    """

    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor

    def __init__(
        self,
        a: Number = 0.02,
        b: Number = 0.2,
        c: Number = -65.0,
        d: Number = 8.0,
        *,
        dt: float = 0.5,
        learn: Sequence[str] = (),
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(alpha=0.02),  # noqa: B008 (an immutable value)
        kernel: str = "auto",
    ) -> None:
        super().__init__(kernel)
        self._check_learned(learn, ("a", "b", "c", "d"))
        for name, value in (("a", a), ("b", b), ("c", c), ("d", d)):
            self._set_number(name, value, learn)
            tensor: Tensor = getattr(self, name)
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{type(self).__name__}: {name} must be finite, got {tensor.tolist()}")
        if not bool((self.c < PEAK).all()):
            raise ValueError(
                f"{type(self).__name__}: c must be below the peak of {PEAK:g} mV, got {self.c.max().item():g}"
            )
        if not 0 < dt <= 0.5:
            raise ValueError(
                f"{type(self).__name__}: dt must lie in (0, 0.5] ms, got {dt:g}; try dt=0.5 and more time steps"
            )
        self.dt, self.detach_reset = dt, detach_reset
        self._set_surrogate(surrogate)

    @classmethod
    def of_kind(cls, kind: str, **options: Any) -> "Izhikevich":
        """Return neurons of a published kind.

        Args:
            kind: ``regular_spiking``, ``intrinsically_bursting``, ``chattering``, ``fast_spiking``,
                ``low_threshold_spiking``, ``thalamo_cortical`` or ``resonator``.
            options: keyword arguments of the class.
        """
        if kind not in KINDS:
            raise ValueError(f"{cls.__name__}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
        return cls(*KINDS[kind], **options)

    def rest(self, current: Tensor) -> IzhikevichState:
        """Return potentials of −65 mV, and recoveries that fit them."""
        potential = torch.full_like(current, _START)
        return IzhikevichState(potential, self._per_neuron(self.b, current) * potential)

    def step(self, current: Tensor, state: State | None = None) -> tuple[Tensor, IzhikevichState]:
        """Go one time step: from current ``[b, n]`` and state to spikes ``[b, n]`` and state."""
        v, u = self.rest(current) if state is None else state
        a, b, c, d = self._numbers(current)
        risen = v + self.dt * (0.04 * v * v + 5 * v + 140 - u + current)
        u = u + self.dt * (a * (b * v - u))
        spikes = self.surrogate.spike(risen - PEAK)
        fired = risen > PEAK
        v, after = torch.where(fired, c, risen), torch.where(fired, u + d, u)
        if not self.detach_reset:
            through = spikes - spikes.detach()  # 0, with a gradient
            v, after = v + through * (c - risen).detach(), after + through * d.detach()
        return spikes, IzhikevichState(v, after)

    @property
    def compiled(self) -> tuple[str, ...]:
        """Names of the compiled kernels; none for a surrogate that they do not know."""
        return () if self.surrogate.code is None else ("numba",)

    def run(self, current: Tensor, state: State, kernel: str) -> tuple[Tensor, IzhikevichState]:
        """Run a whole sequence in one compiled call."""
        from neuropil.units.scans.izhikevich import scan

        v, u = state
        spikes, v, u = scan(current, (v, u), self._numbers(current), self.dt, self.detach_reset, self.surrogate)
        return spikes, IzhikevichState(v, u)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the neurons."""
        return f"{self._told(('a', 'b', 'c', 'd'))}, dt={self.dt:g}, surrogate={self.surrogate}, kernel={self.kernel}"

    def _numbers(self, current: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a, b, c and d of each neuron."""
        a, b, c, d = (self._per_neuron(value, current) for value in (self.a, self.b, self.c, self.d))
        return a, b, c, d
