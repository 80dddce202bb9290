"""Firing-rate regularization: neurons are drawn towards a rate that falls in the course of training."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.units import Unit


@dataclass(frozen=True)
class RateSchedule:
    """How strongly, and to which rate, neurons are drawn in each epoch.

    Up to the end of the warm-up not at all; from there to the last epoch, weight and target go from their first to
    their second value in equal steps.

    Args:
        warm_up: epochs without a penalty, 0 or more.
        weight: at the end of the warm-up and in the last epoch, 0 or more.
        target: spikes a neuron and time step, in [0, 1], likewise.

    Reference:
        G2GNet's public spiking code (arXiv 2508.14140): the defaults.

    Example:
        >>> RateSchedule().at(10, epochs=20), RateSchedule().at(20, epochs=20)
        ((0.0, 0.25), (0.01, 0.09))
    """

    warm_up: int = 10
    weight: tuple[float, float] = (1e-4, 1e-2)
    target: tuple[float, float] = (0.25, 0.09)

    def __post_init__(self) -> None:
        if self.warm_up < 0:
            raise ValueError(f"RateSchedule: warm_up must be 0 or more, got {self.warm_up}")
        if not all(0 <= weight < math.inf for weight in self.weight):
            raise ValueError(f"RateSchedule: weight must be finite and 0 or more, got {self.weight}")
        if not all(0 <= rate <= 1 for rate in self.target):
            raise ValueError(f"RateSchedule: target must lie in [0, 1], got {self.target}")

    def at(self, epoch: int, *, epochs: int) -> tuple[float, float]:
        """Return weight and target of an epoch, counted from 1."""
        if epoch <= self.warm_up:
            return 0.0, self.target[0]
        part = (epoch - self.warm_up) / (epochs - self.warm_up)
        weight, target = (first + part * (last - first) for first, last in (self.weight, self.target))
        return weight, target


class RatePenalty:
    """λ Σ (rate − target)² over all neurons of some layers, their rates taken over a batch and all its time steps.

    Hooks are on the neurons only while a penalty is due.

    Args:
        model: a network whose neurons are :class:`neuropil.units.Unit`.
        schedule: λ and target of each epoch.
        units: whose rates count; default: all neurons of the model but the last layer's, whose spikes are the answer.

    Attributes:
        average: what is made of the rates of layers, in a list, before they are compared; None: nothing.

    Raises:
        ValueError: there are no such neurons.

    Reference:
        G2GNet's public spiking code (arXiv 2508.14140).

    Example:
        >>> from neuropil.units import LIF
        >>> neurons = LIF()
        >>> penalty = RatePenalty(neurons, RateSchedule(warm_up=0), units=[neurons])
        >>> with penalty.due(epoch=1, epochs=1):
        ...     _ = neurons(torch.zeros(8, 4, 128))  # nobody spikes: 128 neurons are 0.09 off
        ...     value = penalty()
        >>> round(value.item(), 4)
        0.0104
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: RateSchedule = RateSchedule(),
        *,
        units: Sequence[Unit] | None = None,
    ) -> None:
        found = [module for module in model.modules() if isinstance(module, Unit)][:-1] if units is None else [*units]
        if not found:
            raise ValueError("RatePenalty: the model must have hidden spiking neurons, got none")
        self.schedule = schedule
        self._units = found
        self._rates: list[Tensor] = []
        self._weight, self._target = 0.0, 0.0
        self.average: Callable[[list[Tensor]], list[Tensor]] | None = None

    @contextmanager
    def due(self, epoch: int, epochs: int) -> Iterator[None]:
        """Watch the neurons while the block runs, if the schedule asks for a penalty in this epoch."""
        self._weight, self._target = self.schedule.at(epoch, epochs=epochs)
        handles = [unit.register_forward_hook(self._watch) for unit in self._units] if self._weight else []
        try:
            yield
        finally:
            self._rates.clear()
            for handle in handles:
                handle.remove()

    def _watch(self, unit: nn.Module, _: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        if unit.training:  # a measure may run the model on the way
            self._rates.append(output[0].flatten(0, -2).mean(0))

    def __call__(self) -> Tensor | float:
        """Return the penalty of what has run since the last call, a number to add to the loss."""
        rates, self._rates = self._rates, []
        if rates and self.average is not None:
            rates = self.average(rates)
        squares = [(rate - self._target).square().sum() for rate in rates]
        return self._weight * torch.stack(squares).sum() if squares else 0.0
