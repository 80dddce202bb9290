"""Where the blocks of a wiring lie, in the form that its products read."""

import weakref
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.connect.wiring import Wiring

Array = NDArray[Any]


@dataclass(frozen=True)
class BlockLayout:
    """The rows of blocks of one wiring. Row i reads ``cuts[i + 1] − cuts[i]`` columns: so many rows of the weights.

    Attributes:
        shape: target and source neurons.
        rows: target neurons of a block.
        cuts: where the columns of each row of blocks begin, uint64 ``[n + 1]``.
        sources: the source neuron of each column, uint32; 0 where there is nobody.
        width: so many columns, at every ``width``-th one, are neighbours.
        nobody: columns without a neuron, int64 tensors, by the row of blocks that reads them.
        runs: first source of each row of blocks, where each of them reads neighbours only; None where some do not.
        is_partition: whether each source is read by one row of blocks.
        targets: first target and number of targets of each row of blocks, where these are neighbours; None where some
            are not.
        to_positions: target neuron at each position, int64, −1 for nobody.
        to_targets: position of each target neuron, int64.
    """

    shape: tuple[int, int]
    rows: int
    cuts: Array
    sources: Array
    width: int
    nobody: dict[int, Tensor]
    runs: list[int] | None
    is_partition: bool
    targets: list[tuple[int, int]] | None
    to_positions: Array
    to_targets: Array

    @property
    def n(self) -> int:
        """Number of rows of blocks."""
        return len(self.cuts) - 1

    @cached_property
    def columns(self) -> Array:
        """The source neuron of each column as in ``sources``, but the number of sources where there is nobody."""
        columns = self.sources.copy()
        for piece, missing in self.nobody.items():
            columns[int(self.cuts[piece]) + missing.numpy()] = self.n_sources
        return columns

    @cached_property
    def spans(self) -> tuple[Array, Array]:
        """First position and number of positions that each row of blocks writes, int64."""
        if self.targets is None:
            return np.arange(self.n, dtype=np.int64) * self.rows, np.full(self.n, self.rows, dtype=np.int64)
        starts, lengths = np.array(self.targets, dtype=np.int64).T
        return np.ascontiguousarray(starts), np.ascontiguousarray(lengths)

    @cached_property
    def is_batch(self) -> bool:
        """Whether rows of blocks are alike, and each reads and writes the neurons that follow the last one's."""
        if self.runs is None or self.targets is None or not self.is_partition:
            return False
        firsts = np.arange(self.n) * (self.n_sources // self.n)
        return (
            self.n_sources % self.n == 0
            and self.targets == [(first * self.rows, self.rows) for first in range(self.n)]
            and self.runs == firsts.tolist()
        )

    @property
    def sizes(self) -> list[int]:
        """Number of columns that each row of blocks reads."""
        sizes: list[int] = np.diff(self.cuts).tolist()
        return sizes

    @property
    def n_sources(self) -> int:
        """Number of source neurons."""
        return self.shape[1]

    @property
    def n_positions(self) -> int:
        """Number of positions that rows of blocks write."""
        return len(self.to_positions) if self.targets is None else self.shape[0]


_KNOWN: dict[int, BlockLayout] = {}


def layout_of(wiring: Wiring) -> BlockLayout:
    """Return the layout of a wiring, made once as long as it lives."""
    key = id(wiring)
    if key not in _KNOWN:
        _KNOWN[key] = _make(wiring)
        weakref.finalize(wiring, _KNOWN.pop, key, None)
    return _KNOWN[key]


def _make(wiring: Wiring) -> BlockLayout:
    rows, columns = wiring.block
    by_block = wiring.in_order.reshape(-1, columns).astype(np.int64)
    sources = by_block[wiring.block_columns].ravel()
    cuts = np.asarray(wiring.indptr, dtype=np.int64) * columns
    is_run = bool((np.diff(by_block, axis=1) == 1).all() and (by_block >= 0).all())

    nobody = {}
    runs: list[int] | None = []
    for piece, (start, stop) in enumerate(pairwise(cuts)):
        own = sources[start:stop]
        missing = np.flatnonzero(own < 0)
        if len(missing):
            nobody[piece] = torch.from_numpy(missing)
        if runs is not None and len(own) and not len(missing) and (np.diff(own) == 1).all():
            runs.append(int(own[0]))
        else:
            runs = None
    is_partition = np.array_equal(np.sort(sources), np.arange(wiring.in_features))

    to_positions = wiring.out_order.astype(np.int64)
    to_targets = np.empty(wiring.out_features, dtype=np.int64)
    real = to_positions >= 0
    to_targets[to_positions[real]] = np.flatnonzero(real)
    return BlockLayout(
        shape=wiring.shape,
        rows=rows,
        cuts=cuts.astype(np.uint64),
        sources=np.maximum(sources, 0).astype(np.uint32),
        width=columns if is_run else 1,
        nobody=nobody,
        runs=runs,
        is_partition=is_partition,
        targets=_neighbours(to_positions.reshape(-1, rows)),
        to_positions=to_positions,
        to_targets=to_targets,
    )


def _neighbours(positions: Array) -> list[tuple[int, int]] | None:
    """Return the first target and the number of targets of each row of blocks; None where some are no neighbours."""
    found = []
    for own in positions:
        length = int((own >= 0).sum())
        if length == 0 or not np.array_equal(own[:length], own[0] + np.arange(length)):
            return None
        found.append((int(own[0]), length))
    return found
