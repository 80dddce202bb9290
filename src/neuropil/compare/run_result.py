"""One run as far as its folder tells, and the folds of a seed as one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neuropil.compare.arms import run_folder
from neuropil.compare.events import read_whole_events
from neuropil.train.run import read_json, read_metrics, read_probes

State = Literal["done", "running", "missing", "failed", "diverged"]

_STATES: dict[str, State] = {"finished": "done", "diverged": "diverged"}  # by the status in a summary
NUMBERS = ("parameters", "density", "multiply_accumulates", "seconds_per_epoch", "peak_memory_bytes")


@dataclass(frozen=True)
class RunResult:
    """One run, as far as its folder tells; or all folds of a seed together.

    Attributes:
        arm, seed: which run.
        state: ``done``, ``diverged`` (its loss was no longer a number), ``failed`` (it ended with an error),
            ``running`` (begun and not ended, at work or killed), or ``missing`` (not begun, or its summary is
            damaged).
        reason: why it failed or counts as missing, or None.
        summary: of a run that is done or diverged; otherwise empty.
        metrics: one record an epoch.
        environment: machine and versions.
        events: what rewiring did, one record an event and layer (:class:`neuropil.rewire.Event` and its epoch).
        probes: what probes measured, one record each, as in ``probes.jsonl``.
        fold: which part of the training images was held out and scored; None: the test images were scored.
        folds: the runs of which this is the mean; it has no summary, metrics or events of its own then.
    """

    arm: str
    seed: int
    state: State
    reason: str | None
    summary: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...] = ()
    probes: tuple[Mapping[str, Any], ...] = ()
    fold: int | None = None
    folds: "tuple[RunResult, ...]" = ()

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the test set, or on what was held out, after the last epoch, in [0, 1]; None unless done."""
        return self.number("test_accuracy")

    def validation_accuracy(self, epoch: int) -> float | None:
        """Return accuracy on the validation split after an epoch, 0 the first and -1 the last; None: not known."""
        value = self.metrics[epoch].get("validation_accuracy") if self.metrics else None
        return float(value) if is_number(value) else None  # type: ignore[arg-type]

    def number(self, key: str) -> float | None:
        """Return a number of the summary, of folds their mean; None where there is none, or the run is not done."""
        if self.state != "done":
            return None
        values = [run.summary.get(key) for run in self.folds or (self,)]
        known = [float(value) for value in values if value is not None and is_number(value)]
        return math.fsum(known) / len(known) if len(known) == len(values) else None


def join_folds(folds: Sequence[RunResult]) -> RunResult:
    """Return the folds of a seed as one run: done when all of them are, and else running while nothing went wrong."""
    states = [run.state for run in folds]
    state: State = "running"
    if len(set(states)) == 1:
        state = states[0]
    elif "failed" in states:
        state = "failed"
    elif "diverged" in states:
        state = "diverged"
    return RunResult(folds[0].arm, folds[0].seed, state, None, {}, (), {}, folds=tuple(folds))


def read_run(folder: Path, arm: str, seed: int, fold: int | None = None) -> RunResult:
    """Read one run from the folder of its comparison; nothing that lies there raises."""
    return read_run_folder(run_folder(folder, arm, seed, fold), arm, seed, fold)


def read_run_folder(run: Path, arm: str, seed: int, fold: int | None = None) -> RunResult:
    """Read one run from its own folder; nothing that lies there raises."""
    state, reason, summary = read_state(run)
    try:
        metrics = [record for record in read_metrics(run) if isinstance(record, dict)]
    except UnicodeDecodeError:
        metrics = []
    environment = read_json(run / "environment.json") or {}
    probes = tuple(record for record in read_probes(run) if isinstance(record, dict))
    return RunResult(
        arm, seed, state, reason, summary, tuple(metrics), environment, read_whole_events(run), probes, fold
    )


def read_state(run: Path) -> tuple[State, str | None, dict[str, Any]]:
    """Return state, reason and summary of a run, see :class:`RunResult`; nothing that lies in its folder raises."""
    if (run / "summary.json").exists():
        read = read_json(run / "summary.json")
        if read is not None and _is_whole(read):
            return _STATES[read["status"]], None, read
        return "missing", "its summary.json is damaged", {}
    if (run / "failure.json").exists():
        return "failed", str((read_json(run / "failure.json") or {}).get("reason") or "no reason was written down"), {}
    return "running" if (run / "recipe.yaml").exists() else "missing", None, {}


def is_number(value: object) -> bool:
    """Say whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(summary: Mapping[str, Any]) -> bool:
    """Say whether a summary holds what it must, in the types it must have."""
    status, kernels, warnings = (summary.get(key) for key in ("status", "kernels", "warnings"))
    if status not in ("finished", "diverged") or not isinstance(kernels, list) or not isinstance(warnings, list):
        return False
    known = [summary.get(key) for key in NUMBERS]
    if status == "finished":
        accuracy = summary.get("test_accuracy")
        return all(map(is_number, known)) and is_number(accuracy) and 0 <= accuracy <= 1  # type: ignore[operator]
    return all(value is None or is_number(value) for value in known)
