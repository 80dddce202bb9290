"""Probes that recipes ask for: what they record, and that nothing else changes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from neuropil import data
from neuropil.compare.arms import expand_arms, run_recipe
from neuropil.compare.execute import build_network, execute
from neuropil.compare.probe_measures import of_activity, of_activity_since_start
from neuropil.compare.probes import PROBES, build_probes, plain_probes
from neuropil.compare.recipe import Recipe, RecipeError, parse_recipe
from neuropil.compare.splits import split_data
from neuropil.measure import emergence, weight_change
from neuropil.measure import snapshot as take_snapshot
from neuropil.train import Run

MIXER = {"pattern": "mixer", "n_groups": 4, "block": ["group", 1]}
RECIPE: dict[str, Any] = {
    "question": "Does it record?",
    "model": {"hidden": [16, 16]},
    "training": {"epochs": 2, "batch_size": 256},
    "seeds": 1,
    "arms": {
        "hebbian": {**MIXER, "rewiring": {"rule": "hebbian", "every": 3}},
        "top-kast": {"pattern": "erdos-renyi", "density": 1.0, "rewiring": {"rule": "top-kast", "density": 0.3}},
    },
}
SHARPNESS = {"measure": "sharpness", "every": 3, "epochs": [], "n_samples": 50, "most": 3}
MOST = ["emergence", "norms", "weight-change", {"measure": "tangent-kernel", "n_samples": 8}, "topology", SHARPNESS]


def recipe(**changes: Any) -> Recipe:
    return parse_recipe({**RECIPE, **changes})


def run_of(arm: str, **changes: Any) -> dict[str, Any]:
    made = recipe(**changes)
    (found,) = (each for each in expand_arms(made) if each.name == arm)
    return run_recipe(made, found, 0)


def records(folder: Path) -> list[dict[str, Any]]:
    path = folder / "probes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def network(run: Mapping[str, Any]) -> tuple[Any, data.Dataset]:
    dataset = split_data(data.load("digits"), run["data"])
    return build_network(run, dataset.input_shape, dataset.n_classes), dataset


@pytest.mark.parametrize("arm", ["hebbian", "top-kast"])
def test_they_change_nothing_else(arm: str, tmp_path: Path) -> None:
    plain = execute(run_of(arm), tmp_path / "plain", keep_checkpoint=True)
    probed = execute(run_of(arm, probes=MOST), tmp_path / "probed", keep_checkpoint=True)
    weights, others = (
        load_file(next((tmp_path / name).glob("checkpoint-*.safetensors"))) for name in ("plain", "probed")
    )
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name
    times = {"seconds_per_epoch", "peak_memory_bytes"}
    assert {k: v for k, v in plain.items() if k not in times} == {k: v for k, v in probed.items() if k not in times}
    assert records(tmp_path / "plain") == []
    found = records(tmp_path / "probed")
    when = [(record["epoch"], record.get("step")) for record in found if record["probe"] == "sharpness"]
    assert when == [(1, 3), (2, 6)]
    assert [record["epoch"] for record in found if record["probe"] == "emergence"] == [0, 1, 2]


def test_what_is_compared_with_the_start_is(tmp_path: Path) -> None:
    run = run_of("mixer-static", arms={"mixer-static": MIXER}, probes=["emergence", "weight-change"])
    execute(run, tmp_path / "run", keep_checkpoint=True)
    net, dataset = network(run)
    images = dataset.normalize(dataset.train.images[:256])
    start, before = emergence(net, images), take_snapshot(net)
    trained = load_file(tmp_path / "run" / "checkpoint-00002.safetensors")
    net.load_state_dict({key.removeprefix("model."): v for key, v in trained.items() if key.startswith("model.")})
    end = emergence(net, images, threshold=start.thresholds)
    by_epoch = {(record["epoch"], record["probe"]): record["value"] for record in records(tmp_path / "run")}
    assert by_epoch[0, "emergence"]["log10"] == start.log10
    assert by_epoch[2, "emergence"]["relative_to_most"] == end.relative_to_most
    assert emergence(net, images).thresholds != start.thresholds
    assert by_epoch[0, "weight-change"]["relative"]["all"] == 0
    assert by_epoch[2, "weight-change"]["relative"]["all"] == weight_change(before, net).total.relative > 0


def test_a_resumed_run_has_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("hebbian", probes=MOST)
    execute(run, tmp_path / "whole")
    save = Run.save

    def save_and_die(self: Run, *rest: Any) -> None:
        save(self, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            execute(run, tmp_path / "killed")
    assert {record["epoch"] for record in records(tmp_path / "killed")} == {0, 1}
    execute(run, tmp_path / "killed")
    assert records(tmp_path / "killed") == records(tmp_path / "whole")


@pytest.mark.parametrize("spiking", [False, True])
def test_each_gives_the_numbers_that_it_says(spiking: bool) -> None:
    names = [name for name, kind in PROBES.items() if not (spiking and kind.for_rates)]
    section = {"spiking": {"steps": 3, "encoding": "current"}} if spiking else {}
    run = run_of(
        "mixer", arms={"mixer": MIXER}, probes=[{"measure": name, "n_samples": 6} for name in names], **section
    )
    net, dataset = network(run)
    if spiking:
        dataset = dataset.in_unit_range()
    images, labels = dataset.normalize(dataset.train.images[:6]), dataset.train.labels[:6]
    probes = build_probes(run, net, dataset)
    assert [probe.name for probe in probes] == names
    for probe in probes:
        value = probe.measure(net, images, labels)
        assert list(value) == list(PROBES[probe.name].quantities)
        for numbers in value.values():
            layers = numbers.values() if isinstance(numbers, Mapping) else [numbers]
            assert layers
            assert all(isinstance(number, float) for number in layers), probe.name


@pytest.mark.parametrize("spiking", [False, True])
def test_measures_of_activity_become_probes(spiking: bool) -> None:
    section = {"spiking": {"steps": 3, "encoding": "current"}} if spiking else {}
    net, dataset = network(run_of("mixer", arms={"mixer": MIXER}, **section))
    if spiking:
        dataset = dataset.in_unit_range()
    images, labels = dataset.normalize(dataset.train.images[:6]), dataset.train.labels[:6]
    own = of_activity("mean", lambda rates: float(rates.abs().double().mean()))()
    expected = PROBES["activity"].make().now(net, images, labels, None)["mean"]
    assert own.now(net, images, labels, None) == {"mean": pytest.approx(expected)}
    shapes = set()

    def moved_from(start: torch.Tensor) -> Callable[[torch.Tensor], float]:
        shapes.add(start.shape[0])
        return lambda rates: float((rates - start).abs().sum())

    pair = of_activity_since_start("moved", moved_from)()
    assert pair.start is not None
    before = pair.start(net, images, labels)
    assert shapes == {6}
    assert set(pair.now(net, images, labels, before)["moved"].values()) == {0.0}
    with torch.no_grad():
        net.hidden[2].bias += 1.0
    moved = pair.now(net, images, labels, before)["moved"]
    assert moved["hidden.1"] == 0.0 < moved["hidden.3"]


def test_of_dense_networks_there_is_no_topology() -> None:
    run = run_of("dense-16", probes=["topology", "norms"])
    assert [probe.name for probe in build_probes(run, *network(run))] == ["norms"]


def test_a_measure_that_fails_is_said_once(tmp_path: Path) -> None:
    """The kernel of one image is nothing once centred."""
    run = run_of("hebbian", probes=[{"measure": "tangent-kernel", "n_samples": 1}, "topology"])
    summary = execute(run, tmp_path / "run")
    said = [warning for warning in summary["warnings"] if "tangent-kernel" in warning]
    assert len(said) == 1
    assert "probe tangent-kernel could not be taken: target_alignment: a kernel must not be 0" in said[0]
    values = [record["value"] for record in records(tmp_path / "run") if record["probe"] == "tangent-kernel"]
    assert values == [None] * 3


def test_without_them_runs_are_what_they_were() -> None:
    assert "probes" not in run_of("hebbian")
    assert "probes" not in recipe().model_dump()
    assert run_of("hebbian", probes=[]) == run_of("hebbian")
    assert {**run_of("hebbian"), "probes": [{"measure": "norms"}]} == run_of("hebbian", probes="norms")
    text = yaml.safe_dump(recipe(probes=MOST).model_dump())
    assert parse_recipe(yaml.safe_load(text)) == recipe(probes=MOST)


def test_lists_and_mappings_say_the_same() -> None:
    expected = [{"measure": "norms"}, {"measure": "sharpness", "every": 5}]
    assert plain_probes(["norms", {"measure": "sharpness", "every": 5}]) == expected
    assert plain_probes({"norms": None, "sharpness": {"every": 5}}) == expected
    assert plain_probes({"often": {"measure": "norms", "every": 1}, "norms": {}}) == [
        {"name": "often", "measure": "norms", "every": 1},
        {"measure": "norms"},
    ]
    assert plain_probes(None) == []


@pytest.mark.parametrize(
    ("probes", "sentence"),
    [
        (["emergenc"], "probe must be one of emergence, .*, got 'emergenc'; try 'emergence'"),
        ([3], "probe must be one of emergence, .*, got 3"),
        (["norms", "norms"], "probes must have different names, got norms twice; try name: norms-2 in one of them"),
        ({"norms": 3}, r"probe norms must hold keys and values, got 3; try norms: {every: 100}"),
        ([{"measure": "norms", "evry": 3}], "probe norms has no setting 'evry'; try 'every'"),
        ([{"measure": "norms", "zzz": 3}], "probe norms has no setting 'zzz'; it has every, epochs, n_samples, name"),
        ([{"measure": "norms", "every": 0}], "probe norms: every: .* greater than or equal to 1, got 0"),
        ([{"measure": "norms", "n_samples": 0}], "probe norms: n_samples: .* greater than or equal to 1, got 0"),
        ([{"measure": "norms", "epochs": [-1]}], "probe norms: epochs.0: .* greater than or equal to 0, got -1"),
        ([{"measure": "emergence", "rate": 1}], "probe emergence: rate: .* less than 1, got 1"),
        ([{"measure": "sharpness", "products": "some"}], "probe sharpness: products: .* 'exact' or 'differences'"),
    ],
)
def test_one_sentence_for_what_is_wrong(probes: Any, sentence: str) -> None:
    with pytest.raises(RecipeError, match=f"^recipe: {sentence}"):
        recipe(probes=probes)


def test_what_no_spiking_network_has() -> None:
    with pytest.raises(RecipeError, match="probe sharpness needs neurons .* got spiking ones; leave it out"):
        recipe(probes=["sharpness"], spiking={})
