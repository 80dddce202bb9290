"""Arms that start or learn otherwise, tuned arms, and networks with convolutions."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from neuropil import data
from neuropil.compare import RecipeError, execute, expand_arms, load_recipe, run_recipe
from neuropil.compare.execute import attach_rule, build_network, start_network
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.report import describe_setting, write_report
from neuropil.compare.results import load_results
from neuropil.compare.sweeps import list_sweeps
from neuropil.compare.tuned import tuned_arms, tuned_table

EMERGENCE = {"pattern": "dense", "start": {"scheme": "emergence", "alpha": 2.0}}


def recipe(model: dict[str, Any] | None = None, **arms: Any) -> Any:
    return parse_recipe({"name": "r", "question": "?", "model": {"hidden": [16, 16], **(model or {})}, "arms": arms})


def runs(chosen: Any) -> dict[str, dict[str, Any]]:
    return {arm.name: run_recipe(chosen, arm, 0) for arm in expand_arms(chosen)}


def test_an_arm_starts_as_it_says_and_the_others_as_the_recipe_does() -> None:
    made = runs(recipe({"start": "kaiming-normal"}, base={"pattern": "dense"}, emergence=EMERGENCE))
    assert made["base"]["model"]["start"] == {"scheme": "kaiming-normal"}
    digits = data.load("digits")
    nets = {}
    for name, one in made.items():
        nets[name] = build_network(one, digits.input_shape, digits.n_classes)
        start_network(nets[name], one, digits)
    for layer, factor in ((0, 0.5), (2, 1.0)):
        assert torch.equal(nets["emergence"].hidden[layer].weight, nets["base"].hidden[layer].weight * factor)
    assert torch.equal(nets["emergence"].readout.weight, nets["base"].readout.weight * 2.0)


def test_a_recipe_without_any_of_this_makes_the_runs_that_it_always_made() -> None:
    made = runs(recipe(index={"pattern": "ensembles", "n_groups": 4}))["index"]
    assert [*made["model"]] == ["hidden", "patches", "patch_channels", "layers"]
    assert "rate_profile" not in made["training"]


def test_an_arm_learns_as_it_says_and_its_twins_with_it() -> None:
    sparse = {"pattern": "ensembles", "n_groups": 4}
    chosen = recipe(slow=sparse, fast={**sparse, "training": {"learning_rate": 0.01}})
    arms = {arm.name: arm for arm in expand_arms(chosen)}
    made = runs(chosen)
    assert made["fast"]["training"]["learning_rate"] == 0.01
    assert made["slow"]["training"]["learning_rate"] == 0.001
    for name, rate in (("slow", 0.001), ("fast", 0.01)):
        for twin in arms[name].twins.values():
            assert made[twin]["training"]["learning_rate"] == rate
    assert not {*arms["slow"].twins.values()} & {*arms["fast"].twins.values()}


def test_what_an_arm_says_as_the_recipe_does_needs_no_twins_of_its_own() -> None:
    sparse = {"pattern": "ensembles", "n_groups": 4}
    said = {"start": "default", "training": {"learning_rate": 0.001}}
    arms = expand_arms(recipe(slow=sparse, same={**sparse, **said}))
    assert len(arms) == 5
    assert arms[0].twins == arms[1].twins


def test_overrides_reach_into_starts_and_into_what_is_tuned(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    arms = {
        "a": {"pattern": "dense", "start": "rank", "tune": {"training.learning_rate": [0.1], "start.share": [0.5]}},
        "b.c": {"pattern": "erdos-renyi", "density": 0.2, "rewiring": "set"},
    }
    path.write_text(yaml.safe_dump({"question": "?", "model": {"hidden": [16, 16], "start": "rank"}, "arms": arms}))
    found = load_recipe(
        path,
        [
            "arms.a.tune.training.learning_rate=[0.2, 0.3]", "arms.a.start.gain=1.5", "model.start.share=0.25",
            "arms.b.c.sweep.rewiring.every=[3, 4]", "arms.b.c.training.learning_rate=0.5",
        ],
    )  # fmt: skip
    assert found.arms["a"]["tune"] == {"training.learning_rate": [0.2, 0.3], "start.share": [0.5]}
    assert found.arms["a"]["start"] == {"scheme": "rank", "gain": 1.5}
    assert found.model.start == {"scheme": "rank", "share": 0.25}
    assert found.arms["b.c"]["sweep"] == {"rewiring.every": [3, 4]}
    assert found.arms["b.c"]["training"] == {"learning_rate": 0.5}


def test_a_rate_profile_gives_each_layer_its_rate_and_normalizations_the_recipe_s() -> None:
    chosen = recipe({"batch_norm": True}, rates={"pattern": "dense", "training": {"rate_profile": 2.0}})
    run = runs(chosen)["rates"]
    net = build_network(run, (1, 8, 8), 10)
    optimizer = attach_rule(net, run).optimizer
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(net.hidden[0].weight)] == rates[id(net.hidden[0].bias)] == pytest.approx(0.002)
    assert rates[id(net.hidden[3].weight)] == pytest.approx(0.001)
    assert rates[id(net.readout.weight)] == pytest.approx(0.0005)
    assert isinstance(net.hidden[1], nn.BatchNorm1d)
    assert rates[id(net.hidden[1].weight)] == pytest.approx(0.001)
    assert len(rates) == len([*net.parameters()])


def test_a_network_of_convolutions_and_normalizations_trains(tmp_path: Path) -> None:
    chosen = parse_recipe({
        "name": "r", "question": "?", "training": {"epochs": 1, "batch_size": 64}, "seeds": 1,
        "model": {"hidden": [32], "convolutions": [4, 8], "batch_norm": True},
        "arms": {"index": {"pattern": "ensembles", "n_groups": 4, "start": "orthogonal"}},
    })  # fmt: skip
    arms = {arm.name: arm for arm in expand_arms(chosen)}
    summary = execute(run_recipe(chosen, arms["index"], 0), tmp_path / "run")
    twin = run_recipe(chosen, arms[arms["index"].twins["dense-same-parameters"]], 0)
    narrow = build_network(twin, (1, 8, 8), 10)
    assert summary["status"] == "finished"
    assert sum(p.numel() for p in narrow.parameters()) == pytest.approx(summary["parameters"], rel=0.05)
    assert "convolutions of 3 × 3 with 4, 8 features" in describe_setting(chosen)


@pytest.mark.parametrize("rule", ["backpropagation", "counter-current", "sign-symmetry"])
def test_a_network_may_be_convolutions_and_a_readout(rule: str, tmp_path: Path) -> None:
    chosen = parse_recipe({
        "name": "r", "question": "?", "training": {"epochs": 1, "batch_size": 64, "rule": rule}, "seeds": 1,
        "model": {"hidden": [], "convolutions": [4, 8], "activation": "elu"}, "arms": {"a": {"pattern": "dense"}},
    })  # fmt: skip
    (arm,) = expand_arms(chosen)
    summary = execute(run_recipe(chosen, arm, 0), tmp_path / "run")
    assert (summary["status"], summary["density"], summary["kernels"]) == ("finished", 1.0, [])
    assert summary["parameters"] == 4 * 9 + 4 + 8 * 4 * 9 + 8 + 32 * 10 + 10
    assert "each halved in size, each with an ELU, then a dense read-out." in describe_setting(chosen)


def test_tuned_arms_are_candidates_of_which_validation_chooses_one(made_up: Any) -> None:
    tune = {"training.learning_rate": [0.001, 0.01, 0.1]}
    arms = {
        "base": {"pattern": "dense", "tune": tune},
        "mixer": {"pattern": "dense", "start": "orthogonal", "tune": tune},
    }
    best = {"base-0.01": 0.9, "mixer-0.1": 0.95, "mixer-0.01": 0.92}
    folder = made_up.comparison(lambda arm, seed: best.get(arm, 0.5) + 0.001 * seed, arms=arms)
    results = load_results(folder)
    base, mixer = tuned_arms(results)
    assert (base.chosen, base.at_end, base.difference) == ("base-0.01", False, None)
    assert (mixer.chosen, mixer.at_end, mixer.values) == ("mixer-0.1", True, {"training.learning_rate": 0.1})
    assert mixer.difference is not None
    assert mixer.difference.mean == pytest.approx(0.05)
    assert mixer.common_difference is not None
    assert mixer.common_difference.mean == pytest.approx(0.02)
    header, rows = tuned_table(results)
    assert header[1] == "chosen learning rate"
    assert [row[:2] for row in rows] == [["base", "0.01"], ["mixer", "0.1*"]]
    assert "Tuned arms" in write_report(folder).read_text(encoding="utf-8")


def test_a_swept_arm_is_tuned_at_each_value() -> None:
    sweep, tune = {"start.alpha": [1.2, 2.0]}, {"training.learning_rate": [0.001, 0.01]}
    (found,) = list_sweeps({"e": {"pattern": "dense", "start": "emergence", "sweep": sweep, "tune": tune}})
    assert {arm: [*names] for arm, names in found.choices.items()} == {
        "e-1.2": ["e-1.2-0.001", "e-1.2-0.01"],
        "e-2": ["e-2-0.001", "e-2-0.01"],
    }


@pytest.mark.parametrize(
    ("model", "arm", "sentence"),
    [
        (
            {},
            {"start": "emergenc"},
            "arms.a: start must be one of default, kaiming, .*, got 'emergenc'; try 'emergence'",
        ),
        (
            {},
            {"start": {"scheme": "emergence", "alpa": 2}},
            "arms.a: start emergence has no setting 'alpa'; try 'alpha'",
        ),
        ({}, {"start": {"scheme": "emergence", "alpha": "big"}}, "arms.a: start emergence: alpha.*got 'big'"),
        ({}, {"start": "emergence"}, "arms.a: start emergence: .* exactly one of alpha and total_ratio"),
        ({}, {"start": {"scheme": "kaiming", "gain": 2}}, "arms.a: start kaiming has no settings, got 'gain'"),
        ({}, {"training": 3}, "arms.a: training must hold keys and values, got 3"),
        ({}, {"training": {"epochs": 3}}, "arms.a: training.epochs must be the same for all arms"),
        ({}, {"training": {"learning_rate": -1}}, "arms.a: training.learning_rate: .*greater than 0"),
        ({}, {"tune": 3}, "arms.a: tune must name settings and list their values, got 3"),
        ({}, {"tune": {"p": [1]}, "sweep": {"p": [2]}}, "arms.a: p must be swept or tuned, got both"),
        ({"convolutions": [4], "patches": 4}, {}, "model.patches must be null beside model.convolutions, got 4"),
        ({"hidden": []}, {}, "model.hidden must hold at least one width, but for networks with convolutions, got none"),
        (
            {"hidden": [], "convolutions": [4]},
            {"pattern": "mixer"},
            "arms.a: pattern must be dense where there is no hidden layer, got 'mixer'",
        ),
        (
            {"hidden": [], "convolutions": [4]},
            {"readout": {"pattern": "erdos-renyi", "density": 0.5}},
            "arms.a: twins: a sparse network must have a hidden layer, got none",
        ),
        ({"convolutions": [4] * 4}, {}, "ConvEncoder: each convolution halves the image"),
    ],
)
def test_what_is_wrong_is_said(model: dict[str, Any], arm: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        expand_arms(recipe(model, a={"pattern": "dense", **arm}))


def test_nothing_is_tuned_on_folds() -> None:
    arm = {"pattern": "dense", "tune": {"training.learning_rate": [0.1, 0.2]}}
    with pytest.raises(RecipeError, match="arms.a: tune needs the validation split, got folds, which take none"):
        parse_recipe({"question": "?", "folds": 2, "arms": {"a": arm}})


def test_spiking_networks_have_neither_starts_nor_convolutions() -> None:
    for model, arm in (({"convolutions": [4]}, {}), ({}, {"start": "orthogonal"})):
        with pytest.raises(RecipeError, match="spiking"):
            parse_recipe({"name": "r", "question": "?", "model": {"hidden": [16], **model}, "spiking": {},
                          "arms": {"a": {"pattern": "dense", **arm}}})  # fmt: skip
