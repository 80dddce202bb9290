import pytest
import yaml

from neuropil.compare import expand_arms, run_identity, run_recipe
from neuropil.compare.recipe import parse_recipe

SMALL = {
    "name": "small",
    "question": "Is it the same?",
    "model": {"hidden": [16, 16]},
    "seeds": 2,
    "arms": {"mixer": {"pattern": "mixer", "n_groups": 4, "p_inter": 0}, "m": {"pattern": "mixer", "n_groups": 4}},
}


def identities(**changes):
    recipe = parse_recipe({**SMALL, **changes})
    return {arm.name: run_identity(run_recipe(recipe, arm, 0)) for arm in expand_arms(recipe)}


def test_names_decide_nothing():
    renamed = identities(name="other", arms={"b": SMALL["arms"]["mixer"]})
    assert renamed["b"] == identities()["mixer"]


def test_arms_of_one_comparison_have_their_own():
    found = identities()
    assert len(set(found.values())) == len(found)
    assert all(len(identity) == 16 and int(identity, 16) >= 0 for identity in found.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"learning_rate": 0.002}},
        {"training": {"epochs": 21}},
        {"model": {"hidden": [16, 32]}},
        {"data": {"validation": 0.2}},
        {"probes": ["norms"]},
    ],
)
def test_whatever_else_changes_it(changes):
    before, after = identities(), identities(**changes)
    assert before["mixer"] != after["mixer"]


def test_it_outlives_being_written_down():
    recipe = parse_recipe(SMALL)
    for arm in expand_arms(recipe):
        made = run_recipe(recipe, arm, 1)
        assert run_identity(yaml.safe_load(yaml.safe_dump(made))) == run_identity(made)
        assert run_identity(made) != run_identity(run_recipe(recipe, arm, 0))
