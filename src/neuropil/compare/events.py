"""What rewiring did in the runs of an arm, read from their folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropil.train.run import read_events

_COUNTS = ("epoch", "step", "dropped", "went", "came", "n_blocks", "neurons_without_input")
_SHARES = ("density", "explored")
_OF_GROUPS = ("went_within", "came_within")


@dataclass(frozen=True)
class Rewired:
    """What rewiring came to by the end of training, mean over runs.

    Attributes:
        events: how many there were.
        replaced: blocks that came, over those that there were at the start; may exceed 1.
        explored: share of all possible blocks that have been live, in (0, 1]; R_s of ITOP, arXiv 2102.02887.
        modularity: of the wiring for its groups, mean over layers; None without groups.
    """

    events: float
    replaced: float
    explored: float
    modularity: float | None


def read_whole_events(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the events of a run, one record an event and layer, those that are damaged or foreign left out.

    Of records of the same step and layer, as a run that was killed and resumed may leave them, the last one counts.
    """
    records = {(r["step"], r["layer"]): r for r in read_events(folder) if _is_whole(r)}
    return tuple(records[key] for key in sorted(records))


def summarize_rewiring(summaries: Sequence[Mapping[str, Any]]) -> Rewired | None:
    """Return what the summaries of runs say of rewiring, None where they say nothing."""
    found = [s["rewiring"] for s in summaries if isinstance(s.get("rewiring"), Mapping)]
    found = [r for r in found if all(_is_number(r.get(key)) for key in ("events", "replaced", "explored"))]
    if not found:
        return None
    modularity = [r["modularity"] for r in found if _is_number(r.get("modularity"))]
    return Rewired(
        events=_mean([r["events"] for r in found]),
        replaced=_mean([r["replaced"] for r in found]),
        explored=_mean([r["explored"] for r in found]),
        modularity=_mean(modularity) if modularity else None,
    )


def _is_whole(record: object) -> bool:
    """Say whether a record holds what an event must, in the types and ranges it must have."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("layer"), str)
        and all(_is_count(record.get(key)) for key in _COUNTS)
        and record["epoch"] >= 1
        and all(_is_number(record.get(key)) and 0 <= record[key] <= 1 for key in _SHARES)
        and all(record.get(key) is None or _is_count(record[key]) for key in _OF_GROUPS)
        and len({record.get(key) is None for key in _OF_GROUPS}) == 1
        and (record.get("modularity") is None or _is_number(record["modularity"]))
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
