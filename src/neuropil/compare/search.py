"""Settings tuned for each arm on the validation split, with one budget for all, and then compared on the test set."""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from neuropil import data
from neuropil.compare.arms import Arm, expand_arms, run_recipe
from neuropil.compare.comparison import compare
from neuropil.compare.devices import check_device
from neuropil.compare.execute import execute
from neuropil.compare.grid_axes import arm_setting_types
from neuropil.compare.identity import run_identity
from neuropil.compare.parallel import Task
from neuropil.compare.recipe import ARM_TRAINING, Recipe, RecipeError, parse_recipe
from neuropil.compare.recipe_keys import setting_types
from neuropil.compare.registry import nearest, plain_start, split_arm
from neuropil.compare.search_report import SearchedArm, summarize_arm, write_search_report
from neuropil.compare.search_space import Choice, corner_values, plain_space, read_space
from neuropil.compare.search_study import Proposal, Pruner, Study, locked
from neuropil.compare.sweeps import expand_sweeps, with_settings
from neuropil.train.run import read_metrics
from neuropil.train.whole_files import write_whole


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Attributes:
        arms: what was tried for each arm, and chosen, controls last.
        recipe: of the arms with what was chosen, to be compared; it lies in ``tuned.yaml``.
        tasks: the runs of that comparison, which lies in the folder ``tuned``.
    """

    arms: list[SearchedArm]
    recipe: Recipe
    tasks: list[Task]


@dataclass(frozen=True)
class _Subject:
    """An arm to be tuned: what a recipe says of it, and what may be tuned of it."""

    name: str
    description: dict[str, Any]
    space: dict[str, Choice]
    control: Arm | None  # what is added to the recipe, and has start and training alone

    def with_values(self, recipe: Recipe, values: Mapping[str, Any]) -> Arm:
        """Return the arm with some values.

        Raises:
            ValueError: they make no sense.
        """
        description = with_settings(self.description, values)
        recipe.training.replaced(description.get("training", {}))
        if self.control is None:
            parts = split_arm(description, len(recipe.model.hidden))
            return Arm(self.name, tuple(recipe.model.hidden), **parts._asdict())
        start = plain_start(description["start"]) if "start" in description else self.control.start
        return replace(self.control, start=start, training=description.get("training", {}))


def search(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    space: Mapping[str, Any],
    *,
    trials: int = 20,
    arms: Sequence[str] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    pruner: Pruner = "median",
    jobs: int | None = None,
    threads: int = 1,
    data_root: str | os.PathLike[str] | None = None,
    show_download: bool = False,
    device: str = "cpu",
    on_trial: Callable[[str, int, int], None] | None = None,
    on_progress: Callable[[Sequence[Task]], None] | None = None,
) -> SearchResult:
    """Tune settings of each arm on the validation split, then compare the arms at their best on the test set.

    Every arm has the same number of trials of the same number of epochs, first the arms of the recipe, then the
    controls of what they were tuned to. A trial is a run with a seed that is none of the recipe's, without a look at
    the test set; of those that had all their epochs, the one counts whose validation accuracy is highest after the
    last one. Where no setting of the space is one of an arm's, it has no trials.

    The study, the trials (``trials/ARM/IDENTITY``) and what was chosen (``tuned.yaml``) lie in the folder. Processes
    that are given the same folder share the trials; whatever is killed goes on when the same search is begun again.

    Args:
        recipe: what to compare, without folds, grid and tuned arms.
        folder: where the search is kept.
        space: what to choose from, by setting, as :func:`neuropil.compare.search_space.read_space` takes it. Settings
            are those that an arm may have: ``training.learning_rate``, ``start.alpha``, ``p_inter``,
            ``rewiring.fraction``.
        trials: of each arm.
        arms: those of the recipe that are tuned and compared; default: all.
        epochs: of each trial; default: those of the recipe.
        seed: of what is proposed.
        pruner: how trials that fall behind are stopped, see :class:`neuropil.compare.search_study.Study`.
        jobs: runs at a time in the comparison at the end; trials are done one after the other.
        threads: of each trial and run.
        data_root: where data is looked for, see :func:`neuropil.data.load`.
        show_download: show a progress bar where data must be downloaded.
        device: where everything computes.
        on_trial: called after each trial with its arm, the trials that have ended of all arms that are being tuned, and
            how many there are to be.
        on_progress: as for :func:`neuropil.compare.compare`, of the comparison at the end.

    Raises:
        ValueError: a setting, a value or a name is wrong, the folder belongs to another search, Optuna is missing, or
            no trial of an arm ended well.
    """
    folder = Path(folder)
    choices = read_space(space)
    recipe = _searchable(recipe, arms)
    check_device(device, recipe.training.precision)
    epochs = recipe.training.epochs if epochs is None else epochs
    for name, number in (("trials", trials), ("epochs", epochs)):
        if number < 1:
            raise ValueError(f"search: {name} must be at least 1, got {number}")
    subjects = [_subject(recipe, name, description, choices) for name, description in recipe.arms.items()]
    _refuse_unknown(recipe, subjects, choices)
    for subject in subjects:
        _try_corners(recipe, subject)
    plan = {"recipe": recipe.model_dump(), "space": plain_space(choices), "trials": trials, "epochs": epochs,
            "seed": seed, "pruner": pruner}  # fmt: skip
    data.load(recipe.data.name, data_root, progress=show_download)  # fetched and checked once, before any trial
    _refuse_foreign(folder, plan)
    study = Study(folder, trials=trials, epochs=epochs, seed=seed, pruner=pruner)
    _write_plan(folder, plan)
    trial_recipe = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"epochs": epochs}), "probes": [], "intra_only": False}
    )
    do_trial = _Trials(folder, trial_recipe, study, data_root, device)
    found: list[SearchedArm] = []
    with study, _threads(threads):
        found += do_trial.tune(subjects, trials, on_trial)
        chosen = {arm.name: with_settings(subject.description, arm.values)
                  for subject, arm in zip(subjects, found, strict=True)}  # fmt: skip
        tuned = _replaced(recipe, arms=chosen)
        controls = [_control(tuned, arm, choices) for arm in expand_arms(tuned, tuned=[*choices]) if arm.is_control]
        found += (of_controls := do_trial.tune(controls, trials, on_trial))
    own = {arm.name: with_settings(_start_of(subject.description, arm.values), arm.values)
           for subject, arm in zip(controls, of_controls, strict=True) if arm.values}  # fmt: skip
    told = f"values chosen by neuropil search, {trials} trials of each arm"
    tuned = _replaced(
        tuned,
        name=f"{recipe.name}-tuned",
        controls=own,
        source="; ".join([*([recipe.source] if recipe.source else []), told]),
    )
    with locked(folder / "tuned.lock"):  # processes that have shared the trials find the runs done
        text = yaml.safe_dump(tuned.model_dump(), sort_keys=False, allow_unicode=True)
        write_whole(folder / "tuned.yaml", text)
        tasks = compare(
            tuned,
            folder / "tuned",
            jobs=jobs,
            threads=threads,
            data_root=data_root,
            device=device,
            on_progress=on_progress,
            root=folder.parent,
        )
        write_search_report(folder, tuned, found)
    return SearchResult(found, tuned, tasks)


class _Trials:
    """Does trials in this process, one after the other."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        study: Study,
        data_root: str | os.PathLike[str] | None,
        device: str,
    ) -> None:
        self._folder, self._recipe, self._study = folder, recipe, study
        self._data_root, self._device = data_root, device
        self._seed = next(seed for seed in range(len(recipe.seeds) + 1) if seed not in recipe.seeds)

    def tune(
        self, subjects: Sequence[_Subject], trials: int, on_trial: Callable[[str, int, int], None] | None
    ) -> list[SearchedArm]:
        """Do the trials of some arms that no other process does; return what was found once all have ended."""
        by_name = {subject.name: subject for subject in subjects if subject.space}
        spaces = {name: subject.space for name, subject in by_name.items()}
        while (proposal := self._study.propose(spaces)) is not None:
            self._do(by_name[proposal.arm], proposal)
            if on_trial is not None:
                ended = sum(len(self._study.ended(name, space)) for name, space in spaces.items())
                on_trial(proposal.arm, ended, trials * len(spaces))
        return [
            summarize_arm(
                subject.name,
                subject.with_values(self._recipe, {}),
                subject.space,
                self._study.ended(subject.name, subject.space) if subject.space else [],
            )
            for subject in subjects
        ]

    def _do(self, subject: _Subject, proposal: Proposal) -> None:
        epochs = self._recipe.training.epochs
        study = self._study

        def after_epoch(record: Mapping[str, Any]) -> None:
            goes_on = study.reports_well(proposal, record["epoch"], record["validation_accuracy"])
            if record["epoch"] >= epochs or not goes_on:
                raise _Ended(record["epoch"], record["validation_accuracy"])

        try:
            made = run_recipe(self._recipe, subject.with_values(self._recipe, proposal.values), self._seed)
            run = self._folder / "trials" / subject.name / run_identity(made)
            # another process may be at the same values: it is waited for, and what it did is taken
            with locked(run.with_suffix(".lock")):
                try:
                    for record in read_metrics(run):
                        after_epoch(record)
                    with _quiet():
                        execute(made, run, data_root=self._data_root, device=self._device, after_epoch=after_epoch)
                    study.complete(proposal, 0.0)  # it has diverged: nothing else ends a run without a word
                except _Ended as end:
                    if end.epoch >= epochs:
                        study.complete(proposal, end.accuracy)
                    else:
                        study.prune(proposal)
                    _settle(run, end, epochs)
        except Exception as error:
            study.fail(proposal, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")


class _Ended(Exception):  # noqa: N818 (it is no error)
    """A trial has had its last epoch."""

    def __init__(self, epoch: int, accuracy: float) -> None:
        super().__init__(epoch, accuracy)
        self.epoch, self.accuracy = epoch, accuracy


def _settle(run: Path, end: _Ended, epochs: int) -> None:
    """Write down how a trial ended, and delete its checkpoints."""
    state = "complete" if end.epoch >= epochs else "pruned"
    told = {"state": state, "epoch": end.epoch, "validation_accuracy": end.accuracy}
    write_whole(run / "trial.json", json.dumps(told, indent=2) + "\n")
    for old in run.glob("checkpoint-*"):
        old.unlink()


def _searchable(recipe: Recipe, arms: Sequence[str] | None) -> Recipe:
    """Return a recipe with the chosen arms, swept ones as many, if it can be searched."""
    if recipe.grid:
        raise RecipeError(f"search: {next(iter(recipe.grid))} must be one value, got a grid; try --tune")
    if recipe.folds is not None:
        raise RecipeError("search needs the validation split, got folds, which take none; leave folds out")
    for name, description in recipe.arms.items():
        if description.get("tune"):
            raise RecipeError(f"search: arms.{name} must not be tuned by a list besides; try --tune in its place")
    known = expand_sweeps(recipe.arms)
    for name in arms or ():
        if name not in known:
            raise RecipeError(
                f"search: arms must be among {', '.join(known)}, got {name!r}{nearest(name, [*known])}; controls come "
                "by themselves"
            )
    return _replaced(recipe, arms={name: known[name] for name in known if arms is None or name in arms}, controls={})


def _replaced(recipe: Recipe, **changes: Any) -> Recipe:
    return parse_recipe({**recipe.model_dump(), **changes}, where=f"recipe {recipe.name}")


def _subject(
    recipe: Recipe, name: str, description: Mapping[str, Any], choices: Mapping[str, Choice], control: Arm | None = None
) -> _Subject:
    """Return an arm with those choices that are settings of its own."""
    described = dict(description)
    if recipe.model.start != "default" and any(key.startswith("start.") for key in choices):
        described.setdefault("start", recipe.model.start)
    known = _settings(recipe, described)
    return _Subject(name, described, {key: choice for key, choice in choices.items() if key in known}, control)


def _control(recipe: Recipe, arm: Arm, choices: Mapping[str, Choice]) -> _Subject:
    """Return a control that is added, of which start and training may be tuned."""
    description = {"training": arm.training, **({} if arm.start is None else {"start": arm.start})}
    return _subject(recipe, arm.name, description, choices, arm)


def _settings(recipe: Recipe, description: Mapping[str, Any]) -> list[str]:
    """Return the settings of an arm that a search may tune."""
    types = arm_setting_types(description, setting_types(type(recipe)))
    own = [key for key in types if not key.startswith("training.") or key.removeprefix("training.") in ARM_TRAINING]
    return own if recipe.spiking is not None else [*own, "start"]


def _refuse_unknown(recipe: Recipe, subjects: Sequence[_Subject], choices: Mapping[str, Choice]) -> None:
    known = list(dict.fromkeys(key for subject in subjects for key in _settings(recipe, subject.description)))
    for key, choice in choices.items():
        if key not in known:
            if key.startswith("training."):  # there is a sentence for each that is no arm's
                try:
                    recipe.training.replaced({key.removeprefix("training."): corner_values(choice)[0]})
                except ValueError as error:
                    raise RecipeError(f"search: {error}") from error
            hint = nearest(key, known) or nearest(f"training.{key}", known) or f"; known are {', '.join(known)}"
            raise RecipeError(f"search: {key} must be a setting of an arm{hint}")


def _try_corners(recipe: Recipe, subject: _Subject) -> None:
    """Try each value that is listed, and the ends of spans: one that makes no sense is found before any trial."""
    for key, choice in subject.space.items():
        for value in corner_values(choice):
            try:
                subject.with_values(recipe, {key: value})
            except ValueError as error:
                raise RecipeError(f"search: arms.{subject.name} with {key} = {value}: {error}") from error


def _start_of(description: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the start that a control has, where settings of it are tuned, and nothing else that it has of its arm."""
    return {"start": description["start"]} if any(key.startswith("start.") for key in values) else {}


def _refuse_foreign(folder: Path, plan: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` if a folder is that of another search or comparison."""
    if any((folder / other).exists() for other in ("comparison.yaml", "grid.yaml")):
        raise ValueError(f"search: {folder} must be a search's folder, got a comparison's; try another folder")
    path = folder / "search.yaml"
    if not path.exists():
        return
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        stored = None
    if not isinstance(stored, dict):
        raise ValueError(f"search: {path} must hold what is searched, got a damaged file")  # noqa: TRY004
    for key, value in yaml.safe_load(yaml.safe_dump(plan)).items():
        if stored.get(key) != value:
            told = "" if isinstance(value, dict) else f", {stored.get(key)!r} there and {value!r} here"
            raise ValueError(f"search: {folder} belongs to another search: {key} differs{told}; try another folder")


def _write_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    path = folder / "search.yaml"
    if not path.exists():
        partial = path.with_name(f"search.yaml.{os.getpid()}")
        partial.write_text(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True), encoding="utf-8")
        partial.replace(path)


@contextlib.contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave what the library logs to the file in the run folder."""
    logger = logging.getLogger("neuropil")
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = before
