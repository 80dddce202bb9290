"""What the numbers of a comparison allow one to say, in plain words and no more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neuropil.compare.recovery import describe_recovery
from neuropil.compare.results import ArmResult, Difference, Results
from neuropil.compare.significance import ALPHA, Significance, p_value
from neuropil.compare.significance_words import describe_chance, describe_power, warn_of_few
from neuropil.compare.statistics import FEW_SEEDS, FEWEST_SEEDS, Estimate, Spread

Verdict = Literal["better", "worse", "no difference shown", "nothing can be concluded"]

# of a rewired arm against the static one that is named
_HELP: dict[Verdict, str] = {
    "better": "Rewiring helped: better than {}, the same wiring left static.",
    "worse": "Rewiring did harm: worse than {}, the same wiring left static.",
    "no difference shown": "No difference shown between rewiring and {}, the same wiring left static.",
    "nothing can be concluded": "Whether rewiring helps against {}, the same wiring left static, cannot be concluded.",
}


@dataclass(frozen=True)
class Finding:
    """What is found about one arm that is compared with others.

    Attributes:
        arm: its name.
        label: what it is.
        summary: over all its twins and the reference, a sentence whose subject is the name.
        comparisons: one sentence about accuracy a twin, then one about the reference.
        speed: one sentence about time, against the dense twin of the same width, of a dense arm against the reference;
            None before there is one.
        rewiring: whether rewiring helped, and what it came to; None where the wiring stays.
    """

    arm: str
    label: str
    summary: str
    comparisons: tuple[str, ...]
    speed: str | None
    rewiring: str | None


def findings(results: Results) -> list[Finding]:
    """Return what is found about each arm that has twins, or is compared with a reference, as the recipe lists them."""
    return [
        Finding(
            arm=arm.arm.name,
            label=arm.label,
            summary=_summary(arm, results.difference_words),
            comparisons=tuple(
                compare_accuracy(arm.arm.name, arm.differences[kind], n_seeds=results.n_units, unit=results.unit)
                for kind in results.difference_words
                if kind in arm.differences
            ),
            speed=compare_speed(arm, unit=results.unit),
            rewiring=judge_rewiring(arm, results),
        )
        for arm in results.compared_arms
    ]


def verdict(difference: Estimate | None, test: Significance | None = None) -> Verdict:
    """Say what differences allow: ``better`` or ``worse`` only where chance alone would seldom bring such a mean.

    Fewer than three seeds, and equal differences at all of them, which give no measure of spread, allow
    nothing.

    Args:
        difference: paired, over seeds.
        test: with p corrected for other differences; default: none are heeded.
    """
    p = None if difference is None else p_value(difference) if test is None else test.corrected_p
    if difference is None or difference.n < FEWEST_SEEDS or p is None:
        return "nothing can be concluded"
    if p >= ALPHA:
        return "no difference shown"
    return "better" if difference.mean > 0 else "worse"


def compare_accuracy(arm: str, difference: Difference, *, n_seeds: int, unit: str = "seed") -> str:
    """Say how the accuracy of an arm differs from that of a twin, and what could have been seen where it does not.

    Args:
        arm: the arm's name.
        difference: to the twin.
        n_seeds: seeds, or folds, of the recipe; fewer in common are named as such.
        unit: ``seed`` or ``fold``, see :attr:`neuropil.compare.results.Results.unit`.
    """
    found = difference.accuracy
    start = f"{arm} − {difference.twin}"
    if found is None:
        return f"{start}: no {unit} has been done by both, so nothing can be concluded."
    seeds = f"{found.n} {unit}{'s' * (found.n != 1)}" if found.n == n_seeds else f"{found.n} of {n_seeds} {unit}s"
    start = " ".join(filter(None, [f"{start}: {points(found.mean)} points", interval(found)]))
    result = verdict(found, difference.test)
    if result == "nothing can be concluded":
        reason = "too few" if found.n < FEWEST_SEEDS else f"the same at every {unit}, which gives no measure of spread"
        return f"{start}, {seeds}: {reason}; nothing can be concluded."
    alone = p_value(found)
    lost = result == "no difference shown" and alone is not None and alone < ALPHA
    chance = "" if alone is None else f" ({describe_chance(alone, difference.test)})"
    power = describe_power(found, difference.test, unit=unit) if result == "no difference shown" else ""
    return f"{start}: {result}{' after correction,' * lost} with {seeds}{chance}.{power}"


def compare_speed(arm: ArmResult, *, unit: str = "seed") -> str | None:
    """Say how long an epoch takes against the dense twin of the same width, or the reference.

    None where there is neither, or one of them is not done.
    """
    difference = arm.differences.get("dense-same-width") or arm.differences.get("reference")
    time = None if difference is None else difference.time
    if difference is None or time is None:
        return None
    if round(time.high, 2) < 1:  # as it is written
        result = f"faster at {_every(time, unit)}"
    elif round(time.low, 2) > 1:
        result = f"slower at {_every(time, unit)}"
    else:
        result = f"neither faster nor slower at every {unit}" if time.n > 1 else "as fast"
    work = "" if difference.work is None else f", for {difference.work:.2f} of its multiply-accumulates"
    if arm.activity.hidden_firing_rate is not None and difference.operations is not None:
        work = f", for {difference.operations:.2f} of its synaptic operations"
    kernels = "; the masked kernel computes the dense product" if "masked" in arm.kernels else ""
    low_high = f" [{time.low:.2f}–{time.high:.2f}]" if time.n > 1 else ""
    return f"An epoch takes {time.median:.2f}{low_high} of the time of {difference.twin}{work}: {result}{kernels}."


def judge_rewiring(arm: ArmResult, results: Results) -> str | None:
    """Say whether rewiring helped against the same wiring left static, how much changed, and what that took.

    None where the wiring stays, or no run is done.
    """
    if arm.arm.rewiring is None or arm.rewired is None:
        return None
    static = arm.differences.get("static")
    sentences = []
    if static is None:
        density = "" if arm.density is None else f", to {arm.density:.3f} in the end, which its twins are matched to"
        sentences.append(f"Its density changes{density}: it has no static twin.")
    else:
        sentences.append(_HELP[verdict(static.accuracy, static.test)].format(static.twin))
    found = arm.rewired
    events = f"{found.events:,.0f} event{'s' * (round(found.events) != 1)}"
    start = None if static is None else results.arms[static.twin].density
    before = "" if start is None else f", {percent(start)} at the start"
    if static is None and found.replaced == 0:
        sentences.append(f"{events} took connections away, and none came.")
        sentences += filter(None, [describe_recovery(arm.single_runs)])
    else:
        sentences.append(
            f"{events} replaced {percent(found.replaced)} of its connections, counting each time; "
            f"{percent(found.explored)} of those that are possible have been live{before}."
        )
    if static is not None and static.time is not None:
        sentences.append(f"An epoch takes {static.time.median:.2f} of the time that it takes without rewiring.")
    return " ".join(sentences)


def caveats(results: Results) -> list[str]:
    """Return what a reader must keep in mind with these findings."""
    sentences = []
    made = [d for arm in results.compared_arms for d in arm.differences.values() if d.accuracy is not None]
    if results.n_units < FEWEST_SEEDS:
        sentences.append(f"With fewer than {FEWEST_SEEDS} {results.unit}s, nothing can be concluded about accuracy.")
    elif made:
        sentences.append(
            "“No difference shown” does not mean equal: the interval says how large a difference may still be."
        )
    if results.recipe.folds is not None:
        sentences.append(explain_folds(results))
    if FEWEST_SEEDS <= results.n_units < FEW_SEEDS:
        sentences.append(warn_of_few(results.n_units, results.unit))
    tests = [difference.test for difference in made if difference.test is not None]
    if len(tests) > 1 and results.recipe.correction == "none":
        sentences.append(
            f"{len(tests)} differences are shown, and no correction for multiple comparisons was made: where nothing "
            "differs, about one 95 % interval in 20 leaves out 0 all the same."
        )
    elif any(test.n_tests > 1 for test in tests):
        sentences.append(
            f"{len(tests)} differences were tested. What is said of them counts p values after Holm's correction for "
            "all those of one kind; their intervals stand each for itself: where nothing differs, about one in 20 "
            "leaves out 0 all the same."
        )
    if any(arm.count("diverged") for arm in results.arms.values()):
        sentences.append(
            "Runs that diverged have no accuracy and are left out of the means, so an arm that has such runs looks "
            "better than it is."
        )
    if any(arm.count("running", "missing", "failed") for arm in results.arms.values()):
        sentences.append("Some runs are not done: these are the findings so far.")
    for key, name in (("processor", "processors"), ("gpu", "GPUs"), ("threads", "numbers of threads")):
        values = results.environments().get(key, [])
        if len(values) > 1:
            listed = ", ".join(map(str, values))
            sentences.append(f"Runs were made with different {name} ({listed}): their times cannot be compared.")
    return sentences


def explain_folds(results: Results) -> str:
    """Say in one sentence what the statistics of a cross-validation count, and that its folds are not independent."""
    if results.unit == "fold":
        return (
            f"The sample is the folds, all of them with seed {results.recipe.seeds[0]}; they are not independent, for "
            "their training sets overlap, so the intervals are too narrow."
        )
    return (
        f"The sample is the seeds, each the mean over the same {results.recipe.folds} folds; these are not "
        "independent, for their training sets overlap, so the intervals are too narrow to speak of other images."
    )


def points(share: float) -> str:
    """Write a share in percentage points, with its sign.

    Example:
        >>> points(-0.00123), points(0.0)
        ('−0.12', '+0.00')
    """
    text = f"{100 * share:+.2f}"
    return "+0.00" if text == "-0.00" else text.replace("-", "−")


def interval(estimate: Estimate) -> str:
    """Write an interval in percentage points; empty where there is none, or too few seeds for one."""
    if estimate.interval is None or estimate.n < FEWEST_SEEDS:
        return ""
    low, high = estimate.interval
    return f"[{points(low)}, {points(high)}]"


def percent(share: float) -> str:
    """Write a share in per cent.

    Example:
        >>> percent(0.0183), percent(0.614), percent(0.0)
        ('1.8 %', '61 %', '0 %')
    """
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.1 else f"{100 * share:.2g} %"


def _summary(arm: ArmResult, kinds: Mapping[str, str]) -> str:
    """Say which twins an arm is better and worse than, and whether than the reference."""
    by_verdict: dict[Verdict, list[str]] = {}
    for kind, words in kinds.items():
        if kind in arm.differences:
            found = arm.differences[kind]
            twin = "the same wiring left static" if kind == "static" else words.replace(", same ", " of the same ")
            by_verdict.setdefault(verdict(found.accuracy, found.test), []).append(twin)
    if list(by_verdict) == ["nothing can be concluded"]:
        return "nothing can be concluded about its accuracy."
    phrases: dict[Verdict, str] = {
        "better": "better than {}",
        "worse": "worse than {}",
        "no difference shown": "no difference shown from {}",
        "nothing can be concluded": "nothing can be concluded about {}",
    }
    parts = [phrase.format(_listed(by_verdict[key])) for key, phrase in phrases.items()
             if key in by_verdict]  # fmt: skip
    return f"{'; '.join(parts)}."


def _listed(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _every(time: Spread, unit: str) -> str:
    return f"every {unit}" if time.n > 1 else f"the one {unit} that both have done"
