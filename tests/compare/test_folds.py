"""Cross-validation: what runs, what counts, and that nothing speaks of the test set."""

import csv
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from neuropil import data
from neuropil.compare import RecipeError, compare, execute, expand_arms, run_recipe
from neuropil.compare.figures import differences, learning_curves
from neuropil.compare.parallel import refuse_foreign_folders
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.report import collect_notices, describe_progress, describe_setting, write_report
from neuropil.compare.results import load_results, write_csv
from neuropil.compare.rewiring_figures import rewiring_pictures, trace
from neuropil.compare.sentences import caveats, explain_folds, findings
from neuropil.compare.splits import split_data
from neuropil.compare.table import table_columns, table_note, table_rows
from neuropil.train import RunError

SMALL = {
    "name": "small",
    "question": "Does it run?",
    "model": {"hidden": [16]},
    "training": {"epochs": 1, "batch_size": 128},
    "seeds": 1,
    "arms": {"mixer": {"pattern": "mixer", "n_groups": 4}},
}
FIVE = {"folds": 5}


def read_rows(folder: Path) -> list[dict[str, str]]:
    with write_csv(load_results(folder), folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_says_which_fold_it_is_and_only_then() -> None:
    plain, folded = parse_recipe(SMALL), parse_recipe({**SMALL, "folds": 3, "fold_order": "contiguous"})
    (arm,) = [arm for arm in expand_arms(plain) if not arm.is_control]
    assert run_recipe(plain, arm, 0)["data"] == {"name": "digits", "validation": 0.1}
    assert run_recipe(folded, arm, 0, 2)["data"] == {
        "name": "digits", "validation": None, "fold": 2, "n_folds": 3, "fold_order": "contiguous",
    }  # fmt: skip
    other = run_recipe(folded, arm, 0, 2)
    assert {key: value for key, value in other.items() if key != "data"} == {
        key: value for key, value in run_recipe(plain, arm, 0).items() if key != "data"
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"folds": 1}, "folds: input should be greater than or equal to 2, got 1"),
        ({"folds": "many"}, "folds: input should be a valid integer.*, got 'many'"),
        ({"folds": 1079}, "folds must be at most 1078, the training images of digits, got 1079"),
        ({"folds": 60001, "data": {"name": "mnist"}}, "folds must be at most 60000, the training images of mnist"),
        ({"fold_order": "sorted"}, "fold_order: input should be 'stratified' or 'contiguous', got 'sorted'"),
    ],
)
def test_one_sentence_for_what_is_wrong(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence) as caught:
        parse_recipe({**SMALL, **change})
    assert "\n" not in str(caught.value)
    assert parse_recipe({**SMALL, "folds": 1078}).folds == 1078


@pytest.mark.parametrize("order", ["stratified", "contiguous"])
def test_data_of_a_fold_is_that_of_data_fold(order: str) -> None:
    whole = data.load("digits")
    divided = split_data(whole, {"name": "digits", "validation": None, "fold": 1, "n_folds": 4, "fold_order": order})
    expected = data.fold(whole, 1, 4, order=order)
    assert torch.equal(divided.test.images, expected.test.images)
    assert torch.equal(divided.train.images, expected.train.images)
    assert divided.validation is None
    assert len(divided.train) + len(divided.test) == len(whole.train)


def test_a_run_is_scored_on_its_fold_and_never_sees_the_test_images(tmp_path: Path, monkeypatch: Any) -> None:
    recipe = parse_recipe({**SMALL, "folds": 4})
    arm = expand_arms(recipe)[-1]
    whole = data.load("digits")
    blind = whole.test.images[:0], whole.test.labels[:0]
    monkeypatch.setattr(
        data, "load", lambda *_, **__: data.dataset.make_dataset(
            "digits", whole.train, data.Split(*blind), whole.classes, whole.max_value
        ),
    )  # fmt: skip
    scored = [execute(run_recipe(recipe, arm, 0, k), tmp_path / str(k))["test_accuracy"] for k in range(4)]
    sizes = [len(data.fold(whole, k, 4).test) for k in range(4)]
    assert all(float(accuracy * size) == pytest.approx(round(accuracy * size)) for accuracy, size in zip(scored, sizes))  # noqa: B905
    assert len(set(scored)) > 1
    assert "validation_accuracy" not in (tmp_path / "0" / "metrics.jsonl").read_text()


