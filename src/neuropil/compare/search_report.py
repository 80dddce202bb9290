"""What a search has tried and chosen, as tables and a page."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropil.compare.arms import Arm
from neuropil.compare.labels import describe_arm
from neuropil.compare.overview import OverviewTable, write_page
from neuropil.compare.recipe import Recipe
from neuropil.compare.report import write_report
from neuropil.compare.results import load_results, write_csv
from neuropil.compare.search_space import Choice, is_at_edge
from neuropil.compare.search_study import Ended
from neuropil.compare.table import NONE

_NOTE = (
    "Every arm had the same number of trials of the same number of epochs; epochs differ where trials were stopped "
    "early. Accuracy is that of the best trial on the validation split after its last epoch, which is too high an "
    "estimate, for it was chosen as the highest. An asterisk: the value lies at an end of its range, so that a better "
    "one may lie beyond."
)


@dataclass(frozen=True)
class SearchedArm:
    """What was tried for one arm, and chosen.

    Attributes:
        name: of the arm.
        label: what it is, in plain words.
        is_control: whether it was added as another arm's twin.
        trials: that have ended.
        values: those of the best trial, by setting; empty where nothing of the arm is tuned.
        accuracy: of that trial, on the validation split after the last epoch.
        at_edge: settings whose value lies at an end of its range.
    """

    name: str
    label: str
    is_control: bool
    trials: tuple[Ended, ...]
    values: Mapping[str, Any]
    accuracy: float | None
    at_edge: tuple[str, ...]

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(trial.epochs for trial in self.trials)

    def count(self, state: str) -> int:
        """Return how many trials ended as ``complete``, ``pruned`` or ``failed``."""
        return sum(trial.state == state for trial in self.trials)


def summarize_arm(name: str, arm: Arm, space: Mapping[str, Choice], trials: Sequence[Ended]) -> SearchedArm:
    """Return what the trials of an arm came to; the first of the best counts.

    Raises:
        ValueError: none of them had all its epochs.
    """
    whole = [trial for trial in trials if trial.state == "complete" and trial.accuracy is not None]
    if space and not whole:
        reasons = [trial.reason for trial in trials if trial.reason]
        raise ValueError(
            f"search: arms.{name}: a trial must end well, got none of {len(trials)}"
            + (f", the first because {reasons[0]}" if reasons else "")
        )
    best = max(whole, key=lambda trial: (trial.accuracy, -trial.number), default=None)
    values = {} if best is None else best.values
    return SearchedArm(
        name,
        describe_arm(arm),
        arm.is_control,
        tuple(trials),
        values,
        None if best is None else best.accuracy,
        tuple(key for key, value in values.items() if is_at_edge(space[key], value)),
    )


def search_table(arms: Sequence[SearchedArm]) -> OverviewTable:
    """Return one row an arm: trials, epochs, best validation accuracy, chosen values."""
    keys = list(dict.fromkeys(key for arm in arms for key in arm.values))
    header = ["arm", "trials", "stopped early", "failed", "epochs", "validation (%)", *map(_words, keys)]
    rows = [
        [
            f"{arm.name} (control)" if arm.is_control else arm.name,
            *(map(str, (len(arm.trials), arm.count("pruned"), arm.count("failed"), arm.epochs))),
            NONE if arm.accuracy is None else f"{100 * arm.accuracy:.2f}",
            *(f"{arm.values[key]}{'*' * (key in arm.at_edge)}" if key in arm.values else NONE for key in keys),
        ]
        for arm in arms
    ]
    return OverviewTable("What was chosen", header, rows, note=_NOTE)


def write_search_report(folder: Path, tuned: Recipe, arms: Sequence[SearchedArm]) -> Path:
    """Write what a search came to: ``report.html``, ``trials.csv``, and report and table of the comparison it led to.

    Args:
        folder: of the search, with the comparison in ``tuned``.
        tuned: recipe of that comparison.
        arms: what was tried and chosen.
    """
    write_csv(load_results(folder / "tuned"), folder / "tuned" / "results.csv")
    write_report(folder / "tuned")
    keys = list(dict.fromkeys(key for arm in arms for trial in arm.trials for key in trial.values))
    with (folder / "trials.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "trial", "state", "epochs", "validation_accuracy", *keys, "reason"])
        for arm in arms:
            for trial in arm.trials:
                values = [trial.values.get(key, "") for key in keys]
                accuracy = "" if trial.accuracy is None else trial.accuracy
                writer.writerow([arm.name, trial.number, trial.state, trial.epochs, accuracy, *values, trial.reason])
    accuracies = OverviewTable(
        "What the test set says",
        ["comparison", "arms", "seeds"],
        [["tuned", str(len(arms)), str(len(tuned.seeds))]],
        ["tuned/report.html"],
        "All arms at their values, over the seeds of the recipe, none of which was a trial's.",
    )
    path = folder / "report.html"
    paragraphs = ["The test set had no part in the trials. The comparison can be made again without them: tuned.yaml."]
    write_page(path, f"neuropil search · {tuned.name}", tuned.question, paragraphs, [search_table(arms), accuracies])
    return path


def _words(key: str) -> str:
    return key.removeprefix("training.").replace("_", " ").replace(".", " ")
