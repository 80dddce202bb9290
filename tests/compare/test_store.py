"""Every run below a folder as one table: what it says, and that an index changes nothing of it."""

import contextlib
import json
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import find_runs, read_runs, run_recipe
from neuropil.compare.arms import expand_arms
from neuropil.compare.identity import run_identity
from neuropil.compare.run_result import read_run
from neuropil.compare.store import RunTable, runs_by_identity, scan, table
from neuropil.compare.store.alive import held_locks, is_at_work
from neuropil.compare.store.index import NAME, Index
from neuropil.train import Run

MIXER = {"mixer": {"pattern": "mixer", "n_groups": 8, "p_inter": 0.15}}


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that have just been written go into the index."""
    monkeypatch.setattr(scan, "_UNSETTLED_NS", 0)


def as_is(found: RunTable) -> tuple[Any, ...]:
    return found.columns, found.rows


def row_of(root: Path, **wanted: Any) -> dict[str, Any]:
    rows = read_runs(root).rows
    (row,) = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return row


def age(folder: Path, seconds: float = 3600) -> None:
    """Make a run look as if nobody had written to it for long."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def three_hundred(made_up: Any) -> Path:
    """Write 300 runs of five comparisons, in folders at several depths."""
    made_up.comparison(seeds=1, arms=MIXER)
    root: Path = made_up.folder.parent / "root"
    originals = sorted(made_up.folder.glob("*/seed-0"))
    for k in range(300 // (5 * len(originals))):
        for c in range(5):
            for original in originals:
                folder = root / ("deeper" if c % 2 else "") / f"made-up-{c}" / original.parent.name / f"seed-{k}"
                shutil.copytree(original, folder)
                text = (folder / "recipe.yaml").read_text()
                for old, new in {"comparison: made-up": f"comparison: made-up-{c}", "seed: 0": f"seed: {k}",
                                 "learning_rate: 0.001": f"learning_rate: 0.00{c + 1}"}.items():  # fmt: skip
                    assert text.count(old) == 1
                    text = text.replace(old, new)
                (folder / "recipe.yaml").write_text(text)
    return root


def test_a_row_says_what_the_folder_says(made_up: Any) -> None:
    folder = made_up.comparison(arms=MIXER)
    found = read_runs(folder.parent)
    recipe = made_up.recipe(arms=MIXER)
    arms = expand_arms(recipe)
    assert [(row["arm"], row["seed"]) for row in found.rows] == sorted((arm.name, s) for arm in arms for s in (0, 1, 2))
    for row in found.rows:
        run = read_run(folder, row["arm"], row["seed"])
        assert (row["state"], row["test_accuracy"], row["epochs"]) == ("done", run.accuracy, 2)
        assert row["validation_accuracy"] == run.validation_accuracy(-1)
        assert row["environment.commit"] == "abc1234"
        assert row["seconds"] == 2.0
        assert row["folder"] == f"made-up/{row['arm']}/seed-{row['seed']}"
    mixer = row_of(folder.parent, arm="mixer", seed=1)
    assert mixer["training.learning_rate"] == recipe.training.learning_rate
    assert mixer["model.hidden"] == "[32,32]"
    assert mixer["model.layers.p_inter"] == 0.15
    assert mixer["model.layers.grouping"] == '["index","interleaved"]'  # the layers differ
    assert mixer["model.patches"] is None
    assert found.columns[:4] == ("comparison", "arm", "seed", "fold")
    assert found.columns[-1] == "folder"
    assert set(found.columns) >= {key for row in found.rows for key in row}


def test_folds_rewiring_and_spikes_have_columns(made_up: Any) -> None:
    made_up.comparison(arms=MIXER, seeds=1, folds=3)
    assert {row["fold"] for row in read_runs(made_up.folder).rows} == {0, 1, 2}
    shutil.rmtree(made_up.folder)
    row = row_of(made_up.rewired(seeds=1), arm="mixer-set")
    assert (row["rewiring.rule"], row["rewiring.per_epoch"], row["summary.rewiring.replaced"]) == ("set", 2, 0.5)
    shutil.rmtree(made_up.folder)
    assert row_of(made_up.spiking(arms=MIXER, seeds=1), arm="mixer")["spiking.steps"] == 8


def test_states(made_up: Any) -> None:
    root = made_up.comparison(arms={"a": {"pattern": "dense"}}, seeds=6)
    made_up.write_summary("a", 1, status="diverged", test_accuracy=None, test_loss=float("nan"))
    for seed in (2, 4, 5):
        age(made_up.remove_summary("a", seed))
    (made_up.run("a", 2) / "failure.json").write_text('{"reason": "out of memory"}')
    (made_up.run("a", 3) / "summary.json").write_text('{"status": "fin')
    (made_up.run("a", 5) / "metrics.jsonl").write_text('{"epoch": 1, "validation_accuracy": 0.5}\n{"epoch": 2, "val')
    rows = {row["seed"]: (row["state"], row["reason"]) for row in read_runs(root).rows}
    assert rows == {
        0: ("done", None),
        1: ("diverged", None),
        2: ("failed", "out of memory"),
        3: ("unfinished", "its summary.json is damaged"),
        4: ("unfinished", None),
        5: ("running", None),  # written just now
    }
    assert (row_of(root, seed=5)["epochs"], row_of(root, seed=5)["validation_accuracy"]) == (1, 0.5)


def test_who_counts_as_at_work() -> None:
    now = time.time_ns()

    def run(*, age: float, took: float, disk: int | None) -> scan.RunFolder:
        written = now - int(age * 1e9)
        lock = None if disk is None else (os.makedev(disk, 0), 7)
        return scan.RunFolder("", "", written - int(took * 1e9), written, True, lock)

    held = frozenset({(os.makedev(8, 0), 7)})
    assert is_at_work(run(age=10**6, took=1, disk=8), 1, held)
    assert not is_at_work(run(age=0, took=1, disk=8), 1, frozenset())  # its lock is free on a disk of this machine
    for disk, locks in ((0, frozenset()), (8, None), (None, held)):  # nobody can tell: by the time
        assert is_at_work(run(age=60, took=1, disk=disk), 1, locks)
        assert not is_at_work(run(age=200, took=1, disk=disk), 1, locks)
        assert is_at_work(run(age=200, took=1000, disk=disk), 10, locks)  # an epoch takes 100 s


@pytest.mark.skipif(sys.platform != "linux", reason="locks are told on Linux only")
def test_a_held_lock_tells_that_a_run_is_at_work(tmp_path: Path) -> None:
    if not os.major(tmp_path.stat().st_dev):
        pytest.skip("the temporary folder is not on a disk of its own")
    run = Run(tmp_path / "run", {"seed": 0})
    with run.held():
        age(run.folder)
        assert row_of(tmp_path)["state"] == "running"
        assert held_locks()
    assert row_of(tmp_path)["state"] == "unfinished"


def test_runs_of_one_s_own(tmp_path: Path) -> None:
    Run(tmp_path / "a", {"seed": 3, "epochs": 7, "lr": 0.1, "layers": [{"n": 1}, {"n": 2}]}).finish({"accuracy": 0.5})
    row = row_of(tmp_path)
    assert (row["state"], row["seed"], row["lr"], row["layers.n"], row["accuracy"]) == ("done", 3, 0.1, "[1,2]", 0.5)
    assert (row["epochs"], row["recipe.epochs"], row["comparison"]) == (0, 7, None)
    assert read_runs(tmp_path / "a").rows[0]["folder"] == ""
    assert not (tmp_path / "a" / NAME).exists()  # a run folder holds what is the run's


def test_what_cannot_be_read_is_told_and_left_out(made_up: Any) -> None:
    root = made_up.comparison(arms={"a": {"pattern": "dense"}}, seeds=5)
    (made_up.run("a", 0) / "recipe.yaml").write_text("arm: [")
    (made_up.run("a", 1) / "recipe.yaml").write_text("no mapping")
    (made_up.run("a", 2) / "recipe.yaml").unlink()
    (made_up.run("a", 2) / "recipe.yaml").mkdir()
    (made_up.run("a", 3) / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    (made_up.run("a", 3) / "environment.json").write_text("{")
    (root / "begun").mkdir()
    (root / "begun" / "recipe.yaml.partial").write_text("arm: a")
    for _ in range(2):  # read, and remembered
        found = read_runs(root)
        assert [row["seed"] for row in found.rows] == [3, 4]
        assert [tuple(problem) for problem in found.problems] == [
            ("a/seed-0", "its recipe.yaml is damaged"),
            ("a/seed-1", "its recipe.yaml is damaged"),
            ("a/seed-2", "its recipe.yaml cannot be read: Is a directory"),
            ("a/seed-3", "damaged or not readable: metrics.jsonl environment.json"),
        ]


def test_300_runs_are_the_same_with_and_without_an_index(
    made_up: Any, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = three_hundred(made_up)
    steps: list[tuple[int, int]] = []
    first = read_runs(root, on_progress=lambda n, total: steps.append((n, total)))
    assert len(first.rows) == 300
    assert len({row["identity"] for row in first.rows}) == 300
    assert steps == [(300, 300)]

    read: list[str] = []
    real = table.read_row
    monkeypatch.setattr(table, "read_row", lambda root, run: (read.append(run.folder), real(root, run))[1])
    assert as_is(read_runs(root)) == as_is(first)
    assert not read
    changed = root / "made-up-2" / "mixer" / "seed-3"
    (changed / "metrics.jsonl").write_text('{"epoch": 1, "validation_accuracy": 0.125}\n')
    assert row_of(root, folder="made-up-2/mixer/seed-3")["validation_accuracy"] == 0.125
    assert read == ["made-up-2/mixer/seed-3"]
    assert as_is(read_runs(root)) == as_is(read_runs(root, rebuild=True)) == as_is(read_runs(root))
    assert len(read) == 301


def test_a_file_of_the_same_size_and_time_is_read_again(made_up: Any, settled: None) -> None:
    root = made_up.comparison(arms=MIXER, seeds=1)
    path = made_up.run("mixer", 0) / "summary.json"
    read_runs(root)
    before = path.stat()
    path.write_text(path.read_text().replace('"parameters": 2000', '"parameters": 3000'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert row_of(root, arm="mixer")["parameters"] == 3000


def test_what_was_written_just_now_is_not_remembered(made_up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made_up.comparison(arms=MIXER, seeds=1)
    read_runs(root)
    assert not Index(root).load()
    monkeypatch.setattr(scan, "_UNSETTLED_NS", 0)
    read_runs(root)
    assert len(Index(root).load()) == len(read_runs(root).rows)


def test_removed_runs_vanish_and_moved_roots_go_on(
    made_up: Any, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made_up.comparison(arms=MIXER, seeds=2)
    before = read_runs(root)
    shutil.rmtree(made_up.run("mixer", 0))
    assert {row["folder"] for row in before.rows} - {row["folder"] for row in read_runs(root).rows} == {"mixer/seed-0"}
    assert "mixer/seed-0" not in Index(root).load()
    now = read_runs(root)
    moved = root.rename(root.with_name("moved"))
    with monkeypatch.context() as patch:
        patch.setattr(table, "read_row", None)  # all that is needed is remembered
        assert as_is(read_runs(moved)) == as_is(now)
    copied = shutil.copytree(moved, moved.with_name("copied"))
    again = read_runs(copied)
    assert [row["folder"] for row in again.rows] == [row["folder"] for row in now.rows]


def test_runs_that_vanish_while_they_are_read(made_up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made_up.comparison(arms=MIXER, seeds=2)
    real = scan.scan

    def then_remove(root: Path) -> Any:
        found = real(root)
        shutil.rmtree(made_up.run("mixer", 1))
        return found

    monkeypatch.setattr(table, "scan", then_remove)
    found = read_runs(root)
    assert "mixer/seed-1" not in {row["folder"] for row in found.rows}
    assert not found.problems


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "empty", "digit", "version", "columns", "folder"])
def test_a_damaged_index_is_made_anew(damage: str, made_up: Any, settled: None) -> None:
    root = made_up.comparison(arms=MIXER, seeds=3)
    true = as_is(read_runs(root))
    path = root / NAME
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()  # no index can be there
    elif damage in ("digit", "version", "columns"):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            statement = {
                "digit": """UPDATE runs SET row = replace(row, '"seed": 1', '"seed": 2')""",
                "version": "PRAGMA user_version = 0",
                "columns": "ALTER TABLE runs RENAME COLUMN row TO line",
            }[damage]
            connection.execute(statement)
            if damage == "columns":
                connection.execute("UPDATE runs SET line = NULL")
    else:
        middle = len(content) // 2
        path.write_bytes(
            {
                "cut": content[:middle],
                "zeros": content[:middle] + bytes(2000) + content[middle + 2000 :],
                "text": b"not an index\n" * 500,
                "empty": b"",
            }[damage]
        )
    assert as_is(read_runs(root)) == true
    assert as_is(read_runs(root)) == true
    assert len(Index(root).load()) == (0 if damage == "folder" else len(true[1]))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_that_cannot_be_written_to(made_up: Any, settled: None) -> None:
    root = made_up.comparison(arms=MIXER, seeds=1)
    root.chmod(0o555)
    try:
        assert len(read_runs(root).rows) == 4
        assert not (root / NAME).exists()
    finally:
        root.chmod(0o755)


def test_links_are_followed_but_not_in_circles(made_up: Any, tmp_path: Path) -> None:
    made_up.comparison(arms=MIXER, seeds=1)
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(made_up.folder)
    (made_up.folder / "back").symlink_to(root)
    (root / ".hidden").symlink_to(made_up.folder)
    (root / "nowhere").symlink_to(tmp_path / "missing")
    found = read_runs(root)
    assert len(found.rows) == 4
    assert all(row["folder"].startswith("linked/") for row in found.rows)


def test_a_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the root must be a folder of runs, got .*missing, which is none; try --root"):
        read_runs(tmp_path / "missing")
    with pytest.raises(ValueError, match="must be a folder of this machine, got s3://runs; try a copy of it"):
        read_runs("s3://runs")
    assert read_runs(tmp_path).rows == ()
    assert not list(tmp_path.iterdir())  # an empty folder stays empty: a run may be kept there


def test_runs_are_found_by_what_they_do(made_up: Any, settled: None) -> None:
    root = made_up.comparison(arms=MIXER, seeds=2)
    recipe = made_up.recipe(arms=MIXER, seeds=2)
    mixer = next(arm for arm in expand_arms(recipe) if arm.name == "mixer")
    identity = run_identity(run_recipe(recipe, mixer, 1))
    assert find_runs(root, identity) == [made_up.run("mixer", 1)]
    assert find_runs(root, "0" * 16) == []
    # the same under other names
    other = root / "elsewhere"
    shutil.copytree(made_up.run("mixer", 1), other)
    text = (other / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(text.replace("arm: mixer", "arm: m").replace("made-up", "another"))
    assert sorted(find_runs(root, identity)) == sorted([made_up.run("mixer", 1), other])
    by_identity = runs_by_identity(root)
    assert sum(map(len, by_identity.values())) == len(read_runs(root).rows)
    assert json.dumps(sorted(by_identity)) == json.dumps(sorted({row["identity"] for row in read_runs(root).rows}))
