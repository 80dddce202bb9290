"""The table of a comparison as text, the same in the terminal and in the report."""

from dataclasses import dataclass

from neuropil.compare.activity import Activity
from neuropil.compare.results import ArmResult, Results
from neuropil.compare.sentences import explain_folds, interval, percent, points
from neuropil.compare.significance import Significance
from neuropil.compare.statistics import FEWEST_SEEDS, Estimate, Spread

DIFFERENCE = "− "  # how the header of a difference begins
ACTIVITY = ("firing rate", "synaptic operations", "energy")  # how those of spiking networks' activity begin
NONE = "–"  # what is not known, or does not apply
_DIFFERENCES = {
    "dense-same-width": "Accuracy less that of the dense network of the same width, which is the upper cost, in "
    "percentage points: mean of the differences at equal {unit}s, and its 95 % {interval} interval.",
    "dense-same-parameters": "Likewise, less that of the dense network narrow enough for the same parameters.",
    "erdos-renyi": "Likewise, less that of the network of the same density that is wired at random.",
    "static": "Likewise, for an arm that is rewired, less that of the same wiring left as it starts: what rewiring "
    "brings.",
    "reference": "Likewise, less that of the reference of the recipe; where it is a twin of the arm, see there.",
}
MARK = "*"  # of a difference that remains after correction
_INTRA_ONLY = f"{DIFFERENCE}itself, intra-only"
_CUT = (
    "Likewise, of a network with groups, less its own after every connection between groups has been cut at the end of "
    "training: the drop, which tells what these connections carry."
)
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
    unit = results.unit
    where, one = "On the test set", ""
    if results.recipe.folds is not None:
        where = "On the held-out fold"
        one = "" if unit == "fold" else f" (of each the mean over its {results.recipe.folds} folds)"
    when = ""
    if results.rewired_arms:
        like = "parameters" if results.recipe.spiking is not None else "parameters and multiply-accumulates"
        when = f"; of rewired arms after training, like their {like}"
    return [
        Column(
            "arm",
            "Name of the wiring, and what it is; p′ is the probability of a connection between two groups.",
        ),
        Column(
            f"{unit}s",
            "Seeds whose folds are all done, of those that the recipe asks for."
            if one
            else "Runs that are done, of those that the recipe asks for.",
        ),
        Column(
            "accuracy (%)",
            f"{where} after the last epoch: mean over {unit}s{one} ± half of the 95 % t interval."
            if results.recipe.interval == "t"
            else f"{where} after the last epoch: mean over {unit}s{one} and its 95 % bootstrap interval.",
        ),
        Column("parameters", f"Trained numbers: live weights and biases of the whole network; mean over {unit}s."),
        Column("density", f"Live over possible connections, of the hidden layers together; mean over {unit}s{when}."),
        *(
            []
            if results.recipe.spiking is not None
            else [
                Column(
                    f"multiply-accumulates{work}",
                    "Of the forward pass of one image, live connections only. Theoretical: the masked kernel computes "
                    "the dense product, whatever the density.",
                )
            ]
        ),
        Column(
            "seconds per epoch",
            "Wall-clock training time, validation not counted: each run's median over its epochs, of these the "
            f"median over {unit}s{one}, and lowest–highest.",
        ),
        Column(
            f"peak memory{memory}",
            "Most memory taken in training and evaluation, above what the process held before, parameters included; "
            f"median over {unit}s{one}.",
        ),
        *(_activity_columns(results) if results.recipe.spiking is not None else []),
        *(
            Column(f"{DIFFERENCE}{words}", _DIFFERENCES[kind].format(unit=unit, interval=results.recipe.interval))
            for kind, words in results.difference_words.items()
        ),
        *([Column(_INTRA_ONLY, _CUT)] if results.recipe.intra_only else []),
    ]


def table_note(results: Results) -> str:
    """Return what must stand beneath the table: what its intervals speak of."""
    if results.recipe.folds is not None:
        return explain_folds(results)
    return (
        "Intervals speak of seeds (wiring, start of the weights, order of the images) on this one test set; they do "
        "not say how far results would change with other images."
    )


def difference_note(results: Results) -> str | None:
    """Return what the marks of differences mean, and how their intervals are made; None where nothing is compared."""
    if not results.compared_arms:
        return None
    how = {"t": "95 % t intervals", "bootstrap": "95 % bootstrap intervals (BCa, 9,999 resamples)"}
    too_narrow = f", which are too narrow with few {results.unit}s: see neuropil show recipe"
    correction = {
        "holm": "after Holm's correction for all differences in its column, which is what findings are judged by",
        "none": "not corrected for the number of differences",
    }
    return (
        f"Differences have {how[results.recipe.interval]}, each for itself"
        f"{too_narrow if results.recipe.interval == 'bootstrap' else ''}. {MARK} p < 0.05 in a paired t test, "
        f"{correction[results.recipe.correction]}. Fewer than {FEWEST_SEEDS} {results.unit}s have no interval and no "
        "mark."
    )


