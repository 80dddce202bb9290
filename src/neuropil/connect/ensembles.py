"""Networks of ensembles: dense inside a group, few connections between groups."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect.pattern import Block, Pattern, check_probability, nearest_multiple
from neuropil.connect.sampling import sample_cells
from neuropil.connect.wiring import Wiring

Grouping = Literal["index", "interleaved", "random"]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Ensembles(Pattern):
    """Both layers are cut into groups; a group reads its own group densely, and others sparsely.

    P(block) = p_intra where target and source group agree, else p_inter: one independent draw a block. With
    G groups the expected density is [p_intra + (G − 1) p_inter] / G, 0.256 with the defaults.

    Args:
        n_groups: number of groups G, at least 1.
        p_intra: probability of a block inside a group, in [0, 1].
        p_inter: probability of a block between two groups, in [0, 1].
        grouping: ``index`` (neighbouring neurons form a group), ``interleaved`` (neuron i belongs to group
            i mod G), or ``random`` (index labels in a random order, drawn for either side anew).
        block: shape ``(rows, columns)`` of a block, rows being target neurons; ``"group"`` for the size of a
            group. ``(1, 1)``: single synapses, as published. ``("group", 1)``: a source neuron projects onto a
            whole target group; fast, as the layer is then a few dense products.
        exact: draw exactly the expected number of blocks inside and between groups, instead of one draw a block.
        uneven: allow sizes that ``n_groups`` (or a block) does not divide: group sizes then differ by at most one
            neuron, and blocks that reach past a group are cut off.

    Raises:
        ValueError: a probability lies outside [0, 1], the grouping is unknown; at ``wire``: groups or blocks do
            not divide a layer and ``uneven`` is off, or nothing is connected.

    Reference:
        Neuro-inspired Ensemble-to-Ensemble Communication Primitives for Sparse and Efficient ANNs (G2GNet), arXiv
        2508.14140; the group formulas follow the same lab's public spiking code, which draws single synapses. Other
        block shapes, ``exact`` and ``uneven`` are ours.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> Ensembles(n_groups=4, p_inter=0.0).wire(8, 8, generator=generator)
        Wiring(8 → 8, block=(1, 1), n_groups=4, density=0.25, n_connections=16)
    """

    n_groups: int = 8
    p_intra: float = 1.0
    p_inter: float = 0.15
    grouping: Grouping = "index"
    block: Block = (1, 1)
    exact: bool = False
    uneven: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.n_groups, int) or self.n_groups < 1:
            raise ValueError(f"Ensembles: n_groups must be an integer of at least 1, got {self.n_groups!r}")
        check_probability("Ensembles", "p_intra", self.p_intra)
        check_probability("Ensembles", "p_inter", self.p_inter)
        if self.grouping not in get_args(Grouping):
            raise ValueError(
                f"Ensembles: grouping must be one of {', '.join(get_args(Grouping))}, got {self.grouping!r}"
            )
        if (
            not isinstance(self.block, tuple)
            or len(self.block) != 2
            or any(side != "group" and not _positive(side) for side in self.block)
        ):
            raise ValueError(
                f"Ensembles: block must be two positive integers or 'group' (rows, columns), got {self.block!r}"
            )

    def wire(self, in_features: int, out_features: int, *, generator: torch.Generator | None = None) -> Wiring:
        """Draw a wiring; see :meth:`Pattern.wire`."""
        in_groups, in_order, columns = self._side("in_features", in_features, self.block[1], generator)
        out_groups, out_order, rows = self._side("out_features", out_features, self.block[0], generator)
        # a block lies inside one group on either side: its first neuron tells which
        row_group, column_group = out_groups[out_order[::rows]], in_groups[in_order[::columns]]
        by_group = np.argsort(column_group, kind="stable")
        size = np.bincount(column_group, minlength=self.n_groups)
        first = np.cumsum(size) - size  # where each group starts in by_group

        chosen_rows, chosen_columns = [], []
        for within, probability in ((True, self.p_intra), (False, self.p_inter)):
            n_candidates = size[row_group] if within else len(column_group) - size[row_group]
            end = np.cumsum(n_candidates)
            cells = sample_cells(int(end[-1]), probability, exact=self.exact, generator=generator).numpy()
            row = np.searchsorted(end, cells, side="right")
            nth = cells - (end - n_candidates)[row]  # the nth candidate column of that row
            own = row_group[row]
            nth = nth + first[own] if within else nth + np.where(nth >= first[own], size[own], 0)
            chosen_rows.append(row)
            chosen_columns.append(by_group[nth])
        return Wiring(
            in_features,
            out_features,
            np.concatenate(chosen_rows),
            np.concatenate(chosen_columns),
            block=(rows, columns),
            out_order=out_order,
            in_order=in_order,
            out_groups=out_groups,
            in_groups=in_groups,
        )

    def expected_density(self, in_features: int, out_features: int) -> float:
        """Return [p_intra + (G − 1) p_inter] / G, or the same with the sizes of uneven groups."""
        out_sizes, in_sizes = (np.bincount(_index_labels(n, self.n_groups), minlength=self.n_groups)
                               for n in (out_features, in_features))  # fmt: skip
        within = float(out_sizes @ in_sizes) / (out_features * in_features)
        return within * self.p_intra + (1.0 - within) * self.p_inter

    def _side(
        self, name: str, n: int, side: int | str, generator: torch.Generator | None
    ) -> tuple[IntArray, IntArray, int]:
        """Return the group of each neuron, the neuron at each position, and the block's length on one side."""
        if n < self.n_groups:
            raise ValueError(f"Ensembles: {name} must be at least n_groups, got {n} and {self.n_groups}")
        if n % self.n_groups and not self.uneven:
            raise ValueError(
                f"Ensembles: {name} must be divisible by n_groups, got {n} and {self.n_groups}; try "
                f"{nearest_multiple(n, self.n_groups)}, n_groups={_nearest_divisor(n, self.n_groups)}, or uneven=True"
            )
        largest = -(-n // self.n_groups)
        length = largest if side == "group" else int(side)
        if largest % length and not self.uneven:
            raise ValueError(
                f"Ensembles: a group of {largest} neurons ({name} / n_groups) must be divisible by the block's "
                f"{length}; try a block of {_nearest_divisor(largest, length)}, or uneven=True"
            )
        labels = _index_labels(n, self.n_groups)
        if self.grouping == "interleaved":
            labels = np.arange(n) % self.n_groups
        elif self.grouping == "random":
            labels = labels[torch.randperm(n, generator=generator, device="cpu").numpy()]
        if length == 1:
            return labels, np.arange(n), 1
        return labels, _positions(labels, self.n_groups, length), length


def _positive(side: int | str) -> bool:
    return isinstance(side, int) and side >= 1


def _index_labels(n: int, n_groups: int) -> IntArray:
    """Label neighbouring neurons; the first groups get one neuron more where n_groups does not divide n."""
    return np.arange(n_groups).repeat([len(part) for part in np.array_split(np.arange(n), n_groups)])


def _positions(labels: IntArray, n_groups: int, length: int) -> IntArray:
    """Lay the groups out one after the other, each padded with −1 to whole blocks of ``length``."""
    padded = []
    for group in range(n_groups):
        members = np.flatnonzero(labels == group)
        padded.append(np.pad(members, (0, -len(members) % length), constant_values=-1))
    return np.concatenate(padded)


def _nearest_divisor(n: int, near: int) -> int:
    """Return the divisor of ``n`` nearest to ``near``."""
    return min((d for d in range(1, n + 1) if n % d == 0), key=lambda d: (abs(d - near), d))
