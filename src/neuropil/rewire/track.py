"""What a rewirer remembers of one layer from event to event."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch

from neuropil.connect import SparseLinear
from neuropil.connect.change import Change
from neuropil.rewire.choose import Constraints
from neuropil.rewire.explored import Explored
from neuropil.rewire.groups import Groups, Modularity
from neuropil.rewire.history import Event
from neuropil.rewire.limits import Limits, barred_cells


class Track:
    """One layer's limits, and what became of its wiring so far.

    Attributes:
        name, layer: which one.
        constraints: what the limits mean for it.
        n_blocks, n_connections: when rewiring began.
        n_came: blocks that have come since.
        is_stopped: whether it is rewired no longer.
    """

    def __init__(self, name: str, layer: SparseLinear, constraints: Constraints) -> None:
        self.name = name
        self.layer = layer
        self.constraints = constraints
        self.n_blocks, self.n_connections = layer.wiring.n_blocks, layer.wiring.n_connections
        self.n_came = 0
        self.is_stopped = False
        self._explored = Explored(layer.wiring.grid[0] * layer.wiring.grid[1])
        self._explored.visit(layer.wiring.cells())
        groups = constraints.groups
        self._modularity = None if groups is None else Modularity(groups, layer.wiring.cells())

    @classmethod
    def of(cls, name: str, layer: SparseLinear, limits: Limits, *, is_last: bool) -> "Track":
        """Return the track of a layer before its first event.

        Raises:
            ValueError: the limits cannot be met.
        """
        wiring = layer.wiring
        groups = Groups.of(wiring)
        n_rows, n_columns = wiring.grid
        barred = barred_cells(limits.frozen[name], wiring, name) if name in limits.frozen else None
        frozen = np.zeros(wiring.n_blocks, dtype=np.bool_)
        if barred is not None:
            frozen = barred[wiring.block_rows, wiring.indices]
        within = limits.within
        if within is not None:
            if groups is None:
                raise ValueError(
                    f"Limits: within needs neurons that belong to groups, those of layer {name!r} do not; try "
                    "wiring it by Ensembles"
                )
            inside = groups.are_within(wiring.cells())
            if within == "keep":
                within = float(inside.mean())
            n_inside = groups.n_cells_within
            wanted = round(within * wiring.n_blocks)
            room = [n_inside, n_rows * n_columns - n_inside]
            if barred is not None:  # what may not change, live or dead
                still = np.flatnonzero(barred)
                kept = wiring.cells()[frozen]
                for i, part in enumerate((True, False)):
                    room[i] += int((groups.are_within(kept) == part).sum())
                    room[i] -= int((groups.are_within(still) == part).sum())
            if wanted > room[0] or wiring.n_blocks - wanted > room[1]:
                raise ValueError(
                    f"Limits: within={within:g} cannot be met by layer {name!r}: it has {wiring.n_blocks} blocks, and "
                    f"room for {room[0]} within groups and {room[1]} between them"
                )
        if limits.constant_fan_in:
            fan_in = wiring.n_blocks // n_rows
            most = int(np.bincount(wiring.block_rows[frozen], minlength=n_rows).max())
            least_room = n_columns if barred is None else int((~barred).sum(axis=1).min())
            if fan_in < 1:
                raise ValueError(
                    f"Limits: constant_fan_in cannot be met by layer {name!r}: it has {wiring.n_blocks} blocks for "
                    f"{n_rows} rows; try a higher density"
                )
            if barred is not None and (most > fan_in or least_room + most < fan_in):
                raise ValueError(
                    f"Limits: constant_fan_in cannot be met by layer {name!r}: each row would have {fan_in} blocks, "
                    f"and frozen connections leave one row with {most} that stay and {least_room} places to choose from"
                )
        constraints = Constraints(
            limits,
            groups=groups,
            within=within,
            barred=barred,
            may_ablate=limits.ablation is not None and not is_last,
            ablated=np.zeros(n_rows, dtype=np.bool_),
        )
        return cls(name, layer, constraints)

    @property
    def n_cells(self) -> int:
        """Number of possible blocks."""
        return self._explored.n_cells

    @property
    def explored(self) -> float:
        """Share of all possible blocks that have been live so far, in (0, 1]."""
        return self._explored.n / self.n_cells

    @property
    def modularity(self) -> float | None:
        """Modularity of the wiring for its groups; None where neurons carry none."""
        return None if self._modularity is None else self._modularity.value

    def event(self, step: int, change: Change, dropped: int) -> Event:
        """Take note of a change; return what is to be said of it."""
        after, n_neurons = change.after, self.layer.out_features
        self._explored.visit(change.came)
        self.n_came += len(change.came)
        went_within = came_within = None
        if self._modularity is not None:
            went_within = self._modularity.add(change.went, -1)
            came_within = self._modularity.add(change.came, 1)
        empty = np.repeat(np.diff(after.indptr) == 0, after.block[0])[: len(after.out_order)]
        return Event(
            step=step,
            layer=self.name,
            dropped=dropped,
            went=len(change.went),
            came=len(change.came),
            went_within=went_within,
            came_within=came_within,
            n_blocks=after.n_blocks,
            density=after.n_connections / (n_neurons * self.layer.in_features),
            explored=self.explored,
            modularity=self.modularity,
            neurons_without_input=int((empty & (after.out_order >= 0)).sum()),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what must be stored: plain values and tensors."""
        return {
            "n_blocks": self.n_blocks,
            "n_connections": self.n_connections,
            "n_came": self.n_came,
            "within": self.constraints.within,
            "is_stopped": self.is_stopped,
            "explored": self._explored.to_tensor(),
            "ablated": torch.from_numpy(self.constraints.ablated.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state; the layer must already have the wiring of that time.

        Raises:
            ValueError: it belongs to another layer.
        """
        if not self._explored.take(state.get("explored")):
            raise ValueError(f"Rewirer: a stored state must be of layer {self.name!r} and its size, got another")
        self.n_blocks, self.n_connections = int(state["n_blocks"]), int(state["n_connections"])
        self.n_came = int(state["n_came"])
        self.constraints.within = state["within"]
        self.is_stopped = bool(state["is_stopped"])
        self.constraints.ablated = state["ablated"].cpu().numpy().copy()
        if self.constraints.groups is not None:
            self._modularity = Modularity(self.constraints.groups, self.layer.wiring.cells())


def summarize(tracks: Collection[Track], n_events: int) -> dict[str, Any]:
    """Return what rewiring has come to, as plain values: see :meth:`neuropil.rewire.Rewirer.summary`."""
    modularity = [track.modularity for track in tracks if track.modularity is not None]
    return {
        "events": n_events,
        "replaced": sum(track.n_came for track in tracks) / sum(track.n_blocks for track in tracks),
        "explored": sum(track.explored * track.n_cells for track in tracks) / sum(track.n_cells for track in tracks),
        "modularity": sum(modularity) / len(modularity) if modularity else None,
    }
