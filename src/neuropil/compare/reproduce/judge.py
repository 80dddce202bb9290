"""From runs to a verdict: does a published claim hold?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neuropil.compare.probe_ranks import spearman
from neuropil.compare.reproduce.claims import Claim
from neuropil.compare.reproduce.conditions import MEASURES, Condition, Quantity, write_number
from neuropil.compare.reproduce.rows import Rows
from neuropil.compare.statistics import FEWEST_SEEDS, estimate, paired_difference

Verdict = Literal["holds", "does not hold", "cannot be judged"]


@dataclass(frozen=True)
class Measured:
    """What runs say of a quantity.

    Attributes:
        value: mean over seeds, or a rank correlation.
        interval: of 95 %; None from a single run.
        n: seeds, or runs where a correlation is judged.
    """

    value: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Finding:
    """One condition beside what was measured.

    Attributes:
        condition: what must hold.
        published: the published figure; empty where there is none.
        measured: None where nothing could be.
        verdict: of this condition alone.
        reason: why it cannot be judged, or on how few runs it rests; empty otherwise.
    """

    condition: Condition
    published: str
    measured: Measured | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Judgement:
    """A claim, and what its runs say.

    Attributes:
        claim: which one.
        verdict: holds if all conditions do, and does not if one does not; else it cannot be judged.
        findings: condition by condition.
    """

    claim: Claim
    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def n(self) -> int:
        """Seeds (or runs, of a correlation) that the weakest finding rests on."""
        return min((finding.measured.n if finding.measured else 0 for finding in self.findings), default=0)


def judge(claim: Claim, rows: Rows) -> Judgement:
    """Judge a claim by its runs.

    A condition holds if the whole 95 % interval lies on the right side of its threshold, and does not hold if the
    whole interval lies on the wrong side. It cannot be judged if the interval has the threshold inside, runs are
    missing, failed or diverged, or there are fewer than three seeds. Only where the published figure itself is that of
    one run, a verdict may rest on fewer, and says so.

    Args:
        claim: whose conditions count.
        rows: of its runs.
    """
    findings = tuple(_find(claim, condition, rows) for condition in claim.judged())
    verdicts: Sequence[Verdict] = [finding.verdict for finding in findings]
    verdict: Verdict = "cannot be judged"
    if "does not hold" in verdicts:
        verdict = "does not hold"
    elif set(verdicts) == {"holds"}:
        verdict = "holds"
    return Judgement(claim, verdict, findings)


def _find(claim: Claim, condition: Condition, rows: Rows) -> Finding:
    published = claim.published(condition)
    measured, lacking = _measure(condition.quantity, rows)

    def found(verdict: Verdict, reason: str = "") -> Finding:
        return Finding(condition, published, measured, verdict, reason)

    if measured is None:
        return found("cannot be judged", lacking or "no run is done")
    few = measured.n < FEWEST_SEEDS
    if claim.single_run and (few or lacking):
        runs = "one run" if measured.n == 1 else f"{measured.n} runs"
        return found("holds" if condition.met_by(measured.value) else "does not hold", f"of {runs}, as published")
    if lacking:
        return found("cannot be judged", lacking)
    if few or measured.interval is None:
        return found("cannot be judged", f"fewer than {FEWEST_SEEDS} seeds")
    met = {condition.met_by(end) for end in measured.interval}
    if len(met) == 2:
        return found("cannot be judged", f"the interval contains {write_number(condition.threshold)}")
    return found("holds" if met == {True} else "does not hold")


def _measure(quantity: Quantity, rows: Rows) -> tuple[Measured | None, str]:
    """Return what was measured, and which runs are lacking, in words; nothing where all are done."""
    if quantity.arm is None:
        return _correlate(quantity, rows)
    values = {arm: rows.values(arm, quantity.measure) for arm in quantity.arms}
    lacking = "; ".join(
        f"{rows.chosen(arm)}: {len(others)} of {len(others) + len(done)} runs {', '.join(sorted(set(others)))}"
        if others or done
        else f"{arm}: no runs"
        for arm, (done, others) in values.items()
        if others or not done
    )
    own = values[quantity.arm][0]
    if quantity.other is None:
        result = estimate([*own.values()]) if own else None
    else:
        result = paired_difference(own, values[quantity.other][0])
    return (None if result is None else Measured(result.mean, result.interval, result.n)), lacking


def _correlate(quantity: Quantity, rows: Rows) -> tuple[Measured | None, str]:
    pairs: list[tuple[float, float]] = []
    lacking = 0
    for arm in rows.by_arm:
        first, second = (rows.values(arm, measure)[0] for measure in (quantity.measure, quantity.second or ""))
        pairs += [(value, second[seed]) for seed, value in first.items() if seed in second]
        lacking += len(rows.by_arm[arm]) - len(first.keys() & second.keys())
    rank = spearman(pairs)
    words = f"{lacking} of {lacking + len(pairs)} runs lack it" if lacking else ""
    return (None if rank is None else Measured(rank.rho, rank.interval, rank.n)), words


def measured_text(finding: Finding) -> str:
    """Write what was measured, its interval in brackets.

    Example:
        >>> from neuropil.compare.reproduce.conditions import read_condition
        >>> condition = read_condition("accuracy(a) - accuracy(b) > 0")
        >>> measured_text(Finding(condition, "", Measured(-0.5, (-1.25, 0.25), 5), "cannot be judged"))
        '−0.50 [−1.25, +0.25]'
    """
    measured, quantity = finding.measured, finding.condition.quantity
    if measured is None:
        return "–"
    form = "+.2f" if quantity.is_signed else ".2f"
    text = write_number(measured.value, form)
    if measured.interval is None:
        return text
    return f"{text} [{', '.join(write_number(end, form) for end in measured.interval)}]"


def unit_of(quantity: Quantity) -> str:
    """Return the unit of a quantity: per cent, points, or nothing.

    Example:
        >>> from neuropil.compare.reproduce.conditions import read_quantity
        >>> unit_of(read_quantity("accuracy(a)")), unit_of(read_quantity("accuracy(a) - accuracy(b)"))
        ('%', 'points')
    """
    if quantity.arm is None or MEASURES[quantity.measure].factor == 1:
        return ""
    return "%" if quantity.other is None else "points"
