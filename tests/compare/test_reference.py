"""The reference of a recipe: every arm less that one, by seed, and where each stands at equal seconds."""

import csv
import json
from typing import Any

import pytest

from neuropil.compare import figures, write_report
from neuropil.compare.arms import expand_arms, run_recipe
from neuropil.compare.arms_csv import ARM_COLUMNS, write_arms_csv
from neuropil.compare.difference_table import difference_rows
from neuropil.compare.equal_seconds import Stop, stop_after
from neuropil.compare.equal_seconds_words import equal_seconds_note, equal_seconds_table
from neuropil.compare.recipe import RecipeError, bundled_recipes, load_recipe, parse_recipe
from neuropil.compare.results import load_results, write_csv
from neuropil.compare.run_result import read_run
from neuropil.compare.sentences import findings
from neuropil.compare.significance import effect_size, holm, p_value
from neuropil.compare.statistics import estimate
from neuropil.compare.table import table_rows

RULES: dict[str, Any] = {
    "backpropagation": {"pattern": "dense"},
    "faster": {"pattern": "dense", "training": {"rule": "feedback-alignment"}},
    "slower": {"pattern": "dense", "training": {"rule": "sign-symmetry"}},
}
LEVEL = {"backpropagation": 0.9, "faster": 0.85, "slower": 0.95}
LUCK = (0.0, 0.013, 0.004)


def accuracy(arm: str, seed: int) -> float:
    return LEVEL.get(arm, 0.5) + 0.01 * seed + LUCK[seed] * (len(arm) % 4)


def compared(made_up: Any, **changes: Any) -> Any:
    return made_up.comparison(accuracy, **{"arms": RULES, "reference": "backpropagation", **changes})


