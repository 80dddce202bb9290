"""The command that shows every run below a folder."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from neuropil.cli.main import app

SUMMARY = {
    "status": "finished", "parameters": 41081, "density": 0.25, "multiply_accumulates": 1, "seconds_per_epoch": 1.0,
    "peak_memory_bytes": 1, "kernels": ["masked"], "warnings": [],
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven runs that are done, and one that has failed, of two comparisons."""
    for comparison in ("one", "two"):
        for seed in range(4):
            folder = tmp_path / comparison / "mixer" / f"seed-{seed}"
            folder.mkdir(parents=True)
            recipe = {"comparison": comparison, "arm": "mixer", "seed": seed, "data": {"name": "digits"},
                      "training": {"epochs": 1, "learning_rate": 0.001}}  # fmt: skip
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
            if (comparison, seed) == ("two", 3):
                (folder / "failure.json").write_text('{"reason": "out of [memory]"}')
            else:
                (folder / "metrics.jsonl").write_text('{"epoch": 1, "validation_accuracy": 0.5}\n')
                (folder / "summary.json").write_text(json.dumps({**SUMMARY, "test_accuracy": 0.9 + seed / 100}))
    (tmp_path / "two" / "broken").mkdir()
    (tmp_path / "two" / "broken" / "recipe.yaml").write_text("[")
    return tmp_path


def shown(root: Path, *words: Any, width: int = 120) -> str:
    done = CliRunner().invoke(app, ["results", "--root", str(root), *map(str, words)], env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_the_table(root: Path) -> None:
    text = shown(root)
    for words in (f"8 runs below {root}: 7 done, 1 failed", "all of them: data.name digits", "0.93", "41081",
                  "failed: out of [memory] (1 run)", "two/broken: its recipe.yaml is damaged"):  # fmt: skip
        assert words in " ".join(text.split()), words
    assert [line.split()[:4] for line in text.splitlines() if line.startswith("two")][3] == [
        "two",
        "mixer",
        "3",
        "failed",
    ]
    narrow = shown(root, width=60)
    assert "parameters" not in narrow
    assert "test_" in narrow
    assert max(map(len, narrow.splitlines()[2:12])) <= 60


def test_filters_columns_and_order(root: Path) -> None:
    text = shown(root, "comparison=t*", "test_accuracy>=0.91", "--sort", "-seed", "--columns", "seed,learning_rate")
    assert "2 of 8 runs" in text
    lines = [line.split() for line in text.splitlines()]
    assert lines[-3:-1] == [["2", "0.001"], ["1", "0.001"]]
    assert "… and 5 more" in shown(root, "--limit", "3")
    assert "0 of 8 runs" in shown(root, "arm=dense*")
    assert "comparison" not in shown(root, "comparison=one", "--limit", 0).splitlines()[3]  # said above, once


def test_files(root: Path) -> None:
    text = shown(root, "seed=0", "--csv", root / "runs.csv")
    assert f"written: {root / 'runs.csv'}" in text
    with (root / "runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["comparison"], row["training.learning_rate"]) for row in rows] == [("one", "0.001"), ("two", "0.001")]
    piped = shown(root, "--csv", "-", "--columns", "comparison,seed,test_accuracy", "--sort", "-test_accuracy")
    assert list(csv.reader(io.StringIO(piped)))[:2] == [["comparison", "seed", "test_accuracy"], ["one", "3", "0.93"]]
    polars = pytest.importorskip("polars")
    shown(root, "state=done", "--parquet", root / "runs.parquet")
    assert polars.read_parquet(root / "runs.parquet")["test_accuracy"].to_list() == [
        0.9,
        0.91,
        0.92,
        0.93,
        0.9,
        0.91,
        0.92,
    ]


def test_one_sentence_for_a_mistake(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from neuropil.cli.main import main

    (root / "two" / "mixer" / "seed-0" / "empty").mkdir()
    for words, said in {
        ("tets_accuracy>0.5",): "got 'tets_accuracy'; try 'test_accuracy'",
        ("--root", str(root / "none")): "which is none; try --root FOLDER",
        ("--root", str(root / "two" / "mixer" / "seed-0" / "empty")): "which holds none; try --root FOLDER",
        ("--csv", str(root / "none" / "a.csv")): "No such file or directory",
    }.items():
        monkeypatch.setattr(sys, "argv", ["neuropil", "results", "--root", str(root), *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert said in " ".join(capsys.readouterr().err.split())
