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


MIXER = {"pattern": "mixer", "p_inter": 0.15}


def test_a_rewired_arm_brings_the_same_wiring_left_static():
    arms = {
        arm.name: arm
        for arm in expand_arms(recipe(set={**MIXER, "rewiring": "set"}, rigl={**MIXER, "rewiring": "rigl"}))
    }
    assert arms["set"].twins == {
        "dense-same-width": "dense-64",
        "dense-same-parameters": "dense-29",
        "erdos-renyi": "erdos-renyi-0.256",
        "static": "mixer-static",
    }
    assert arms["rigl"].twins == arms["set"].twins
    static = arms["mixer-static"]
    assert static.is_control
    assert (static.patterns, static.rewiring) == (arms["set"].patterns, None)


def test_an_arm_that_is_not_rewired_serves_as_the_static_one():
    plain = {"pattern": "erdos-renyi", "density": 0.25, "exact": True}
    arms = {
        arm.name: arm
        for arm in expand_arms(recipe(left={**plain, "rewiring": "static"}, set={**plain, "rewiring": {"rule": "set"}}))
    }
    assert arms["left"].rewiring is None
    assert arms["set"].twins["static"] == arms["set"].twins["erdos-renyi"] == "left"


def test_names_of_static_controls_do_not_clash():
    arms = expand_arms(
        recipe(
            a={**MIXER, "rewiring": "set"},
            b={"pattern": "mixer", "p_inter": 0.3, "rewiring": "set"},
        )
    )
    assert {"mixer-static", "mixer-static-2"} <= {arm.name for arm in arms}


def test_what_grows_sparser_is_compared_at_its_final_density():
    full = {"pattern": "erdos-renyi", "density": 1.0}
    arms = {arm.name: arm for arm in expand_arms(recipe(gmp={**full, "rewiring": {"rule": "gmp", "density": 0.2}}))}
    twins = arms["gmp"].twins
    assert "static" not in twins
    assert arms[twins["erdos-renyi"]].patterns == (ErdosRenyi(0.2, exact=True),) * 3
    assert arms[twins["dense-same-parameters"]].hidden < (64, 64, 64)


def test_a_sparse_read_out_is_matched_too():
    sparse = {"pattern": "erdos-renyi", "density": 0.1, "exact": True}
    chosen = recipe(er={"layers": [sparse] * 3, "readout": {**sparse, "density": 0.4}})
    arms = {arm.name: arm for arm in expand_arms(chosen)}
    assert arms["er"].twins["erdos-renyi"] == "er"
    shape, n_classes = SOURCES["digits"].image_shape, SOURCES["digits"].n_classes
    facts = {
        name: describe_network(build_network(run_recipe(chosen, arm, 0), shape, n_classes), shape)
        for name, arm in arms.items()
    }
    live = 3 * round(0.1 * 64 * 64) + round(0.4 * 640)
    assert facts["er"]["density"] == pytest.approx(live / (3 * 64 * 64 + 640))
    assert facts["er"]["parameters"] == live + 3 * 64 + 10
    narrow = facts[arms["er"].twins["dense-same-parameters"]]
    assert narrow["parameters"] == pytest.approx(facts["er"]["parameters"], rel=0.05)


def test_a_run_says_how_it_is_rewired_and_only_then():
    chosen = recipe(plain=MIXER, set={**MIXER, "rewiring": {"rule": "set", "per_epoch": 2}})
    plain, rewired = (run_recipe(chosen, arm, 0) for arm in expand_arms(chosen) if not arm.is_control)
    assert "rewiring" not in plain
    assert not {"readout", "start"} & set(plain["model"])
    assert rewired["rewiring"] == {"rule": "set", "per_epoch": 2}


@pytest.mark.parametrize(
    ("rewiring", "sentence"),
    [
        ("sett", "arms.a: rewiring must be one of static, drop-grow, .*, got 'sett'; try 'set'"),
        ({"every": 3}, "arms.a: rewiring must be one of .*, got None"),
        ({"rule": "rigl", "evry": 3}, "arms.a: rewiring rigl has no setting 'evry'; try 'every'"),
        (
            {"rule": "rigl", "every": "often"},
            "arms.a: rewiring rigl: every: input should be a valid integer.*, got 'often'",
        ),
        ({"rule": "rigl", "fraction": 1.5}, r"arms.a: Schedule: fraction must lie in \(0, 1\), got 1.5"),
        ({"rule": "gmp"}, "arms.a: rewiring gmp: density is missing"),
        (["set"], "arms.a: rewiring must be one of .*, got .'set'."),
    ],
)
def test_rewirings_that_make_no_sense(rewiring, sentence):
    with pytest.raises(RecipeError, match=sentence):
        recipe(a={**MIXER, "rewiring": rewiring})


def test_a_dense_arm_cannot_be_rewired():
    with pytest.raises(RecipeError, match="rewiring needs a sparse pattern, got dense; to prune a dense network, try"):
        recipe(a={"pattern": "dense", "rewiring": "set"})


def test_limits_that_cannot_be_met_are_found_before_anything_runs():
    with pytest.raises(RecipeError, match="arms.a: .*within needs neurons that belong to groups"):
        expand_arms(recipe(a={"pattern": "erdos-renyi", "density": 0.2, "rewiring": {"rule": "set", "within": 0.5}}))
