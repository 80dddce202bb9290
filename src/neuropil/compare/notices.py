"""What went wrong in the runs of a comparison, or looks odd, each thing once."""

import re
import statistics
from dataclasses import dataclass

from neuropil.compare.activity import silent_since
from neuropil.compare.results import Results
from neuropil.compare.run_result import RunResult

_VARYING = re.compile(r"\d+(?:\.\d+)?(?= ?%)|(?<=\bepoch )\d+")  # percentages and epochs, by which warnings differ
_HOLE = "\ue000"  # of the private use area: stands for such a number, and in no text
_SLOWING = 1.5  # last quarter of the epochs over the first: above this, the reader is warned
_FEWEST_EPOCHS = 8  # to speak of quarters


@dataclass(frozen=True)
class Notice:
    """Something that happened in one or several runs.

    Attributes:
        text: what.
        runs: where, such as "mixer (seeds 0, 2)".
        is_failure: whether these runs have no result for it.
    """

    text: str
    runs: tuple[str, ...]
    is_failure: bool = False


def collect_notices(results: Results) -> list[Notice]:
    """Return what went wrong or looks odd, each thing once, with the runs where it did."""
    found: dict[str, list[tuple[RunResult, list[float]]]] = {}

    failures: set[str] = set()

    def note(run: RunResult, text: str, *, is_failure: bool = False) -> None:
        values = [float(number) for number in _VARYING.findall(text)]
        text = _VARYING.sub(_HOLE, text)
        found.setdefault(text, []).append((run, values))
        if is_failure:
            failures.add(text)

    for run in results.runs:
        if run.state == "diverged":
            note(run, "The loss was no longer a finite number: the run was stopped.", is_failure=True)
        if run.reason is not None:
            note(
                run,
                f"The run {'failed' if run.state == 'failed' else 'counts as missing'}: {run.reason}",
                is_failure=True,
            )
        if "taken_from" in run.summary:
            where = str(run.summary["taken_from"]).partition("/seed-")[0]
            note(run, f"The same run had been done as {where}, and was not repeated: its times were measured there.")
        for warning in run.summary.get("warnings", ()):
            note(run, str(warning))
        if run.summary.get("neurons_without_input"):
            note(run, "Some hidden neurons have no input at all: their output never changes.")
        silent = silent_since(run) if run.state == "done" else None
        if silent is not None:
            layer, epoch = silent
            note(
                run,
                f"{'The read-out' if layer == 'read-out' else layer.capitalize()} was silent at the end of training, "
                f"from epoch {epoch} on: without a spike on the probe batch, the network cannot tell images apart.",
            )
        seconds = [r["seconds"] for r in run.metrics if isinstance(r.get("seconds"), int | float)]
        quarter = len(seconds) // 4
        if len(seconds) >= _FEWEST_EPOCHS and (
            statistics.median(seconds[-quarter:]) > _SLOWING * statistics.median(seconds[:quarter])
        ):
            note(run, "Epochs grew slower in the course of training: the median time hides it.")
    return [
        Notice(_with_ranges(text, [values for _, values in runs]), _where([run for run, _ in runs]), text in failures)
        for text, runs in found.items()
    ]


def _with_ranges(text: str, values: list[list[float]]) -> str:
    """Put numbers back into a text, those of several runs as a range."""
    for low, high in ((min(column), max(column)) for column in zip(*values, strict=True)):
        text = text.replace(_HOLE, f"{low:g}" if low == high else f"{low:g}–{high:g}", 1)
    return text


def _where(runs: list[RunResult]) -> tuple[str, ...]:
    places: dict[tuple[str, int | None], list[int]] = {}  # folds by arm and seed, or else seeds by arm
    for run in runs:
        arm, number = ((run.arm, None), run.seed) if run.fold is None else ((run.arm, run.seed), run.fold)
        if number not in places.setdefault(arm, []):
            places[arm].append(number)
    return tuple(
        f"{arm} ({_numbers('seed', n)})" if seed is None else f"{arm} (seed {seed}, {_numbers('fold', n)})"
        for (arm, seed), n in places.items()
    )


def _numbers(what: str, numbers: list[int]) -> str:
    return f"{what}{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"
