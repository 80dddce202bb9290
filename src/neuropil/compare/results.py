"""What a comparison's run folders say, arm by arm."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neuropil.compare.arms import Arm, expand_arms
from neuropil.compare.events import Rewired, read_whole_events, summarize_rewiring
from neuropil.compare.labels import TWIN_WORDS, describe_arm
from neuropil.compare.recipe import Recipe, RecipeError, load_recipe
from neuropil.compare.rewiring_words import compact_rewiring
from neuropil.compare.statistics import Estimate, Spread, estimate, paired_difference
from neuropil.train.run import read_json, read_metrics

State = Literal["done", "running", "missing", "failed", "diverged"]

_STATES: dict[str, State] = {"finished": "done", "diverged": "diverged"}  # by the status in a summary
_NUMBERS = ("parameters", "density", "multiply_accumulates", "seconds_per_epoch", "peak_memory_bytes")


@dataclass(frozen=True)
class RunResult:
    """One run, as far as its folder tells.

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
    """

    arm: str
    seed: int
    state: State
    reason: str | None
    summary: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the test set after the last epoch, in [0, 1]; None unless the run is done."""
        return float(self.summary["test_accuracy"]) if self.state == "done" else None


@dataclass(frozen=True)
class Difference:
    """An arm against one of its twins, over the seeds that both have done.

    Attributes:
        twin: name of the twin's arm.
        accuracy: accuracy of the arm less that of the twin, paired by seed; None without common seeds.
        time: seconds an epoch over those of the twin, paired by seed.
        work: multiply-accumulates over those of the twin.
    """

    twin: str
    accuracy: Estimate | None
    time: Spread | None
    work: float | None


@dataclass(frozen=True)
class ArmResult:
    """One arm over all its seeds.

    Attributes:
        arm: name, widths, wirings, twins.
        label: what it is, in plain words.
        runs: by seed, in the recipe's order.
        accuracy: on the test set after the last epoch, over the seeds that are done.
        parameters, density, multiply_accumulates: mean over seeds; a wiring that is drawn differs a little.
        seconds_per_epoch: of the medians over each run's epochs.
        peak_memory_bytes: of the peaks.
        kernels: of each hidden layer; empty before a run has ended.
        differences: by the kind of the twin (keys of :data:`neuropil.models.TWINS`, and ``static``).
        rewired: what rewiring came to, mean over seeds; None where the wiring stays, and before a run is done.
    """

    arm: Arm
    label: str
    runs: Mapping[int, RunResult]
    accuracy: Estimate | None
    parameters: float | None
    density: float | None
    multiply_accumulates: float | None
    seconds_per_epoch: Spread | None
    peak_memory_bytes: Spread | None
    kernels: tuple[str, ...]
    differences: Mapping[str, Difference]
    rewired: Rewired | None

    def count(self, *states: State) -> int:
        """Return how many runs are in one of these states."""
        return sum(run.state in states for run in self.runs.values())


@dataclass(frozen=True)
class Results:
    """A whole comparison; arms that serve as controls first.

    Attributes:
        recipe: the comparison's.
        arms: by name, those that are somebody's twin first.
    """

    recipe: Recipe
    arms: Mapping[str, ArmResult]

    @property
    def runs(self) -> list[RunResult]:
        """All runs, arm by arm."""
        return [run for arm in self.arms.values() for run in arm.runs.values()]

    @property
    def controls(self) -> set[str]:
        """Names of the arms that others are compared with, but for static ones that the recipe itself asks for."""
        return _serving([arm.arm for arm in self.arms.values()])

    @property
    def sparse_arms(self) -> list[ArmResult]:
        """The arms that are compared with twins of their own."""
        return [arm for arm in self.arms.values() if arm.arm.twins]

    @property
    def rewired_arms(self) -> list[ArmResult]:
        """The arms that are rewired while they learn."""
        return [arm for arm in self.arms.values() if arm.arm.rewiring is not None]

    @property
    def twin_words(self) -> dict[str, str]:
        """What arms are compared with, in words, by the kind of twin: ``static`` only where an arm has such a twin."""
        has_static = any("static" in arm.arm.twins for arm in self.arms.values())
        return {kind: words for kind, words in TWIN_WORDS.items() if has_static or kind != "static"}

    def environments(self) -> dict[str, list[Any]]:
        """Return every value that the runs' environments hold, by name; more than one: machines or versions differ."""
        values: dict[str, list[Any]] = {}
        for run in self.runs:
            for key, value in run.environment.items():
                if value not in values.setdefault(key, []):
                    values[key].append(value)
        return values


