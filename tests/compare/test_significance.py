"""Tests of differences, their correction and their power, against SciPy and formulas written out by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gamma

from neuropil.compare import significance
from neuropil.compare.significance import (
    MOST_SEEDS,
    Significance,
    detectable_difference,
    effect_size,
    holm,
    judge,
    p_value,
    power_of,
    seeds_needed,
)
from neuropil.compare.statistics import Estimate, estimate, paired_difference

VALUES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 4)), min_size=2, max_size=12)
SEEDS = (3, 4, 5, 10, 30)


@settings(deadline=None, max_examples=50)
@given(VALUES, st.randoms(use_true_random=False))
def test_p_is_that_of_scipy(ours: list[float], random: object) -> None:
    theirs = [round(random.uniform(-1, 1), 4) for _ in ours]  # type: ignore[attr-defined]
    found = paired_difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert found is not None
    if found.deviation < 1e-9:
        return
    expected = stats.ttest_rel(ours, theirs)
    assert p_value(found) == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-9)


def test_p_without_any_spread() -> None:
    assert p_value(estimate([0.0, 0.0, 0.0])) == 1.0
    assert p_value(estimate([0.1, 0.1, 0.1])) is p_value(estimate([0.1])) is None
    assert p_value(estimate([0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6])) is None


@pytest.mark.parametrize("n", SEEDS)
def test_effect_size_has_the_correction_of_hedges(n: int) -> None:
    values = [0.1 * k + 0.05 * (k % 3) for k in range(n)]
    m = n - 1
    factor = gamma(m / 2) / (math.sqrt(m / 2) * gamma((m - 1) / 2))
    assert effect_size(estimate(values)) == pytest.approx(factor * np.mean(values) / np.std(values, ddof=1))
    assert factor == pytest.approx(1 - 3 / (4 * m - 1), abs=0.02 if n > 3 else 0.01)  # his approximation


def test_effect_size_is_without_bias() -> None:
    """The mean of many is the true one, 0.5, where the plain quotient lies far above it."""
    draws = np.random.default_rng(0).normal(0.5, 1, size=(4000, 5))
    assert np.mean([effect_size(estimate(list(map(float, row)))) for row in draws]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(draws.mean(1) / draws.std(1, ddof=1)) > 0.58


def test_effect_size_of_too_little() -> None:
    assert effect_size(estimate([1.0])) is effect_size(estimate([1.0, 2.0])) is effect_size(estimate([1.0] * 5)) is None


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holm_is_the_loop_of_its_definition(p_values: list[float]) -> None:
    found = holm(dict(enumerate(p_values)))
    # step down: reject while the least one left times the number of those left is at most the level
    for level in (0.01, 0.05, 0.2):
        left, rejected = dict(enumerate(p_values)), set()
        while left:
            least = min(left, key=left.__getitem__)
            if left[least] * len(left) > level:
                break
            rejected.add(least)
            del left[least]
        assert {name for name, p in found.items() if p <= level} == rejected
    assert all(p <= found[i] <= min(1.0, len(p_values) * p) + 1e-12 for i, p in enumerate(p_values))


def test_holm_by_hand() -> None:
    """The example of statsmodels.stats.multitest in most hands: 0.01, 0.04, 0.03, 0.005 of four."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({}) == {}


def test_a_family_counts_what_is_tested() -> None:
    clear, vague = estimate([0.010, 0.011, 0.012]), estimate([-0.01, 0.0, 0.02])
    untested = {"two": estimate([0.1, 0.2]), "none": None, "equal": estimate([0.1] * 3)}
    found = judge({"clear": clear, "vague": vague, **untested})
    assert set(found) == {"clear", "vague"}
    assert found["clear"].n_tests == 2
    assert found["clear"].corrected_p == pytest.approx(2 * stats.ttest_1samp([0.010, 0.011, 0.012], 0).pvalue)
    assert (found["clear"].is_clear, found["vague"].is_clear) == (True, False)
    assert found["clear"].strictest_level == pytest.approx(0.025)
    alone = judge({"clear": clear, "vague": vague}, "none")["clear"]
    assert alone == Significance(p_value(clear), p_value(clear), 2, corrected=False)
    assert alone.strictest_level == pytest.approx(0.05)


@pytest.mark.parametrize(("n", "level"), [*itertools.product(SEEDS, (0.05, 0.05 / 12))])
def test_a_detectable_difference_is_seen_as_often_as_the_power_says(n: int, level: float) -> None:
    found = detectable_difference(2.0, n, level=level, power=0.8)
    shift, quantile = found / 2.0 * math.sqrt(n), stats.t.ppf(1 - level / 2, n - 1)
    both = stats.nct.sf(quantile, n - 1, shift) + stats.nct.cdf(-quantile, n - 1, shift)
    assert both == pytest.approx(0.8, abs=1e-3)  # of both tails, as statsmodels' TTestPower counts


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_printed_tables(effect: float, n: int) -> None:
    """Pairs for a power of 0.8 at a level of 0.05, as G*Power and statsmodels' TTestPower give them."""
    assert seeds_needed(Estimate(3, effect, 1.0, None)) == n


@pytest.mark.parametrize("n", [2, 5, 10, 100, MOST_SEEDS])
@pytest.mark.parametrize("level", [0.05, 0.05 / 40])
def test_power_is_a_number_however_large_the_shift(n: int, level: float) -> None:
    for shift in np.linspace(0, 60, 61):
        expected = stats.nct.sf(stats.t.ppf(1 - level / 2, n - 1), n - 1, shift)
        assert significance._power(float(shift), n, level) == pytest.approx(expected, abs=1e-9)


def test_power_by_trial() -> None:
    """Of 4,000 comparisons of 5 seeds with the detectable difference, about 80 % find it."""
    draws = np.random.default_rng(1).normal(detectable_difference(1.0, 5), 1.0, size=(4000, 5))
    assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.5, 2.0, -0.5])
def test_seeds_needed_are_the_fewest_that_see_it(mean: float) -> None:
    found = estimate([mean - 0.3, mean + 0.3, mean - 0.1, mean + 0.1])
    n = seeds_needed(found)
    assert n is not None
    assert detectable_difference(found.deviation, n) <= abs(mean)
    assert n == 2 or detectable_difference(found.deviation, n - 1) > abs(mean)
    assert seeds_needed(found, level=0.001) >= n


def test_seeds_that_no_one_has() -> None:
    assert seeds_needed(estimate([-1.0, 1.0001])) is None
    assert MOST_SEEDS == 10_000
    assert seeds_needed(estimate([1.0, 1.0])) is power_of(estimate([1.0, 2.0]), None) is power_of(None, None) is None
