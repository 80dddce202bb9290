"""Recipes whose arms are pruned once they have learnt: their runs, and the networks that they are compared with."""

import pytest

from neuropil.compare import execute, expand_arms, run_recipe
from neuropil.compare.recipe import RecipeError, parse_recipe
from neuropil.connect import ErdosRenyi
from neuropil.train.run import read_events, read_metrics

FULL = {"pattern": "erdos-renyi", "density": 1.0}


def recipe(schedule="cosine", **rewirings):
    return parse_recipe(
        {
            "name": "small",
            "question": "Is there a ticket?",
            "model": {"hidden": [32]},
            "training": {"epochs": 6, "batch_size": 64, "learning_rate": 0.01, "schedule": schedule},
            "seeds": 1,
            "arms": {name: {**FULL, "readout": FULL, "rewiring": rewiring} for name, rewiring in rewirings.items()},
        }
    )


@pytest.mark.parametrize(
    ("rewiring", "events", "peaks"),
    [
        ({"rule": "one-shot", "density": 0.2, "after": 40}, [40, 40], [1]),
        ({"rule": "iterative-magnitude", "density": 0.2, "rounds": 2}, [32, 32, 64, 64], [1]),
        ({"rule": "lottery-ticket", "density": 0.2, "rounds": 2}, [32, 32, 64, 64], [1, 3, 5]),
    ],
)
def test_a_run(rewiring, events, peaks, tmp_path):
    chosen = recipe(pruned=rewiring)
    arm = next(arm for arm in expand_arms(chosen) if arm.name == "pruned")
    summary = execute(run_recipe(chosen, arm, 0), tmp_path)
    assert summary["status"] == "finished"
    assert summary["density"] == pytest.approx(0.2, abs=1e-3)
    assert summary["rewiring"]["replaced"] == 0
    assert [event["step"] for event in read_events(tmp_path)] == events
    rates = [record["learning_rate"] for record in read_metrics(tmp_path)]
    assert [epoch for epoch, rate in enumerate(rates, start=1) if rate == 0.01] == peaks


def test_twins_have_the_density_of_the_end():
    arms = {arm.name: arm for arm in expand_arms(recipe(ticket={"rule": "lottery-ticket", "density": 0.1}))}
    twins = arms["ticket"].twins
    assert "static" not in twins
    twin = arms[twins["erdos-renyi"]]
    assert (*twin.patterns, twin.readout) == (ErdosRenyi(0.1, exact=True),) * 2
    assert arms[twins["dense-same-parameters"]].hidden < (32,)


@pytest.mark.parametrize(
    ("rewiring", "message"),
    [
        ({"rule": "one_shot", "density": 0.1}, "rewiring must be one of .*, got 'one_shot'; try 'one-shot'"),
        ({"rule": "one-shot"}, "rewiring one-shot: density is missing"),
        ({"rule": "lottery-ticket", "density": 1.0}, "rewiring to a density must start above it, got 1"),
        (
            {"rule": "iterative-magnitude", "density": 0.1, "rounds": 0},
            "Rounds: n must be a whole number of at least 1",
        ),
    ],
)
def test_errors(rewiring, message):
    with pytest.raises(RecipeError, match=message):
        expand_arms(recipe(pruned=rewiring))
