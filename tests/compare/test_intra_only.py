"""The ablation of a comparison: measured where asked for, and only there."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from neuropil import data
from neuropil.compare import RecipeError, execute, expand_arms, run_recipe
from neuropil.compare.execute import build_network
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.report import describe_setting, write_report
from neuropil.compare.results import load_results, write_csv
from neuropil.compare.splits import split_data
from neuropil.compare.table import table_columns, table_rows
from neuropil.measure import intra_only
from neuropil.train import evaluate

SMALL: dict[str, Any] = {
    "name": "small",
    "question": "Does it run?",
    "model": {"hidden": [32, 32]},
    "training": {"epochs": 3, "batch_size": 32},
    "arms": {"index": {"pattern": "ensembles", "n_groups": 4, "p_inter": 0.5}},
}
COLUMN = "− itself, intra-only"


def run_of(**changes: Any) -> tuple[Any, Any]:
    recipe = parse_recipe({**SMALL, **changes})
    return recipe, next(arm for arm in expand_arms(recipe) if not arm.is_control)


def test_a_run_says_so_only_where_it_applies() -> None:
    recipe, arm = run_of(intra_only=True)
    assert run_recipe(recipe, arm, 0)["intra_only"] is True
    assert {other.name for other in expand_arms(recipe) if "intra_only" in run_recipe(recipe, other, 0)} == {"index"}
    plain, arm = run_of()
    assert "intra_only" not in run_recipe(plain, arm, 0)


def test_it_needs_groups() -> None:
    arms = {"a": {"pattern": "erdos-renyi", "density": 0.2}}
    with pytest.raises(
        RecipeError, match="intra_only needs an arm whose wiring has groups, got none; try ensembles or"
    ):
        parse_recipe({**SMALL, "arms": arms, "intra_only": True})
    assert not parse_recipe({**SMALL, "arms": arms}).intra_only


@pytest.mark.parametrize("rewiring", [None, {"rule": "set", "per_epoch": 2}])
def test_the_network_is_measured_cut_and_left_as_it_was(tmp_path: Path, rewiring: Any) -> None:
    arms = {"index": {**SMALL["arms"]["index"], "rewiring": rewiring}}
    recipe, arm = run_of(intra_only=True, arms=arms)
    plain, _ = run_of(arms=arms)
    cut = execute(run_recipe(recipe, arm, 0), tmp_path / "cut", keep_checkpoint=True)
    whole = execute(run_recipe(plain, arm, 0), tmp_path / "whole", keep_checkpoint=True)
    assert cut["test_accuracy"] == whole["test_accuracy"]
    assert set(cut) - set(whole) == {"intra_only_accuracy", "intra_only_drop"}
    assert cut["intra_only_drop"] == cut["test_accuracy"] - cut["intra_only_accuracy"]
    assert cut["intra_only_drop"] > 0.02
    assert execute(run_recipe(recipe, arm, 0), tmp_path / "cut") == json.loads(
        (tmp_path / "cut" / "summary.json").read_text()
    )
    # once more by hand, from the weights that were kept
    dataset = split_data(data.load("digits"), recipe.data.model_dump())
    net = build_network(run_recipe(recipe, arm, 0), dataset.input_shape, dataset.n_classes)
    tensors = load_file(next((tmp_path / "cut").glob("*.safetensors")))
    net.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    assert evaluate(net, dataset, dataset.test)[1] == cut["test_accuracy"]
    with intra_only(net):
        assert evaluate(net, dataset, dataset.test)[1] == cut["intra_only_accuracy"]


def test_where_nothing_joins_groups_nothing_is_lost(tmp_path: Path) -> None:
    arms = {"index": {**SMALL["arms"]["index"], "p_inter": 0}}
    recipe, arm = run_of(intra_only=True, arms=arms)
    assert execute(run_recipe(recipe, arm, 0), tmp_path / "run")["intra_only_drop"] == 0


def test_a_rate_code_draws_the_same_spikes_twice(tmp_path: Path) -> None:
    arms = {"index": {**SMALL["arms"]["index"], "p_inter": 0}}
    training = {"epochs": 3, "batch_size": 32, "learning_rate": 0.01}
    recipe, arm = run_of(intra_only=True, arms=arms, spiking={"steps": 8, "encoding": "rate"}, training=training)
    summary = execute(run_recipe(recipe, arm, 0), tmp_path / "run")
    assert summary["test_accuracy"] > 0.2
    assert summary["intra_only_drop"] == 0


def test_a_run_that_diverges_has_no_drop(tmp_path: Path) -> None:
    training = {"epochs": 1, "optimizer": "sgd", "learning_rate": 1e30, "schedule": "constant"}
    recipe, arm = run_of(intra_only=True, training=training)
    summary = execute(run_recipe(recipe, arm, 0), tmp_path / "run")
    assert summary["status"] == "diverged"
    assert "intra_only_drop" not in summary


@pytest.mark.parametrize("folds", [None, 4])
def test_table_and_csv_have_the_drop(made_up: Any, folds: int | None) -> None:
    folder = made_up.comparison(lambda arm, seed: 0.8 + 0.01 * seed, intra_only=True, folds=folds)
    for fold in range(folds or 1):
        made_up.write_summary("mixer", 2, fold=None if folds is None else fold, intra_only_drop=0.4)
    results = load_results(folder)
    header, rows = table_rows(results)
    cells = {row[0].partition("\n")[0]: row[header.index(COLUMN)] for row in rows}
    # 10, 10 and 40: half of the interval is 4.303 · 17.32 / √3 = 43.03
    assert (cells["mixer"], cells["dense-32"]) == ("+20.00\n[−23.03, +63.03]", "–")
    assert cells["index"] == "+10.00\n[+10.00, +10.00]"
    assert table_columns(results)[header.index(COLUMN)].explanation.endswith("what these connections carry.")
    with write_csv(results, folder / "results.csv").open(newline="") as file:
        found = {(row["arm"], row["seed"]): row["intra_only_drop"] for row in csv.DictReader(file)}
    assert (found["index", "0"], found["mixer", "2"], found["dense-32", "0"]) == ("0.1", "0.4", "")


def test_no_column_where_nobody_asks(made_up: Any) -> None:
    folder = made_up.comparison()
    results = load_results(folder)
    assert COLUMN not in table_rows(results)[0]
    assert results.arms["index"].intra_only_drop is None
    assert "between groups cut" not in describe_setting(results.recipe)
    assert "intra" not in re.sub(r"base64,[^\"]*|intra_only: false", "", write_report(folder).read_text())


def test_the_report_says_that_the_test_set_was_used_twice(made_up: Any) -> None:
    html = write_report(made_up.comparison(intra_only=True)).read_text()
    assert "The test set was used once in each run, after the last epoch (with groups once more, cut)." in html
    assert "each network with groups was scored once more with every connection between groups cut" in html
    assert COLUMN in html


@pytest.mark.parametrize("value", [None, "much", float("nan"), True])
def test_a_drop_that_is_no_number_is_left_out(made_up: Any, value: object) -> None:
    folder = made_up.comparison(intra_only=True)
    made_up.write_summary("index", 1, intra_only_drop=value)
    assert load_results(folder).arms["index"].intra_only_drop.n == 2
