"""One run folder as one row: plain values under flat names."""

import datetime
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from neuropil.compare.identity import run_identity
from neuropil.compare.run_result import is_number, read_state
from neuropil.compare.store.scan import FILES, RECIPE, RunFolder
from neuropil.train.run import read_json, read_metrics

Value = int | float | bool | str | None
Row = dict[str, Value]

# the sections of a run's recipe, in their order
SECTIONS = ("data", "model", "spiking", "rewiring", "training", "intra_only", "probes")
FIRST = ("comparison", "arm", "seed", "fold", "state", "reason", "epochs", "validation_accuracy", "test_accuracy")
LAST = ("warnings", "seconds", "started", "changed", "identity", "folder")
_OF_LAST_EPOCH = ("validation_accuracy", "validation_loss", "train_accuracy", "train_loss")
_NAMES = ("comparison", "arm", "seed")
_FACTS = {*FIRST, *LAST, *_OF_LAST_EPOCH} - {*_NAMES, "test_accuracy"}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, ten times as fast


class RowError(ValueError):
    """A run folder whose recipe cannot be read: it makes no row."""


def read_row(root: Path, run: RunFolder) -> tuple[Row, list[str]]:
    """Read one run; return its row, and the names of files that are there and cannot be read.

    Names and seeds are columns of their own, and everything else that the recipe says has a name with dots, as
    ``training.learning_rate``. Of a list of sections (as ``model.layers``) each setting is one value where all agree,
    else a list; lists are written as JSON. The last epoch's accuracies and losses, and what the summary says, come as
    they are called there, with ``summary.`` before them where a setting goes by that name; of the environment, all
    with ``environment.`` before it.

    Raises:
        FileNotFoundError: it is there no more.
        RowError: its recipe cannot be read.
    """
    folder = root / run.folder
    recipe = _read_recipe(folder / RECIPE)
    unread = [name for name in FILES if not os.access(folder / name, os.R_OK) and (folder / name).exists()]
    state, reason, summary = read_state(folder)
    if state == "missing" and "arm" not in recipe and (told := read_json(folder / "summary.json")) is not None:
        # a run of its own: its maker decides what the summary says
        state, reason, summary = ("diverged" if told.get("status") == "diverged" else "done"), None, told
    had_lines = _has_lines(folder / "metrics.jsonl")  # looked at first: lines may be added meanwhile
    metrics = [record for record in read_metrics(folder) if isinstance(record, dict)]
    if not metrics and had_lines:
        unread.append("metrics.jsonl")
    was_there = (folder / "environment.json").exists()
    environment = read_json(folder / "environment.json")
    if environment is None and was_there:
        unread.append("environment.json")
    last = metrics[-1] if metrics else {}
    seconds = [record["seconds"] for record in metrics if is_number(record.get("seconds"))]
    row: Row = {
        **dict.fromkeys(_NAMES),
        "state": "unfinished" if state in ("missing", "running") else state,
        "reason": reason,
        "epochs": len(metrics),
    }
    row |= {f"recipe.{key}" if key in _FACTS else key: value for key, value in _flat(recipe)}
    row["fold"] = row.pop("data.fold", None)
    row |= {key: _plain(last[key]) for key in _OF_LAST_EPOCH if key in last}
    for name, told in summary.items():
        if name not in ("status", "epochs", "warnings"):
            prefix = "summary." if name in _FACTS or name in SECTIONS or name in recipe else ""
            row |= {f"{prefix}{key}": value for key, value in _flat({name: told})}
    row |= {f"environment.{key}": value for key, value in _flat(environment or {})}
    warnings = summary.get("warnings")
    row |= {
        "warnings": len(warnings) if isinstance(warnings, list) else None,
        "seconds": sum(seconds) if seconds else None,
        "started": _time(run.begun),
        "changed": _time(run.written),
        "identity": run_identity(recipe),
        "folder": run.folder,
    }
    return row, [*dict.fromkeys(unread)]


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        recipe = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RowError(f"its {RECIPE} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RowError(f"its {RECIPE} is damaged") from error
    if not isinstance(recipe, dict):
        raise RowError(f"its {RECIPE} is damaged")
    return {str(key): value for key, value in recipe.items()}


def _has_lines(path: Path) -> bool:
    """Say whether a file holds a whole line, be it readable or not; the first line of a run may be half written."""
    try:
        return b"\n" in path.read_bytes()
    except OSError:
        return False


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
            settings = dict.fromkeys(key for part in value for key in part)
            parts = {key: [part.get(key) for part in value] for key in settings}
            value = {key: each[0] if all(e == each[0] for e in each) else each for key, each in parts.items()}
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, _plain(value)


def _plain(value: Any) -> Value:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | Mapping):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return str(value)


def _time(nanoseconds: int) -> str:
    return datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
