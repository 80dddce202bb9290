"""The runs that a claim is judged by: rows of a table, of a comparison just run or of one recorded before."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropil.compare.choices import mean_validation
from neuropil.compare.reproduce.claims import Claim
from neuropil.compare.reproduce.conditions import MEASURES
from neuropil.compare.results import load_results, write_csv
from neuropil.compare.run_result import RunResult, is_number
from neuropil.compare.sweeps import list_sweeps

Row = Mapping[str, Any]

_NEEDED = ("arm", "seed", "test_accuracy")


@dataclass(frozen=True)
class Rows:
    """Runs by arm and seed.

    Attributes:
        by_arm: rows as :func:`neuropil.compare.write_csv` writes them, by arm and seed.
        choices: candidates of each tuned arm.
    """

    by_arm: Mapping[str, Mapping[int, Row]]
    choices: Mapping[str, tuple[str, ...]]

    def chosen(self, arm: str) -> str:
        """Return the arm itself, or of a tuned one the candidate that the validation split chooses.

        As long as some candidate has not a single run that has ended, that candidate: nothing can be said then.
        """
        if arm in self.by_arm or arm not in self.choices:
            return arm
        scores = {candidate: self._score(candidate) for candidate in self.choices[arm]}
        unknown = [candidate for candidate, score in scores.items() if score is None]
        return unknown[0] if unknown else max(scores, key=lambda name: scores[name] or 0.0)

    def values(self, arm: str, measure: str) -> tuple[dict[int, float], list[str]]:
        """Return a measure by seed of the runs that are done, and the states of all others of the arm."""
        found = MEASURES[measure]
        rows = self.by_arm.get(self.chosen(arm), {})
        values = {
            seed: found.factor * value
            for seed, row in rows.items()
            if _state(row) == "done" and (value := _number(row.get(found.column))) is not None
        }
        others = [_state(row) if _state(row) != "done" else "without it" for s, row in rows.items() if s not in values]
        return values, others

    def _score(self, candidate: str) -> float | None:
        rows = self.by_arm.get(candidate, {}).values()
        return mean_validation((_state(row), _number(row.get("validation_accuracy"))) for row in rows)

    def commit(self, arms: Iterable[str]) -> str:
        """Return the commits that the runs of some arms were made at, parted by spaces."""
        return " ".join(sorted({str(row["commit"]) for row in self._of(arms) if row.get("commit")}))

    def seconds(self, arms: Iterable[str]) -> float | None:
        """Return the seconds of training that the runs of some arms took, one after another; None where not known."""
        known = [
            epochs * seconds
            for row in self._of(arms)
            if (epochs := _number(row.get("epochs"))) is not None
            and (seconds := _number(row.get("seconds_per_epoch"))) is not None
        ]
        return math.fsum(known) if known else None

    def _of(self, arms: Iterable[str]) -> list[Row]:
        return [row for arm in arms for row in self.by_arm.get(arm, {}).values()]


def read_rows(path: Path, claim: Claim) -> Rows:
    """Read runs that were recorded, and see that they are those of a claim's check.

    Args:
        path: what :func:`neuropil.compare.write_csv` or the claim's example has written.
        claim: whose arms, data, epochs and seeds they must have; other arms may stand beside.

    Raises:
        ValueError: the file is no such table, or of another check.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError:
        rows = []
    if not rows or any(key not in rows[0] for key in _NEEDED):
        raise ValueError(f"reproduce: --from must be a results.csv with {', '.join(_NEEDED)}, got {path}")
    by_arm: dict[str, dict[int, Row]] = {}
    for row in rows:
        arm = f"{row['arm']} {row['ratio']}" if row.get("ratio") else row["arm"]
        if not row["seed"].isdigit() or row.get("fold"):
            raise ValueError(f"reproduce: {path} must hold one row a seed, got seed {row['seed']!r} of arm {arm!r}")
        by_arm.setdefault(arm, {})[int(row["seed"])] = row
    found = Rows(by_arm, _choices(claim))
    _check_origin(path, found, claim)
    return found


def rows_of_folder(folder: Path, claim: Claim) -> Rows:
    """Return the runs of a comparison that was made for a claim, with what its probes have measured.

    The folder's ``results.csv`` is written anew.
    """
    results = load_results(folder)
    rows = read_rows(write_csv(results, folder / "results.csv"), claim)
    by_arm = {
        name: {seed: {**row, **_emergence(results.arms[name].runs[seed])} for seed, row in seeds.items()}
        for name, seeds in rows.by_arm.items()
    }
    return Rows(by_arm, rows.choices)


def _emergence(run: RunResult) -> dict[str, Any]:
    """Return the emergence of a run after its first and its last epoch, where a probe of that name has measured it."""
    measured = {
        record.get("epoch"): record["value"].get("log10")
        for record in run.probes
        if record.get("probe") == "emergence" and isinstance(record.get("value"), Mapping)
    }
    return {"first_emergence": measured.get(1), "emergence": measured.get(len(run.metrics))}


def _choices(claim: Claim) -> dict[str, tuple[str, ...]]:
    if claim.recipe is None:
        return {}
    sweeps = list_sweeps(claim.comparison().arms)
    return {name: tuple(candidates) for sweep in sweeps for name, candidates in sweep.choices.items()}


def _check_origin(path: Path, rows: Rows, claim: Claim) -> None:
    """Raise a ``ValueError`` if runs are not those of a claim's check."""
    if claim.recipe is None:
        missing = sorted({arm for c in claim.judged() for arm in c.quantity.arms if arm not in rows.by_arm})
        wrong = missing or sorted({str(row.get("data")) for seeds in rows.by_arm.values() for row in seeds.values()}
                                  - {claim.data})  # fmt: skip
        if wrong:
            raise ValueError(
                f"reproduce: {path} must be what `{claim.example}` writes, got one with or without {wrong[0]!r}"
            )
        return
    recipe = claim.comparison()
    wanted = {"comparison": recipe.name, "data": recipe.data.name}
    for arm in claim.needed_arms():
        seeds = rows.by_arm.get(arm.name, {})
        lacking = [seed for seed in recipe.seeds if seed not in seeds]
        if lacking:
            raise ValueError(f"reproduce: {path} must hold arm {arm.name} with seed {lacking[0]}, got none")
        told = {**wanted, "hidden": " ".join(map(str, arm.hidden))}
        for row in seeds.values():
            done = {"epochs": str(recipe.training.epochs)} if _state(row) == "done" else {}
            for key, value in {**told, **done}.items():
                if row.get(key) != value:
                    raise ValueError(
                        f"reproduce: {path} must be of {key} {value}, as {claim.name} asks, got {row.get(key)!r}"
                    )


def _state(row: Row) -> str:
    return str(row.get("status") or "done")


def _number(value: Any) -> float | None:
    """Return a finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if is_number(number) else None
