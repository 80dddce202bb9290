"""Activity of networks, from the records of their epochs to summaries, arms and CSV; nothing that is damaged raises."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import execute, expand_arms, run_recipe
from neuropil.compare.activity import neuron_titles, silent_since, summarize_epoch
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.results import load_results, write_csv
from neuropil.compare.run_result import RunResult
from neuropil.compare.table import table_rows
from neuropil.train.run import read_metrics

RECORD: dict[str, Any] = {
    "epoch": 2,
    "dead": {"features.0.1": 1.0, "hidden.1": 0.5, "hidden.3": 0.2, "output": 0.1},
    "saturated": {"features.0.1": 1.0, "hidden.1": 0.0, "hidden.3": 0.1, "output": 1.0},
    "firing_rates": {"hidden.1": 0.1, "hidden.3": 0.4, "output": 0.9},
    "synaptic_operations": 6000.0,
    "synaptic_multiply_accumulates": 100.0,
    "energy_joules": 5e-9,
}
TINY: dict[str, Any] = {
    "name": "tiny",
    "question": "Does it spike?",
    "model": {"hidden": [16, 8]},
    "training": {"epochs": 2, "batch_size": 64},
    "arms": {"er": {"pattern": "erdos-renyi", "density": 0.5}},
}


def test_hidden_layers_count_by_their_width() -> None:
    found = summarize_epoch(RECORD, [300, 100])
    assert found["firing_rates"] == RECORD["firing_rates"]
    assert found["hidden_firing_rate"] == pytest.approx((300 * 0.1 + 100 * 0.4) / 400)
    assert found["dead_neurons"] == pytest.approx((300 * 0.5 + 100 * 0.2) / 400)
    assert found["saturated_neurons"] == pytest.approx(100 * 0.1 / 400)
    work = ("synaptic_operations", "synaptic_multiply_accumulates", "energy_joules")
    assert [found[key] for key in work] == [6000.0, 100.0, 5e-9]


def test_networks_that_do_not_spike_have_no_firing_rate() -> None:
    record = {key: value for key, value in RECORD.items() if key != "firing_rates"}
    assert set(summarize_epoch(record, [300, 100])) == {
        "dead_neurons", "saturated_neurons", "synaptic_operations", "synaptic_multiply_accumulates", "energy_joules"
    }  # fmt: skip
    assert summarize_epoch({"epoch": 1}, [300]) == {}  # as runs of long ago tell it


@pytest.mark.parametrize(
    ("key", "value", "lost"),
    [
        ("firing_rates", "many", {"firing_rates", "hidden_firing_rate"}),
        ("firing_rates", {"hidden.1": 1.5, "hidden.3": 0.1}, {"firing_rates", "hidden_firing_rate"}),
        ("firing_rates", {"hidden.1": float("nan"), "hidden.3": 0.1}, {"firing_rates", "hidden_firing_rate"}),
        ("firing_rates", {"hidden.1": 0.1}, {"hidden_firing_rate"}),  # another number of layers
        ("dead", None, {"dead_neurons"}),
        ("dead", {"hidden.1": -0.1, "hidden.3": 0.1}, {"dead_neurons"}),
        ("saturated", [0.1, 0.2], {"saturated_neurons"}),
        ("synaptic_operations", -1.0, {"synaptic_operations"}),
        ("energy_joules", True, {"energy_joules"}),
        ("synaptic_multiply_accumulates", float("inf"), {"synaptic_multiply_accumulates"}),
    ],
)
def test_what_is_damaged_is_left_out(key: str, value: object, lost: set[str]) -> None:
    whole = summarize_epoch(RECORD, [300, 100])
    assert set(whole) - set(summarize_epoch({**RECORD, key: value}, [300, 100])) == lost


@pytest.mark.parametrize("spiking", [None, {"steps": 4}, {"steps": 4, "encoding": "current"}])
def test_a_run_sums_up_its_last_epoch(tmp_path: Path, spiking: dict[str, Any] | None) -> None:
    recipe = parse_recipe(TINY if spiking is None else {**TINY, "spiking": spiking})
    arm = next(arm for arm in expand_arms(recipe) if arm.name == "er")
    summary = execute(run_recipe(recipe, arm, 0), tmp_path)
    last = read_metrics(tmp_path)[-1]
    for key in ("synaptic_operations", "synaptic_multiply_accumulates", "energy_joules"):
        assert summary[key] == last[key]
    assert summary["dead_neurons"] == pytest.approx((16 * last["dead"]["hidden.1"] + 8 * last["dead"]["hidden.3"]) / 24)
    if spiking is None:
        assert not {"firing_rates", "hidden_firing_rate"} & set(summary)
    else:
        rates = last["firing_rates"]
        assert summary["firing_rates"] == rates
        assert summary["hidden_firing_rate"] == pytest.approx((16 * rates["hidden.1"] + 8 * rates["hidden.3"]) / 24)
        assert (summary["synaptic_multiply_accumulates"] > 0) == (spiking.get("encoding") == "current")
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def write_records(made_up: Any, folder: Path, **values: Any) -> None:
    """Give each run two epochs, of which the last tells of activity."""
    for run in folder.glob("*/seed-*"):
        records = [{"epoch": 1}, {**RECORD, **values}]
        (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_arms_take_the_mean_over_runs(made_up: Any) -> None:
    folder = made_up.comparison(spiking={})
    write_records(made_up, folder)
    for seed, rate in enumerate((0.1, 0.2, 0.6)):
        made_up.write_summary("mixer", seed, hidden_firing_rate=rate, synaptic_operations=1000.0 * (seed + 1))
    results = load_results(folder)
    found = results.arms["mixer"].activity
    assert found.hidden_firing_rate == pytest.approx(0.3)
    assert found.synaptic_operations == pytest.approx(2000.0)
    assert found.energy_joules == pytest.approx(5e-9)
    assert results.arms["mixer"].differences["dense-same-width"].operations == pytest.approx(2000 / 6000)


def test_summaries_of_old_runs_are_completed_from_their_metrics(made_up: Any) -> None:
    folder = made_up.comparison(spiking={})
    assert load_results(folder).arms["mixer"].activity.hidden_firing_rate is None
    write_records(made_up, folder)
    results = load_results(folder)
    assert results.arms["mixer"].activity.hidden_firing_rate == pytest.approx(0.25)  # layers are equally wide
    (made_up.run("mixer", 0) / "metrics.jsonl").write_text(json.dumps({**RECORD, "epoch": 1}) + "\n")  # cut off
    assert "hidden_firing_rate" not in load_results(folder).arms["mixer"].runs[0].summary
    made_up.remove_summary("mixer", 1)
    assert load_results(folder).arms["mixer"].runs[1].summary == {}
    made_up.write_summary("mixer", 2, hidden_firing_rate=0.125)  # what a summary says itself, it says better
    assert load_results(folder).arms["mixer"].activity.hidden_firing_rate == 0.125


@pytest.mark.parametrize("value", ["often", None, True, float("nan")])
def test_damaged_numbers_of_a_summary_are_left_out(made_up: Any, value: object) -> None:
    folder = made_up.comparison(spiking={})
    made_up.write_summary("index", 0, hidden_firing_rate=value, energy_joules=value)
    made_up.write_summary("index", 1, hidden_firing_rate=0.25, energy_joules=1e-9)
    found = load_results(folder).arms["index"].activity
    assert (found.hidden_firing_rate, found.energy_joules) == (0.25, 1e-9)


def test_folds_count_each(made_up: Any) -> None:
    folder = made_up.comparison(spiking={}, folds=2)
    for fold, rate in enumerate((0.1, 0.3)):
        for seed in range(3):
            made_up.write_summary("mixer", seed, fold=fold, hidden_firing_rate=rate)
    assert load_results(folder).arms["mixer"].activity.hidden_firing_rate == pytest.approx(0.2)


def test_csv_has_activity_of_whatever_tells_it(made_up: Any, tmp_path: Path) -> None:
    folder = made_up.comparison()
    made_up.write_summary(
        "index", 0, hidden_firing_rate=0.018, dead_neurons=0.61, saturated_neurons=0.0, synaptic_operations=6.1e6,
        synaptic_multiply_accumulates=0.0, energy_joules=5.5e-6,
    )  # fmt: skip
    keys = ("hidden_firing_rate", "dead", "saturated", "synaptic_operations", "synaptic_multiply_accumulates",
            "energy_joules")  # fmt: skip
    with write_csv(load_results(folder), tmp_path / "runs.csv").open(newline="") as file:
        rows = {(row["arm"], row["seed"]): [row[key] for key in keys] for row in csv.DictReader(file)}
    assert rows["index", "0"] == ["0.018", "0.61", "0.0", "6100000.0", "0.0", "5.5e-06"]
    assert rows["index", "1"] == [""] * 6


def run_with(*epochs: dict[str, float]) -> RunResult:
    records = tuple({"epoch": epoch, "firing_rates": rates} for epoch, rates in enumerate(epochs, start=1))
    return RunResult("mixer", 0, "done", None, {}, records, {})


@pytest.mark.parametrize(
    ("first", "second", "output", "found"),
    [
        ((0.1, 0.1, 0.1), (0.1, 0.1, 0.1), (0.1, 0.1, 0.1), None),
        ((0.1, 0.0, 0.0), (0.1, 0.0, 0.0), (0.1, 0.1, 0.0), ("layer 1", 2)),
        ((0.1, 0.1, 0.1), (0.0, 0.1, 0.0), (0.0, 0.0, 0.0), ("layer 2", 3)),
        ((0.0, 0.1, 0.1), (0.0, 0.0, 0.1), (0.0, 0.1, 0.1), None),  # all have come to life
        ((0.1, 0.1, 0.1), (0.1, 0.1, 0.1), (0.0, 0.0, 0.0), ("read-out", 1)),
    ],
)
def test_silent_to_the_end(
    first: tuple[float, ...], second: tuple[float, ...], output: tuple[float, ...], found: tuple[str, int] | None
) -> None:
    epochs = zip(first, second, output, strict=True)
    run = run_with(*({"hidden.1": a, "hidden.3": b, "output": c} for a, b, c in epochs))
    assert silent_since(run) == found


def test_nothing_is_silent_where_nothing_is_told() -> None:
    assert silent_since(run_with()) is None
    assert silent_since(run_with({}, {"hidden.1": 0.0, "output": 0.1})) == ("layer 1", 2)
    assert silent_since(RunResult("a", 0, "done", None, {}, ({"epoch": 1}, {"epoch": "2"}), {})) is None


def test_titles_of_layers() -> None:
    assert neuron_titles(["features.1", "hidden.1", "hidden.3"]) == {"hidden.1": "layer 1", "hidden.3": "layer 2"}


def test_a_table_without_any_number(made_up: Any) -> None:
    header, rows = table_rows(load_results(made_up.comparison(spiking={})))
    columns = [i for i, title in enumerate(header) if title.startswith(("firing", "synaptic", "energy"))]
    assert len(columns) == 3
    assert {row[i] for row in rows for i in columns} == {"–"}
