"""Where the weights and the sources of a wiring lie, once each row of blocks has a matrix of its own to multiply."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.connect.wiring import Wiring

# matrix units and wide copies want 16 bytes at once: 8 numbers of 16 bits
_ALIGNED = 8
# rows of blocks with unlike numbers of sources are padded to the largest while that adds no more than this share
_MOST_PADDING = 0.25
# up to so many rows of blocks, who reads a source is a table
_FEW_ROWS = 32
NOBODY, ONE = -1, -2


@dataclass(frozen=True, eq=False)
class Gathering:
    """A wiring laid out for products on a GPU, as tensors on one device.

    Row i of the block grid reads a number of sources. Each gets a slot; the slots of a row follow each other, then
    come one that is always 1 where there is a bias, and empty ones up to an aligned width.

    Attributes:
        sources: int32 ``[slots]``, the source neuron in each slot; ``NOBODY``: 0, ``ONE``: 1. None: slots are
            sources, in order, and nothing need be gathered.
        stored: int32 ``[slots]``, which row of the stored weights, ``[n_blocks · columns, rows]``, belongs to each
            slot; ``NOBODY``: zeros, ``ONE``: the bias.
        own: int32 ``[slots]``, the row of blocks of each slot.
        readers: int32, the slots that read each source: for few rows of blocks ``[n_rows · in_features]``, the slot in
            each row or ``NOBODY``; for many compressed rows, ascending.
        pointers: int32 ``[in_features + 1]``, where the rows begin in ``readers``; None: it has no such rows.
        order: int32 ``[positions]``, target neuron at each position or ``NOBODY``; None: positions are neurons.
        position: int32 ``[out_features]``, position of each target neuron; None: likewise.
        rows: target positions in a row of blocks.
        out_features: number of target neurons.
        holds_bias: whether slots hold the bias; without a gather they cannot.
        as_stored: whether slots are stored weights, in order.
        edges: where the slots of each row of blocks begin, and where the last ones end.
    """

    sources: Tensor | None
    stored: Tensor
    own: Tensor
    readers: Tensor
    pointers: Tensor | None
    order: Tensor | None
    position: Tensor | None
    rows: int
    out_features: int
    holds_bias: bool
    as_stored: bool
    edges: tuple[int, ...]

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self.edges[-1]

    @property
    def n_rows(self) -> int:
        """Number of rows of blocks."""
        return len(self.edges) - 1

    @cached_property
    def width(self) -> int:
        """Number of slots in a row of blocks, where they all have the same; else 0."""
        width = self.edges[1]
        return width if all(edge == i * width for i, edge in enumerate(self.edges)) else 0

    @classmethod
    def of(cls, wiring: Wiring, *, bias: bool, device: torch.device) -> "Gathering":
        """Lay a wiring out."""
        rows, columns = wiring.block
        reads = np.diff(wiring.indptr) * columns
        source = wiring.in_order.reshape(-1, columns)[wiring.indices].ravel().astype(np.int64)
        in_place = len(set(reads.tolist())) == 1 and reads[0] % _ALIGNED == 0
        in_place = in_place and np.array_equal(source, np.arange(wiring.in_features))
        extra = 0 if in_place else int(bias)
        widths = -(-(reads + extra) // _ALIGNED) * _ALIGNED
        if widths.max() * len(widths) <= (1 + _MOST_PADDING) * widths.sum():
            widths[:] = widths.max()
        first = np.concatenate([[0], np.cumsum(widths)])
        own = np.repeat(np.arange(len(reads)), reads)
        slot = first[own] + np.arange(len(source)) - np.repeat(np.cumsum(reads) - reads, reads)
        sources, stored = (np.full(first[-1], NOBODY, dtype=np.int64) for _ in range(2))
        sources[slot], stored[slot] = source, np.arange(len(source))
        if extra:
            sources[first[:-1] + reads] = stored[first[:-1] + reads] = ONE
        few = len(reads) <= _FEW_ROWS
        real = slot[source >= 0]
        if few:
            readers = np.full((len(reads), wiring.in_features), NOBODY, dtype=np.int64)
            readers[own[source >= 0], sources[real]] = real
        else:
            readers = real[np.argsort(sources[real], kind="stable")]
        pointers = np.concatenate([[0], np.cumsum(np.bincount(sources[real], minlength=wiring.in_features))])
        order, position = wiring.out_order, np.empty(wiring.out_features, dtype=np.int64)
        position[order[order >= 0]] = np.flatnonzero(order >= 0)
        ordered = len(order) == len(position) and np.array_equal(position, np.arange(len(position)))

        def there(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.astype(np.int32)).to(device)

        return cls(
            sources=None if in_place else there(sources),
            stored=there(stored),
            own=there(np.repeat(np.arange(len(reads)), widths)),
            readers=there(readers.ravel()),
            pointers=None if few else there(pointers),
            order=None if ordered else there(order),
            position=None if ordered else there(position),
            rows=rows,
            out_features=wiring.out_features,
            holds_bias=bool(extra),
            as_stored=np.array_equal(stored, np.arange(len(source))),
            edges=tuple(first.tolist()),
        )

    # as operators take it

    def tensors(self) -> list[Tensor]:
        """Return all tensors, empty ones for None."""
        parts = (self.sources, self.stored, self.own, self.readers, self.pointers, self.order, self.position)
        return [self.stored[:0] if part is None else part for part in parts]

    def numbers(self) -> list[int]:
        """Return everything else."""
        return [self.rows, self.out_features, int(self.holds_bias), int(self.as_stored), *self.edges]

    @classmethod
    def from_parts(cls, tensors: Sequence[Tensor], numbers: Sequence[int]) -> "Gathering":
        """Return what :meth:`tensors` and :meth:`numbers` have described."""
        sources, stored, own, readers, pointers, order, position = tensors
        rows, out_features, holds_bias, as_stored, *edges = numbers
        return cls(
            sources=sources if len(sources) else None,
            stored=stored,
            own=own,
            readers=readers,
            pointers=pointers if len(pointers) else None,
            order=order if len(order) else None,
            position=position if len(position) else None,
            rows=rows,
            out_features=out_features,
            holds_bias=bool(holds_bias),
            as_stored=bool(as_stored),
            edges=tuple(edges),
        )


_HAS_TRITON = find_spec("triton") is not None  # PyTorch for Windows comes without it
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def gathering_on(device: torch.device, wiring: Wiring, *, bias: bool) -> Gathering | None:
    """Return a wiring laid out on a device; None where Triton does not compute, or not this wiring."""
    if wiring.block == (1, 1) or not _HAS_TRITON or not (device.type == "cuda" or _INTERPRETED):
        return None
    return Gathering.of(wiring, bias=bias, device=device)
