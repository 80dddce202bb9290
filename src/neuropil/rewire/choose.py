"""Which blocks of one layer go and which come, within the limits."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuropil.connect.block_grid import IntArray
from neuropil.rewire.groups import Groups
from neuropil.rewire.limits import Limits
from neuropil.rewire.pool import EMPTY, Pool
from neuropil.rewire.rule import Rule
from neuropil.rewire.select import largest, smallest
from neuropil.rewire.site import Site


@dataclass
class Constraints:
    """What the limits mean for one layer.

    Attributes:
        limits: as they were given.
        groups: of the grid, or None.
        within: blocks that must lie within groups after an event, as a share; None: any.
        barred: cells that may never change, bool, of the shape of the grid; or None.
        may_ablate: whether rows may lose all their blocks for good.
        ablated: rows that have, bool ``[rows]``.
    """

    limits: Limits
    groups: Groups | None = None
    within: float | None = None
    barred: NDArray[np.bool_] | None = None
    may_ablate: bool = False
    ablated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def eligible(self, site: Site) -> NDArray[np.bool_]:
        """Return which live blocks may go, bool ``[n_blocks]``."""
        wiring = site.wiring
        if self.barred is None:
            return np.ones(wiring.n_blocks, dtype=np.bool_)
        free: NDArray[np.bool_] = ~self.barred[wiring.block_rows, wiring.indices]
        return free

    def pool(self, site: Site, opened: IntArray = EMPTY, **settings: Any) -> Pool:
        """Return the cells that may come, ``opened`` ones among them."""
        barred = self.barred
        if self.ablated.any():
            closed_rows = np.broadcast_to(self.ablated[:, None], site.wiring.grid)
            barred = closed_rows if barred is None else barred | closed_rows
        return Pool(site.wiring, opened if self.limits.regrow else EMPTY, barred=barred, **settings)

    def parts(self, site: Site, opened: IntArray = EMPTY) -> tuple[Pool, Pool]:
        """Return the pools within and between groups."""
        groups = self.groups
        assert groups is not None
        within = self.pool(site, opened, part=groups.within)
        return within, self.pool(site, opened, part=lambda rows: ~groups.within(rows))

    def fan_in(self, site: Site, n_target: int) -> int:
        """Return the blocks of each row that is not ablated, where all have the same number."""
        n_rows, n_columns = site.wiring.grid
        return max(1, min(n_columns, n_target // (n_rows - int(self.ablated.sum()))))


def drop(
    site: Site, prune: Rule, grow: Rule | None, constraints: Constraints, *, n_target: int, fraction: float
) -> IntArray:
    """Return the numbers of the blocks that go, ascending.

    Args:
        site: the layer.
        prune, grow: the rules; the latter only has a say in which rows are ablated.
        constraints: what must be kept.
        n_target: how many blocks there should be.
        fraction: share of the remaining free blocks that is to be replaced as well, in [0, 1).
    """
    eligible = constraints.eligible(site)
    n_free = int(eligible.sum())
    excess = min(max(0, site.wiring.n_blocks - n_target), n_free)
    n = excess + int(fraction * (n_free - excess) + 1e-9)
    if constraints.limits.constant_fan_in:
        return _drop_to_fan_in(site, prune, grow, constraints, eligible, n, n_target)
    if constraints.within is not None and constraints.groups is not None and n == excess:
        # nothing will come that could bring the share back
        is_within = constraints.groups.are_within(site.wiring.cells())
        n_free_within, n_within = int((eligible & is_within).sum()), int(is_within.sum())
        wanted = n_within - round(constraints.within * (site.wiring.n_blocks - excess))
        first = min(max(wanted, excess - (n_free - n_free_within), 0), excess, n_free_within)
        gone = [prune.drop(site, first, eligible & is_within), prune.drop(site, excess - first, eligible & ~is_within)]
        return np.sort(np.concatenate(gone))
    if constraints.limits.regrow:
        return prune.drop(site, n, eligible)
    if constraints.within is None:
        return prune.drop(site, min(n, excess + int(constraints.pool(site).sizes.sum())), eligible)
    # what goes must find a place in its own part, for it may not come back to its own
    assert constraints.groups is not None
    is_within = constraints.groups.are_within(site.wiring.cells())
    share = int((eligible & is_within).sum()) / max(1, n_free)
    for_good, replaced = round(excess * share), round((n - excess) * share)
    room = [int(pool.sizes.sum()) for pool in constraints.parts(site)]
    gone = [
        prune.drop(site, for_good + min(replaced, room[0]), eligible & is_within),
        prune.drop(site, excess - for_good + min(n - excess - replaced, room[1]), eligible & ~is_within),
    ]
    return np.sort(np.concatenate(gone))


def come(site: Site, grow: Rule, constraints: Constraints, *, n_target: int) -> IntArray:
    """Return the cells that come, ascending, so that there are ``n_target`` blocks, or as many as there is room for.

    Args:
        site: the layer, with the blocks that are ``gone``.
        grow: the rule.
        constraints: what must be kept.
        n_target: how many blocks there should be.
    """
    wiring, opened = site.wiring, site.gone_cells
    n_left = wiring.n_blocks - len(site.gone)
    n = n_target - n_left
    if constraints.limits.constant_fan_in:
        left = np.bincount(np.delete(wiring.block_rows, site.gone), minlength=wiring.grid[0])
        pool = constraints.pool(site, opened)
        quotas = np.clip(constraints.fan_in(site, n_target) - left, 0, pool.sizes)
        return grow.grow_in_rows(site, pool, quotas)
    if constraints.within is None:
        pool = constraints.pool(site, opened)
        return grow.grow(site, pool, min(n, int(pool.sizes.sum())))
    assert constraints.groups is not None
    within, between = constraints.parts(site, opened)
    room = [int(pool.sizes.sum()) for pool in (within, between)]
    n = min(n, sum(room))
    n_within = int(constraints.groups.are_within(site.remaining_cells()).sum())
    wanted = round(constraints.within * (n_left + n)) - n_within
    wanted = min(max(wanted, n - room[1], 0), n, room[0])
    return np.sort(np.concatenate([grow.grow(site, within, wanted), grow.grow(site, between, n - wanted)]))


def _drop_to_fan_in(
    site: Site,
    prune: Rule,
    grow: Rule | None,
    constraints: Constraints,
    eligible: NDArray[np.bool_],
    n: int,
    n_target: int,
) -> IntArray:
    """Return what goes where every row is to have the same number of blocks: see SRigL, arXiv 2305.02299."""
    wiring = site.wiring
    goes = np.zeros(wiring.n_blocks, dtype=np.bool_)
    if n > max(0, wiring.n_blocks - n_target):  # otherwise nothing comes, and rows are only trimmed
        goes[prune.drop(site, n, eligible)] = True
    if constraints.may_ablate and grow is not None:
        promising = grow.grow(site, constraints.pool(site), min(n, int(constraints.pool(site).sizes.sum())))
        salient = np.bincount(wiring.block_rows[~goes], minlength=wiring.grid[0])
        salient += np.bincount(promising // wiring.grid[1], minlength=wiring.grid[0])
        least = max(1.0, (constraints.limits.ablation or 0.0) * constraints.fan_in(site, n_target))
        weak = (salient < least) & ~constraints.ablated
        weak[wiring.block_rows[~eligible]] = False  # what is frozen stays
        # the others must have room for all connections
        most = wiring.grid[0] - int(constraints.ablated.sum()) - max(1, -(-n_target // wiring.grid[1]))
        weak_rows = np.flatnonzero(weak)
        worst = weak_rows[smallest(salient[weak_rows].astype(np.float32), max(0, most), site.generator)]
        constraints.ablated[worst] = True
        goes |= constraints.ablated[wiring.block_rows]
    too_many = np.bincount(wiring.block_rows[~goes], minlength=wiring.grid[0]) - constraints.fan_in(site, n_target)
    if (too_many > 0).any():
        worth = prune.live(site)
        for row in np.flatnonzero(too_many > 0):
            own = np.arange(wiring.indptr[row], wiring.indptr[row + 1])
            own = own[~goes[own] & eligible[own]]
            goes[own[smallest(worth[own], int(too_many[row]), site.generator)]] = True
    if not constraints.limits.regrow:
        _leave_what_cannot_be_replaced(site, prune, constraints, goes, n_target)
    return np.flatnonzero(goes)


def _leave_what_cannot_be_replaced(
    site: Site, prune: Rule, constraints: Constraints, goes: NDArray[np.bool_], n_target: int
) -> None:
    """Let the worthiest of what was to go stay in rows that have no other places to fill; changed in place."""
    wiring = site.wiring
    left = np.bincount(wiring.block_rows[~goes], minlength=wiring.grid[0])
    lacking = constraints.fan_in(site, n_target) - left - constraints.pool(site).sizes
    lacking[constraints.ablated] = 0
    if (lacking > 0).any():
        worth = prune.live(site)
        for row in np.flatnonzero(lacking > 0):
            own = np.arange(wiring.indptr[row], wiring.indptr[row + 1])
            own = own[goes[own]]
            goes[own[largest(worth[own], int(lacking[row]), site.generator)]] = False
