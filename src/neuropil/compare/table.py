"""The table of a comparison as text, the same in the terminal and in the report."""

from dataclasses import dataclass

from neuropil.compare.results import ArmResult, Results
from neuropil.compare.sentences import interval, points
from neuropil.compare.statistics import Estimate, Spread

DIFFERENCE = "− "  # how the header of a difference begins
_NONE = "–"
_DIFFERENCES = {
    "dense-same-width": "Accuracy less that of the dense network of the same width, which is the upper cost, in "
    "percentage points: mean of the differences at equal seeds, and its 95 % t interval.",
    "dense-same-parameters": "Likewise, less that of the dense network narrow enough for the same parameters.",
    "erdos-renyi": "Likewise, less that of the network of the same density that is wired at random.",
    "static": "Likewise, for an arm that is rewired, less that of the same wiring left as it starts: what rewiring "
    "brings.",
}
_STATE_WORDS = {"diverged": "diverged", "failed": "failed", "running": "unfinished", "missing": "missing"}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        header: its title, unit included.
        explanation: one sentence for the note beneath.
    """

    header: str
    explanation: str


def table_columns(results: Results) -> list[Column]:
    """Return the columns of the table, in order."""
    work, memory = _work_unit(results)[1], _memory_unit(results)[1]
    when = ""
    if results.rewired_arms:
        when = "; of rewired arms after training, like their parameters and multiply-accumulates"
    return [
        Column(
            "arm",
            "Name of the wiring, and what it is; p′ is the probability of a connection between two groups.",
        ),
        Column("seeds", "Runs that are done, of those that the recipe asks for."),
        Column(
            "accuracy (%)",
            "On the test set after the last epoch: mean over seeds ± half of the 95 % t interval.",
        ),
        Column("parameters", "Trained numbers: live weights and biases of the whole network; mean over seeds."),
        Column("density", f"Live over possible connections, of the hidden layers together; mean over seeds{when}."),
        Column(
            f"multiply-accumulates{work}",
            "Of the forward pass of one image, live connections only. Theoretical: the masked kernel computes the "
            "dense product, whatever the density.",
        ),
        Column(
            "seconds per epoch",
            "Wall-clock training time, validation not counted: each run's median over its epochs, of these the "
            "median over seeds, and lowest–highest.",
        ),
        Column(
            f"peak memory{memory}",
            "Most memory taken in training and evaluation, above what the process held before, parameters included; "
            "median over seeds.",
        ),
        *(Column(f"{DIFFERENCE}{words}", _DIFFERENCES[kind]) for kind, words in results.twin_words.items()),
    ]


def table_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the header and one row an arm, controls first, as text; a cell may hold two lines."""
    work, memory = _work_unit(results)[0], _memory_unit(results)[0]
    rows = [
        [
            f"{arm.arm.name}\n{arm.label}",
            seeds_text(arm),
            _accuracy(arm.accuracy),
            _NONE if arm.parameters is None else f"{arm.parameters:,.0f}",
            _NONE if arm.density is None else f"{arm.density:.3f}",
            _NONE if arm.multiply_accumulates is None else _three_digits(arm.multiply_accumulates / work),
            _seconds(arm.seconds_per_epoch),
            _NONE if arm.peak_memory_bytes is None else _three_digits(arm.peak_memory_bytes.median / memory),
            *(_difference(arm, kind) for kind in results.twin_words),
        ]
        for arm in results.arms.values()
    ]
    return [column.header for column in table_columns(results)], rows


def seeds_text(arm: ArmResult) -> str:
    """Say how many seeds are done, and what became of the others."""
    done, n = arm.count("done"), len(arm.runs)
    if done == n:
        return str(n)
    counts = [(arm.count(state), words) for state, words in _STATE_WORDS.items()]  # type: ignore[arg-type]
    return f"{done} of {n}\n" + ", ".join(f"{count} {words}" for count, words in counts if count)


def _accuracy(accuracy: Estimate | None) -> str:
    if accuracy is None:
        return _NONE
    half = accuracy.half_width
    return f"{100 * accuracy.mean:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")


def _seconds(seconds: Spread | None) -> str:
    if seconds is None:
        return _NONE
    text = _three_digits(seconds.median)
    return text if seconds.n == 1 else f"{text}\n{_three_digits(seconds.low)}–{_three_digits(seconds.high)}"


def _difference(arm: ArmResult, kind: str) -> str:
    difference = arm.differences.get(kind)
    if difference is None or difference.accuracy is None:
        return _NONE
    found = difference.accuracy
    return points(found.mean) if found.interval is None else f"{points(found.mean)}\n{interval(found)}"


def _three_digits(value: float) -> str:
    """Write a positive number with three digits or more, never in powers of ten.

    Example:
        >>> [_three_digits(value) for value in (0.04567, 5.432, 54.32, 5432.1)]
        ['0.046', '5.43', '54.3', '5,432']
    """
    if value < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _work_unit(results: Results) -> tuple[float, str]:
    known = [arm.multiply_accumulates for arm in results.arms.values() if arm.multiply_accumulates]
    largest = max(known, default=0.0)
    return (1e9, " (10⁹)") if largest >= 1e9 else (1e6, " (10⁶)") if largest >= 1e6 else (1e3, " (10³)")


def _memory_unit(results: Results) -> tuple[float, str]:
    known = [arm.peak_memory_bytes.median for arm in results.arms.values() if arm.peak_memory_bytes]
    return (2**30, " (GiB)") if max(known, default=0.0) >= 10 * 2**30 else (2**20, " (MiB)")