def load_results(folder: str | os.PathLike[str]) -> Results:
    """Read a comparison, finished or not, from its folder.

    A run that left no readable summary counts as missing; nothing that lies in a run folder raises.

    Args:
        folder: what :func:`neuropil.compare.compare` has written.

    Raises:
        ValueError: the folder is not that of a comparison, or its ``comparison.yaml`` is damaged.
    """
    folder = Path(folder)
    path = folder / "comparison.yaml"
    if not path.is_file():
        raise ValueError(
            f"load_results: {folder} must be the folder of a comparison, got one without comparison.yaml; "
            "try the folder that neuropil compare has written"
        )
    try:
        recipe = load_recipe(path)
        arms = expand_arms(recipe)
    except (RecipeError, OSError) as error:
        raise ValueError(f"load_results: {path} must hold the recipe of a comparison, got: {error}") from error
    runs = {arm.name: {seed: _read_run(folder, arm.name, seed) for seed in recipe.seeds} for arm in arms}
    serving = _serving(arms)
    arms.sort(key=lambda arm: arm.name not in serving)
    return Results(recipe, {arm.name: _summarize(arm, runs) for arm in arms})


COLUMNS = (
    "comparison", "arm", "seed", "status", "test_accuracy", "test_loss", "epochs", "parameters", "density",
    "multiply_accumulates", "seconds_per_epoch", "peak_memory_bytes", "kernels", "rewiring", "explored", "modularity",
    "neurons_without_input", "neurons_without_output", "negative_weights",
    "data", "hidden", "patches", "threads", "torch", "processor", "commit", "date",
)  # fmt: skip


