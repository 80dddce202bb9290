"""Table, report, warnings and command for spiking networks, and nothing of it without them."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.cli.table import print_results
from neuropil.compare import figures
from neuropil.compare.activity_words import describe_activity, describe_silence
from neuropil.compare.notices import collect_notices
from neuropil.compare.report import write_report
from neuropil.compare.results import load_results
from neuropil.compare.table import table_columns, table_rows
from neuropil.measure import ACCUMULATE_JOULES, MULTIPLY_ACCUMULATE_JOULES

RATE_HEADER = [
    "arm", "seeds", "accuracy (%)", "parameters", "density", "multiply-accumulates (10³)", "seconds per epoch",
    "peak memory (MiB)", "− dense, same width", "− dense, same parameters", "− Erdős–Rényi, same density",
]  # fmt: skip


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures that every report has."""
    for name in (
        "differences",
        "learning_curves",
        "accuracy_by_parameters",
        "accuracy_by_operations",
        "accuracy_by_time",
    ):
        monkeypatch.setattr(figures, name, lambda results: None)
    monkeypatch.setattr(figures, "wiring_pictures", lambda results: {})


def printed(folder: Path, width: int) -> str:
    out = io.StringIO()
    print_results(load_results(folder), Console(file=out, width=width))
    return out.getvalue()


