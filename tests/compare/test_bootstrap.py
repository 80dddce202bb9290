"""Bootstrap intervals: those of SciPy, the same every time, and shown wherever a recipe asks for them."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuropil.compare.recipe import RecipeError, parse_recipe
from neuropil.compare.results import load_results
from neuropil.compare.statistics import estimate, paired_difference
from neuropil.compare.table import accuracy_text, difference_note, difference_text, table_columns


def test_interval_is_that_of_scipy() -> None:
    values = [0.91, 0.93, 0.90, 0.97, 0.92]
    found = estimate(values, method="bootstrap", level=0.9)
    expected = stats.bootstrap((values,), np.mean, confidence_level=0.9, method="BCa", random_state=0)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval))
    assert estimate(values, method="bootstrap", level=0.9) == found
    assert (found.mean, found.deviation) == (estimate(values).mean, estimate(values).deviation)
    other = dict(enumerate(values))
    assert paired_difference(other, dict.fromkeys(other, 0.0), level=0.9, method="bootstrap") == found


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=5))
def test_interval_holds_the_mean_and_never_leaves_the_values(values: list[float]) -> None:
    low, high = estimate(values, method="bootstrap").interval
    assert min(values) <= low <= high <= max(values)
    assert low <= estimate(values).mean + 1e-9
    assert high >= estimate(values).mean - 1e-9


def test_equal_values_and_single_ones() -> None:
    assert estimate([0.5, 0.5, 0.5], method="bootstrap").interval == (0.5, 0.5)
    assert estimate([0.5], method="bootstrap").interval is None
    with pytest.raises(ValueError, match=r"^estimate: method must be one of t, bootstrap, got 'normal'$"):
        estimate([0.5], method="normal")  # type: ignore[arg-type]


def test_a_recipe_asks_for_it(made_up: Any) -> None:
    results = load_results(made_up.comparison(interval="bootstrap"))
    arm = results.arms["mixer"]
    accuracies = [run.accuracy for run in arm.runs.values()]
    assert arm.accuracy == estimate(accuracies, method="bootstrap")
    assert arm.accuracy.interval != estimate(accuracies).interval
    difference = arm.differences["dense-same-width"]
    assert difference.accuracy.interval[0] >= min(
        ours.accuracy - theirs.accuracy
        for ours, theirs in zip(arm.runs.values(), results.arms["dense-32"].runs.values(), strict=True)
    )
    assert "95 % bootstrap interval" in next(
        c.explanation for c in table_columns(results) if c.header == "accuracy (%)"
    )
    assert str(difference_note(results)).startswith("Differences have 95 % bootstrap intervals (BCa, 9,999 resamples)")


def test_unequal_ends_are_written_out() -> None:
    skewed = estimate([0.90, 0.91, 0.99, 0.90], method="bootstrap")
    assert skewed.half_width is None
    assert re.fullmatch(r"92\.50 \[90\.\d\d, 9\d\.\d\d\]", accuracy_text(skewed))
    assert accuracy_text(estimate([0.90, 0.92])) == "91.00"
    assert difference_text(estimate([0.01, 0.02])) == "+1.50"


@pytest.mark.parametrize(("key", "value"), [("interval", "normal"), ("correction", "bonferroni")])
def test_what_is_unknown_is_said(key: str, value: str) -> None:
    with pytest.raises(RecipeError, match=f"{key}.*got '{value}'"):
        parse_recipe({"question": "?", key: value, "arms": {"a": {"pattern": "dense"}}})
