"""Timing of contestants side by side: every round gives each its turn, so that a machine's moods hit all alike."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

Step = Callable[[], object]
Clock = Callable[[Step], float]

# what a contestant may fail with, without an end to the others: compilers of kernels have errors of their own
FAILURES = Exception
_MOST_REPEATS = 100
_LONGEST_REASON = 180


class Timings(NamedTuple):
    """What was measured.

    Attributes:
        seconds: of each contestant that came through, one number a round, in the order of the rounds.
        reasons: why each of the others did not, in one sentence.
        first: what each contestant's first step has returned.
    """

    seconds: dict[str, list[float]]
    reasons: dict[str, str]
    first: dict[str, object]


def cpu_clock(step: Step) -> float:
    """Return the seconds that a step takes on a CPU."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def cuda_clock(step: Step) -> float:
    """Return the seconds between two events on a GPU, before and after all that a step has launched there."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def clock_of(device: str) -> Clock:
    """Return the clock for a device; neither of them times launches."""
    return cuda_clock if torch.device(device).type == "cuda" else cpu_clock


def measure(
    contestants: Mapping[str, Callable[[], Step]],
    *,
    rounds: int,
    warm_up: int = 2,
    clock: Clock = cpu_clock,
    shortest: float = 0.0,
) -> Timings:
    """Time contestants in turn, round by round.

    One that fails, when it is built or in any round, is left out from there on, and the others go on.

    Args:
        contestants: by name, what builds each one and returns its step. All are built before the first round.
        rounds: that are counted.
        warm_up: rounds before them, at least 1.
        clock: from a step to its seconds.
        shortest: seconds that a sample should last; a quicker step is repeated, and the sample divided. A GPU wants
            this: its launches overlap only in a row of steps.
    """
    steps: dict[str, Step] = {}
    seconds: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    first: dict[str, object] = {}
    repeats: dict[str, int] = {}
    for name, build in contestants.items():
        try:
            steps[name] = build()
        except FAILURES as error:
            reasons[name] = reason_of(error)
    with no_garbage():
        for turn in range(max(1, warm_up) + rounds):
            gc.collect()
            for name, step in list(steps.items()):
                try:
                    if turn == 0:
                        first[name] = step()
                    elif turn < max(1, warm_up):
                        took = clock(step)
                        repeats[name] = min(_MOST_REPEATS, math.ceil(shortest / max(took, 1e-9)))
                    else:
                        n = max(1, repeats.get(name, 1))
                        seconds.setdefault(name, []).append(clock(_repeated(step, n)) / n)
                except FAILURES as error:
                    reasons[name] = reason_of(error)
                    del steps[name]
                    seconds.pop(name, None)
    return Timings(seconds, reasons, first)


@contextmanager
def no_garbage() -> Iterator[None]:
    """Keep Python from collecting garbage at a time of its own choice; what is there already is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _repeated(step: Step, n: int) -> Step:
    if n == 1:
        return step

    def steps() -> None:
        for _ in range(n):
            step()

    return steps


def reason_of(error: BaseException) -> str:
    """Return what an error says, in one sentence of one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    sentence = line.split(". ")[0].rstrip(".")
    return sentence if len(sentence) <= _LONGEST_REASON else sentence[: _LONGEST_REASON - 1] + "…"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile, which lie within the values however few there are."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(reference: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles of how many times as fast as a reference something is, taken round by round."""
    return quartiles([a / b for a, b in zip(reference, seconds, strict=True)])


def summary(timings: Timings, name: str, references: Mapping[str, str], *, rounds: int) -> dict[str, object]:
    """Return the columns of a table that say how long a contestant takes, or why that is not known.

    Args:
        timings: from :func:`measure`.
        name: of the contestant.
        references: by the end of a column's name, the contestant that the ratio is taken to.
        rounds: that were asked for.
    """
    row: dict[str, object] = {}
    times = timings.seconds.get(name)
    if times is not None:
        low, middle, high = (round(1000 * value, 4) for value in quartiles(times))
        row |= {"median_ms": middle, "lower_quartile_ms": low, "upper_quartile_ms": high}
        for column, reference in references.items():
            if (base := timings.seconds.get(reference)) is not None:
                low, middle, high = (round(value, 3) for value in ratios(base, times))
                row |= {f"over_{column}": middle, f"over_{column}_lower": low, f"over_{column}_upper": high}
    return row | {"rounds": rounds, "reason": timings.reasons.get(name)}
