"""What is read from run folders, whole and broken."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare.arms import Arm
from neuropil.compare.labels import describe, describe_arm
from neuropil.compare.results import COLUMNS, load_results, write_csv
from neuropil.compare.table import table_columns, table_rows
from neuropil.connect import Dense, Ensembles, ErdosRenyi, Pattern, ScaleFree, SmallWorld
from neuropil.models import mixer


def test_arms_and_their_numbers(made_up: Any) -> None:
    results = load_results(made_up.comparison())
    *controls, index, mixed = results.arms.values()
    assert (index.arm.name, mixed.arm.name) == ("index", "mixer")
    assert {control.arm.name for control in controls} == results.controls == set(index.arm.twins.values())
    assert (index.label, mixed.label) == ("ensembles by index, 8 groups, p′ = 0.15",
                                          "mixer, 8 groups, p′ = 0.15, block (group, 1)")  # fmt: skip
    assert index.count("done") == len(index.runs) == 3
    mean = sum(made_up.accuracy("index", seed) for seed in range(3)) / 3
    assert index.accuracy.mean == pytest.approx(mean)
    assert (index.parameters, index.density, index.multiply_accumulates) == (2001, 0.25, 1000)
    assert (index.seconds_per_epoch.low, index.seconds_per_epoch.median) == (1.0, 1.1)
    assert index.peak_memory_bytes.median == 3 * 2**20
    assert index.kernels == ("masked", "masked")


def test_differences_are_paired_by_seed(made_up: Any) -> None:
    results = load_results(made_up.comparison())
    difference = results.arms["mixer"].differences["dense-same-width"]
    expected = [made_up.accuracy("mixer", s) - made_up.accuracy("dense-32", s) for s in range(3)]
    assert difference.twin == "dense-32"
    assert difference.accuracy.mean == pytest.approx(sum(expected) / 3)
    assert (difference.time.low, difference.time.high, difference.work) == (0.5, 0.6, 0.25)
    assert results.arms["dense-32"].differences == {}


def test_states_of_runs(made_up: Any) -> None:
    folder = made_up.comparison(seeds=5)
    made_up.remove_summary("index", 0)
    (made_up.remove_summary("index", 1) / "failure.json").write_text('{"reason": "no memory"}')
    (made_up.remove_summary("index", 2) / "recipe.yaml").unlink()
    made_up.write_summary("index", 3, status="diverged", test_accuracy=None, test_loss=None)
    index = load_results(folder).arms["index"]
    assert [run.state for run in index.runs.values()] == ["running", "failed", "missing", "diverged", "done"]
    assert index.runs[1].reason == "no memory"
    assert (index.accuracy.n, index.accuracy.interval) == (1, None)
    assert index.differences["erdos-renyi"].accuracy.n == 1
    row = next(row for row in table_rows(load_results(folder))[1] if row[0].startswith("index"))
    assert row[1] == "1 of 5\n1 diverged, 1 failed, 1 unfinished, 1 missing"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        b"{}",
        b'{"status": "finished"}',
        b'{"status": ["finished"], "kernels": [], "warnings": []}',
    ],
)
def test_damaged_summary_counts_as_missing(made_up: Any, content: bytes) -> None:
    folder = made_up.comparison()
    (made_up.run("index", 1) / "summary.json").write_bytes(content)
    run = load_results(folder).arms["index"].runs[1]
    assert (run.state, run.reason, run.accuracy) == ("missing", "its summary.json is damaged", None)


@pytest.mark.parametrize("value", ["high", None, True, 1.5, float("nan")])
def test_impossible_accuracy_counts_as_missing(made_up: Any, value: object) -> None:
    folder = made_up.comparison()
    made_up.write_summary("index", 1, test_accuracy=value)
    assert load_results(folder).arms["index"].runs[1].state == "missing"


def test_other_damage_is_survived(made_up: Any) -> None:
    folder = made_up.comparison()
    (made_up.run("index", 0) / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n[1]\n{"epo')
    (made_up.run("index", 1) / "metrics.jsonl").write_bytes(b"\xff\xfe")
    (made_up.run("index", 2) / "environment.json").write_text("nothing")
    runs = load_results(folder).arms["index"].runs
    assert [run.state for run in runs.values()] == ["done"] * 3
    assert [len(run.metrics) for run in runs.values()] == [1, 0, 2]
    assert runs[2].environment == {}


def test_nothing_has_run_yet(made_up: Any) -> None:
    made_up.comparison()
    empty = type(made_up)(made_up.folder.parent / "empty")
    empty.folder.mkdir()
    (empty.folder / "comparison.yaml").write_text((made_up.folder / "comparison.yaml").read_text())
    results = load_results(empty.folder)
    assert {run.state for run in results.runs} == {"missing"}
    assert all(set(row[2:]) == {"–"} for row in table_rows(results)[1])


def test_wording_for_a_folder_that_is_no_comparison(tmp_path: Path) -> None:
    wording = f"^load_results: {re.escape(str(tmp_path))} must be the folder of a comparison, got one without"
    with pytest.raises(ValueError, match=wording):
        load_results(tmp_path)
    with pytest.raises(ValueError, match=r"must be the folder of a comparison"):
        load_results(tmp_path / "nowhere")
    for damaged in ("{", "just words", "question: what?\n"):
        (tmp_path / "comparison.yaml").write_text(damaged)
        with pytest.raises(ValueError, match=r"comparison\.yaml must hold the recipe of a comparison, got: "):
            load_results(tmp_path)


def test_csv_has_a_row_a_run(made_up: Any, tmp_path: Path) -> None:
    folder = made_up.comparison()
    made_up.remove_summary("mixer", 2)
    path = write_csv(load_results(folder), tmp_path / "runs.csv")
    assert path.read_bytes() == write_csv(load_results(folder), tmp_path / "again.csv").read_bytes()
    assert b"\r" not in path.read_bytes()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["arm"], row["seed"]) for row in rows[-4:]] == [("index", "2"), *(("mixer", s) for s in "012")]
    assert rows[-3] == {
        "comparison": "made-up", "arm": "mixer", "seed": "0", "fold": "", "n_folds": "", "status": "done",
        "folds_mean": "", "folds_std": "", "intra_only_accuracy": "", "intra_only_drop": "",
        "test_accuracy": str(made_up.accuracy("mixer", 0)), "test_loss": "0.25", "epochs": "2",
        "parameters": "2000", "density": "0.25", "multiply_accumulates": "1000", "seconds_per_epoch": "1.0",
        "peak_memory_bytes": "3145728", "kernels": "masked masked", "rewiring": "",
        "explored": "", "modularity": "", "epochs_to_recover": "", "equal_seconds_epochs": "",
        "equal_seconds_accuracy": "", "neurons_without_input": "0",
        "neurons_without_output": "", "negative_weights": "", "hidden_firing_rate": "", "dead": "", "saturated": "",
        "synaptic_operations": "", "synaptic_multiply_accumulates": "", "energy_joules": "", "data": "digits",
        "hidden": "32 32",
        "patches": "", "convolutions": "", "batch_norm": "", "activation": "relu", "bias": "True", "start": "default",
        "rule": "backpropagation", "optimizer": "adam",
        "learning_rate": "0.001", "rate_profile": "1.0", "weight_decay": "0.0001", "first_validation_accuracy": "0.5",
        "validation_accuracy": str(made_up.accuracy("mixer", 0)), "precision": "float32", "threads": "1", "torch": "2.13", "processor": "a processor", "gpu": "",
        "commit": "abc1234", "date": "",
    }  # fmt: skip
    assert (rows[-1]["status"], rows[-1]["test_accuracy"], rows[-1]["parameters"]) == ("running", "", "")
    assert rows[-1]["epochs"] == "2"


def test_csv_says_how_an_arm_was_rewired(made_up: Any, tmp_path: Path) -> None:
    folder = made_up.rewired()
    made_up.remove_summary("mixer-set", 2)
    with write_csv(load_results(folder), tmp_path / "runs.csv").open(newline="") as file:
        rows = {(row["arm"], row["seed"]): row for row in csv.DictReader(file)}
    found = {key: (row["rewiring"], row["explored"], row["modularity"]) for key, row in rows.items()}
    assert found["mixer-set", "0"] == ("set per_epoch=2", "0.5", "0.25")
    assert found["mixer-set", "2"] == ("set per_epoch=2", "", "")
    assert found["er-gmp", "0"] == ("gmp density=0.25 every=5", "0.5", "")
    assert {found[key] for key, row in rows.items() if row["arm"] in ("mixer", "dense-32")} == {("", "", "")}


def test_rewired_arms_have_a_static_twin(made_up: Any) -> None:
    results = load_results(made_up.rewired())
    rewired = {arm.arm.name: arm for arm in results.rewired_arms}
    assert set(rewired) == {"mixer-set", "er-rigl", "er-gmp"}
    assert rewired["mixer-set"].differences["static"].twin == "mixer"
    expected = sum(made_up.accuracy("mixer-set", s) - made_up.accuracy("mixer", s) for s in range(3)) / 3
    assert rewired["mixer-set"].differences["static"].accuracy.mean == pytest.approx(expected)
    assert rewired["er-rigl"].differences["static"].twin in results.controls
    assert "static" not in rewired["er-gmp"].differences
    assert rewired["mixer-set"].label == "mixer, 8 groups, p′ = 0.15, rewired by SET, per_epoch = 2"
    assert (rewired["er-rigl"].rewired.explored, rewired["er-rigl"].rewired.modularity) == (0.5, None)
    assert results.arms["mixer"].rewired is None


def test_a_static_arm_of_the_recipe_is_no_mere_control(made_up: Any) -> None:
    results = load_results(made_up.rewired())
    assert "mixer" not in results.controls
    arms = [name for name in results.arms if name not in results.controls]
    assert arms == [*results.arms][-4:]
    assert set(arms) == {"mixer", "mixer-set", "er-rigl", "er-gmp"}


def test_a_column_for_the_static_twin_only_where_there_is_one(made_up: Any) -> None:
    results = load_results(made_up.rewired())
    header, rows = table_rows(results)
    cells = {row[0].partition("\n")[0]: row[-1] for row in rows}
    assert header[-1] == table_columns(results)[-1].header == "− same wiring, static"
    assert cells["mixer-set"].startswith(("+", "−"))
    assert (cells["mixer"], cells["er-gmp"]) == ("–", "–")
    plain = load_results(type(made_up)(made_up.folder.parent / "plain").comparison())
    assert [column.header for column in table_columns(plain)][-1] == "− Erdős–Rényi, same density"
    assert list(plain.twin_words) == ["dense-same-width", "dense-same-parameters", "erdos-renyi"]


def test_csv_takes_the_date_where_there_is_one(made_up: Any, tmp_path: Path) -> None:
    folder = made_up.comparison()
    (made_up.run("index", 0) / "environment.json").write_text(json.dumps({"date": "2026-01-02"}))
    write_csv(load_results(folder), tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(newline="") as file:
        assert [row["date"] for row in csv.DictReader(file) if row["arm"] == "index"] == ["2026-01-02", "", ""]


def test_table_is_text_of_one_shape(made_up: Any) -> None:
    results = load_results(made_up.comparison())
    header, rows = table_rows(results)
    assert header == [column.header for column in table_columns(results)]
    assert {len(row) for row in rows} == {len(header)}
    dense = dict(zip(header, next(row for row in rows if row[0].startswith("dense-32\n")), strict=True))
    assert dense["arm"] == "dense-32\ndense, width 32"
    assert (dense["seeds"], dense["parameters"], dense["density"]) == ("3", "5,000", "1.000")
    assert dense["multiply-accumulates (10³)"] == "4.00"
    assert (dense["seconds per epoch"], dense["peak memory (MiB)"]) == ("2.00\n2.00–2.00", "3.00")
    assert dense["− dense, same width"] == "–"


def test_table_with_one_seed_shows_no_interval(made_up: Any) -> None:
    header, rows = table_rows(load_results(made_up.comparison(seeds=1)))
    mixed = dict(zip(header, rows[-1], strict=True))
    assert (mixed["accuracy (%)"], mixed["seconds per epoch"]) == ("95.00", "1.00")
    assert mixed["− dense, same width"] == "−1.00"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (Dense(), "dense"),
        (Ensembles(n_groups=4, p_inter=0.0), "ensembles by index, 4 groups, p′ = 0"),
        (Ensembles(grouping="interleaved", exact=True), "ensembles interleaved, 8 groups, p′ = 0.15, exact counts"),
        (
            Ensembles(grouping="random", p_intra=0.5, block=(4, 4)),
            "ensembles drawn at random, 8 groups, p = 0.5, p′ = 0.15, block (4, 4)",
        ),
        (ErdosRenyi(0.1, block=(2, 1)), "Erdős–Rényi, density 0.1, block (2, 1)"),
        (SmallWorld(0.1, p_rewire=0.25), "small world, density 0.1, rewired 0.25"),
        (ScaleFree(0.1), "scale-free, density 0.1, γ = 3"),
        (ScaleFree(0.1, float("inf")), "scale-free, density 0.1, γ = ∞"),
    ],
)
def test_patterns_in_plain_words(pattern: Pattern, words: str) -> None:
    assert describe(pattern) == words
    assert describe_arm(Arm("arm", (64,), (pattern,))).startswith(words)


def test_arms_in_plain_words() -> None:
    def words(hidden: tuple[int, ...], *patterns: Pattern) -> str:
        return describe_arm(Arm("arm", hidden, patterns))

    assert words((64, 32), Dense(), Dense()) == "dense, widths 64–32"
    assert words((64, 64), Dense(), SmallWorld(0.5)) == "dense; then small world, density 0.5, rewired 0.1"
    assert words((64, 64, 64), *mixer(3, n_groups=4)) == "mixer, 4 groups, p′ = 0.15"
    assert words((64, 64), Ensembles(), Ensembles()) == "ensembles by index, 8 groups, p′ = 0.15"
    with_readout = Arm("arm", (64,), (Ensembles(),), readout=ErdosRenyi(0.5), rewiring={"rule": "rigl"})
    assert describe_arm(with_readout) == (
        "ensembles by index, 8 groups, p′ = 0.15, read-out Erdős–Rényi, density 0.5, rewired by RigL"
    )
