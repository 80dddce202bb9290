"""What the command shows of folders of runs and comparisons."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare.arms import expand_arms, run_folder, run_recipe
from neuropil.compare.execute import execute
from neuropil.compare.recipe import parse_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of one rewired arm, done in a few steps."""
    recipe = parse_recipe(
        {"name": "small", "question": "Is it sparse?", "model": {"hidden": [16]},
         "training": {"epochs": 1, "batch_size": 256}, "seeds": 1, "probes": ["norms"],
         "arms": {"set": {"pattern": "erdos-renyi", "density": 0.25, "exact": True, "rewiring": {"rule": "set", "every": 2}}}}
    )  # fmt: skip
    made: Path = tmp_path_factory.mktemp("out") / "small"
    for arm in expand_arms(recipe):
        execute(run_recipe(recipe, arm, 0), run_folder(made, arm.name, 0))
    (made / "comparison.yaml").write_text(yaml.safe_dump(recipe.model_dump()), encoding="utf-8")
    return made


def shown(*words: Any) -> str:
    done = CliRunner().invoke(app, ["show", *map(str, words)])
    assert done.exit_code == 0, done.exception
    return " ".join(done.stdout.split())


def test_a_run(folder: Path) -> None:
    text = shown(folder / "set" / "seed-0")
    for words in ("arm set, seed 0", "state done", "epochs 1 of 1", "% on the test set", "probes norms",
                  "rewiring: {rule: set, every: 2}", "batch_size: 256"):  # fmt: skip
        assert words in text, words


def test_what_is_sparse_about_a_run(folder: Path) -> None:
    text = shown(folder / "set" / "seed-0", "--sparsity")
    for words in ("hidden.0.weight (SparseLinear, 16 × 64): density 0.25", "connections exchanged while learning",
                  "times as fast", "densest state held: 0.250 (sparse-to-sparse)", "dense gradients: never",
                  "kernels of the hidden layers: "):  # fmt: skip
        assert words in text, words


def test_a_comparison(folder: Path) -> None:
    text = shown(folder)
    for words in ("Is it sparse?", "All 4 runs are done.", "accuracy (%)"):
        assert words in text, words
    assert not (folder / "report.html").exists()
    text = shown(folder, "--sparsity")
    assert text.count("densest state held") == 4
    assert "dense-16" in text


def test_a_run_that_has_left_its_comparison(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "a" / "b" / "run"
    run.mkdir(parents=True)
    for name in ("recipe.yaml", "summary.json", "metrics.jsonl"):
        (run / name).write_bytes((folder / "set" / "seed-0" / name).read_bytes())
    text = shown(run, "--sparsity")
    assert "speed: not measured" in text
    assert "connections are those of: the recipe, before any event" in text
    (run / "summary.json").unlink()
    assert "state running" in shown(run)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([".", "--sparsity"], "must be the folder of a run or a comparison, got one without recipe.yaml and"),
        (["digits", "--sparsity"], "--sparsity needs the folder of a run or a comparison, got 'digits'"),
        (["foreign"], "must be the recipe of a run of a comparison, got a damaged or foreign file"),
    ],
)
def test_one_sentence_for_what_is_wrong(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "recipe.yaml").write_text(yaml.safe_dump({"seed": 0}), encoding="utf-8")
    done = CliRunner().invoke(app, ["show", *words])
    assert isinstance(done.exception, ValueError)
    assert sentence in str(done.exception)
