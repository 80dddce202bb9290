"""What an event of rewiring did, for the record."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """What one event did to one layer. Everything is counted in blocks.

    Attributes:
        step: of the optimizer, the first one being 1.
        layer: its name in the model.
        dropped: blocks that the prune rule took away.
        went, came: blocks that are gone after the event, and that are new; what was dropped and came back at once
            is neither.
        went_within, came_within: how many of these lay within groups; None where neurons carry no groups.
        n_blocks: blocks after the event.
        density: connections over possible ones, in (0, 1].
        explored: share of all possible blocks that have been live so far (ITOP's R_s), in (0, 1].
        modularity: of the wiring for its groups, see :class:`neuropil.rewire.groups.Modularity`; None without groups.
        neurons_without_input: target neurons that nothing is connected to.
    """

    step: int
    layer: str
    dropped: int
    went: int
    came: int
    went_within: int | None
    came_within: int | None
    n_blocks: int
    density: float
    explored: float
    modularity: float | None
    neurons_without_input: int

    def as_record(self) -> dict[str, Any]:
        """Return the event as plain values."""
        return asdict(self)