def test_compare_runs_every_fold_and_none_twice(tmp_path: Path) -> None:
    recipe = parse_recipe({**SMALL, "folds": 2, "arms": {"wide": {"pattern": "dense"}}, "seeds": 2})
    tasks = compare(recipe, tmp_path / "c", jobs=2)
    assert [str(task.folder.relative_to(tmp_path / "c")) for task in tasks] == [
        "wide/seed-0/fold-0", "wide/seed-0/fold-1", "wide/seed-1/fold-0", "wide/seed-1/fold-1",
    ]  # fmt: skip
    assert {task.state for task in tasks} == {"done"}
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("summary.json")}
    compare(recipe, tmp_path / "c", jobs=2)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("summary.json")}
    accuracy = load_results(tmp_path / "c").arms["wide"].accuracy
    stored = [json.loads(path.read_text())["test_accuracy"] for path in times]
    assert (accuracy.n, accuracy.mean) == (2, pytest.approx(statistics.mean(stored)))


def test_folders_with_and_without_folds_keep_apart(made_up: Any) -> None:
    from neuropil.compare.comparison import list_tasks

    folder = made_up.comparison()
    plain, folded = made_up.recipe(), made_up.recipe(folds=2)
    refuse_foreign_folders(list_tasks(plain, expand_arms(plain), plain.seeds, folder))
    with pytest.raises(
        RunError, match="seed-0 must be a folder of folds, got that of a run without; try another folder"
    ):
        refuse_foreign_folders(list_tasks(folded, expand_arms(folded), folded.seeds, folder))
    other = type(made_up)(folder.parent / "folded")
    other.comparison(folds=2)
    with pytest.raises(RunError, match="seed-0 must be an empty folder or a run's"):
        refuse_foreign_folders(list_tasks(plain, expand_arms(plain), plain.seeds, other.folder))
    more = made_up.recipe(folds=3)
    with pytest.raises(RunError, match="belongs to another recipe: data.n_folds is 2 there and 3 here"):
        refuse_foreign_folders(list_tasks(more, expand_arms(more), more.seeds, other.folder))


def test_the_unit_is_the_seed(made_up: Any) -> None:
    results = load_results(made_up.comparison(**FIVE))
    index, mixer = results.arms["index"], results.arms["mixer"]
    assert (results.unit, results.n_units, len(results.runs)) == ("seed", 3, 3 * 5 * 5)
    assert list(index.runs) == [0, 1, 2]
    by_seed = [made_up.accuracy("index", seed) + 0.002 for seed in range(3)]  # folds: 0, 0.001, … 0.004 above
    assert [run.accuracy for run in index.runs.values()] == pytest.approx(by_seed)
    assert (index.accuracy.n, index.accuracy.mean) == (3, pytest.approx(statistics.mean(by_seed)))
    assert index.accuracy.deviation == pytest.approx(statistics.stdev(by_seed))
    expected = [made_up.accuracy("mixer", s) - made_up.accuracy("dense-32", s) for s in range(3)]
    found = mixer.differences["dense-same-width"]
    assert (found.accuracy.n, found.accuracy.mean) == (3, pytest.approx(statistics.mean(expected)))
    assert found.accuracy.deviation == pytest.approx(statistics.stdev(expected))
    assert (found.time.n, found.time.low, found.time.high) == (3, pytest.approx(0.5), pytest.approx(0.6))
    assert (index.parameters, index.kernels) == (2001, ("masked", "masked"))


