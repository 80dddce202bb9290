"""Arms at equal seconds, as a table and in words."""

from neuropil.compare.results import Results
from neuropil.compare.statistics import Spread
from neuropil.compare.sweeps import list_sweeps
from neuropil.compare.table import NONE, accuracy_text, difference_text


def equal_seconds_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the header and one row an arm, the reference first, as text; no rows without a reference that is done."""
    found = [(arm, arm.equal_seconds) for arm in results.arms.values() if arm.equal_seconds is not None]
    found.sort(key=lambda item: item[0].arm.name != item[1].reference)
    header = ["arm", "epochs that fit", "validation accuracy (%)", f"− {results.recipe.reference}"]
    rows = [
        [
            f"{arm.arm.name}\n{arm.label}",
            _epochs(stop.epochs) + (f"\nnone with {stop.n_without} of {len(stop.stops)} seeds" * bool(stop.n_without)),
            accuracy_text(stop.accuracy),
            difference_text(stop.difference, stop.test) if arm.arm.name != stop.reference else NONE,
        ]
        for arm, stop in found
    ]
    return header, rows


def equal_seconds_note(results: Results) -> str:
    """Return what must stand beneath the table: what it compares, and when it is worth anything."""
    reference = results.recipe.reference
    stopped = chosen = ""
    if results.recipe.training.schedule == "cosine":
        stopped = (
            " Learning rates fall to 0 along a cosine over all epochs: an arm that is stopped before has not come to "
            "rest, and would do better had it been planned for these seconds."
        )
    if any(sweep.n_tuned for sweep in list_sweeps(results.recipe.arms)):
        chosen = " The same split has chosen the values of tuned arms, after all epochs."
    return (
        f"Each arm after the last epoch that fits into the seconds of training that {reference} took for all of its "
        "own with the same seed: its accuracy on the validation split, and the paired difference to that of "
        f"{reference}, marked as in the table of results. An arm that had all its epochs before stands where it ended, "
        f"for it was not trained any further.{stopped}{chosen} This is worth something only where every run had the "
        "machine in the same way: one at a time, or as many beside it from beginning to end, on the same processor and "
        "threads. Validation, probes and the start of a run are not counted."
    )


def _epochs(epochs: Spread | None) -> str:
    if epochs is None:
        return NONE
    return f"{epochs.median:g}" if epochs.low == epochs.high else f"{epochs.median:g}\n{epochs.low:g}–{epochs.high:g}"
