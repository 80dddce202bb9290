"""Recipes of spiking networks: their keys, what a run is made of, and a comparison with its controls."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare import RecipeError, compare, execute, expand_arms, load_recipe, run_recipe
from neuropil.compare.execute import build_network
from neuropil.compare.recipe import SpikingSection, parse_recipe
from neuropil.models import SpikingEnsembleNet
from neuropil.train.run import read_metrics
from neuropil.units.encode import CurrentEncoder

SMALL = {
    "name": "small",
    "question": "Does it spike?",
    "model": {"hidden": [16, 16]},
    "spiking": {"steps": 6},
    "training": {"epochs": 2, "batch_size": 128},
    "seeds": 1,
    "arms": {"mixer": {"pattern": "mixer", "n_groups": 4}},
}
RATE = {key: value for key, value in SMALL.items() if key != "spiking"}
PENALTY = {"rate_penalty": True, "rate_warm_up": 1}


def arm_of(recipe, name="mixer"):
    return next(arm for arm in expand_arms(recipe) if arm.name == name)


def with_spiking(**spiking):
    return parse_recipe({**SMALL, "spiking": {**SMALL["spiking"], **spiking}})


# Keys


def test_defaults_are_the_published_ones():
    section = parse_recipe({**SMALL, "spiking": {}}).spiking
    assert section == SpikingSection(
        neurons="learned", steps=50, encoding="rate", scale=1.0, frozen=False, rate_penalty=False, rate_warm_up=10
    )
    assert parse_recipe(RATE).spiking is None
    with pytest.raises(RecipeError, match="spiking must hold keys and values, got None; try {} for the defaults"):
        parse_recipe({**SMALL, "spiking": None})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"spiking": {"stepz": 3}}, "recipe: spiking.stepz is unknown; try 'steps'"),
        (
            {"spiking": {"zzz": 3}},
            "recipe: spiking.zzz is unknown; known are neurons, output, steps, encoding, scale, frozen, rate_penalty, "
            "rate_warm_up",
        ),
        ({"spikin": {}}, "recipe: spikin is unknown; try 'spiking'"),
        ({"spiking": {"neurons": "new"}}, "recipe: spiking.neurons: input should be 'fixed' or 'learned', got 'new'"),
        ({"spiking": {"steps": 0}}, "recipe: spiking.steps: input should be greater than or equal to 1, got 0"),
        ({"spiking": {"scale": 0.0}}, "recipe: spiking.scale: input should be greater than 0, got 0.0"),
        ({"spiking": {"rate_warm_up": -1}}, "recipe: spiking.rate_warm_up: input should be greater than or equal to 0, got -1"),
        ({"spiking": {"scale": 0.5}}, "recipe: spiking: scale is a factor on a current, got 0.5 for 'rate'"),
        (
            {"spiking": {"frozen": True}},
            "recipe: spiking: frozen needs features to freeze, got patches=None; try patches=4",
        ),
        (
            {"model": {"hidden": [16, 16], "patches": 2}},
            "recipe: spiking: a trainable patch encoder needs encoding 'current', got 'rate', which passes no gradient; "
            "or freeze it",
        ),
        (
            {"model": {"hidden": [16, 16], "start": "kaiming"}},
            "recipe: model.start must be default for spiking neurons, got kaiming",
        ),
        (
            {"spiking": {"rate_penalty": True, "rate_warm_up": 2}},
            "recipe: spiking.rate_penalty needs more than spiking.rate_warm_up = 2 epochs, got 2",
        ),
    ],
)  # fmt: skip
def test_one_sentence_for_what_is_wrong(change, sentence):
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**SMALL, **change})
    assert str(caught.value) == sentence


def test_a_rate_network_becomes_spiking_by_whole_keys_only(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(RATE))
    assert load_recipe(path).spiking is None
    for setting in ("steps=10", "encoding=current", "scale=0.5"):
        with pytest.raises(RecipeError, match=f"setting '{setting.partition('=')[0]}' is unknown"):
            load_recipe(path, [setting])
    assert load_recipe(path, ["spiking.steps=10"]).spiking == SpikingSection(steps=10)
    assert load_recipe(path, ["spiking.neurons=fixed", "steps=10"]).spiking == SpikingSection(neurons="fixed", steps=10)
    with pytest.raises(RecipeError, match=r"setting 'spiking\.stepz' is unknown; try 'spiking\.steps'"):
        load_recipe(path, ["spiking.stepz=10"])
    path.write_text(yaml.safe_dump(SMALL))
    assert load_recipe(path, ["steps=10", "encoding=latency"]).spiking == SpikingSection(steps=10, encoding="latency")


def test_show_recipe_lists_the_keys():
    shown = CliRunner().invoke(app, ["show", "recipe"], env={"COLUMNS": "200"}).stdout
    for key, field in SpikingSection.model_fields.items():
        (line,) = (line for line in shown.splitlines() if f"spiking.{key} " in line)
        assert str(field.default) in line
        assert field.description.split(",")[0] in line


# What a run is made of


def test_penalty_keys_are_left_out_where_there_is_none():
    recipe = with_spiking()
    plain = {"neurons": "learned", "steps": 6, "encoding": "rate", "scale": 1.0, "frozen": False}
    assert run_recipe(recipe, arm_of(recipe), 0)["spiking"] == plain
    other = with_spiking(rate_warm_up=1)  # plays no part
    assert run_recipe(other, arm_of(other), 0) == run_recipe(recipe, arm_of(recipe), 0)
    penalized = with_spiking(**PENALTY)
    assert run_recipe(penalized, arm_of(penalized), 0)["spiking"] == {**plain, **PENALTY}
    rate = parse_recipe(RATE)
    assert "spiking" not in run_recipe(rate, arm_of(rate), 0)


def test_network_of_a_recipe():
    recipe = parse_recipe(
        {
            **SMALL,
            "model": {"hidden": [16, 24], "patches": 2, "patch_channels": 4},
            "spiking": {"neurons": "fixed", "steps": 7, "encoding": "current", "scale": 0.25, "frozen": True},
        }
    )
    for arm in expand_arms(recipe):
        net = build_network(run_recipe(recipe, arm, 3), (1, 8, 8), 10)
        assert isinstance(net, SpikingEnsembleNet)
        assert isinstance(net.encoder, CurrentEncoder)
        assert (net.encoder.steps, net.encoder.scale, net.steps) == (7, 0.25, 7)
        assert [unit.decay.item() for _, unit in net.stages] == [pytest.approx(0.95)] * 3
        assert not any(parameter.requires_grad for parameter in net.features.parameters())
        assert net.arguments["hidden"] == arm.hidden
        assert net.arguments["seed"] == 3
        assert all(layer.kernel == "events" for layer in net.sparse_layers())


def test_controls_are_those_of_the_rate_network():
    spiking, rate = (expand_arms(parse_recipe(content)) for content in (SMALL, RATE))
    assert spiking == rate
    assert [arm.is_control for arm in spiking] == [True, True, True, False]


# Runs


def test_a_comparison_runs_with_its_controls(tmp_path):
    tasks = compare(parse_recipe(SMALL), tmp_path / "c", jobs=2)
    assert [task.state for task in tasks] == ["done"] * 4, [task.failure for task in tasks]
    assert len({task.folder.parent.name for task in tasks}) == 4
    for task in tasks:
        assert task.summary["status"] == "finished"
        records = read_metrics(task.folder)
        assert [set(record["firing_rates"]) for record in records] == [{"hidden.1", "hidden.3", "output"}] * 2
        assert all(record["synaptic_operations"] > 0 == record["synaptic_multiply_accumulates"] for record in records)
    by_arm = {task.folder.parent.name: task.summary for task in tasks}
    assert by_arm["mixer"]["kernels"] == ["events", "events"]
    assert by_arm["dense-16"]["kernels"] == ["dense", "dense"]


def test_a_run_is_the_same_again(tmp_path):
    """Rate codes draw from the run's seed: nothing else in the process matters."""
    recipe = with_spiking()
    found = []
    for name in ("first", "second"):
        execute(run_recipe(recipe, arm_of(recipe), 0), tmp_path / name)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        found.append((summary["test_loss"], [record["train_loss"] for record in read_metrics(tmp_path / name)]))
        execute(run_recipe(recipe, arm_of(recipe), 1), tmp_path / f"{name} other")  # draws in between
    assert found[0] == found[1]


