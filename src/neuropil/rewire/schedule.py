"""When connections come and go, how many, and how dense the network is meant to be."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

Anneal = Literal["constant", "cosine", "linear"]
Scope = Literal["layer", "global"]


def count_steps(epochs: int, steps_per_epoch: int, *, who: str) -> int:
    """Return the steps of a whole training.

    Raises:
        ValueError: a number is below 1.
    """
    if epochs < 1 or steps_per_epoch < 1:
        raise ValueError(f"{who}: epochs and steps_per_epoch must be at least 1, got {epochs} and {steps_per_epoch}")
    return epochs * steps_per_epoch


@dataclass(frozen=True)
class Cubic:
    """Gradual pruning: d(t) = to + (d₀ − to) · (1 − (t − start) / (until − start))³, d₀ the density at the start.

    Args:
        to: density at the end, in (0, 1].
        start, until: shares of training in which it falls, 0 ≤ start < until ≤ 1.
        scope: ``layer``: every layer that is denser comes to d(t); ``global``: all layers together do, by one
            threshold on |w|.

    Raises:
        ValueError: a number lies outside its range.

    Reference:
        M. Zhu and S. Gupta, GMP, arXiv 1710.01878; ``global``: S. Liu et al., GraNet, arXiv 2106.10404.

    Example:
        >>> [round(Cubic(to=0.1, until=0.5).at(t, 1.0), 3) for t in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.213, 0.1, 0.1]
    """

    to: float
    start: float = 0.0
    until: float = 0.75
    scope: Scope = "layer"

    def __post_init__(self) -> None:
        _check_goal(self)
        if not 0 <= self.start < self.until <= 1:
            raise ValueError(
                f"Cubic: start and until must be shares of training, the first one smaller, got {self.start:g} and "
                f"{self.until:g}"
            )

    def at(self, progress: float, initial: float) -> float:
        """Return the density at a share of training, in (0, 1]."""
        left = 1 - min(1.0, max(0.0, (progress - self.start) / (self.until - self.start)))
        return self.to + (initial - self.to) * left**3


@dataclass(frozen=True)
class Rounds:
    """Pruning in rounds: after k of n events the density is dₖ = d₀ (to / d₀)^(k / n), d₀ that at the start.

    Each event takes the same share of what is left; n = 1 is pruning in one shot. Events are those of the schedule,
    the first n of them.

    Args:
        to: density at the end, in (0, 1]; layers or networks that start with less stay as they are.
        n: number of events, at least 1.
        scope: as for :class:`Cubic`.

    Raises:
        ValueError: a number lies outside its range.

    Reference:
        S. Han et al., arXiv 1506.02626, who prune and retrain in turn; the same share in each round: J. Frankle and
        M. Carbin, arXiv 1803.03635.

    Example:
        >>> [round(Rounds(0.01, 4).after(k, 1.0), 3) for k in range(6)]
        [1.0, 0.316, 0.1, 0.032, 0.01, 0.01]
    """

    to: float
    n: int = 1
    scope: Scope = "global"

    def __post_init__(self) -> None:
        _check_goal(self)
        if not isinstance(self.n, int) or self.n < 1:
            raise ValueError(f"Rounds: n must be a whole number of at least 1 event, got {self.n!r}")

    def after(self, events: int, initial: float) -> float:
        """Return the density after so many events, in (0, 1]."""
        if initial <= self.to:
            return initial
        return self.to if events >= self.n else initial * (self.to / initial) ** (events / self.n)


def _check_goal(density: Cubic | Rounds) -> None:
    """Raise a ``ValueError`` unless what a density falls to, and of what, is possible."""
    who = type(density).__name__
    if density.scope not in get_args(Scope):
        raise ValueError(f"{who}: scope must be layer or global, got {density.scope!r}")
    if not 0 < density.to <= 1:
        raise ValueError(f"{who}: to must be a density in (0, 1], got {density.to:g}")


@dataclass(frozen=True)
class Stages:
    """A density that falls in steps: at first ``extra`` above the initial one, then less, in the end none.

    Args:
        stages: pairs (until, extra): up to this share of training the density is that much higher.

    Raises:
        ValueError: shares do not rise within (0, 1], or an extra is negative.

    Reference:
        MEST's EM&S (NeurIPS 2021).

    Example:
        >>> [round(Stages(((0.6, 0.05), (0.8, 0.025))).at(t, 0.1), 3) for t in (0.0, 0.7, 0.9)]
        [0.15, 0.125, 0.1]
    """

    stages: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        ends = [0.0, *(until for until, _ in self.stages)]
        rising = all(a < b for a, b in pairwise(ends)) and ends[-1] <= 1
        if not rising or any(extra < 0 for _, extra in self.stages):
            raise ValueError(
                f"Stages: stages must be pairs (until, extra), until rising within (0, 1], extra at least 0, got "
                f"{self.stages!r}"
            )

    def at(self, progress: float, initial: float) -> float:
        """Return the density at a share of training, in (0, 1]."""
        return min(1.0, initial + next((extra for until, extra in self.stages if progress < until), 0.0))


@dataclass(frozen=True)
class Schedule:
    """When events take place, and which share of the live blocks each of them replaces.

    Give one of ``every``, ``per_epoch`` and ``at``. The share is ``fraction`` throughout, or falls to
    ``final_fraction`` along half a cosine, f(t) = final + (fraction − final)/2 · (1 + cos(π t / t_until)), or along a
    line.

    Args:
        every: steps of the optimizer from one event to the next, at least 1; the first one follows after as many.
        per_epoch: events in an epoch, above 0; below 1: one in several epochs.
        at: shares of training after which there is an event, rising within (0, 1).
        fraction: share of live blocks that an event drops and replaces, in (0, 1); None: none, the density alone
            changes.
        anneal: ``constant``, ``cosine`` or ``linear``.
        final_fraction: what ``fraction`` falls to, in [0, fraction].
        until: share of training after which nothing is rewired any more, in (0, 1].
        density: how dense the network is meant to be, :class:`Cubic`, :class:`Rounds` or :class:`Stages`; None: as
            it is.

    Raises:
        ValueError: a number lies outside its range, or not exactly one of ``every``, ``per_epoch`` and ``at`` is given.

    Example:
        >>> [round(Schedule(every=100, fraction=0.3, anneal="cosine", until=0.5).fraction_at(t), 3)
        ...  for t in (0.0, 0.25, 0.5)]
        [0.3, 0.15, 0.0]
    """

    every: int | None = None
    per_epoch: float | None = None
    fraction: float | None = 0.1
    anneal: Anneal = "constant"
    final_fraction: float = 0.0
    until: float = 1.0
    density: Cubic | Rounds | Stages | None = None
    at: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.at is not None:
            if self.every is not None or self.per_epoch is not None:
                raise ValueError(
                    f"Schedule: at must stand without every and per_epoch, got every={self.every} and "
                    f"per_epoch={self.per_epoch} with it"
                )
            if not self.at or not all(a < b for a, b in pairwise((0.0, *self.at, 1.0))):
                raise ValueError(f"Schedule: at must be shares of training that rise within (0, 1), got {self.at!r}")
        elif (self.every is None) == (self.per_epoch is None):
            raise ValueError(
                f"Schedule: either every or per_epoch must be given, got every={self.every} and "
                f"per_epoch={self.per_epoch}"
            )
        if self.every is not None and (not isinstance(self.every, int) or self.every < 1):
            raise ValueError(f"Schedule: every must be a whole number of at least 1 step, got {self.every!r}")
        if self.per_epoch is not None and not 0 < self.per_epoch < math.inf:
            raise ValueError(f"Schedule: per_epoch must be above 0, got {self.per_epoch:g}")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise ValueError(f"Schedule: fraction must lie in (0, 1), got {self.fraction:g}")
        if self.anneal not in get_args(Anneal):
            raise ValueError(f"Schedule: anneal must be one of {', '.join(get_args(Anneal))}, got {self.anneal!r}")
        if not 0 <= self.final_fraction <= (self.fraction or 1):
            raise ValueError(
                f"Schedule: final_fraction must lie between 0 and fraction, got {self.final_fraction:g} and "
                f"{self.fraction}"
            )
        if not 0 < self.until <= 1:
            raise ValueError(f"Schedule: until must be a share of training in (0, 1], got {self.until:g}")
        if self.fraction is None and self.density is None:
            raise ValueError("Schedule: fraction or density must be given, got None for both: nothing would change")

    @property
    def needs_length(self) -> bool:
        """Whether the schedule must know how long training is."""
        falls = self.fraction is not None and self.anneal != "constant"
        by_length = isinstance(self.density, Cubic | Stages)
        return self.every is None or self.until < 1 or falls or by_length

    @property
    def prunes(self) -> bool:
        """Whether the density falls for good."""
        return isinstance(self.density, Cubic | Rounds)

    def fraction_at(self, progress: float) -> float:
        """Return the share of live blocks that an event replaces at a share of training, 0 where nothing is due."""
        if self.fraction is None or progress > self.until:
            return 0.0
        done = progress / self.until
        if self.anneal == "constant":
            left = 1.0
        elif self.anneal == "cosine":
            left = (1 + math.cos(math.pi * done)) / 2
        else:
            left = 1 - done
        return self.final_fraction + (self.fraction - self.final_fraction) * left

    def n_due(self, step: int, steps_per_epoch: int | None, n_steps: int | None = None) -> int:
        """Return how many events are due up to a step of the optimizer, itself included, the first step being 1."""
        if self.at is not None:
            assert n_steps is not None
            return sum(step >= math.ceil(share * n_steps - 1e-9) for share in self.at)
        if self.every is not None:
            interval: float = self.every
        else:
            assert self.per_epoch is not None
            assert steps_per_epoch is not None
            interval = max(1.0, steps_per_epoch / self.per_epoch)
        # the n-th event is due at the first step that reaches n intervals, not always a whole number
        return math.floor(step / interval + 1e-9)

    def is_due(self, step: int, steps_per_epoch: int | None, n_steps: int | None = None) -> bool:
        """Return whether an event follows upon this step of the optimizer, the first one being 1."""
        if step < 1:
            return False
        before, now = (self.n_due(one, steps_per_epoch, n_steps) for one in (step - 1, step))
        return now > before and not (
            self.fraction is None and isinstance(self.density, Rounds) and before >= self.density.n
        )
