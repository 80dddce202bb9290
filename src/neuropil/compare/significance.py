"""What a test says of the difference of two arms: chance, size, and what more seeds would show."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from neuropil.compare.statistics import FEWEST_SEEDS, LEVEL, Estimate

Name = TypeVar("Name", bound=Hashable)
Correction = Literal["holm", "none"]

ALPHA = 1 - LEVEL
POWER = 0.8
MOST_SEEDS = 10_000  # that :func:`seeds_needed` thinks of
NO_SPREAD = 1e-9  # a smaller deviation comes of equal values, not of certainty


@dataclass(frozen=True)
class Significance:
    """What the paired t test says of one difference among several.

    Attributes:
        p: probability of a mean at least as far from 0 where there is no true difference, in [0, 1].
        corrected_p: the same after correction for all differences of the family; p itself where none was asked for.
        n_tests: differences of the family that were tested, this one among them, at least 1.
        corrected: whether they were corrected for.
    """

    p: float
    corrected_p: float
    n_tests: int
    corrected: bool

    @property
    def is_clear(self) -> bool:
        """Whether it holds at the level of all intervals, after correction."""
        return self.corrected_p < ALPHA

    @property
    def strictest_level(self) -> float:
        """The level at which the least p of the family is judged: a difference that reaches it is clear in any case."""
        return ALPHA / self.n_tests if self.corrected else ALPHA


def p_value(difference: Estimate) -> float | None:
    """Return the two-sided p value of the paired t test, in [0, 1]; None where there is no measure of spread.

    t = d̄ · √n / s with n − 1 degrees of freedom. Differences that are all 0 give 1; fewer than two, or equal ones that
    are not 0, give None.

    Reference:
        Student, The probable error of a mean, Biometrika 6 (1908).

    Example:
        >>> from neuropil.compare.statistics import estimate
        >>> round(p_value(estimate([0.1, 0.2, 0.3])), 4)
        0.0742
    """
    if difference.deviation is None:
        return None
    if difference.deviation < NO_SPREAD:
        return 1.0 if abs(difference.mean) < NO_SPREAD else None
    from scipy.special import stdtr

    t = difference.mean * math.sqrt(difference.n) / difference.deviation
    return 2 * float(stdtr(difference.n - 1, -abs(t)))


def effect_size(difference: Estimate) -> float | None:
    """Return Cohen's d_z with Hedges' correction: the mean difference in standard deviations of the differences.

    g_z = J · d̄ / s, J = Γ(m / 2) / (√(m / 2) · Γ((m − 1) / 2)) with m = n − 1, the exact factor that takes out the bias
    of d̄ / s (0.56 for 3 seeds, 0.80 for 5, 0.91 for 10). It is the spread over seeds of the *difference* that it
    divides by: seeds that do the same to both arms make it large. None for fewer than three values or no spread.

    Reference:
        Cohen, Statistical power analysis for the behavioral sciences (1988); Hedges, J. Educ. Stat. 6 (1981), which
        gives J for two independent groups: here with the degrees of freedom of pairs.

    Example:
        >>> from neuropil.compare.statistics import estimate
        >>> round(effect_size(estimate([0.1, 0.2, 0.3])), 4)
        1.1284
    """
    if difference.n < FEWEST_SEEDS or not difference.deviation or difference.deviation < NO_SPREAD:
        return None
    m = difference.n - 1
    factor = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)
    return factor * difference.mean / difference.deviation


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Return p values corrected so that any false finding among all of them is as rare as one p value says.

    With p₁ ≤ … ≤ p_m: p̃_k = max_{j ≤ k} min(1, (m − j + 1) · p_j). It asks for no independence, and never finds less
    than Bonferroni's m · p.

    Args:
        p_values: in [0, 1], by name.

    Reference:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected: dict[Name, float] = {}
    reached = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = reached
    return {name: corrected[name] for name in p_values}


def judge(differences: Mapping[Name, Estimate | None], correction: Correction = "holm") -> dict[Name, Significance]:
    """Test all differences of one family, and correct for their number.

    Those of fewer than three seeds, and equal ones that give no measure of spread, are neither tested nor counted.

    Args:
        differences: by name; None: not known.
        correction: ``holm``, or ``none``.
    """
    tested = {
        name: p
        for name, found in differences.items()
        if found is not None and found.n >= FEWEST_SEEDS and (p := p_value(found)) is not None
    }
    corrected = holm(tested) if correction == "holm" else tested
    return {name: Significance(p, corrected[name], len(tested), correction == "holm") for name, p in tested.items()}


def detectable_difference(deviation: float, n: int, *, level: float = ALPHA, power: float = POWER) -> float:
    """Return the least true difference that a paired t test of n seeds would show as often as the power says.

    δ / √n · s, where the test of size ``level`` has that power at the noncentrality δ:
    P(T_{n−1, δ} > t_{1 − level/2, n−1}) = power. What lies beyond the other quantile, less than 10⁻³, is left out, so
    that the difference is never told too small.

    Args:
        deviation: standard deviation of a single difference, ≥ 0.
        n: number of seeds, at least 2.
        level: of the two-sided test, in (0, 1).
        power: in [0.5, 1).

    Reference:
        Cohen, Statistical power analysis for the behavioral sciences (1988).

    Example:
        >>> [round(detectable_difference(1.0, n), 2) for n in (3, 5, 10)]
        [3.26, 1.68, 1.0]
    """
    from scipy.optimize import brentq

    low, high = 0.0, 1.0
    while _power(high, n, level) < power:
        low, high = high, 2 * high
    shift = brentq(lambda shift: _power(shift, n, level) - power, low, high, xtol=1e-9)
    return float(shift) / math.sqrt(n) * deviation


def seeds_needed(difference: Estimate, *, level: float = ALPHA, power: float = POWER) -> int | None:
    """Return how many seeds would show a difference as often as the power says, were mean and spread the true ones.

    The least n whose :func:`detectable_difference` is at most the size of d̄. None where that is more than
    :data:`MOST_SEEDS`, or there is no measure of spread.

    Args:
        difference: paired, of at least two seeds.
        level: of the two-sided test, in (0, 1).
        power: in [0.5, 1).

    Example:
        >>> from neuropil.compare.statistics import estimate
        >>> seeds_needed(estimate([0.1, 0.2, 0.3])), seeds_needed(estimate([-1.0, 0.0, 1.0]))
        (5, None)
    """
    if not difference.deviation or difference.deviation < NO_SPREAD:
        return None
    effect = abs(difference.mean) / difference.deviation

    def shown_by(n: int) -> bool:
        return _power(effect * math.sqrt(n), n, level) >= power

    if not shown_by(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # shown by the one, not by the other
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown_by(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Power:
    """What the seeds of a comparison can show of a difference with its spread.

    Attributes:
        detectable: the least true difference that they would show with a power of :data:`POWER`, > 0.
        needed: seeds that would show the observed one as often; None: more than :data:`MOST_SEEDS`.
    """

    detectable: float
    needed: int | None


def power_of(difference: Estimate | None, test: Significance | None) -> Power | None:
    """Return what can be shown at the level that is clear in any case; None for fewer than three seeds or no spread."""
    if difference is None or difference.n < FEWEST_SEEDS or not (difference.deviation or 0) >= NO_SPREAD:
        return None
    level = ALPHA if test is None else test.strictest_level
    detectable = detectable_difference(difference.deviation or 0, difference.n, level=level)
    return Power(detectable, seeds_needed(difference, level=level))


def _power(shift: float, n: int, level: float) -> float:
    """Return how often a test of n pairs exceeds its upper quantile where the noncentrality is ``shift``."""
    from scipy.special import nctdtr, stdtrit

    missed = float(nctdtr(n - 1, shift, float(stdtrit(n - 1, 1 - level / 2))))
    return 1.0 if math.isnan(missed) else 1 - missed  # SciPy has no number for what is below the least float
