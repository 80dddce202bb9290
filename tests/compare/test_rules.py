"""Rules of learning by name, in recipes."""

from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import RecipeError, compare, execute, expand_arms, load_results, write_csv, write_report
from neuropil.compare.arms import run_recipe
from neuropil.compare.labels import describe_arm
from neuropil.compare.recipe import Recipe, parse_recipe
from neuropil.compare.report import describe_setting
from neuropil.compare.rules import RULES, plain_rule, rule_name, settings_of_rule


def recipe(arms: dict[str, Any], **training: Any) -> Recipe:
    return parse_recipe({
        "name": "r", "question": "?", "model": {"hidden": [16]}, "seeds": 1, "arms": arms,
        "training": {"epochs": 1, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.05, **training},
    })  # fmt: skip


def test_backpropagation_goes_without_saying() -> None:
    chosen = recipe({"a": {"pattern": "dense"}, "b": {"pattern": "dense", "training": {"rule": "pepita"}}})
    a, b = expand_arms(chosen)
    assert "rule" not in run_recipe(chosen, a, 0)["training"]
    assert run_recipe(chosen, b, 0)["training"]["rule"] == "pepita"
    assert describe_arm(b) == "dense, width 16, rule pepita"


def test_the_twins_of_an_arm_learn_by_its_rule() -> None:
    rule = {"name": "sign-symmetry", "form": "fixed"}
    arms = expand_arms(recipe({"a": {"pattern": "ensembles", "n_groups": 4, "training": {"rule": rule}}}))
    assert [arm.training for arm in arms] == [{"rule": rule}] * 4


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("pepitta", "rule must be one of backpropagation, .* got 'pepitta'; try 'pepita'"),
        ({"name": "pepita", "scale": 1}, "rule pepita has no setting 'scale'"),
        ({"name": "sign-symmetry", "form": "other"}, "rule sign-symmetry: form"),
        ({"form": "fixed"}, "rule must be one of"),
    ],
)
def test_wrong_rules_are_told(rule: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe({"a": {"pattern": "dense"}}, rule=rule)


def test_what_a_rule_cannot_train_is_told_before_anything_runs(tmp_path: Path) -> None:
    chosen = recipe({"a": {"pattern": "dense", "training": {"rule": "equilibrium-propagation"}}})
    with pytest.raises(RecipeError, match=r"arms\.a: EquilibriumPropagation: .*ReLU"):
        compare(chosen, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_only_backpropagation_has_a_rate_profile() -> None:
    with pytest.raises(RecipeError, match="rate_profile 2.0 needs the rule backpropagation"):
        recipe({"a": {"pattern": "dense"}}, rule="pepita", rate_profile=2.0)


def test_a_setting_of_a_rule_can_be_swept(tmp_path: Path) -> None:
    arms = {"a": {"pattern": "dense", "sweep": {"training.rule": ["pepita", "readout-only"]}}}
    chosen = recipe(arms)
    compare(chosen, tmp_path, jobs=1)
    text = write_csv(load_results(tmp_path), tmp_path / "r.csv").read_text()
    assert ",pepita," in text
    assert ",readout-only," in text


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_plain_settings(name: str) -> None:
    assert plain_rule(name) == plain_rule({"name": name}) == name
    defaults = {key: one.default for key, one in settings_of_rule(name).items() if one.default is not one.empty}
    told = plain_rule({"name": name, **defaults})
    assert rule_name(told).startswith(name)


@pytest.mark.parametrize("optimizer", ["exponentiated-gradient", "exponentiated-adam"])
def test_steps_that_multiply_have_names(optimizer: str, tmp_path: Path) -> None:
    arms = {"a": {"pattern": "dense", "start": "log-normal", "training": {"optimizer": optimizer}}}
    chosen = recipe(arms)
    assert [task.state for task in compare(chosen, tmp_path, jobs=1)] == ["done"]


def test_the_report_tells_activation_and_rule(tmp_path: Path) -> None:
    chosen = parse_recipe({
        "name": "r", "question": "?", "seeds": 1, "model": {"hidden": [16], "activation": "elu", "bias": False},
        "training": {"epochs": 1, "batch_size": 64, "rule": "pepita"}, "arms": {"a": {"pattern": "dense"}},
    })  # fmt: skip
    compare(chosen, tmp_path, jobs=1)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "each with an ELU, without biases" in text
    assert "Weights change by the rule pepita." in text


SPIKING = {"encoding": "current", "steps": 10, "output": "potentials"}


def spiking_recipe(spiking, **training):
    return parse_recipe({
        "name": "r", "question": "?", "model": {"hidden": [32]}, "spiking": spiking, "seeds": 1,
        "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.01, **training},
        "arms": {"index": {"pattern": "ensembles", "n_groups": 4}},
    })  # fmt: skip


@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_neurons_that_spike_learn_by_e_prop(feedback, tmp_path):
    rule = {"name": "e-prop", "feedback": feedback, "order": "reverse"}
    chosen = spiking_recipe(SPIKING, rule=rule, weight_decay=0)
    arms = {arm.name: arm for arm in expand_arms(chosen)}
    assert len(arms) == 4  # controls learn by it too
    assert all(arm.training == {} for arm in arms.values())
    summary = execute(run_recipe(chosen, arms["index"], 0), tmp_path / "run")
    assert summary["test_accuracy"] > 0.5
    assert "whose potential, which leaks, summed over time, is its score" in describe_setting(chosen)


@pytest.mark.parametrize(
    ("spiking", "rule", "sentence"),
    [
        ({}, "e-prop", "arms.index: EProp: the model must end in a linear layer and a LeakyIntegrator"),
        (SPIKING, "pepita", "arms.index: the rule of neurons that spike must be one of .*e-prop, got pepita"),
        (SPIKING, {"name": "e-prop", "feedback": "adaptive"}, "arms.index: EProp: .* weight decay above 0"),
        ({"output": "potential"}, "e-prop", "spiking.output"),
    ],
)
def test_rules_that_do_not_fit_spikes_are_refused_before_any_run(spiking, rule, sentence):
    with pytest.raises(RecipeError, match=sentence):
        expand_arms(spiking_recipe(spiking, rule=rule, weight_decay=0))


def test_e_prop_needs_spikes():
    with pytest.raises(RecipeError, match="EProp: the model must be"):
        expand_arms(
            parse_recipe({"question": "?", "training": {"rule": "e-prop"}, "arms": {"a": {"pattern": "dense"}}})
        )
