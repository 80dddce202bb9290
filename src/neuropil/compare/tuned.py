"""Tuned arms: which value of a setting the validation split chooses, and what the test set says then."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuropil.compare.choices import chosen_candidates, not_chosen
from neuropil.compare.results import ArmResult, Results
from neuropil.compare.statistics import Estimate, estimate, paired_difference
from neuropil.compare.sweeps import Sweep, list_sweeps
from neuropil.compare.table import accuracy_text, difference_text

NOTE = (
    "Of the candidates of a tuned arm, the one counts whose accuracy on the validation split is highest after the last "
    "epoch, mean over seeds, a run that diverged counting 0; the test set has no part in it. Beside its accuracy on "
    "the test set stand the validation accuracy after the first epoch, the paired difference to the first tuned arm at "
    "its own best, and both once more where every arm has the values that the first one chose. An asterisk: the choice "
    "lies at the end of its list, so that the best may lie beyond. Intervals do not know of the choice, and an arm "
    "with more candidates has more chances. Learning curves, wirings and probes are shown of the chosen ones alone."
)
N_OWN = 5  # columns that tell of each arm at its own values


@dataclass(frozen=True)
class TunedArm:
    """One tuned arm at the values that validation chose.

    Attributes:
        name: of the arm, without the tuned values.
        chosen: name of the candidate that was chosen.
        values: the tuned values of that candidate, by setting.
        at_end: whether one of them is the lowest or highest of at least three in its list.
        first: accuracy on the validation split after the first epoch; None where it is not known.
        accuracy: on the test set after the last epoch.
        difference: of that to the first tuned arm's, paired by seed; None of the first one itself.
        common_first: accuracy on the validation split after the first epoch where the tuned values are those of the
            first tuned arm; None without such a candidate.
        common: accuracy on the test set after the last epoch likewise.
        common_difference: of that to the first tuned arm's, paired by seed.
        diverged, common_diverged: how many runs diverged at either values; they are in neither accuracy.
    """

    name: str
    chosen: str
    values: Mapping[str, Any]
    at_end: bool
    first: Estimate | None
    accuracy: Estimate
    difference: Estimate | None
    common_first: Estimate | None
    common: Estimate | None
    common_difference: Estimate | None
    diverged: int
    common_diverged: int


def tuned_arms(results: Results) -> list[TunedArm]:
    """Return the tuned arms of a comparison as far as they are done, in the order of the recipe.

    An arm counts once each of its candidates has ended for at least one seed.
    """
    settled = chosen_candidates(results.recipe.arms, {name: arm.runs for name, arm in results.arms.items()})
    found: list[TunedArm] = []
    reference: TunedArm | None = None
    for sweep in list_sweeps(results.recipe.arms):
        keys = sweep.keys[len(sweep.keys) - sweep.n_tuned :]
        for name, candidates in sweep.choices.items():
            chosen = settled.get(name)
            accuracy = None if chosen is None else results.arms[chosen].accuracy
            if chosen is None or accuracy is None:
                continue
            values = dict(zip(keys, candidates[chosen], strict=True))
            wanted = tuple((values if reference is None else reference.values).get(key) for key in keys)
            alike = next((results.arms[c] for c, tuned in candidates.items() if tuned == wanted), None)
            arm = TunedArm(
                name=name,
                chosen=chosen,
                values=values,
                at_end=_at_end(sweep, values),
                first=_first(results, results.arms[chosen]),
                accuracy=accuracy,
                difference=_difference(results, chosen, reference),
                common_first=_first(results, alike) if alike else None,
                common=alike.accuracy if alike else None,
                common_difference=_difference(results, alike.arm.name, reference) if alike else None,
                diverged=results.arms[chosen].count("diverged"),
                common_diverged=alike.count("diverged") if alike else 0,
            )
            found.append(arm)
            reference = reference or arm
    return found


def passed_over(results: Results) -> set[str]:
    """Return the names of candidates that validation did not choose; none of arms that are not settled yet."""
    return not_chosen(results.recipe.arms, {name: arm.runs for name, arm in results.arms.items()})


def tuned_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the header and one row a tuned arm, as text; no rows where nothing is tuned or done."""
    arms = tuned_arms(results)
    if not arms:
        return [], []
    first = arms[0].name
    keys = {tuple(arm.values) for arm in arms}
    alike = len(keys) == 1  # then the header names what was chosen
    words = ", ".join(_setting(key) for key in arms[0].values) if alike else "values"
    rows = [
        [
            arm.name,
            ", ".join(str(value) if alike else f"{_setting(key)} {value}" for key, value in arm.values.items())
            + ("*" if arm.at_end else ""),
            accuracy_text(arm.first),
            accuracy_text(arm.accuracy) + _diverged(arm.diverged),
            difference_text(arm.difference),
            accuracy_text(arm.common_first),
            accuracy_text(arm.common) + _diverged(arm.common_diverged),
            difference_text(arm.common_difference),
        ]
        for arm in arms
    ]
    header = [
        "tuned arm",
        f"chosen {words}",
        "epoch 1 (%)",
        "accuracy (%)",
        f"− {first}",
        f"epoch 1 (%), {words} of {first}",
        f"accuracy (%), {words} of {first}",
        f"− {first}, {words} of {first}",
    ]
    return header, rows


def _diverged(n: int) -> str:
    return f"\n{n} diverged" if n else ""


def _setting(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")


def _first(results: Results, arm: ArmResult) -> Estimate | None:
    runs = [run for run in arm.runs.values() if run.state == "done"]
    values = [value for run in runs if (value := run.validation_accuracy(0)) is not None]
    return estimate(values, method=results.recipe.interval) if values else None


def _difference(results: Results, name: str, reference: TunedArm | None) -> Estimate | None:
    if reference is None:
        return None
    ours, theirs = (
        {seed: run.accuracy for seed, run in results.arms[one].runs.items() if run.accuracy is not None}
        for one in (name, reference.chosen)
    )
    return paired_difference(ours, theirs, method=results.recipe.interval)


def _at_end(sweep: Sweep, values: Mapping[str, Any]) -> bool:
    for i, value in enumerate(values.values(), start=len(sweep.keys) - sweep.n_tuned):
        listed = {tuned[i] for tuned in sweep.values.values()}
        numbers = sorted(one for one in listed if isinstance(one, int | float))
        if len(numbers) >= 3 and value in (numbers[0], numbers[-1]):
            return True
    return False