def epochs(made_up: Any, arm: str, seed: int, seconds: list[float], accuracies: list[float]) -> None:
    """Write how long each epoch took, and the validation accuracy after it."""
    lines = [
        json.dumps({"epoch": epoch, "seconds": spent, "validation_accuracy": reached}) + "\n"
        for epoch, (spent, reached) in enumerate(zip(seconds, accuracies, strict=True), start=1)
    ]
    (made_up.run(arm, seed) / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


def test_dense_arms_have_differences_at_last(made_up: Any) -> None:
    results = load_results(compared(made_up))
    assert "reference" not in results.arms["backpropagation"].differences
    by_hand = {
        arm: estimate([accuracy(arm, seed) - accuracy("backpropagation", seed) for seed in range(3)])
        for arm in ("faster", "slower")
    }
    corrected = holm({arm: p_value(found) for arm, found in by_hand.items()})
    for arm, found in by_hand.items():
        difference = results.arms[arm].differences["reference"]
        assert (difference.twin, difference.accuracy.n) == ("backpropagation", 3)
        assert difference.accuracy.mean == pytest.approx(found.mean)
        assert difference.test.p == pytest.approx(p_value(found))
        assert difference.test.corrected_p == pytest.approx(corrected[arm])
    header, rows = table_rows(results)
    cells = {row[0].partition("\n")[0]: row[header.index("− backpropagation")] for row in rows}
    assert cells["backpropagation"] == "–"
    assert cells["faster"].startswith("−5.")
    faster, slower = findings(results)
    assert (faster.arm, slower.arm) == ("faster", "slower")
    assert faster.summary == "worse than backpropagation."
    assert faster.comparisons[0].startswith("faster − backpropagation: −5.")
    assert str(faster.speed).startswith("An epoch takes 1.00")
    assert len(difference_rows(results)[1]) == 2


def test_sparse_arms_have_it_beside_their_twins_and_controls_have_none(made_up: Any) -> None:
    results = load_results(made_up.comparison(lambda arm, seed: 0.5 + LUCK[seed] * (arm == "mixer"), reference="index"))
    assert list(results.arms["mixer"].differences) == ["dense-same-width", "dense-same-parameters", "erdos-renyi",
                                                       "reference"]  # fmt: skip
    assert list(results.difference_words.values())[-1] == "index"
    assert "reference" not in results.twin_words
    assert not any("reference" in results.arms[name].differences for name in results.controls)
    assert results.arms["mixer"].differences["reference"].test.n_tests == 1
    assert results.arms["mixer"].differences["erdos-renyi"].test.n_tests == 2


def test_a_twin_that_is_the_reference_counts_once(made_up: Any) -> None:
    arms = {**RULES, "mixer": {"pattern": "mixer", "n_groups": 8, "p_inter": 0.15}}
    mixed = load_results(compared(made_up, arms=arms)).arms["mixer"]
    assert mixed.differences["dense-same-width"].twin == "backpropagation"
    assert "reference" not in mixed.differences
    assert mixed.equal_seconds is not None
    assert mixed.equal_seconds.reference == "backpropagation"


def test_runs_do_not_know_of_it() -> None:
    with_one, without = (parse_recipe({"question": "?", "arms": RULES, **more}) for more in (
        {"reference": "slower", "interval": "bootstrap", "correction": "none"}, {}))  # fmt: skip
    for one, other in zip(expand_arms(with_one), expand_arms(without), strict=True):
        assert run_recipe(with_one, one, 0) == run_recipe(without, other, 0)


@pytest.mark.parametrize(
    ("arms", "name", "sentence"),
    [
        (RULES, "backpropagatoin", "reference must be an arm of the recipe, got 'backpropagatoin'; try 'backprop"),
        (RULES, "xyz", "reference must be an arm of the recipe, got 'xyz'; try 'backpropagation'"),
        (
            {"mixer": {"pattern": "mixer", "sweep": {"p_inter": [0, 0.1]}}},
            "mixer",
            "reference must be an arm of the recipe, got 'mixer'; try 'mixer-0",
        ),
    ],
)
def test_an_unknown_one_is_said(arms: dict[str, Any], name: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence) as caught:
        parse_recipe({"question": "?", "reference": name, "arms": arms})
    assert "\n" not in str(caught.value)


def test_a_swept_arm_is_named_with_its_value() -> None:
    arms = {"mixer": {"pattern": "mixer", "sweep": {"p_inter": [0, 0.1]}}}
    assert parse_recipe({"question": "?", "reference": "mixer-0.1", "arms": arms}).reference == "mixer-0.1"


def test_a_tuned_reference_is_the_candidate_that_validation_chose(made_up: Any) -> None:
    tune = {"training.learning_rate": [0.001, 0.01]}
    arms = {
        "base": {"pattern": "dense", "tune": tune},
        "other": {"pattern": "dense", "start": "orthogonal", "tune": tune},
        "fixed": {"pattern": "dense", "start": "xavier-normal"},
    }
    best = {"base-0.01": 0.9, "other-0.001": 0.95}
    folder = made_up.comparison(lambda arm, seed: best.get(arm, 0.5) + 0.001 * seed, arms=arms, reference="base")
    results = load_results(folder)
    found = {name: arm.differences["reference"].twin for name, arm in results.arms.items() if arm.differences}
    assert found == {"other-0.001": "base-0.01", "fixed": "base-0.01"}
    for seed in range(3):
        made_up.remove_summary("base-0.001", seed)
    assert not load_results(folder).compared_arms


def test_at_equal_seconds_each_arm_stops_where_the_time_is_over(made_up: Any) -> None:
    folder = compared(made_up, training={"epochs": 3})
    for seed in range(3):
        epochs(made_up, "backpropagation", seed, [1.0, 1.5, 1.5], [0.6, 0.7, 0.8 + 0.01 * seed])
        epochs(made_up, "faster", seed, [0.5] * 3, [0.3, 0.4, 0.5 + 0.02 * seed])  # all of them fit
        epochs(made_up, "slower", seed, [1.5 + seed, 2.5, 2.5], [0.65, 0.75 + 0.02 * seed, 0.9])
    results = load_results(folder)
    slower = results.arms["slower"].equal_seconds
    # 4 seconds: 1.5 + 2.5 just fit for seed 0, the first epoch alone for the others
    assert slower.stops == {0: Stop(2, 0.75), 1: Stop(1, 0.65), 2: Stop(1, 0.65)}
    assert slower.difference.mean == pytest.approx(sum((0.75 - 0.8, 0.65 - 0.81, 0.65 - 0.82)) / 3)
    assert results.arms["faster"].equal_seconds.stops[1] == Stop(3, 0.52)
    reference = results.arms["backpropagation"].equal_seconds
    assert (reference.difference, reference.accuracy.mean) == (None, pytest.approx(0.81))
    p = p_value(slower.difference)
    assert slower.test.corrected_p == holm({0: p, 1: p_value(results.arms["faster"].equal_seconds.difference)})[0]
    header, rows = equal_seconds_table(results)
    assert header == ["arm", "epochs that fit", "validation accuracy (%)", "− backpropagation"]
    assert [row[0].partition("\n")[0] for row in rows] == ["backpropagation", "faster", "slower"]
    assert [row[1] for row in rows] == ["3", "3", "1\n1–2"]
    assert rows[0][3] == "–"
    assert "along a cosine" in equal_seconds_note(results)
    with write_csv(results, folder / "results.csv").open(newline="") as file:
        told = {(row["arm"], row["seed"]): (row["equal_seconds_epochs"], row["equal_seconds_accuracy"])
                for row in csv.DictReader(file)}  # fmt: skip
    assert (told["slower", "0"], told["slower", "2"]) == (("2", "0.75"), ("1", "0.65"))


def test_where_no_epoch_fits_and_where_seconds_are_not_known(made_up: Any) -> None:
    folder = compared(made_up)
    for seed in range(3):
        epochs(made_up, "slower", seed, [5.0, 5.0], [0.7, 0.8])
    (made_up.run("faster", 0) / "metrics.jsonl").write_text('{"epoch": 1, "seconds": "x"}\n')
    made_up.remove_summary("faster", 1)
    results = load_results(folder)
    slower, faster = results.arms["slower"].equal_seconds, results.arms["faster"].equal_seconds
    assert (slower.n_without, slower.accuracy, slower.difference, slower.test) == (3, None, None, None)
    assert list(faster.stops) == [2]
    assert equal_seconds_table(results)[1][-1][1:] == ["0\nnone with 3 of 3 seeds", "–", "–"]
    made_up.remove_summary("backpropagation", 2)
    assert load_results(folder).arms["faster"].equal_seconds is None
    assert stop_after(read_run(folder, "backpropagation", 2), 10.0) is None


def test_folds_have_no_validation_split_to_stop_by(made_up: Any) -> None:
    results = load_results(compared(made_up, folds=2))
    assert results.arms["faster"].differences["reference"].accuracy is not None
    assert equal_seconds_table(results)[1] == []


def test_a_file_with_a_row_an_arm(made_up: Any) -> None:
    results = load_results(compared(made_up))
    with write_arms_csv(results, made_up.folder / "arms.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*results.arms]
    assert tuple(rows["faster"]) == ARM_COLUMNS
    faster, found = rows["faster"], results.arms["faster"]
    difference = found.differences["reference"]
    for key, value in {
        "accuracy_mean": found.accuracy.mean,
        "accuracy_deviation": found.accuracy.deviation,
        "accuracy_low": found.accuracy.interval[0],
        "reference_mean": difference.accuracy.mean,
        "reference_high": difference.accuracy.interval[1],
        "reference_effect_size": effect_size(difference.accuracy),
        "reference_p": difference.test.p,
        "reference_corrected_p": difference.test.corrected_p,
        "equal_seconds_epochs": 2,
    }.items():
        assert float(faster[key]) == pytest.approx(value), key
    assert (faster["reference_arm"], faster["n"], faster["reference_n_tests"]) == ("backpropagation", "3", "2")
    assert {faster["erdos_renyi_mean"], faster["static_arm"], rows["backpropagation"]["reference_p"]} == {""}


def test_two_seeds_have_neither_intervals_nor_tests(made_up: Any) -> None:
    results = load_results(compared(made_up, seeds=2))
    with write_arms_csv(results, made_up.folder / "arms.csv").open(newline="") as file:
        faster = next(row for row in csv.DictReader(file) if row["arm"] == "faster")
    for key in ("accuracy_low", "reference_low", "reference_p", "reference_effect_size", "reference_detectable"):
        assert faster[key] == "", key
    assert faster["reference_mean"]
    assert not any("[" in cell or "*" in cell for row in table_rows(results)[1] for cell in row)


def test_the_report_has_both_tables(made_up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("learning_curves", "accuracy_by_parameters", "accuracy_by_operations", "accuracy_by_time"):
        monkeypatch.setattr(figures, name, lambda results: None)
    html = write_report(compared(made_up)).read_text(encoding="utf-8")
    for text in (
        "At equal seconds",
        "epochs that fit",
        "Every difference with its test",
        "of backpropagation, paired by",
    ):
        assert text in html, text
    plain = write_report(type(made_up)(made_up.folder.parent / "plain").comparison(accuracy, arms=RULES)).read_text()
    assert "At equal seconds" not in plain
    assert "Every difference" not in plain


@pytest.mark.parametrize("name", [name for name, path in bundled_recipes().items() if "reference:" in path.read_text()])
def test_bundled_references(name: str) -> None:
    chosen = load_recipe(name)
    assert chosen.reference in chosen.arms
    assert load_recipe(name, ["reference=null", "interval=bootstrap"]).reference is None
