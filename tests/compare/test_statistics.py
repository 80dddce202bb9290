"""Means, intervals and paired differences, against hand-worked numbers and loops."""

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropil.compare.statistics import (
    Estimate,
    Spread,
    estimate,
    paired_difference,
    population_deviation,
    standard_deviation,
)

# two-sided 95 % quantiles of Student's distribution, from a printed table, by degrees of freedom
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 29: 2.045}
NUMBERS = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


@pytest.mark.parametrize("degrees", TABLE)
def test_interval_uses_the_table_of_student(degrees: int) -> None:
    values = [float(k) for k in range(degrees + 1)]
    found = estimate(values)
    half = TABLE[degrees] * found.deviation / math.sqrt(degrees + 1)
    assert found.half_width == pytest.approx(half, rel=2e-4)


def test_hand_worked_interval() -> None:
    # mean 3; squares 4 + 0 + 4 = 8, over 2 = 4, s = 2; half = 4.303 · 2 / √3
    found = estimate([1.0, 3.0, 5.0])
    assert (found.n, found.mean, found.deviation) == (3, 3.0, 2.0)
    assert found.interval == pytest.approx((3 - 4.9683, 3 + 4.9683), abs=1e-3)


def test_the_sleep_experiment_of_student() -> None:
    """Hours gained with either drug (1908): Student's paired differences have mean 1.58 and deviation 1.23."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_difference(dict(enumerate(second)), dict(enumerate(first)))
    assert found is not None
    assert found.mean == pytest.approx(1.58)
    assert found.deviation == pytest.approx(1.23, abs=5e-3)
    assert found.interval == pytest.approx((0.70, 2.46), abs=5e-3)


def test_one_value_has_no_interval() -> None:
    assert estimate([0.5]) == Estimate(1, 0.5, None, None)
    assert estimate([0.5]).half_width is None
    assert standard_deviation([0.5]) is standard_deviation([]) is None


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=12))
def test_deviation_is_the_naive_one(values: list[float]) -> None:
    mean = sum(values) / len(values)
    total = 0.0
    for value in values:
        total += (value - mean) * (value - mean)
    assert standard_deviation(values) == pytest.approx(math.sqrt(total / (len(values) - 1)), abs=1e-9)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=8), st.floats(0.5, 0.9))
def test_a_higher_level_gives_a_longer_interval_around_the_same_mean(values: list[float], level: float) -> None:
    short, long = estimate(values, level=level), estimate(values, level=level + 0.05)
    assert short.mean == long.mean == pytest.approx(sum(long.interval) / 2, abs=1e-9)
    assert long.half_width >= short.half_width


def test_only_common_seeds_are_paired() -> None:
    found = paired_difference({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.5, 0: 0.0, 7: 4.0})
    assert found is not None
    assert (found.n, found.mean) == (2, 0.75)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_difference({}, {}) is None


def test_pairing_takes_out_what_a_seed_does_to_both() -> None:
    ours, theirs = {0: 10.1, 1: 20.2, 2: 30.0}, {0: 10.0, 1: 20.0, 2: 30.0}
    found = paired_difference(ours, theirs)
    assert found is not None
    assert found.half_width < 0.3 < estimate(list(ours.values())).half_width


def test_spread() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == Spread(4, 2.5, 1.0, 4.0)
    assert Spread.of([4.0]) == Spread(1, 4.0, 4.0, 4.0)
    assert Spread.of([]) is None


def test_wording_of_errors() -> None:
    with pytest.raises(ValueError, match=r"^estimate: values must hold at least one number, got none$"):
        estimate([])
    with pytest.raises(ValueError, match=r"^estimate: level must lie in \(0, 1\), got 95$"):
        estimate([1.0], level=95)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_population_deviation_is_that_of_the_standard_library(values: list[float]) -> None:
    assert population_deviation(values) == pytest.approx(statistics.pstdev(values), rel=1e-9, abs=1e-12)
