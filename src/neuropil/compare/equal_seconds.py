"""Arms at equal seconds: where each of them stands when the training time of a reference is used up."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from neuropil.compare.run_result import RunResult, is_number
from neuropil.compare.significance import Significance
from neuropil.compare.statistics import Estimate, Interval, Spread, estimate, paired_difference


@dataclass(frozen=True)
class Stop:
    """How far a run comes in some seconds of training.

    Attributes:
        epochs: whole epochs that fit in, ≥ 0.
        accuracy: on the validation split after the last of them; None where none fits, or it is not known.
    """

    epochs: int
    accuracy: float | None


@dataclass(frozen=True)
class EqualSeconds:
    """An arm in the seconds that the reference has trained for, seed by seed.

    Attributes:
        reference: name of the reference arm.
        stops: by seed, where both runs are done and have told their seconds.
        epochs: of the stops; None without any.
        accuracy: over the seeds of which at least one epoch fits.
        difference: to the accuracy of the reference after its last epoch, paired by seed; None of the reference itself.
        test: what the paired t test says of that.
    """

    reference: str
    stops: Mapping[int, Stop]
    epochs: Spread | None
    accuracy: Estimate | None
    difference: Estimate | None
    test: Significance | None = None

    @property
    def n_without(self) -> int:
        """For how many seeds not even the first epoch fits."""
        return sum(stop.epochs == 0 for stop in self.stops.values())


def training_seconds(run: RunResult) -> list[float] | None:
    """Return the seconds of training until the end of each epoch, validation not counted.

    None unless the run is done and every epoch has told its own.
    """
    seconds = [record.get("seconds") for record in run.metrics]
    if run.state != "done" or not seconds or not all(map(is_number, seconds)):
        return None
    return list(itertools.accumulate(float(value) for value in seconds if value is not None))


def stop_after(run: RunResult, budget: float) -> Stop | None:
    """Return how far a run comes in some seconds; None where it is not done or has not told its own.

    One that had all its epochs before stands where it ended: what it would have made of the rest is not known.

    Args:
        run: a single one; folds have no validation split.
        budget: seconds of training.
    """
    reached = training_seconds(run)
    if reached is None:
        return None
    epochs = sum(seconds <= budget for seconds in reached)
    return Stop(epochs, run.validation_accuracy(epochs - 1) if epochs else None)


def at_equal_seconds(
    runs: Mapping[int, RunResult], reference: str, theirs: Mapping[int, RunResult], *, interval: Interval = "t"
) -> EqualSeconds | None:
    """Return how an arm stands when the seconds that the reference has trained for are over; None where none is known.

    Args:
        runs: of the arm, by seed.
        reference: name of the reference arm.
        theirs: runs of the reference, by seed: either may be the same.
        interval: how intervals are made, see :func:`neuropil.compare.statistics.estimate`.
    """
    stops, base = {}, {}
    for seed, run in runs.items():
        reached = training_seconds(theirs[seed]) if seed in theirs else None
        stop = None if reached is None else stop_after(run, reached[-1])
        if stop is not None:
            stops[seed] = stop
            base[seed] = theirs[seed].validation_accuracy(-1)
    if not stops:
        return None
    own = {seed: stop.accuracy for seed, stop in stops.items() if stop.accuracy is not None}
    known = {seed: accuracy for seed, accuracy in base.items() if accuracy is not None}
    return EqualSeconds(
        reference=reference,
        stops=stops,
        epochs=Spread.of([stop.epochs for stop in stops.values()]),
        accuracy=estimate(list(own.values()), method=interval) if own else None,
        difference=None if runs is theirs else paired_difference(own, known, method=interval),
    )
