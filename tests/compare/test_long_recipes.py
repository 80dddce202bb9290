"""Comparisons of many arms, most of them candidates of tuned ones, told so that they can be read."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neuropil.cli.table import print_results
from neuropil.compare import probe_figures
from neuropil.compare.figures import wiring_pictures
from neuropil.compare.report import write_report
from neuropil.compare.results import Results, load_results
from neuropil.compare.sparsity_words import sparsity_rows
from neuropil.compare.tuned import passed_over

RATES = {"training.learning_rate": [0.001, 0.01]}
BEST = {"a-rather-long-name-for-one-arm-0.01": 0.9, "base-0.001": 0.8}


@pytest.fixture
def dense(made_up: Any) -> Path:
    arms = {
        "base": {"pattern": "dense", "tune": RATES},
        "a-rather-long-name-for-one-arm": {"pattern": "dense", "start": "orthogonal", "tune": RATES},
    }
    folder: Path = made_up.comparison(
        lambda arm, seed: BEST.get(arm, 0.5) + 0.001 * seed, arms=arms, probes=["norms"], training={"epochs": 1}
    )
    return folder


def printed(results: Results, width: int) -> str:
    file = io.StringIO()
    print_results(results, Console(file=file, width=width))
    return file.getvalue()


def test_dense_arms_share_a_row_and_have_no_columns_for_twins(dense: Path) -> None:
    results = load_results(dense)
    (row,) = sparsity_rows(results)
    first, *others = results.arms
    assert row[0][0] == f"{first}\nand alike: {', '.join(others)}"
    assert results.twin_words == {}
    text = write_report(dense).read_text(encoding="utf-8")
    assert "Every sparse arm comes with" not in text
    assert "which chose the values of tuned arms alone" in text


def test_candidates_that_were_not_chosen_have_no_pictures(dense: Path, made_up: Any) -> None:
    results = load_results(dense)
    assert passed_over(results) == {"base-0.01", "a-rather-long-name-for-one-arm-0.001"}
    sparse = {"pattern": "erdos-renyi", "density": 0.2, "tune": RATES}
    results = load_results(made_up.comparison(lambda arm, _: 0.9 if arm.endswith("-0.01") else 0.5, arms={"s": sparse}))
    assert {name for name in wiring_pictures(results) if name.startswith("s-")} == {"s-0.01"}


def test_probes_are_drawn_of_chosen_arms(dense: Path, made_up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"epoch": 1, "probe": "norms", "value": {"weight": {"hidden.0": 1.0}, "gradient": {"hidden.0": 1.0}}}\n'
    results = load_results(dense)
    for name in results.arms:
        (made_up.run(name, 0) / "probes.jsonl").write_text(line)
    drawn: list[set[str]] = []
    monkeypatch.setattr(probe_figures, "_draw", lambda _, __, courses: drawn.append({*courses}) or "")
    probe_figures.probe_pictures(load_results(dense))
    assert drawn == [{*BEST}]


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_off_in_a_narrow_terminal(dense: Path, width: int) -> None:
    text = printed(load_results(dense), width)
    assert "…" not in text
    assert "a-rather-long-name-for-one-arm-0.01" in text
    assert max(map(len, text.splitlines())) <= width