def words_of(html: str) -> str:
    text = re.sub(r"<style>.*</style>|<[^>]*>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text.replace("&nbsp;", " ").replace("&#39;", "'"))


# The table


def test_columns_of_spiking_networks(made_up: Any) -> None:
    results = load_results(made_up.spiking())
    header, rows = table_rows(results)
    assert header[7:10] == ["firing rate, hidden (%)", "synaptic operations (10⁶)", "energy (µJ)"]
    assert not any(title.startswith("multiply-accumulates") for title in header)
    assert header == [column.header for column in table_columns(results)]
    assert rows[-1][7:10] == ["16.0\n62 % never", "6.10", "5.49"]
    assert next(row for row in rows if row[0].startswith("dense-32\n"))[7:10] == ["16.0\n62 % never", "12.2", "11.0"]


def test_table_of_rate_networks_is_as_it_was(made_up: Any) -> None:
    folder = made_up.comparison()
    made_up.write_summary("mixer", 0, synaptic_operations=1.0, energy_joules=1e-6, dead_neurons=0.1)
    assert table_rows(load_results(folder))[0] == RATE_HEADER


@pytest.mark.parametrize(("joules", "unit"), [(3e-9, "nJ"), (3e-6, "µJ"), (3e-3, "mJ")])
def test_unit_of_energy(made_up: Any, joules: float, unit: str) -> None:
    folder = made_up.comparison(spiking={})
    made_up.write_summary("mixer", 0, energy_joules=joules)
    header, rows = table_rows(load_results(folder))
    assert rows[-1][header.index(f"energy ({unit})")] == "3.00"


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("intra_only", [False, True])
def test_terminal_shows_all_of_it(made_up: Any, width: int, intra_only: bool) -> None:
    text = printed(made_up.spiking(intra_only=intra_only), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for title in ("firing rate,", "energy (µJ)", "synaptic", "operations", "− dense,"):
        assert title in text
    rows = [line for line in text.splitlines() if line.startswith("mixer ")]
    assert any(re.search(r"16\.0 +6\.10 +5\.49", row) for row in rows)
    if width == 200 and not intra_only:
        assert len(rows) == 1
        assert "…" not in text


def test_terminal_of_rate_networks_has_none_of_it(made_up: Any) -> None:
    text = printed(made_up.comparison(), 100)
    assert not re.search("firing|synaptic|energy|silent", text)


# The report


@pytest.mark.usefixtures("few_pictures")
def test_report_has_a_section(made_up: Any) -> None:
    folder = made_up.spiking()
    results = load_results(folder)
    html = write_report(folder).read_text(encoding="utf-8")
    words = words_of(html)
    for text in (
        "Activity Measured after each epoch on a probe batch, the first 256 training images.",
        f"{1e12 * ACCUMULATE_JOULES:g} pJ an addition and {1e12 * MULTIPLY_ACCUMULATE_JOULES:g} pJ a multiply-accumulate",
        "Horowitz, ISSCC 2014",
        *(str(describe_activity(results.arms[name])) for name in ("index", "mixer")),
        *(column.explanation for column in table_columns(results)),
        "Synaptic operations are counted, not what a kernel computes",
        "measured time and estimated energy (see Activity)",
    ):
        assert text in words, text
    alts = re.findall(r'alt="([^"]*)"', html)
    assert [alt for alt in alts if "Firing rate of each layer" in alt] == [
        f"Firing rate of each layer of {name} by epoch, and the neurons that never fired at the end, beside its controls"
        for name in ("index", "mixer")
    ]
    assert "Test accuracy against estimated energy of an image" in alts


@pytest.mark.usefixtures("few_pictures")
def test_wide_tables_are_parted(made_up: Any) -> None:
    html = write_report(made_up.spiking()).read_text(encoding="utf-8")
    costs, differences = re.findall(r'<table class="results">(.*?)</table>', html, flags=re.DOTALL)
    assert (costs.count('<th scope="col">'), differences.count('<th scope="col">')) == (10, 4)
    assert (costs.count('scope="row"'), differences.count('scope="row"')) == (5, 2)
    assert ">Controls<" in costs
    assert ">Controls<" not in differences
    plain = write_report(type(made_up)(made_up.folder.parent / "rate").comparison()).read_text(encoding="utf-8")
    (table,) = re.findall(r'<table class="results">(.*?)</table>', plain, flags=re.DOTALL)
    assert table.count('<th scope="col">') == len(RATE_HEADER)


@pytest.mark.usefixtures("few_pictures")
def test_nothing_of_activity_without_spikes(made_up: Any) -> None:
    html = write_report(made_up.comparison()).read_text(encoding="utf-8")
    assert not re.search(r"spik(?!ing: null)|Activity|firing|synaptic|energy", words_of(html))


@pytest.mark.usefixtures("few_pictures")
def test_report_before_anything_has_run(made_up: Any) -> None:
    folder = made_up.spiking()
    for file in folder.glob("*/*/*"):
        file.unlink()
    words = words_of(write_report(folder).read_text(encoding="utf-8"))
    assert words.count("Nothing is known yet.") == 2


# Silence


def test_runs_that_fell_silent_are_told(made_up: Any) -> None:
    folder = made_up.spiking()
    assert describe_silence(load_results(folder)) is None
    made_up.write_activity("mixer", 1, made_up.activity(1), made_up.activity(2, rates=(0.0, 0.1, 0.1)))
    assert describe_silence(load_results(folder)) == (
        "1 run ended with a layer that is silent (mixer: 1 of 3): its network cannot tell images apart, and counts in "
        "the means all the same."
    )
    made_up.write_activity(
        "mixer", 2, made_up.activity(1, rates=(0.0, 0.0, 0.0)), made_up.activity(2, rates=(0.0, 0.1, 0.1))
    )
    made_up.write_activity("dense-32", 0, made_up.activity(1), made_up.activity(2, rates=(0.1, 0.1, 0.0)))
    results = load_results(folder)
    sentence = (
        "3 runs ended with a layer that is silent (dense-32: 1 of 3; mixer: 2 of 3): their networks cannot tell images "
        "apart, and count in the means all the same."
    )
    assert describe_silence(results) == sentence
    rest = "without a spike on the probe batch, the network cannot tell images apart."
    assert [(notice.text, notice.runs) for notice in collect_notices(results)] == [
        (f"The read-out was silent at the end of training, from epoch 2 on: {rest}", ("dense-32 (seed 0)",)),
        (f"Layer 1 was silent at the end of training, from epoch 1–2 on: {rest}", ("mixer (seeds 1, 2)",)),
    ]
    assert sentence in " ".join(printed(folder, 80).split())
    words = words_of(write_report(folder).read_text(encoding="utf-8"))
    assert sentence in words.split("Results")[1]  # the contents name the section first


def test_only_runs_that_are_done_are_silent_at_the_end(made_up: Any) -> None:
    folder = made_up.spiking()
    made_up.write_activity("mixer", 1, made_up.activity(1, rates=(0.0, 0.0, 0.0)))
    made_up.remove_summary("mixer", 1)
    results = load_results(folder)
    assert describe_silence(results) is None
    assert collect_notices(results) == []


def test_warnings_of_different_epochs_are_one(made_up: Any) -> None:
    folder = made_up.comparison()
    for seed, epoch in enumerate((3, 17, 5)):
        made_up.write_summary("index", seed, warnings=[f"{90 + seed} % of layer 'hidden.1' in epoch {epoch}: silent"])
    (notice,) = collect_notices(load_results(folder))
    assert (notice.text, notice.runs) == (
        "90–92 % of layer 'hidden.1' in epoch 3–17: silent",
        ("index (seeds 0, 1, 2)",),
    )


# The command


def test_run_tells_the_firing_rate(tmp_path: Path) -> None:
    recipe = {
        "question": "Does it spike?",
        "model": {"hidden": [16, 8]},
        "spiking": {"steps": 4},
        "training": {"epochs": 1, "batch_size": 256},
        "arms": {"er": {"pattern": "erdos-renyi", "density": 0.5}},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "out")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    summary_file = tmp_path / "out" / "er" / "seed-0" / "summary.json"
    summary = json.loads(summary_file.read_text())
    rate = 100 * summary["hidden_firing_rate"]
    written = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
    assert f" s an epoch, hidden neurons fire in {written} % of time steps\n" in done.output
    del summary["hidden_firing_rate"]  # as a run has it that was made before
    summary_file.write_text(json.dumps(summary))
    again = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "out")], env={"COLUMNS": "200"})
    assert again.exit_code == 0
    assert "fire" not in again.output