def test_of_one_seed_the_folds_are_the_sample(made_up: Any) -> None:
    def accuracy(arm: str, seed: int) -> float:
        return 0.8 if arm == "mixer" else 0.7

    folder = made_up.comparison(accuracy, seeds=[4], **FIVE)
    for fold in range(5):
        made_up.write_summary("mixer", 4, fold=fold, test_accuracy=0.8 + 0.02 * fold)
    results = load_results(folder)
    mixer = results.arms["mixer"]
    assert (results.unit, results.n_units) == ("fold", 5)
    assert list(mixer.runs) == [0, 1, 2, 3, 4]
    assert {(run.seed, run.fold) for run in mixer.runs.values()} == {(4, fold) for fold in range(5)}
    difference = mixer.differences["erdos-renyi"].accuracy
    assert (difference.n, difference.mean) == (5, pytest.approx(0.1 + 2 * 0.019))
    assert difference.deviation == pytest.approx(statistics.stdev([0.019 * fold for fold in range(5)]))
    found = next(finding for finding in findings(results) if finding.arm == "mixer")
    assert "better with 5 folds (p < 0.001" in found.comparisons[-1]
    assert "seed" not in " ".join([*found.comparisons, found.summary, found.speed])
    assert differences(results)


def test_a_half_done_seed_is_running(made_up: Any) -> None:
    folder = made_up.comparison(lambda arm, seed: 0.9 + 0.01 * seed, seeds=5, **FIVE)
    (made_up.remove_summary("index", 0, 3) / "recipe.yaml").unlink()
    (made_up.remove_summary("index", 1, 4) / "failure.json").write_text('{"reason": "no memory"}')
    made_up.write_summary("index", 2, fold=0, status="diverged", test_accuracy=None, test_loss=None)
    for fold in range(5):
        (made_up.remove_summary("index", 3, fold) / "recipe.yaml").unlink()
    results = load_results(folder)
    index = results.arms["index"]
    assert [run.state for run in index.runs.values()] == ["running", "failed", "diverged", "missing", "done"]
    assert [run.accuracy is None for run in index.runs.values()] == [True] * 4 + [False]
    assert (index.accuracy.n, index.differences["erdos-renyi"].accuracy.n) == (1, 1)
    row = next(row for row in table_rows(results)[1] if row[0].startswith("index"))
    assert row[1] == "1 of 5\n1 diverged, 1 failed, 1 unfinished, 1 missing"
    assert describe_progress(results) == "Of 125 runs, 117 done, 1 diverged, 1 failed, 6 missing."
    wheres = {notice.runs for notice in collect_notices(results)}
    assert wheres == {("index (seed 1, fold 4)",), ("index (seed 2, fold 0)",)}


def test_notices_name_folds(made_up: Any) -> None:
    folder = made_up.comparison(**FIVE)
    for seed, fold in ((0, 1), (0, 3), (2, 0)):
        made_up.write_summary("mixer", seed, fold=fold, warnings=["odd"])
    (notice,) = collect_notices(load_results(folder))
    assert notice.runs == ("mixer (seed 0, folds 1, 3)", "mixer (seed 2, fold 0)")


def test_the_spread_over_folds_is_in_the_csv(made_up: Any) -> None:
    folder = made_up.comparison(**FIVE)
    made_up.remove_summary("mixer", 2, 4)
    rows = read_rows(folder)
    assert len(rows) == 75
    mine = [row for row in rows if (row["arm"], row["seed"]) == ("index", "1")]
    assert [(row["fold"], row["n_folds"], row["status"]) for row in mine] == [(str(k), "5", "done") for k in range(5)]
    scored = [float(row["test_accuracy"]) for row in mine]
    assert len(set(scored)) == 5
    for row in mine:
        assert float(row["folds_mean"]) == pytest.approx(statistics.mean(scored))
        assert float(row["folds_std"]) == pytest.approx(statistics.pstdev(scored))
    half = [row for row in rows if (row["arm"], row["seed"]) == ("mixer", "2")]
    assert {(row["folds_mean"], row["folds_std"]) for row in half} == {("", "")}
    assert [row["status"] for row in half] == ["done"] * 4 + ["running"]
    assert [row["test_accuracy"] != "" for row in half] == [True] * 4 + [False]


