"""Which candidates of tuned arms the validation split chooses, and which arm all others are compared with."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from neuropil.compare.run_result import RunResult
from neuropil.compare.sweeps import list_sweeps

Runs = Mapping[str, Mapping[int, RunResult]]  # by arm and seed


def chosen_candidates(arms: Mapping[str, Mapping[str, Any]], runs: Runs) -> dict[str, str]:
    """Return the candidate that counts of each tuned arm that is settled, by the arm's name.

    It is the one whose accuracy on the validation split is highest after the last epoch, mean over seeds, a run that
    diverged counting 0. An arm is settled once each of its candidates has ended for at least one seed.

    Args:
        arms: of the recipe.
        runs: of all expanded arms.
    """
    chosen = {}
    for sweep in list_sweeps(arms):
        for name, candidates in sweep.choices.items():
            scores = {
                candidate: mean_validation((run.state, run.validation_accuracy(-1)) for run in runs[candidate].values())
                for candidate in candidates
            }
            known = {candidate: score for candidate, score in scores.items() if score is not None}
            if len(known) == len(scores):
                best = max(known, key=known.__getitem__)
                if any(run.accuracy is not None for run in runs[best].values()):
                    chosen[name] = best
    return chosen


def not_chosen(arms: Mapping[str, Mapping[str, Any]], runs: Runs) -> set[str]:
    """Return the names of candidates that validation did not choose; none of arms that are not settled yet."""
    chosen = chosen_candidates(arms, runs)
    choices = [choice for sweep in list_sweeps(arms) for choice in sweep.choices.items()]
    return {name for arm, candidates in choices if arm in chosen for name in candidates if name != chosen[arm]}


def with_reference(
    reference: str | None, arms: Mapping[str, Mapping[str, Any]], runs: Runs, names: Iterable[str]
) -> dict[str, str]:
    """Return the arm that each one is compared with as the recipe's reference, by name.

    A tuned reference stands for its candidate that was chosen, and of other tuned arms the chosen ones alone are
    compared; there is nothing to compare before the tuned reference is settled.

    Args:
        reference: of the recipe.
        arms: of the recipe.
        runs: of all expanded arms.
        names: of the arms that may be compared.
    """
    choices = {name: candidates for sweep in list_sweeps(arms) for name, candidates in sweep.choices.items()}
    chosen = chosen_candidates(arms, runs)
    found = chosen.get(reference) if reference in choices else reference
    if found is None:
        return {}
    candidates = {candidate for tuned in choices.values() for candidate in tuned}
    return {name: found for name in names if name != found and (name not in candidates or name in chosen.values())}


def mean_validation(runs: Iterable[tuple[str, float | None]]) -> float | None:
    """Return the mean of runs' accuracies on the validation split, by which candidates are chosen.

    Args:
        runs: state and accuracy of each; one that diverged counts 0, one that is not done nothing.

    Returns:
        None where no run has ended.
    """
    known = [(state, 0.0 if state == "diverged" else accuracy) for state, accuracy in runs]
    values = [accuracy for state, accuracy in known if state in ("done", "diverged") and accuracy is not None]
    return math.fsum(values) / len(values) if values else None
