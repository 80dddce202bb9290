"""A comparison as one row an arm: means, intervals, differences, and what tests say of them."""

import csv
import os
from pathlib import Path
from typing import Any

from neuropil.compare.labels import TWIN_WORDS
from neuropil.compare.results import ArmResult, Difference, Results
from neuropil.compare.significance import Significance, effect_size, power_of
from neuropil.compare.statistics import FEWEST_SEEDS, Estimate

_OF_A_DIFFERENCE = ("n", "mean", "low", "high", "effect_size", "p", "corrected_p", "n_tests", "detectable", "needed")
_KINDS = (*TWIN_WORDS, "reference")

ARM_COLUMNS = (
    "comparison", "arm", "label", "control", "unit", "interval", "correction", "n", "diverged", "failed", "missing",
    "accuracy_mean", "accuracy_deviation", "accuracy_low", "accuracy_high", "parameters", "density",
    "multiply_accumulates", "synaptic_operations", "seconds_per_epoch", "seconds_per_epoch_low",
    "seconds_per_epoch_high", "peak_memory_bytes",
    *(f"{kind.replace('-', '_')}_{name}" for kind in _KINDS for name in ("arm", *_OF_A_DIFFERENCE)),
    "equal_seconds_epochs", "equal_seconds_accuracy_mean", "equal_seconds_accuracy_low", "equal_seconds_accuracy_high",
    *(f"equal_seconds_{name}" for name in _OF_A_DIFFERENCE),
)  # fmt: skip


def write_arms_csv(results: Results, path: str | os.PathLike[str]) -> Path:
    """Write one row an arm, controls first; what is not known, or has fewer than three seeds to tell, stays empty.

    Columns are those of ``ARM_COLUMNS``. Accuracies and differences are shares, not points; ``n`` counts seeds or folds
    as ``unit`` says. Of each kind of twin, and of the reference, ``…_arm`` is its name, ``…_mean`` the mean of paired
    differences, ``…_low`` and ``…_high`` their interval, ``…_effect_size``, ``…_p`` and ``…_corrected_p`` as in
    :mod:`neuropil.compare.significance`, corrected over ``…_n_tests`` differences, ``…_detectable`` the least true
    difference seen with a power of 0.8 and ``…_needed`` the seeds that the observed one takes, both at the strictest
    level of the correction.

    Args:
        results: what :func:`neuropil.compare.load_results` gives.
        path: of the file; one that exists is replaced.
    """
    path = Path(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ARM_COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        for arm in results.arms.values():
            row = _row(results, arm)
            writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return path


def _row(results: Results, arm: ArmResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "comparison": results.recipe.name,
        "arm": arm.arm.name,
        "label": arm.label,
        "control": arm.arm.name in results.controls,
        "unit": results.unit,
        "interval": results.recipe.interval,
        "correction": results.recipe.correction,
        "n": arm.count("done"),
        "diverged": arm.count("diverged"),
        "failed": arm.count("failed"),
        "missing": arm.count("missing", "running"),
        "accuracy_deviation": arm.accuracy and arm.accuracy.deviation,
        **_mean(arm.accuracy, "accuracy"),
        "parameters": arm.parameters,
        "density": arm.density,
        "multiply_accumulates": arm.multiply_accumulates,
        "synaptic_operations": arm.activity.synaptic_operations,
        "peak_memory_bytes": arm.peak_memory_bytes and arm.peak_memory_bytes.median,
    }
    if arm.seconds_per_epoch is not None:
        row["seconds_per_epoch"] = arm.seconds_per_epoch.median
        row["seconds_per_epoch_low"] = arm.seconds_per_epoch.low
        row["seconds_per_epoch_high"] = arm.seconds_per_epoch.high
    for kind in _KINDS:
        if (difference := arm.differences.get(kind)) is not None:
            row |= _named(difference, kind.replace("-", "_"))
    if (stop := arm.equal_seconds) is not None:
        row["equal_seconds_epochs"] = stop.epochs and stop.epochs.median
        row |= _mean(stop.accuracy, "equal_seconds_accuracy") | _tested(stop.difference, stop.test, "equal_seconds")
    return row


def _named(difference: Difference, prefix: str) -> dict[str, Any]:
    return {f"{prefix}_arm": difference.twin, **_tested(difference.accuracy, difference.test, prefix)}


def _mean(found: Estimate | None, prefix: str) -> dict[str, Any]:
    if found is None:
        return {}
    low, high = found.interval if found.interval is not None and found.n >= FEWEST_SEEDS else (None, None)
    return {f"{prefix}_mean": found.mean, f"{prefix}_low": low, f"{prefix}_high": high}


def _tested(found: Estimate | None, test: Significance | None, prefix: str) -> dict[str, Any]:
    if found is None:
        return {}
    row = {f"{prefix}_n": found.n, **_mean(found, prefix), f"{prefix}_effect_size": effect_size(found)}
    if test is not None:
        row[f"{prefix}_p"] = test.p
        row[f"{prefix}_corrected_p"] = test.corrected_p
        row[f"{prefix}_n_tests"] = test.n_tests
    if (power := power_of(found, test)) is not None:
        row |= {f"{prefix}_detectable": power.detectable, f"{prefix}_needed": power.needed}
    return row