def write_csv(results: Results, path: str | os.PathLike[str]) -> Path:
    """Write one row a run, in the order of arms and seeds; what is not known stays empty.

    Columns are those of ``COLUMNS``: accuracy and density in [0, 1], ``status`` a state of
    :class:`RunResult`, one kernel and one width per hidden layer, parted by spaces;
    ``rewiring`` as "set per_epoch=2", and at the end of training the share of possible connections that have been
    live, and the modularity of the wiring.

    Args:
        results: what :func:`load_results` gives.
        path: of the file; one that exists is replaced.
    """
    path = Path(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore", restval="")
        writer.writeheader()
        for arm in results.arms.values():
            for run in arm.runs.values():
                writer.writerow(_row(results.recipe, arm.arm, run))
    return path


def _row(recipe: Recipe, arm: Arm, run: RunResult) -> dict[str, Any]:
    rewired = summarize_rewiring([run.summary])
    row: dict[str, Any] = {"epochs": len(run.metrics), **run.environment, **run.summary}
    row |= {
        "comparison": recipe.name,
        "arm": arm.name,
        "seed": run.seed,
        "status": run.state,
        "kernels": " ".join(run.summary.get("kernels", ())),
        "rewiring": compact_rewiring(arm.rewiring),
        "explored": None if rewired is None else rewired.explored,
        "modularity": None if rewired is None else rewired.modularity,
        "data": recipe.data.name,
        "hidden": " ".join(str(width) for width in arm.hidden),
        "patches": recipe.model.patches,
    }
    return {key: "" if value is None else value for key, value in row.items()}


def _read_run(folder: Path, arm: str, seed: int) -> RunResult:
    run = folder / arm / f"seed-{seed}"
    state: State = "missing"
    reason: str | None = None
    summary: dict[str, Any] = {}
    if (run / "summary.json").exists():
        read = read_json(run / "summary.json")
        if read is not None and _is_whole(read):
            state, summary = _STATES[read["status"]], read
        else:
            reason = "its summary.json is damaged"
    elif (run / "failure.json").exists():
        state = "failed"
        reason = str((read_json(run / "failure.json") or {}).get("reason") or "no reason was written down")
    elif (run / "recipe.yaml").exists():
        state = "running"
    try:
        metrics = [record for record in read_metrics(run) if isinstance(record, dict)]
    except UnicodeDecodeError:
        metrics = []
    environment = read_json(run / "environment.json") or {}
    return RunResult(arm, seed, state, reason, summary, tuple(metrics), environment, read_whole_events(run))


def _serving(arms: Sequence[Arm]) -> set[str]:
    """Return the names of the arms that serve as controls.

    One that is wired like a rewired arm, and stays so, is a wiring to be compared where the recipe asks for it.
    """
    added = {arm.name for arm in arms if arm.is_control}
    return added | {twin for arm in arms for kind, twin in arm.twins.items() if kind != "static"}


def _is_whole(summary: Mapping[str, Any]) -> bool:
    """Say whether a summary holds what it must, in the types it must have."""
    status, kernels, warnings = (summary.get(key) for key in ("status", "kernels", "warnings"))
    if status not in ("finished", "diverged") or not isinstance(kernels, list) or not isinstance(warnings, list):
        return False
    known = [summary.get(key) for key in _NUMBERS]
    if status == "finished":
        accuracy = summary.get("test_accuracy")
        return all(map(_is_number, known)) and _is_number(accuracy) and 0 <= accuracy <= 1  # type: ignore[operator]
    return all(value is None or _is_number(value) for value in known)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _summarize(arm: Arm, runs: Mapping[str, Mapping[int, RunResult]]) -> ArmResult:
    ended = [run for run in runs[arm.name].values() if run.summary]
    own = {key: _by_seed(runs[arm.name], key) for key in ("test_accuracy", *_NUMBERS)}
    accuracies = list(own["test_accuracy"].values())
    return ArmResult(
        arm=arm,
        label=describe_arm(arm),
        runs=runs[arm.name],
        accuracy=estimate(accuracies) if accuracies else None,
        parameters=_mean(ended, "parameters"),
        density=_mean(ended, "density"),
        multiply_accumulates=_mean(ended, "multiply_accumulates"),
        seconds_per_epoch=Spread.of(list(own["seconds_per_epoch"].values())),
        peak_memory_bytes=Spread.of(list(own["peak_memory_bytes"].values())),
        kernels=tuple(str(kernel) for kernel in ended[0].summary["kernels"]) if ended else (),
        differences={kind: _compare(own, twin, runs[twin]) for kind, twin in arm.twins.items()},
        rewired=summarize_rewiring([run.summary for run in ended if run.state == "done"]),
    )


def _compare(own: Mapping[str, Mapping[int, float]], twin: str, runs: Mapping[int, RunResult]) -> Difference:
    def ratios(key: str) -> list[float]:
        theirs = _by_seed(runs, key)
        return [value / theirs[seed] for seed, value in own[key].items() if theirs.get(seed)]

    return Difference(
        twin,
        accuracy=paired_difference(own["test_accuracy"], _by_seed(runs, "test_accuracy")),
        time=Spread.of(ratios("seconds_per_epoch")),
        work=_average(ratios("multiply_accumulates")),
    )


def _by_seed(runs: Mapping[int, RunResult], key: str) -> dict[int, float]:
    """Return a number of each run that is done; those that diverged tell nothing of accuracy or speed."""
    return {seed: run.summary[key] for seed, run in runs.items() if run.state == "done"}


def _mean(runs: list[RunResult], key: str) -> float | None:
    return _average([run.summary[key] for run in runs if run.summary.get(key) is not None])


def _average(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
