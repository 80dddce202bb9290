"""Comparisons made up by hand: folders as runs leave them, without any training."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuropil.compare.arms import expand_arms, run_folder, run_folds, run_recipe
from neuropil.compare.recipe import Recipe, parse_recipe

RECIPE: dict[str, Any] = {
    "name": "made-up",
    "question": "Does wiring help?",
    "source": "a claim",
    "data": {"name": "digits"},
    "model": {"hidden": [32, 32]},
    "training": {"epochs": 2},
    "seeds": 3,
    "arms": {
        "index": {"pattern": "ensembles", "n_groups": 8, "p_inter": 0.15},
        "mixer": {"pattern": "mixer", "n_groups": 8, "p_inter": 0.15, "block": ["group", 1]},
    },
}
# arms of which some are rewired: one beside its static twin, one whose twin is added, one whose density changes
REWIRED: dict[str, Any] = {
    "mixer": {"pattern": "mixer", "n_groups": 8, "p_inter": 0.15},
    "mixer-set": {"pattern": "mixer", "n_groups": 8, "p_inter": 0.15, "rewiring": {"rule": "set", "per_epoch": 2}},
    "er-rigl": {"pattern": "erdos-renyi", "density": 0.25, "rewiring": {"rule": "rigl", "every": 5}},
    "er-gmp": {"pattern": "erdos-renyi", "density": 1.0, "rewiring": {"rule": "gmp", "density": 0.25, "every": 5}},
}
ENVIRONMENT = {"neuropil": "0.1", "commit": "abc1234", "torch": "2.13", "processor": "a processor", "threads": 1}

Accuracy = Callable[[str, int], float]


def made_up_accuracy(arm: str, seed: int) -> float:
    """Give every arm a level of its own, and every seed its luck."""
    level = {"index": 0.90, "mixer": 0.95, "dense-32": 0.96}.get(arm, 0.90)
    return level + 0.01 * seed + 0.001 * (seed * len(arm) % 5)


class MadeUp:
    """Writes comparisons into a folder."""

    accuracy = staticmethod(made_up_accuracy)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recipe(self, **changes: Any) -> Recipe:
        return parse_recipe({**RECIPE, **changes})

    def comparison(self, accuracy: Accuracy = made_up_accuracy, **changes: Any) -> Path:
        """Write a comparison whose runs are all done; every fold is 0.001 better than the one before."""
        recipe = self.recipe(**changes)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "comparison.yaml").write_text(yaml.safe_dump(recipe.model_dump()), encoding="utf-8")
        for arm in expand_arms(recipe):
            for seed, fold in itertools.product(recipe.seeds, run_folds(recipe)):
                folder = self.run(arm.name, seed, fold)
                folder.mkdir(parents=True)
                made_by = run_recipe(recipe, arm, seed, fold)
                (folder / "recipe.yaml").write_text(yaml.safe_dump(made_by), encoding="utf-8")
                (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
                key = "validation_accuracy" if fold is None else "train_accuracy"
                self.write_metrics(arm.name, seed, [0.5, accuracy(arm.name, seed)], fold=fold, key=key)
                dense = arm.name.startswith("dense")
                scored = accuracy(arm.name, seed) + 0.001 * (fold or 0)
                self.write_summary(
                    arm.name,
                    seed,
                    fold=fold,
                    test_accuracy=scored,
                    parameters=5000 if dense else 2000 + seed,
                    density=1.0 if dense else 0.25,
                    multiply_accumulates=4000 if dense else 1000,
                    seconds_per_epoch=2.0 if dense else 1.0 + 0.1 * seed,
                    kernels=["dense"] * 2 if dense else ["masked"] * 2,
                    **(
                        {"intra_only_accuracy": scored - 0.1, "intra_only_drop": 0.1} if "intra_only" in made_by else {}
                    ),
                )
        return self.folder

    def rewired(self, accuracy: Accuracy = made_up_accuracy, **changes: Any) -> Path:
        """Write a comparison whose runs are all done, some of its arms being rewired."""
        folder = self.comparison(accuracy, **{"arms": REWIRED, **changes})
        for name, description in REWIRED.items():
            if "rewiring" in description and (folder / name).exists():
                for run in sorted((folder / name).iterdir()):
                    seed = int(run.name.removeprefix("seed-"))
                    groups = name.startswith("mixer")
                    self.write_events(name, seed, groups=groups)
                    rewiring = {"events": 4, "replaced": 0.5, "explored": 0.5, "modularity": 0.25 if groups else None}
                    self.write_summary(
                        name, seed, test_accuracy=accuracy(name, seed), seconds_per_epoch=1.5, rewiring=rewiring
                    )
        return folder

    def spiking(self, **changes: Any) -> Path:
        """Write a comparison of spiking networks: dense ones do twice what sparse ones do, higher seeds fire more."""
        folder = self.comparison(**{"spiking": {"steps": 8}, **changes})
        recipe = self.recipe(**{"spiking": {"steps": 8}, **changes})
        for arm in expand_arms(recipe):
            twice = 2 if arm.is_dense else 1
            work = {"synaptic_operations": twice * 6.1e6, "energy_joules": twice * 5.49e-6}
            for seed, fold in itertools.product(recipe.seeds, run_folds(recipe)):
                last = self.activity(2, rates=(0.1 + 0.01 * seed, 0.2 + 0.01 * seed, 0.3), **work)
                self.write_activity(arm.name, seed, self.activity(1, **work), last, fold=fold)
        return folder

    @staticmethod
    def activity(epoch: int, *, rates: tuple[float, float, float] = (0.1, 0.2, 0.3), **values: Any) -> dict[str, Any]:
        """Return an epoch's record of two hidden layers and a read-out."""
        names = ("hidden.1", "hidden.3", "output")
        return {
            "epoch": epoch,
            "dead": dict(zip(names, (0.5, 0.75, 0.0), strict=True)),
            "saturated": dict.fromkeys(names, 0.0),
            "firing_rates": dict(zip(names, rates, strict=True)),
            "synaptic_operations": 6.1e6,
            "synaptic_multiply_accumulates": 0.0,
            "energy_joules": 5.49e-6,
            **values,
        }

    def write_activity(self, arm: str, seed: int, *records: dict[str, Any], fold: int | None = None) -> None:
        text = "".join(json.dumps(record) + "\n" for record in records)
        (self.run(arm, seed, fold) / "metrics.jsonl").write_text(text, encoding="utf-8")

    def write_events(self, arm: str, seed: int, *, groups: bool = True, n: int = 4, **values: Any) -> None:
        """Write n events, of the two layers each, as evenly as can be over two epochs of 16 steps."""
        records = []
        for k in range(1, n + 1):
            step = 32 * k // n
            for layer in ("hidden.0", "hidden.2"):
                records.append(
                    {
                        "epoch": 1 + (step - 1) // 16,
                        "step": step,
                        "layer": layer,
                        "dropped": 30,
                        "went": 20,
                        "came": 20,
                        "went_within": 15 if groups else None,
                        "came_within": 5 if groups else None,
                        "n_blocks": 200,
                        "density": 0.25,
                        "explored": 0.4 + 0.4 * k / n,
                        "modularity": 0.4 - 0.1 * k / n if groups else None,
                        "neurons_without_input": 0,
                        **values,
                    }
                )
        self.write_lines(arm, seed, records)

    def write_lines(self, arm: str, seed: int, records: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(record) + "\n" for record in records)
        (self.run(arm, seed) / "rewiring.jsonl").write_text(text, encoding="utf-8")

    def run(self, arm: str, seed: int, fold: int | None = None) -> Path:
        return run_folder(self.folder, arm, seed, fold)

    def write_summary(self, arm: str, seed: int, *, fold: int | None = None, **values: Any) -> None:
        summary = {
            "status": "finished",
            "test_accuracy": 0.9,
            "test_loss": 0.25,
            "epochs": 2,
            "parameters": 2000,
            "density": 0.25,
            "multiply_accumulates": 1000,
            "kernels": ["masked", "masked"],
            "neurons_without_input": 0,
            "seconds_per_epoch": 1.0,
            "peak_memory_bytes": 3 * 2**20,
            "warnings": [],
            **values,
        }
        (self.run(arm, seed, fold) / "summary.json").write_text(json.dumps(summary), encoding="utf-8")

    def write_metrics(
        self,
        arm: str,
        seed: int,
        accuracies: list[float],
        *,
        fold: int | None = None,
        key: str = "validation_accuracy",
    ) -> None:
        records = [
            {"epoch": epoch, key: accuracy, "seconds": 1.0} for epoch, accuracy in enumerate(accuracies, start=1)
        ]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (self.run(arm, seed, fold) / "metrics.jsonl").write_text(text, encoding="utf-8")

    def remove_summary(self, arm: str, seed: int, fold: int | None = None) -> Path:
        (self.run(arm, seed, fold) / "summary.json").unlink()
        return self.run(arm, seed, fold)


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    return MadeUp(tmp_path / "made-up")


@pytest.fixture(scope="module")
def made_up_once(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    """Return a folder of comparisons that all tests of a file look at, and none changes."""
    return MadeUp(tmp_path_factory.mktemp("once") / "made-up")
