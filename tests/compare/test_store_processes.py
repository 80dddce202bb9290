"""The table of runs while other processes write them, read them, and spoil their index."""

import json
import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

import pytest

from neuropil.compare import read_runs
from neuropil.compare.store import runs_by_identity, scan
from neuropil.compare.store.index import NAME
from neuropil.train import Run

EPOCHS, RUNS = 4, 12
SUMMARY = {
    "status": "finished", "parameters": 1, "density": 1.0, "multiply_accumulates": 1, "seconds_per_epoch": 1.0,
    "peak_memory_bytes": 1, "kernels": [], "warnings": [],
}  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def write_runs(root: Path, writer: int) -> None:
    """Do runs one after the other, each line in two pieces; remove every fourth."""
    for seed in range(RUNS):
        recipe = {"comparison": "c", "arm": f"arm-{writer}", "seed": seed, "training": {"epochs": EPOCHS}}
        run = Run(root / f"arm-{writer}" / f"seed-{seed}", recipe)
        with run.held():
            for epoch in range(1, EPOCHS + 1):
                line = json.dumps({"epoch": epoch, "validation_accuracy": epoch / 10, "seconds": 1.0}) + "\n"
                for part in (line[:20], line[20:]):
                    with (run.folder / "metrics.jsonl").open("a") as file:
                        file.write(part)
                    time.sleep(0.002)
            run.finish({**SUMMARY, "test_accuracy": seed / 100, "epochs": EPOCHS})
        if seed % 4 == 3:
            shutil.rmtree(run.folder)


def read_and_spoil(root: Path, stop: "multiprocessing.synchronize.Event") -> None:
    """Read the table, and now and then damage the index that others read."""
    chance = random.Random(0)
    while not stop.is_set():
        read_runs(root, rebuild=chance.random() < 0.2)
        if chance.random() < 0.3:
            with open(root / NAME, "r+b") if (root / NAME).exists() else open(root / "none", "wb") as file:
                file.seek(chance.randrange(20_000))
                file.write(bytes(300))


def check(row: dict[str, object]) -> None:
    """A row may be behind, but it never says what was not so."""
    assert row["state"] in ("running", "unfinished", "done")
    assert row["comparison"] == "c"
    epochs = row["epochs"]
    assert isinstance(epochs, int)
    assert 0 <= epochs <= EPOCHS
    assert row.get("validation_accuracy") == (epochs / 10 if epochs else None)
    if row["state"] == "done":
        assert row["test_accuracy"] == row["seed"] / 100  # type: ignore[operator]
        assert epochs == EPOCHS


def test_writers_readers_and_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROPIL_COMMIT", "abc1234")  # looked up once for all runs
    monkeypatch.setattr(scan, "_UNSETTLED_NS", 2 * 10**7)
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    writers = [context.Process(target=write_runs, args=(tmp_path, n)) for n in range(2)]
    spoiler = context.Process(target=read_and_spoil, args=(tmp_path, stop))
    for process in (*writers, spoiler):
        process.start()
    seen: set[str] = set()
    try:
        while any(writer.is_alive() for writer in writers):
            found = read_runs(tmp_path)
            assert not found.problems
            for row in found.rows:
                check(row)
                seen.add(str(row["state"]))
            runs_by_identity(tmp_path)
    finally:
        stop.set()
        for process in (*writers, spoiler):
            process.join(60)
    assert [process.exitcode for process in (*writers, spoiler)] == [0, 0, 0]
    assert "done" in seen
    time.sleep(0.05)
    found = read_runs(tmp_path)
    assert [(row["arm"], row["seed"], row["state"]) for row in found.rows] == [
        (f"arm-{n}", seed, "done") for n in range(2) for seed in range(RUNS) if seed % 4 != 3
    ]
    assert found.rows == read_runs(tmp_path).rows == read_runs(tmp_path, rebuild=True).rows
