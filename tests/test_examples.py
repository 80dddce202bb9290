"""Scripts in examples/ run with a small budget, and write the table that they promise."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="needs the source tree")
def test_dynamic_pruning(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("dynamic_pruning", EXAMPLES / "dynamic_pruning.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    small = {"RATIOS": (0.8,), "DENSE_EPOCHS": 1, "EPOCHS": 1, "PREDICTED": {"predicted": {}}, "COUNTED": 64}
    for name, value in small.items():
        monkeypatch.setattr(script, name, value)
    table = tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["dynamic_pruning", "digits", str(table), "--images", "64", "--seeds", "1"])
    script.main()
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ["dense", *script.PREDICTED, "drawn for each image", "largest mean peaks"]
    assert {row["train_images"] for row in rows} == {"64"}
    dense, *others = rows
    cuts = {row["arm"]: float(row["cut"]) for row in others}
    for row in others:
        assert float(row["drop"]) == pytest.approx(float(dense["test_accuracy"]) - float(row["test_accuracy"]))
        assert 0 < cuts[row["arm"]] < 1
    # controls are as open as the predicted network, or a little more where whole channels must be taken
    assert cuts["drawn for each image"] == pytest.approx(cuts["predicted"], abs=0.05)
    assert cuts["largest mean peaks"] < cuts["predicted"] + 0.05
