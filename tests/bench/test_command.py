import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from neuropil.bench import Settings, default_folder, read_rows
from neuropil.bench.suites import SUITES
from neuropil.cli.main import main

TINY = ("--size", "64", "--batch", "4", "--rounds", "2", "--threads", "1")


@pytest.fixture
def neuropil(monkeypatch, tmp_path):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["neuropil", *words])
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.chdir(tmp_path)
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
            try:
                main()
                status = 0
            except SystemExit as exit:
                status = exit.code or 0
        return status, out.getvalue(), errors.getvalue()

    return run


def test_a_suite_by_name(neuropil, tmp_path):
    status, out, errors = neuropil("bench", "layers", *TINY, "--density", "0.25,0.1", "--out", "here")
    assert (status, errors) == (0, "")
    assert "One layer 64 → 64, batch 4, float32" in out
    assert "nn.Linear" in out
    rows = read_rows(tmp_path / "here" / "layers.csv")
    assert {row["size"] for row in rows} == {64}
    assert all(row["processor"] and row["date"] and row["torch"] for row in rows)
    assert (tmp_path / "here" / "layers.png").stat().st_size > 10_000
    assert "written: here/layers.csv, here/layers.png" in out


def test_a_long_table_where_one_density_is_asked_for(neuropil):
    _, out, _ = neuropil("bench", "layers", *TINY, "--density", "0.25", "--block", "groupx1", "--out", "here")
    assert "ms (quartiles)" in out
    assert "× masked" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["layer"],
            "bench: suites must be of layers, networks, events, rewiring, neurons, scale, measures, rules, got 'layer'",
        ),
        (["layers", "--size", "0"], "bench: --size must be whole numbers of at least 1"),
        (["--device", "tpu"], "bench: --device must be cpu or cuda, got 'tpu'"),
    ],
)
def test_mistakes_are_one_sentence(neuropil, words, message, tmp_path):
    status, _, errors = neuropil("bench", *words)
    assert status == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_an_interruption_keeps_what_was_measured(neuropil, monkeypatch, tmp_path):
    def interrupted(settings):
        yield [{"size": 1, "batch": 1, "steps": 1, "precision": "float32", "neurons": "LIF", "kernel": "torch",
                "median_ms": 1.0, "lower_quartile_ms": 1.0, "upper_quartile_ms": 1.0, "reason": None}]  # fmt: skip
        raise KeyboardInterrupt

    monkeypatch.setitem(SUITES, "neurons", interrupted)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "neurons.csv").write_text("old\n")
    status, out, errors = neuropil("bench", "neurons", "--threads", "1", "--out", "here")
    assert status == 130
    assert "LIF" in out
    assert "interrupted; what was measured of neurons is in here/neurons.partial.csv" in errors
    assert (tmp_path / "here" / "neurons.csv").read_text() == "old\n"
    assert read_rows(tmp_path / "here" / "neurons.partial.csv")[0]["median_ms"] == 1


def test_quick_results_never_replace_kept_ones():
    assert default_folder(Settings(quick=True)).name == "bench"
