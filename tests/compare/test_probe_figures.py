"""Pictures of probes: there, the same every time, of what the records say, whatever these hold."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import figures
from neuropil.compare.layer_titles import layer_titles
from neuropil.compare.probe_figures import ProbePicture, probe_pictures, steps_per_epoch, trace
from neuropil.compare.probe_words import describe_probe
from neuropil.compare.probes import read_probe
from neuropil.compare.report import write_report
from neuropil.compare.results import load_results

PROBES = ["activity", {"measure": "sharpness", "every": 2}, "topology"]


def value(level: float | None) -> dict[str, Any]:
    return {"mean": {"hidden.1": level, "hidden.3": 0.5}, "dead": {"hidden.1": 0.25, "hidden.3": 0.0}}


def write(made_up: Any, arm: str, seed: int, *records: dict[str, Any]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    (made_up.run(arm, seed) / "probes.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def folder(made_up: Any) -> Path:
    """Three seeds of each arm, with activity that grows with the seed, and sharpness within epochs of 4 steps."""
    folder: Path = made_up.comparison(probes=PROBES)
    for arm in (path for path in folder.iterdir() if path.is_dir()):
        for seed in range(3):
            records = [{"epoch": epoch, "probe": "activity", "value": value(epoch + seed)} for epoch in range(3)]
            steps = [(0, None), (1, 2), (1, 4), (1, None), (2, 6), (2, 8), (2, None)]
            for epoch, step in steps:
                when = {"epoch": epoch} if step is None else {"epoch": epoch, "step": step}
                records.append({**when, "probe": "sharpness", "value": {"eigenvalue": 3.0 + (step or 4 * epoch)}})
            write(made_up, arm.name, seed, *records)
    return folder


def test_curves_are_what_was_recorded(folder: Path) -> None:
    results = load_results(folder)
    course = trace(results, results.arms["mixer"])
    assert course["activity"]["mean"]["layer 1"] == [{float(e): float(e + seed) for e in range(3)} for seed in range(3)]
    assert course["activity"]["dead"]["layer 2"] == [dict.fromkeys((0.0, 1.0, 2.0), 0.0)] * 3
    assert course["sharpness"]["eigenvalue"][""] == [{0.0: 3.0, 0.5: 5.0, 1.0: 7.0, 1.5: 9.0, 2.0: 11.0}] * 3


def test_each_probe_has_a_picture_the_same_every_time(folder: Path) -> None:
    results = load_results(folder)
    shown = probe_pictures(results)
    assert [each.plan.name for each in shown] == ["activity", "sharpness", "topology"]
    kind, _, content = str(shown[0].picture).partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert base64.b64decode(content).decode("utf-8").rstrip().endswith("</svg>")
    assert shown[2].picture is None
    assert shown[2].missing == ("dense-32", "dense-13")
    assert probe_pictures(results) == shown


def test_what_is_not_finite_or_damaged_is_left_out(made_up: Any, folder: Path) -> None:
    write(
        made_up, "mixer", 0,
        {"epoch": 0, "probe": "activity", "value": value(None)},
        {"epoch": 1, "probe": "activity", "value": None},
        {"epoch": "2", "probe": "activity", "value": value(1.0)},
        {"epoch": 2, "probe": "activity", "value": {"mean": {"hidden.1": "large"}, "dead": 7}},
        {"epoch": 2, "value": value(1.0)},
        {"epoch": 2, "probe": "another", "value": {"x": 1.0}},
        {"epoch": 2, "probe": "sharpness", "value": {"eigenvalue": None}},
    )  # fmt: skip
    (made_up.run("mixer", 1) / "probes.jsonl").write_text("[1]\n{", encoding="utf-8")
    results = load_results(folder)
    course = trace(results, results.arms["mixer"])
    assert course["activity"]["mean"] == {"layer 1": [{0.0: 2.0, 1.0: 3.0, 2.0: 4.0}], "layer 2": [{0.0: 0.5}, {
        0.0: 0.5, 1.0: 0.5, 2.0: 0.5}]}  # fmt: skip
    assert all(each.picture for each in probe_pictures(results)[:2])


def test_a_quantity_that_is_never_finite_has_no_panel(made_up: Any) -> None:
    folder = made_up.comparison(probes=["sharpness", "activity"], seeds=1)
    never = {"mean": {"hidden.1": None}, "dead": {"hidden.1": 0.0}}
    write(made_up, "mixer", 0, {"epoch": 0, "probe": "activity", "value": never},
          {"epoch": 0, "probe": "sharpness", "value": {"eigenvalue": None}})  # fmt: skip
    first, second = probe_pictures(load_results(folder))
    assert first.picture is None
    assert second.picture is not None


def test_steps_of_an_epoch() -> None:
    data = {"name": "digits", "validation": 0.1}
    assert steps_per_epoch({"data": data, "training": {"batch_size": 256}}) == 4  # 970 images
    folds = {"name": "digits", "validation": None, "n_folds": 5}
    assert steps_per_epoch({"data": folds, "training": {"batch_size": 431}}) == 3  # 863 or 862 images


def test_hidden_layers_are_numbered_as_in_the_network() -> None:
    names = ["readout", *(f"hidden.{i}" for i in (0, 2, 4, 6, 8, 10))]
    assert layer_titles(names)["hidden.10"] == "layer 6"
    assert list(layer_titles(names).values())[-1] == "read-out"


def test_the_report_says_what_and_when(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "differences",
        "learning_curves",
        "accuracy_by_parameters",
        "accuracy_by_operations",
        "accuracy_by_time",
    ):
        monkeypatch.setattr(figures, name, lambda results: None)
    monkeypatch.setattr(figures, "wiring_pictures", lambda results: {})
    html = write_report(folder).read_text(encoding="utf-8")
    for text in (
        "In the course of training",
        "bands: lowest to highest, not a confidence interval",
        "Measured on the first 256 training images, before training and after each epoch and after every 2 steps.",
        "Not of dense-32, dense-13, whose layers are all dense. Nothing has been recorded yet.",
        "Plain gradient descent of rate η is stable below 2/η",
    ):
        assert text in html, text
    assert html.count("of each arm by epoch") == 2


def test_words_for_when() -> None:
    def said(**settings: Any) -> str:
        shown = ProbePicture(read_probe({"measure": "norms", **settings}), "a picture", None, ())
        return describe_probe(shown)[1].removeprefix("Measured on the first 256 training images, ")

    assert said(epochs=[5, 0]) == "after epochs 0, 5 (0: before training)."
    assert said(epochs=[3], every=1) == "after epoch 3 and after every step."
    assert said(epochs=[]) == "never."
