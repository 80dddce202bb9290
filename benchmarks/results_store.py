"""How long the table of 10,000 runs takes: read for the first time, again, and with some runs at work.

Run folders are made up, but have the files, names and sizes that real ones have. Prints its table; keep in mind that
the first reading depends on whether the disk has the files in memory, as it has here.

    python benchmarks/results_store.py [RUNS] [FOLDER]
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from neuropil.compare import expand_arms, load_recipe, read_runs, run_recipe
from neuropil.compare.arms import run_folder
from neuropil.compare.store import find_runs, frame_of, runs_by_identity, write_parquet, write_table_csv
from neuropil.compare.store.index import Index
from neuropil.train.environment import describe_environment

EPOCHS = 20
AT_WORK = 100  # runs that go on between two readings
ROUNDS = 5
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write_run(folder: Path, recipe: dict[str, Any], environment: str) -> None:
    """Write a run that is done as training leaves it."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.dump(recipe, Dumper=DUMPER, sort_keys=False), encoding="utf-8")
    (folder / "environment.json").write_text(environment, encoding="utf-8")
    (folder / "lock").touch()
    (folder / "metrics.jsonl").write_text(
        "".join(epoch_line(epoch) for epoch in range(1, EPOCHS + 1)), encoding="utf-8"
    )
    layers = len(recipe["model"]["hidden"])
    summary = {
        "status": "finished", "test_accuracy": 0.9, "test_loss": 0.3, "epochs": EPOCHS, "parameters": 41081,
        "density": 0.25, "multiply_accumulates": 40303, "memory_traffic_bytes": 423696.0,
        "kernels": ["synapses"] * layers, "neurons_without_input": 0, "neurons_without_output": 0,
        "negative_weights": 0.49, "seconds_per_epoch": 0.25, "peak_memory_bytes": 20267264, "warnings": [],
        "dead_neurons": 0.05, "saturated_neurons": 0.0, "synaptic_operations": 0.0,
        "synaptic_multiply_accumulates": 25451.2, "energy_joules": 1.17e-07,
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def epoch_line(epoch: int) -> str:
    """Return what an epoch adds to the metrics."""
    names = ("hidden.1", "hidden.3", "hidden.5")
    record = {
        "epoch": epoch, "train_loss": 2.2312913835663157 / epoch, "train_accuracy": 0.4195876288659794,
        "validation_loss": 2.103181838989258 / epoch, "validation_accuracy": 0.7314814814814815, "learning_rate": 0.001,
        "seconds": 0.3431859690026613, "peak_memory_bytes": 11653376, "dead": dict.fromkeys(names, 0.01171875),
        "saturated": dict.fromkeys(names, 0.0), "synaptic_operations": 0.0,
        "synaptic_multiply_accumulates": 23661.721649484534, "energy_joules": 1.0884391958762886e-07,
    }  # fmt: skip
    return json.dumps(record) + "\n"


def write_runs(root: Path, n: int) -> list[Path]:
    """Write runs of as many comparisons of the digits as it takes, 50 seeds each."""
    environment = json.dumps(describe_environment(), indent=2) + "\n"
    folders: list[Path] = []
    while len(folders) < n:
        name = f"digits-{len(folders)}"
        recipe = load_recipe("digits", [f"name={name}", "seeds=50", f"learning_rate={1e-3 + 1e-7 * len(folders)}"])
        made = [(arm, seed) for arm in expand_arms(recipe) for seed in recipe.seeds]
        for arm, seed in made[: n - len(folders)]:
            folders.append(run_folder(root / name, arm.name, seed))
            write_run(folders[-1], run_recipe(recipe, arm, seed), environment)
    return folders


def seconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median of some rounds."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(root: Path, n: int) -> dict[str, float]:
    """Write runs below an empty folder and return the seconds of everything one does with them."""
    folders = write_runs(root, n)
    time.sleep(2.5)  # younger files are read again each time
    found = {"read for the first time": seconds(lambda: read_runs(root), rounds=1)}
    found["read again, nothing new"] = seconds(lambda: read_runs(root))

    def go_on() -> None:
        for folder in folders[:AT_WORK]:
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(epoch_line(EPOCHS + 1))

    taken = []
    for _ in range(ROUNDS):
        go_on()
        taken.append(seconds(lambda: read_runs(root), rounds=1))
    found[f"read again, {AT_WORK} runs went on"] = statistics.median(taken)
    time.sleep(2.5)
    table = read_runs(root)
    identity = str(table.rows[n // 2]["identity"])
    found["one run by its identity"] = seconds(lambda: find_runs(root, identity))
    found["all runs by their identities"] = seconds(lambda: runs_by_identity(root))
    found["two filters"] = seconds(lambda: table.where("arm=mixer*", "test_accuracy>=0.9"))
    found["write CSV"] = seconds(lambda: write_table_csv(table, root / "table.csv"), rounds=1)
    frame_of(table)  # loads Polars
    found["Polars frame"] = seconds(lambda: frame_of(table), rounds=1)
    found["write Parquet"] = seconds(lambda: write_parquet(table, root / "table.parquet"), rounds=1)
    command = [sys.executable, "-m", "neuropil", "results", "arm=mixer", "--root", str(root)]
    found["the whole command, 50 rows printed"] = seconds(
        lambda: subprocess.run(command, capture_output=True, check=True)
    )
    loaded = [sys.executable, "-c", "import neuropil.compare, neuropil.cli"]
    found["of which loading PyTorch and neuropil"] = seconds(lambda: subprocess.run(loaded, check=True))
    found["index, MB"] = Index(root).path.stat().st_size / 1e6
    return found


def main() -> None:
    """Measure below a folder, or a temporary one, and print a table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        found = measure(Path(folder), n)
    table = Table("", "seconds", title=f"{n:,} runs of {EPOCHS} epochs", box=None)
    for what, value in found.items():
        table.add_row(what, f"{value:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
