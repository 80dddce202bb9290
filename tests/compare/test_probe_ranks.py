"""Rank correlations of what probes gave with accuracy."""

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from neuropil.compare.probe_ranks import probe_ranks, ranks_table, spearman
from neuropil.compare.report import write_report
from neuropil.compare.results import load_results


def test_spearman_is_scipy_s_ties_included() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y = rng.integers(0, 8, (2, 30))
        found = spearman([*zip(x.tolist(), y.tolist(), strict=True)])
        assert found is not None
        assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
        low, high = found.interval
        assert -1 < low < found.rho < high < 1


def test_spearman_of_what_does_not_vary_is_none() -> None:
    assert spearman([(1, 2), (1, 3), (1, 4), (1, 5)]) is None
    assert spearman([(1, 2), (2, 3), (3, 4)]) is None


def test_each_arm_whose_mean_is_taken_out_costs_a_run_in_the_interval() -> None:
    pairs = [(float(x), float(y)) for x, y in np.random.default_rng(1).normal(size=(12, 2))]
    alone, of_four = spearman(pairs), spearman(pairs, n_arms=4)
    assert alone is not None
    assert of_four is not None
    assert of_four.rho == alone.rho
    half = [(math.atanh(found.interval[1]) - math.atanh(found.interval[0])) for found in (alone, of_four)]
    assert half[1] / half[0] == pytest.approx(math.sqrt(9 / 6))
    assert spearman(pairs, n_arms=10) is None


def test_ranks_within_arms_leave_out_what_tells_arms_apart(made_up: Any) -> None:
    # arms: the second is higher in both, so over all runs they go together; within an arm they go against each other
    arms = {"low": {"pattern": "dense"}, "high": {"pattern": "dense", "training": {"learning_rate": 0.01}}}
    folder = made_up.comparison(
        lambda arm, seed: (0.8 if arm == "high" else 0.4) + 0.01 * seed,
        arms=arms, seeds=6, probes=["emergence"], training={"epochs": 2},
    )  # fmt: skip
    for arm in arms:
        for seed in range(6):
            value = {"log10": (9.0 if arm == "high" else 3.0) - 0.1 * seed, "relative_to_most": math.nan}
            lines = [json.dumps({"epoch": e, "probe": "emergence", "value": value}) for e in (0, 1, 2)]
            (made_up.run(arm, seed) / "probes.jsonl").write_text("\n".join(lines) + "\n")
    results = load_results(folder)
    found = {(one.quantity, one.epoch): one for one in probe_ranks(results)}
    assert {quantity for quantity, _ in found} == {"log₁₀ of emergence"}
    assert {epoch for _, epoch in found} == {0, 1, 2}
    one = found["log₁₀ of emergence", 1]
    assert one.alike is not None
    assert one.within_arms is not None
    assert (one.alike.n, one.within_arms.n) == (12, 12)
    assert one.alike.rho > 0.4
    assert one.within_arms.rho == pytest.approx(-1)
    assert ranks_table(results)[1][1][:2] == ["emergence\nlog₁₀ of emergence", "after epoch 1"]
    assert one.within_arms.interval == spearman([(x, -x) for x in range(12)], n_arms=2).interval  # type: ignore[union-attr]
    assert "ρ, within arms" in write_report(folder).read_text(encoding="utf-8")


def test_one_epoch_is_told_once(made_up: Any) -> None:
    folder = made_up.comparison(
        lambda _, seed: 0.4 + 0.01 * seed, arms={"dense": {"pattern": "dense"}}, seeds=10, probes=["emergence"],
        training={"epochs": 1},
    )  # fmt: skip
    for seed in range(10):
        line = json.dumps({"epoch": 1, "probe": "emergence", "value": {"log10": float(seed)}})
        (made_up.run("dense", seed) / "probes.jsonl").write_text(line + "\n")
    assert [found.epoch for found in probe_ranks(load_results(folder))] == [1.0]
