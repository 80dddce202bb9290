"""What a comparison's run folders say, arm by arm."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from neuropil.compare.activity import Activity, complete_summary
from neuropil.compare.arms import Arm, expand_arms, run_folds, start_and_training
from neuropil.compare.choices import with_reference
from neuropil.compare.equal_seconds import EqualSeconds, at_equal_seconds
from neuropil.compare.events import Rewired, summarize_rewiring
from neuropil.compare.labels import TWIN_WORDS, describe_arm, describe_start
from neuropil.compare.recipe import Recipe, RecipeError, load_recipe
from neuropil.compare.recovery import epochs_to_recover
from neuropil.compare.rewiring_words import compact_rewiring, is_pruning
from neuropil.compare.rules import rule_name
from neuropil.compare.run_result import NUMBERS, RunResult, State, join_folds, read_run
from neuropil.compare.significance import Significance, judge
from neuropil.compare.statistics import Estimate, Interval, Spread, estimate, paired_difference, population_deviation
from neuropil.train import local_copy
from neuropil.train.whole_files import whole_file

_UNKNOWN = Activity.of(())


@dataclass(frozen=True)
class Difference:
    """An arm against one of its twins, or the reference, over the seeds (or folds) that both have done.

    Attributes:
        twin: name of the twin's arm.
        accuracy: accuracy of the arm less that of the twin, paired by seed; None without common seeds.
        time: seconds an epoch over those of the twin, paired by seed.
        work: multiply-accumulates over those of the twin.
        operations: synaptic operations over those of the twin; None where they are not known.
        test: what the paired t test says, corrected for all differences of this kind; None where there is none.
    """

    twin: str
    accuracy: Estimate | None
    time: Spread | None
    work: float | None
    operations: float | None = None
    test: Significance | None = None


@dataclass(frozen=True)
class ArmResult:
    """One arm over all its seeds; over its folds where there is one seed, see :attr:`Results.unit`.

    Attributes:
        arm: name, widths, wirings, twins.
        label: what it is, in plain words.
        runs: by seed, in the recipe's order; of a seed with folds, all of them together.
        accuracy: on the test set, or on the held-out folds, after the last epoch, over the seeds that are done.
        parameters, density, multiply_accumulates: mean over seeds; a wiring that is drawn differs a little.
        seconds_per_epoch: of the medians over each run's epochs.
        peak_memory_bytes: of the peaks.
        kernels: of each hidden layer; empty before a run has ended.
        differences: by the kind of the twin (keys of :data:`neuropil.models.TWINS`, and ``static``); ``reference``: to
            the recipe's reference, unless that is one of its twins.
        rewired: what rewiring came to, mean over seeds; None where the wiring stays, and before a run is done.
        intra_only_drop: accuracy less that of the same trained network with all connections between groups cut; None
            where the recipe does not ask for it, the wiring has no groups, or no run is done.
        activity: firing rates, synaptic operations and energy, mean over runs, as far as they are known.
        equal_seconds: where it stands when the seconds of the recipe's reference are over; None without one, of
            controls, and in cross-validation, which has no validation split.
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
    intra_only_drop: Estimate | None = None
    activity: Activity = _UNKNOWN
    equal_seconds: EqualSeconds | None = None

    @property
    def single_runs(self) -> list[RunResult]:
        """All runs, each fold by itself."""
        return [single for run in self.runs.values() for single in run.folds or (run,)]

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
        """All runs, arm by arm, each fold by itself."""
        return [run for arm in self.arms.values() for run in arm.single_runs]

    @property
    def unit(self) -> Literal["seed", "fold"]:
        """What the statistics count: seeds, each the mean over its folds if there are any; folds if there is one seed.

        Wherever statistics are "by seed" or "over seeds", folds take that place then.
        """
        return "fold" if self.recipe.folds is not None and len(self.recipe.seeds) == 1 else "seed"

    @property
    def n_units(self) -> int:
        """How many seeds, or folds, the recipe asks for."""
        return (self.recipe.folds or 0) if self.unit == "fold" else len(self.recipe.seeds)

    @property
    def controls(self) -> set[str]:
        """Names of the arms that others are compared with, but for static ones that the recipe itself asks for."""
        return _serving([arm.arm for arm in self.arms.values()])

    @property
    def sparse_arms(self) -> list[ArmResult]:
        """The arms that are compared with twins of their own."""
        return [arm for arm in self.arms.values() if arm.arm.twins]

    @property
    def compared_arms(self) -> list[ArmResult]:
        """The arms that are compared with twins of their own or with the recipe's reference."""
        return [arm for arm in self.arms.values() if arm.differences]

    def dense_twin(self, arm: Arm) -> "ArmResult | None":
        """Return the dense arm of an arm's widths; None where there is none, or where it is the arm itself."""
        if arm.is_dense:
            return None
        same = (other for other in self.arms.values() if other.arm.is_dense and other.arm.hidden == arm.hidden)
        # its own one learns as it does
        return self.arms.get(arm.twins.get("dense-same-width", "")) or next(same, None)

    @property
    def rewired_arms(self) -> list[ArmResult]:
        """The arms that are rewired while they learn."""
        return [arm for arm in self.arms.values() if arm.arm.rewiring is not None]

    @property
    def twin_words(self) -> dict[str, str]:
        """What arms are compared with, in words, by the kind of twin: those that some arm has."""
        kinds = {kind for arm in self.arms.values() for kind in arm.arm.twins}
        return {kind: words for kind, words in TWIN_WORDS.items() if kind in kinds}

    @property
    def difference_words(self) -> dict[str, str]:
        """What arms are compared with, in words, by the kind of twin; the recipe's reference by its name."""
        compared = any("reference" in arm.differences for arm in self.arms.values())
        return self.twin_words | ({"reference": str(self.recipe.reference)} if compared else {})

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
        folder: what :func:`neuropil.compare.compare` has written, or its URL.

    Raises:
        ValueError: the folder is not that of a comparison, or cannot be reached, or its ``comparison.yaml`` is damaged.
    """
    named, folder = os.fspath(folder), local_copy(folder)
    path = folder / "comparison.yaml"
    if not path.is_file():
        raise ValueError(
            f"load_results: {named} must be the folder of a comparison, got one without comparison.yaml; "
            "try the folder that neuropil compare has written"
        )
    try:
        recipe = load_recipe(path)
        arms = expand_arms(recipe)
    except (RecipeError, OSError) as error:
        raise ValueError(f"load_results: {path} must hold the recipe of a comparison, got: {error}") from error
    runs = {arm.name: _read_runs(folder, recipe, arm) for arm in arms}
    serving = _serving(arms)
    arms.sort(key=lambda arm: arm.name not in serving)
    compared = [arm.name for arm in arms if not arm.is_control]
    reference = with_reference(recipe.reference, recipe.arms, runs, compared)
    return Results(recipe, _corrected(recipe, {arm.name: _summarize(recipe, arm, runs, reference) for arm in arms}))


COLUMNS = (
    "comparison", "arm", "seed", "fold", "n_folds", "status", "test_accuracy", "test_loss",
    "validation_accuracy", "first_validation_accuracy", "folds_mean", "folds_std",
    "intra_only_accuracy", "intra_only_drop", "epochs", "parameters", "density",
    "multiply_accumulates", "seconds_per_epoch", "peak_memory_bytes", "kernels", "rewiring", "explored", "modularity",
    "epochs_to_recover", "equal_seconds_epochs", "equal_seconds_accuracy",
    "neurons_without_input", "neurons_without_output", "negative_weights",
    "hidden_firing_rate", "dead", "saturated", "synaptic_operations", "synaptic_multiply_accumulates", "energy_joules",
    "data", "hidden", "patches", "convolutions", "batch_norm", "activation", "bias", "start",
    "rule", "optimizer", "learning_rate", "rate_profile", "weight_decay", "precision", "threads", "torch",
    "processor", "gpu", "commit", "date",
)  # fmt: skip


def write_csv(results: Results, path: str | os.PathLike[str]) -> Path:
    """Write one row a run, in the order of arms and seeds; what is not known stays empty.

    Columns are those of ``COLUMNS``: accuracy and density in [0, 1], ``status`` a state of
    :class:`RunResult`, one kernel and one width per hidden layer, parted by spaces;
    ``validation_accuracy`` after the last epoch and ``first_validation_accuracy`` after the first;
    ``rewiring`` as "set per_epoch=2", and at the end of training the share of possible connections that have been
    live, and the modularity of the wiring; of those pruned,
    :func:`neuropil.compare.recovery.epochs_to_recover`. ``dead`` and ``saturated`` are shares of the hidden neurons
    (:class:`neuropil.measure.LayerActivity`); synaptic operations and energy are those of one image
    (:class:`neuropil.measure.SynapticWork`). ``equal_seconds_epochs`` and ``equal_seconds_accuracy`` are epochs and
    validation accuracy in the seconds that the run of the recipe's reference with the same seed has trained for
    (:class:`neuropil.compare.equal_seconds.Stop`).

    In cross-validation, a row is a fold, and what is called test is the fold that was held out. ``folds_mean`` and
    ``folds_std`` then say, on each row of a seed whose folds are all done, the mean accuracy over its folds and their
    *population* standard deviation.

    Args:
        results: what :func:`load_results` gives.
        path: of the file; one that exists is replaced.
    """
    path = Path(path)
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore", restval="")
        writer.writeheader()
        for arm in results.arms.values():
            by_seed: dict[int, list[RunResult]] = {}
            for run in arm.single_runs:
                by_seed.setdefault(run.seed, []).append(run)
            for runs in by_seed.values():
                spread = _spread(runs)
                for run in runs:
                    writer.writerow(_row(results.recipe, arm, run, spread))
    return path


def _spread(folds: Sequence[RunResult]) -> dict[str, float]:
    """Return mean and population deviation over the folds of a seed; nothing while one of them has no accuracy."""
    accuracies = [run.accuracy for run in folds if run.accuracy is not None and run.fold is not None]
    if len(accuracies) < len(folds):
        return {}
    return {"folds_mean": math.fsum(accuracies) / len(folds), "folds_std": population_deviation(accuracies)}


def _row(recipe: Recipe, found: ArmResult, run: RunResult, spread: Mapping[str, float]) -> dict[str, Any]:
    arm = found.arm
    stop = found.equal_seconds and found.equal_seconds.stops.get(run.seed)
    rewired = summarize_rewiring([run.summary])
    start, training = start_and_training(recipe, arm)
    row: dict[str, Any] = {"epochs": len(run.metrics), **run.environment, **run.summary}
    row |= {
        "comparison": recipe.name,
        "arm": arm.name,
        "seed": run.seed,
        "fold": run.fold,
        "n_folds": recipe.folds,
        **spread,
        "status": run.state,
        "kernels": " ".join(run.summary.get("kernels", ())),
        "dead": run.summary.get("dead_neurons"),
        "saturated": run.summary.get("saturated_neurons"),
        "rewiring": compact_rewiring(arm.rewiring),
        "explored": None if rewired is None else rewired.explored,
        "modularity": None if rewired is None else rewired.modularity,
        "epochs_to_recover": epochs_to_recover(run) if is_pruning(arm.rewiring) else None,
        "equal_seconds_epochs": stop and stop.epochs,
        "equal_seconds_accuracy": stop and stop.accuracy,
        "data": recipe.data.name,
        "hidden": " ".join(str(width) for width in arm.hidden),
        "patches": recipe.model.patches,
        "convolutions": " ".join(map(str, recipe.model.convolutions or ())),
        "batch_norm": recipe.model.batch_norm or None,
        "activation": recipe.model.activation,
        "bias": recipe.model.bias,
        "rule": rule_name(training.rule),
        "start": describe_start(start),
        **training.model_dump(include={"optimizer", "learning_rate", "rate_profile", "weight_decay", "precision"}),
        "validation_accuracy": run.validation_accuracy(-1),
        "first_validation_accuracy": run.validation_accuracy(0),
    }
    return {key: "" if value is None else value for key, value in row.items()}


def _read_runs(folder: Path, recipe: Recipe, arm: Arm) -> dict[int, RunResult]:
    """Return the runs of an arm by seed, folds joined; by fold where there is one seed."""
    runs = {
        seed: [complete_summary(read_run(folder, arm.name, seed, fold), arm.hidden) for fold in run_folds(recipe)]
        for seed in recipe.seeds
    }
    if recipe.folds is None:
        return {seed: run for seed, (run,) in runs.items()}
    if len(runs) == 1:
        return dict(enumerate(runs[recipe.seeds[0]]))
    return {seed: join_folds(folds) for seed, folds in runs.items()}


def _serving(arms: Sequence[Arm]) -> set[str]:
    """Return the names of the arms that serve as controls.

    One that is wired like a rewired arm, and stays so, is a wiring to be compared where the recipe asks for it.
    """
    added = {arm.name for arm in arms if arm.is_control}
    return added | {twin for arm in arms for kind, twin in arm.twins.items() if kind != "static"}


def _corrected(recipe: Recipe, arms: Mapping[str, ArmResult]) -> dict[str, ArmResult]:
    """Return arms whose differences are tested, those of one kind together."""
    tests = {
        kind: judge(
            {name: arm.differences[kind].accuracy for name, arm in arms.items() if kind in arm.differences},
            recipe.correction,
        )
        for kind in {kind for arm in arms.values() for kind in arm.differences}
    }
    stops = {name: arm.equal_seconds for name, arm in arms.items()}
    at_stops = judge({name: stop.difference for name, stop in stops.items() if stop}, recipe.correction)
    return {
        name: replace(
            arm,
            differences={kind: replace(one, test=tests[kind].get(name)) for kind, one in arm.differences.items()},
            equal_seconds=arm.equal_seconds and replace(arm.equal_seconds, test=at_stops.get(name)),
        )
        for name, arm in arms.items()
    }


def _summarize(
    recipe: Recipe, arm: Arm, runs: Mapping[str, Mapping[int, RunResult]], references: Mapping[str, str]
) -> ArmResult:
    ended = [single for run in runs[arm.name].values() for single in run.folds or (run,) if single.summary]
    own = {
        key: _by_seed(runs[arm.name], key)
        for key in ("test_accuracy", "intra_only_drop", "synaptic_operations", *NUMBERS)
    }
    accuracies, drops = list(own["test_accuracy"].values()), list(own["intra_only_drop"].values())
    method = recipe.interval
    reference = references.get(arm.name, arm.name if arm.name in references.values() else None)
    against = dict(arm.twins)
    if reference not in (None, arm.name, *arm.twins.values()):  # what is compared already counts once
        against["reference"] = str(reference)
    return ArmResult(
        arm=arm,
        label=describe_arm(arm),
        runs=runs[arm.name],
        accuracy=estimate(accuracies, method=method) if accuracies else None,
        parameters=_mean(ended, "parameters"),
        density=_mean(ended, "density"),
        multiply_accumulates=_mean(ended, "multiply_accumulates"),
        seconds_per_epoch=Spread.of(list(own["seconds_per_epoch"].values())),
        peak_memory_bytes=Spread.of(list(own["peak_memory_bytes"].values())),
        kernels=tuple(str(kernel) for kernel in ended[0].summary["kernels"]) if ended else (),
        differences={kind: _compare(own, twin, runs[twin], method) for kind, twin in against.items()},
        rewired=summarize_rewiring([run.summary for run in ended if run.state == "done"]),
        intra_only_drop=estimate(drops, method=method) if drops else None,
        activity=Activity.of([single for run in runs[arm.name].values() for single in run.folds or (run,)]),
        equal_seconds=(
            at_equal_seconds(runs[arm.name], reference, runs[reference], interval=method)
            if reference is not None and recipe.folds is None
            else None
        ),
    )


def _compare(
    own: Mapping[str, Mapping[int, float]], twin: str, runs: Mapping[int, RunResult], method: Interval
) -> Difference:
    def ratios(key: str) -> list[float]:
        theirs = _by_seed(runs, key)
        return [value / theirs[seed] for seed, value in own[key].items() if theirs.get(seed)]

    return Difference(
        twin,
        accuracy=paired_difference(own["test_accuracy"], _by_seed(runs, "test_accuracy"), method=method),
        time=Spread.of(ratios("seconds_per_epoch")),
        work=_average(ratios("multiply_accumulates")),
        operations=_average(ratios("synaptic_operations")),
    )


def _by_seed(runs: Mapping[int, RunResult], key: str) -> dict[int, float]:
    """Return a number of each run that is done; those that diverged tell nothing of accuracy or speed."""
    return {seed: value for seed, run in runs.items() if (value := run.number(key)) is not None}


def _mean(runs: list[RunResult], key: str) -> float | None:
    return _average([run.summary[key] for run in runs if run.summary.get(key) is not None])


def _average(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
