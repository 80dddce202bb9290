"""The run folder: who may use it, and what stays in it."""

import json

import pytest
import torch
from torch import nn

from neuropil.train import Run, RunError

RECIPE = {"seed": 0, "model": {"hidden": (64, 64), "kind": "Ensembles"}, "epochs": 5}


def test_folder_is_made_and_described(tmp_path):
    run = Run(tmp_path / "a" / "run", RECIPE)
    assert {path.name for path in run.folder.iterdir()} == {"recipe.yaml", "environment.json"}
    environment = json.loads((run.folder / "environment.json").read_text())
    assert {"neuropil", "commit", "torch", "python", "processor", "threads"} <= environment.keys()
    assert run.summary is None
    assert run.metrics() == []


def test_same_recipe_goes_on(tmp_path):
    Run(tmp_path, RECIPE).append({"epoch": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # tuples and lists are the same, as is another order of keys
    again = Run(str(tmp_path), {"epochs": 5, "model": {"kind": "Ensembles", "hidden": [64, 64]}, "seed": 0})
    assert again.metrics() == [{"epoch": 1}]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("recipe", "difference"),
    [
        ({**RECIPE, "seed": 1}, "seed is 0 there and 1 here"),
        ({**RECIPE, "model": {"hidden": [64, 65], "kind": "Ensembles"}}, r"model.hidden is \[64, 64\] there and"),
        ({**RECIPE, "model": {"hidden": [64, 64]}}, "it has model.kind"),
        ({**RECIPE, "model": None}, "model is {.*} there and None here"),
        ({**RECIPE, "precision": "bfloat16"}, "it lacks precision"),
        ({**RECIPE, "epochs": "5"}, "epochs is 5 there and '5' here"),
    ],
)
def test_another_recipe_is_refused_and_the_key_named(tmp_path, recipe, difference):
    Run(tmp_path, RECIPE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sentence = f"^Run: .* belongs to another recipe: {difference}.*; try another folder, or remove this one$"
    with pytest.raises(RunError, match=sentence):
        Run(tmp_path, recipe)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["thesis.txt", "environment.json", "checkpoint-00001.safetensors", ".hidden"])
def test_foreign_files_are_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="must be an empty folder or a run's, got one that holds other things"):
        Run(tmp_path, RECIPE)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="must be an empty folder"):
        Run(tmp_path / "run", RECIPE)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("content", [b"{seed: ", b"\xff\xfe\x00", b"a: b: c"])
def test_damaged_recipe_is_named(tmp_path, content):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(RunError, match="must be the recipe of a run, got a damaged file"):
        Run(tmp_path, RECIPE)


def test_a_run_killed_while_its_folder_was_made_can_be_opened(tmp_path):
    (tmp_path / "recipe.yaml.partial").write_text("see")
    assert Run(tmp_path, RECIPE).recipe["seed"] == 0
    (tmp_path / "environment.json").unlink()
    Run(tmp_path, RECIPE)
    assert (tmp_path / "environment.json").exists()


@pytest.mark.parametrize("tail", ['{"epoch": 3, "tr', "{", "\0\0\0", "\n\n"])
def test_metrics_end_at_the_first_line_that_is_not_whole(tmp_path, tail):
    run = Run(tmp_path, {})
    for epoch in (1, 2):
        run.append({"epoch": epoch, "train_loss": float("inf")})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(tail)
    assert [record["epoch"] for record in run.metrics()] == [1, 2]


def test_two_checkpoints_are_kept_and_after_the_end_one(tmp_path):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = Run(tmp_path, {})
    for epoch in (8, 9, 10, 11):
        run.save(epoch, model, optimizer, None)
    names = ["checkpoint-00010.safetensors", "checkpoint-00011.safetensors"]
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == names
    assert run.restore(model, optimizer, None) == 11
    run.finish({"accuracy": 0.5})
    assert [path.name for path in tmp_path.glob("checkpoint*")] == names[1:]
    assert Run(tmp_path, {}).summary == {"accuracy": 0.5}
    run.finish({"accuracy": 0.5}, keep_checkpoint=False)
    assert not list(tmp_path.glob("checkpoint*"))


def test_damaged_summary_counts_as_none(tmp_path):
    run = Run(tmp_path, {})
    for content in ("", '{"accuracy": ', "[1]", "\0"):
        (tmp_path / "summary.json").write_text(content)
        assert run.summary is None


def test_restore_of_a_new_run_changes_nothing(tmp_path):
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    run = Run(tmp_path, {})
    assert run.restore(model, torch.optim.SGD(model.parameters(), lr=0.1), None) == 0
    assert torch.equal(model.weight, before)
    assert not (tmp_path / "metrics.jsonl").exists()