def table_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the header and one row an arm, controls first, as text; a cell may hold two lines."""
    work, memory = _work_unit(results)[0], _memory_unit(results)[0]
    rows = [
        [
            f"{arm.arm.name}\n{arm.label}",
            seeds_text(arm),
            accuracy_text(arm.accuracy),
            NONE if arm.parameters is None else f"{arm.parameters:,.0f}",
            NONE if arm.density is None else f"{arm.density:.3f}",
            *(
                []
                if results.recipe.spiking is not None
                else [NONE if arm.multiply_accumulates is None else _three_digits(arm.multiply_accumulates / work)]
            ),
            _seconds(arm.seconds_per_epoch),
            NONE if arm.peak_memory_bytes is None else _three_digits(arm.peak_memory_bytes.median / memory),
            *(_activity(results, arm.activity) if results.recipe.spiking is not None else []),
            *(
                difference_text(found.accuracy, found.test) if (found := arm.differences.get(kind)) else NONE
                for kind in results.difference_words
            ),
            *([difference_text(arm.intra_only_drop)] if results.recipe.intra_only else []),
        ]
        for arm in results.arms.values()
    ]
    return [column.header for column in table_columns(results)], rows


def seeds_text(arm: ArmResult) -> str:
    """Say how many seeds (or folds) are done, and what became of the others."""
    done, n = arm.count("done"), len(arm.runs)
    if done == n:
        return str(n)
    counts = [(arm.count(state), words) for state, words in _STATE_WORDS.items()]  # type: ignore[arg-type]
    return f"{done} of {n}\n" + ", ".join(f"{count} {words}" for count, words in counts if count)


def accuracy_text(accuracy: Estimate | None) -> str:
    """Write a mean accuracy in per cent, with half of its interval, or its ends where they lie unequally far."""
    if accuracy is None:
        return NONE
    text = f"{100 * accuracy.mean:.2f}"
    if accuracy.interval is None or accuracy.n < FEWEST_SEEDS:
        return text
    if (half := accuracy.half_width) is not None:
        return f"{text} ± {100 * half:.2f}"
    low, high = accuracy.interval
    return f"{text} [{100 * low:.2f}, {100 * high:.2f}]"


def _seconds(seconds: Spread | None) -> str:
    if seconds is None:
        return NONE
    text = _three_digits(seconds.median)
    return text if seconds.n == 1 else f"{text}\n{_three_digits(seconds.low)}–{_three_digits(seconds.high)}"


def difference_text(found: Estimate | None, test: Significance | None = None) -> str:
    """Write a difference in percentage points, marked where it remains, and its interval on a line of its own."""
    if found is None:
        return NONE
    mark = MARK if test is not None and test.is_clear else ""
    return "\n".join(filter(None, [points(found.mean) + mark, interval(found)]))


def _three_digits(value: float) -> str:
    """Write a positive number with three digits or more, never in powers of ten.

    Example:
        >>> [_three_digits(value) for value in (0.04567, 5.432, 54.32, 5432.1)]
        ['0.046', '5.43', '54.3', '5,432']
    """
    if value < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _activity_columns(results: Results) -> list[Column]:
    numbers = ""
    if any(arm.activity.multiply_accumulates for arm in results.arms.values()):
        numbers = "; beneath them numbers that are no spikes, such as currents: multiply-accumulates"
    return [
        Column(
            "firing rate, hidden (%)",
            "Share of time steps in which a hidden neuron spikes, after the last epoch on the probe batch; beneath it "
            "the share of them that never do.",
        ),
        Column(
            f"synaptic operations{_operations_unit(results)[1]}",
            f"Spikes that pass a connection, for one image, all its time steps together{numbers}.",
        ),
        Column(
            f"energy{_energy_unit(results)[1]}",
            "Of these, estimated for 45 nm, memory and all else left out: see Activity.",
        ),
    ]


def _activity(results: Results, found: Activity) -> list[str]:
    rate = work = energy = NONE
    unit, joules = _operations_unit(results)[0], _energy_unit(results)[0]
    if found.hidden_firing_rate is not None:
        rate = _three_digits(100 * found.hidden_firing_rate)
        rate += "" if found.dead is None else f"\n{percent(found.dead)} never"
    if found.synaptic_operations is not None:
        work = _three_digits(found.synaptic_operations / unit)
        work += f"\n+ {_three_digits(found.multiply_accumulates / unit)}" if found.multiply_accumulates else ""
    if found.energy_joules is not None:
        energy = _three_digits(found.energy_joules / joules)
    return [rate, work, energy]


def _work_unit(results: Results) -> tuple[float, str]:
    return _power_of_ten([arm.multiply_accumulates for arm in results.arms.values()])


def _operations_unit(results: Results) -> tuple[float, str]:
    return _power_of_ten([arm.activity.synaptic_operations for arm in results.arms.values()])


def _power_of_ten(values: list[float | None]) -> tuple[float, str]:
    largest = max((value for value in values if value is not None), default=0.0)
    return (1e9, " (10⁹)") if largest >= 1e9 else (1e6, " (10⁶)") if largest >= 1e6 else (1e3, " (10³)")


def _energy_unit(results: Results) -> tuple[float, str]:
    known = [arm.activity.energy_joules for arm in results.arms.values()]
    largest = max((joules for joules in known if joules is not None), default=0.0)
    return (1e-3, " (mJ)") if largest >= 1e-3 else (1e-6, " (µJ)") if largest >= 1e-6 else (1e-9, " (nJ)")


def _memory_unit(results: Results) -> tuple[float, str]:
    known = [arm.peak_memory_bytes.median for arm in results.arms.values() if arm.peak_memory_bytes]
    return (2**30, " (GiB)") if max(known, default=0.0) >= 10 * 2**30 else (2**20, " (MiB)")