def test_a_penalty_changes_what_is_learnt(tmp_path):
    found = []
    for name, settings in (("without", {}), ("with", PENALTY)):
        recipe = with_spiking(**settings)
        execute(run_recipe(recipe, arm_of(recipe), 0), tmp_path / name)
        found.append([record["train_loss"] for record in read_metrics(tmp_path / name)])
    assert found[0][0] == found[1][0]  # the first epoch is its warm-up
    assert found[0][1] != found[1][1]


@pytest.mark.parametrize(
    ("model", "spiking"),
    [
        ({}, {"neurons": "fixed", "encoding": "current", "scale": 0.5}),
        ({}, {"encoding": "latency"}),
        ({"patches": 2, "patch_channels": 4}, {"encoding": "current"}),
        ({"patches": 2, "patch_channels": 4}, {"encoding": "rate", "frozen": True}),
    ],
)
def test_every_way_into_the_network_runs(model, spiking, tmp_path):
    content = {**SMALL, "model": {"hidden": [16, 16], **model}, "spiking": {"steps": 4, **spiking}}
    recipe = parse_recipe({**content, "training": {"epochs": 1, "batch_size": 256}})
    summary = execute(run_recipe(recipe, arm_of(recipe), 0), tmp_path / "run")
    assert summary["status"] == "finished"


def test_bundled_recipe_runs_with_a_small_budget(tmp_path):
    settings = ["data.name=digits", "hidden=[32, 32]", "epochs=1", "steps=5", "seeds=1"]
    recipe = load_recipe("spiking-fashion-mnist", settings)
    for arm in expand_arms(recipe):
        summary = execute(run_recipe(recipe, arm, 0), tmp_path / arm.name)
        assert summary["status"] == "finished"


def test_a_recipe_that_is_written_can_be_read_again():
    for content in (SMALL, {key: value for key, value in SMALL.items() if key != "spiking"}):
        recipe = parse_recipe(content)
        assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.model_dump()))) == recipe
