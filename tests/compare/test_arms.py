import pytest
import yaml

from neuropil.compare import RecipeError, expand_arms, run_recipe
from neuropil.compare.execute import build_network, describe_network
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.registry import PATTERNS, describe_pattern, read_patterns
from neuropil.connect import Dense, Ensembles, ErdosRenyi, ScaleFree, SmallWorld
from neuropil.data import SOURCES


def recipe(**arms):
    return parse_recipe({"name": "r", "question": "?", "model": {"hidden": [64, 64, 64]}, "arms": arms})


def test_every_sparse_arm_brings_its_controls():
    arms = expand_arms(recipe(mixer={"pattern": "mixer", "p_inter": 0.15}))
    assert [arm.name for arm in arms] == ["dense-64", "dense-29", "erdos-renyi-0.256", "mixer"]
    assert arms[-1].twins == {
        "dense-same-width": "dense-64",
        "dense-same-parameters": "dense-29",
        "erdos-renyi": "erdos-renyi-0.256",
    }
    assert [arm.is_control for arm in arms] == [True, True, True, False]


def test_arms_of_equal_density_share_their_controls():
    arms = expand_arms(
        recipe(
            a={"pattern": "ensembles", "p_inter": 0.15},
            b={"pattern": "ensembles", "p_inter": 0.15, "grouping": "random", "block": ["group", 1]},
            c={"pattern": "ensembles", "p_inter": 0.0},
        )
    )
    names = [arm.name for arm in arms if arm.is_control]
    assert names.count("dense-64") == 1
    assert len(names) == 5
    by_name = {arm.name: arm for arm in arms}
    assert by_name["a"].twins == by_name["b"].twins != by_name["c"].twins


def test_an_arm_of_the_recipe_serves_as_control():
    arms = expand_arms(recipe(full={"pattern": "dense"}, index={"pattern": "ensembles"}))
    assert {arm.name: arm for arm in arms}["index"].twins["dense-same-width"] == "full"
    assert "dense-64" not in [arm.name for arm in arms]


def test_controls_match_what_they_control():
    chosen = recipe(mixer={"pattern": "mixer", "p_inter": 0.15, "exact": True})
    arms = {arm.name: arm for arm in expand_arms(chosen)}
    shape, n_classes = SOURCES["digits"].image_shape, SOURCES["digits"].n_classes
    facts = {
        name: describe_network(build_network(run_recipe(chosen, arm, 0), shape, n_classes), shape)
        for name, arm in arms.items()
    }
    mixer, twins = facts["mixer"], arms["mixer"].twins
    assert facts[twins["dense-same-parameters"]]["parameters"] == pytest.approx(mixer["parameters"], rel=0.03)
    assert facts[twins["erdos-renyi"]]["parameters"] == pytest.approx(mixer["parameters"], rel=0.001)
    assert facts[twins["erdos-renyi"]]["density"] == pytest.approx(mixer["density"], abs=0.001)
    assert facts[twins["dense-same-width"]]["density"] == 1.0


@pytest.mark.parametrize(
    "pattern",
    [
        Dense(),
        Ensembles(n_groups=4, block=("group", 1), grouping="random"),
        ErdosRenyi(0.3, exact=True, block=(2, 2)),
        SmallWorld(0.2),
        ScaleFree(0.2),
    ],
)
def test_patterns_survive_as_plain_values(pattern):
    described = yaml.safe_load(yaml.safe_dump(describe_pattern(pattern)))
    assert read_patterns({"layers": [described]}, 1) == (pattern,)


def test_every_registered_pattern_is_tested_above():
    assert set(PATTERNS.values()) == {Dense, Ensembles, ErdosRenyi, SmallWorld, ScaleFree}


def test_run_recipes_are_plain_and_differ():
    chosen = recipe(mixer={"pattern": "mixer"})
    made = [run_recipe(chosen, arm, seed) for arm in expand_arms(chosen) for seed in (0, 1)]
    assert all(yaml.safe_load(yaml.safe_dump(one)) == one for one in made)
    assert len({yaml.safe_dump(one) for one in made}) == len(made)


def test_errors():
    with pytest.raises(
        RecipeError,
        match="arms.a: .*hidden layer 1: Ensembles: in_features must be divisible by n_groups, got 64 and 6",
    ):
        expand_arms(recipe(a={"pattern": "ensembles", "n_groups": 6}))
    with pytest.raises(RecipeError, match="arms.a: .*at least one connection"):
        expand_arms(recipe(a={"pattern": "erdos-renyi", "density": 0.0}))
    with pytest.raises(RecipeError, match=r"arms\.dense-64: this name belongs to a control that is added"):
        expand_arms(recipe(**{"dense-64": {"pattern": "ensembles"}}))


def test_controls_of_nearly_equal_density_keep_apart():
    arms = expand_arms(recipe(a={"pattern": "ensembles", "p_inter": 0.1}, b={"pattern": "ensembles", "p_inter": 0.101}))
    names = [arm.name for arm in arms]
    assert len(set(names)) == len(names)
    assert {"erdos-renyi-0.213", "erdos-renyi-0.2134"} <= set(names)


def test_a_random_arm_is_its_own_control():
    arms = expand_arms(recipe(random={"pattern": "erdos-renyi", "density": 0.25, "exact": True}))
    assert [arm.name for arm in arms] == ["dense-64", "dense-29", "random"]
    assert arms[-1].twins["erdos-renyi"] == "random"


def test_arrangements_do_not_fit_into_one_layer():
    with pytest.raises(RecipeError, match="layers: each must be a pattern of one layer with its settings"):
        recipe(a={"layers": [{"pattern": "mixer"}] * 3})