@pytest.mark.parametrize("seeds", [1, 3])
def test_nothing_speaks_of_the_test_set(made_up: Any, seeds: int) -> None:
    folder = made_up.comparison(seeds=seeds, **FIVE)
    results = load_results(folder)
    html = write_report(folder).read_text()
    text = re.sub(r"<style>.*</style>|base64,[^\"]*", "", html, flags=re.DOTALL)
    assert re.findall(r"[^.>]*test (?:set|accuracy)[^.<]*", text, flags=re.IGNORECASE) == ["The test set was not used"]
    assert "on its held-out fold" in text
    assert 'alt="Accuracy on held-out folds against seconds per epoch"' in text
    columns = {column.header: column.explanation for column in table_columns(results)}
    assert columns["accuracy (%)"].startswith("On the held-out fold after the last epoch: mean over")
    assert text.count("are not independent, for their training sets overlap, so the intervals are too narrow") == 2
    assert table_note(results) in caveats(results)
    unit = "fold" if seeds == 1 else "seed"
    assert f"{unit}s" in columns
    assert explain_folds(results).startswith(f"The sample is the {unit}s, ")
    assert "(of each the mean over its 5 folds)" in columns["accuracy (%)"] or unit == "fold"
    assert learning_curves(results) is None


def test_the_setting_says_how_images_are_divided(made_up: Any) -> None:
    recipe = made_up.recipe(**FIVE)
    assert (
        "pixels; the training images are divided into 5 folds, drawn at random by class, the same ones for every arm and "
        "seed: each is held out once, and scored by a network that has trained with the others; no validation split is "
        "taken. Network:"
    ) in describe_setting(recipe)
    assert "5 folds, of neighbours in their order, unshuffled" in describe_setting(
        made_up.recipe(fold_order="contiguous", **FIVE)
    )


def test_too_few_folds_conclude_nothing(made_up: Any) -> None:
    results = load_results(made_up.comparison(seeds=1, folds=2))
    assert caveats(results)[0] == "With fewer than 3 folds, nothing can be concluded about accuracy."
    assert "2 folds: too few; nothing can be concluded." in findings(results)[0].comparisons[0]


def test_rewired_folds_are_read(made_up: Any) -> None:
    arms = {"set": {"pattern": "mixer", "n_groups": 8, "rewiring": {"rule": "set", "per_epoch": 2}}}
    folder = made_up.comparison(arms=arms, seeds=2, folds=2, training={"epochs": 2, "batch_size": 128})
    event = {
        "epoch": 1, "step": 3, "layer": "hidden.0", "dropped": 30, "went": 20, "came": 20, "went_within": 15,
        "came_within": 5, "n_blocks": 200, "density": 0.25, "explored": 0.8, "modularity": 0.3,
        "neurons_without_input": 0,
    }  # fmt: skip
    for explored, (seed, fold) in zip((0.2, 0.4, 0.6, 0.8), [(s, k) for s in range(2) for k in range(2)], strict=True):
        rewiring = {"events": 4, "replaced": 0.5, "explored": explored, "modularity": 0.25}
        made_up.write_summary("set", seed, fold=fold, rewiring=rewiring)
        (made_up.run("set", seed, fold) / "rewiring.jsonl").write_text(json.dumps(event) + "\n")
    results = load_results(folder)
    assert results.arms["set"].rewired.explored == pytest.approx(0.5)
    course = trace(results, results.arms["set"])
    assert course.bars[0].epoch == 3 / 5  # 539 of 1078 images train, in 5 batches
    assert set(rewiring_pictures(results)) == {"set"}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"status": "finished"}'])
def test_a_damaged_fold_leaves_its_seed_unfinished(made_up: Any, content: bytes) -> None:
    folder = made_up.comparison(**FIVE)
    (made_up.run("index", 1, 2) / "summary.json").write_bytes(content)
    results = load_results(folder)
    assert results.arms["index"].runs[1].state == "running"
    (notice,) = collect_notices(results)
    assert notice.text == "The run counts as missing: its summary.json is damaged"
    assert notice.runs == ("index (seed 1, fold 2)",)
