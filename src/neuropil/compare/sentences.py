"""What the numbers of a comparison allow one to say, in plain words and no more."""

from dataclasses import dataclass
from typing import Literal

from neuropil.compare.labels import TWIN_WORDS
from neuropil.compare.recovery import describe_recovery
from neuropil.compare.results import ArmResult, Difference, Results
from neuropil.compare.statistics import Estimate, Spread

Verdict = Literal["better", "worse", "no difference shown", "nothing can be concluded"]

FEWEST_SEEDS = 3  # below this, an interval says next to nothing
_NO_SPREAD = 1e-9  # a narrower interval comes of equal values, not of certainty
# of a rewired arm against the static one that is named
_HELP: dict[Verdict, str] = {
    "better": "Rewiring helped: better than {}, the same wiring left static.",
    "worse": "Rewiring did harm: worse than {}, the same wiring left static.",
    "no difference shown": "No difference shown between rewiring and {}, the same wiring left static.",
    "nothing can be concluded": "Whether rewiring helps against {}, the same wiring left static, cannot be concluded.",
}


@dataclass(frozen=True)
class Finding:
    """What is found about one sparse arm.

    Attributes:
        arm: its name.
        label: what it is.
        summary: over all its twins, a sentence whose subject is the name.
        comparisons: one sentence about accuracy a twin.
        speed: one sentence about time, against the dense twin of the same width; None before there is one.
        rewiring: whether rewiring helped, and what it came to; None where the wiring stays.
    """

    arm: str
    label: str
    summary: str
    comparisons: tuple[str, ...]
    speed: str | None
    rewiring: str | None


def findings(results: Results) -> list[Finding]:
    """Return what is found about each sparse arm, in the order of the recipe."""
    return [
        Finding(
            arm=arm.arm.name,
            label=arm.label,
            summary=_summary(arm),
            comparisons=tuple(
                compare_accuracy(arm.arm.name, arm.differences[kind], n_seeds=results.n_units, unit=results.unit)
                for kind in TWIN_WORDS
                if kind in arm.differences
            ),
            speed=compare_speed(arm, unit=results.unit),
            rewiring=judge_rewiring(arm, results),
        )
        for arm in results.sparse_arms
    ]


def verdict(difference: Estimate | None) -> Verdict:
    """Say what an interval of differences allows: ``better`` or ``worse`` only if it leaves out 0.

    Fewer than three seeds, and equal differences at all of them, which give no measure of spread, allow
    nothing.
    """
    if difference is None or difference.interval is None or difference.n < FEWEST_SEEDS:
        return "nothing can be concluded"
    low, high = difference.interval
    if high - low < _NO_SPREAD:
        return "no difference shown" if abs(difference.mean) < _NO_SPREAD else "nothing can be concluded"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"


def compare_accuracy(arm: str, difference: Difference, *, n_seeds: int, unit: str = "seed") -> str:
    """Say how the accuracy of an arm differs from that of a twin.

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
    start = f"{start}: {points(found.mean)} points"
    if found.interval is not None:
        start = f"{start} {interval(found)}"
    result = verdict(found)
    if result == "nothing can be concluded":
        reason = "too few" if found.n < FEWEST_SEEDS else f"the same at every {unit}, which gives no measure of spread"
        return f"{start}, {seeds}: {reason}; nothing can be concluded."
    why = {"better": ": the interval lies above 0", "worse": ": the interval lies below 0"}.get(result, "")
    return f"{start}, {seeds}: {result}{why}."


def compare_speed(arm: ArmResult, *, unit: str = "seed") -> str | None:
    """Say how long an epoch takes against the dense twin of the same width; None where one of them is not done."""
    difference = arm.differences["dense-same-width"]
    time = difference.time
    if time is None:
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
        sentences.append(_HELP[verdict(static.accuracy)].format(static.twin))
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
    made = [d.accuracy for arm in results.sparse_arms for d in arm.differences.values() if d.accuracy is not None]
    if results.n_units < FEWEST_SEEDS:
        sentences.append(f"With fewer than {FEWEST_SEEDS} {results.unit}s, nothing can be concluded about accuracy.")
    elif made:
        sentences.append(
            "“No difference shown” does not mean equal: the interval says how large a difference may still be."
        )
    if results.recipe.folds is not None:
        sentences.append(explain_folds(results))
    if len(made) > 1:
        sentences.append(
            f"{len(made)} differences are shown, and no correction for multiple comparisons was made: where nothing "
            "differs, about one 95 % interval in 20 leaves out 0 all the same."
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
    """Write an interval in percentage points; empty where there is none."""
    if estimate.interval is None:
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


def _summary(arm: ArmResult) -> str:
    """Say which twins an arm is better and worse than."""
    by_verdict: dict[Verdict, list[str]] = {}
    for kind, words in TWIN_WORDS.items():
        if kind in arm.differences:
            twin = "the same wiring left static" if kind == "static" else words.replace(", same ", " of the same ")
            by_verdict.setdefault(verdict(arm.differences[kind].accuracy), []).append(twin)
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
