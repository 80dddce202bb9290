"""A way to rewire, before it is put on a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from neuropil.rewire.limits import Limits
from neuropil.rewire.rewind import Rewind
from neuropil.rewire.rewirer import Rewirer
from neuropil.rewire.rule import Rule
from neuropil.rewire.schedule import Schedule, Stages, count_steps

Within = float | Literal["keep"] | None


@dataclass(frozen=True)
class Rewiring:
    """A way to rewire, before it is put on a model: rules, schedule, limits and what the model is set back to.

    Args:
        prune, grow, schedule, limits, rewind: as for :class:`Rewirer`.

    Example:
        >>> from neuropil.rewire import rigl
        >>> rewiring = rigl(every=50)
        >>> rewiring.schedule.every, rewiring.grow
        (50, Gradient())
    """

    prune: Rule | None
    grow: Rule | None
    schedule: Schedule | None
    limits: Limits = field(default_factory=Limits)
    rewind: Rewind | None = None

    @property
    def keeps_density(self) -> bool:
        """Whether the network is as dense at the end as at the start."""
        return self.schedule is None or not self.schedule.prunes

    def final_density(self, initial: float) -> float:
        """Return the density at the end, in (0, 1], of a network or layer that starts with ``initial``."""
        if self.schedule is None or self.schedule.density is None or isinstance(self.schedule.density, Stages):
            return initial
        return min(initial, self.schedule.density.to)

    def peak_density(self, initial: float) -> float:
        """Return the highest density, in (0, 1], of a layer that starts with ``initial``, at any time of training."""
        extra = 0.0
        if self.schedule is not None and isinstance(self.schedule.density, Stages):
            extra = max((more for _, more in self.schedule.density.stages), default=0.0)
        return min(1.0, initial + extra)

    @property
    def dense_gradient_steps(self) -> int:
        """Steps before each event whose gradient of all possible connections is looked at; 0: it never is.

        Gradients of connections that are there do not count: learning has them anyway.
        """
        return self.grow.window if self.grow is not None and "gradient" in self.grow.needs else 0

    def rewinds_at(self, *, epochs: int, steps_per_epoch: int) -> list[float]:
        """Return the shares of training after which the model is set back to earlier weights; none where it never is.

        Raises:
            ValueError: a number is below 1.
        """
        n_steps = count_steps(epochs, steps_per_epoch, who="Rewiring.rewinds_at")
        if self.schedule is None or self.rewind is None:
            return []
        due = [step for step in range(1, n_steps) if self.schedule.is_due(step, steps_per_epoch, n_steps)]
        return [step / n_steps for step in due]

    def attach(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        skip: Sequence[str] = (),
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> Rewirer:
        """Return a rewirer of this kind for a model and its optimizer; see :class:`Rewirer`."""
        return Rewirer(
            model,
            optimizer,
            prune=self.prune,
            grow=self.grow,
            schedule=self.schedule,
            limits=self.limits,
            rewind=self.rewind,
            skip=skip,
            generator=generator,
            **settings,
        )


def schedule_of(
    every: int | None, per_epoch: float | None, fraction: float | None, *, default: float, **settings: Any
) -> Schedule:
    """Return a schedule; by default it counts in steps where ``default`` is a whole number, else in epochs."""
    if every is None and per_epoch is None:
        if isinstance(default, int):
            every = default
        else:
            per_epoch = default
    return Schedule(every=every, per_epoch=per_epoch, fraction=fraction, **settings)
