"""What gathered products move on a GPU, by Triton: sources into slots and weights into matrices, and gradients back.

A program handles a tile of rows and columns. Every result is written by one program, which adds up in a fixed order.
What can be moved at the same time is one launch: launches cost more than small layers do.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


class Tile(NamedTuple):
    """How a matrix is cut.

    Attributes:
        rows, columns: of a tile.
        vector: how many neighbours a thread handles. Few: so what a warp reads at once lies near each other.
        warps: of a program; best as many as there are columns for, at ``vector`` each.
    """

    rows: int
    columns: int
    vector: int
    warps: int


# the fastest on an H200
GATHER = Tile(4, 256, 2, 4)
SUM = Tile(4, 256, 2, 4)
PACK = Tile(8, 256, 8, 4)
PROGRAMS = 2048  # enough for every GPU; more would load sources again that a program has at hand


class Weights(NamedTuple):
    """Weights as a layer stores them and as they are multiplied, all contiguous.

    Attributes:
        weight: ``[..., o]``.
        bias: ``[out_features]`` or None.
        packed: ``[n, o]``, a row for each slot.
        stored, own, order: of :class:`~neuropil.connect.kernels.gathering.Gathering`.
    """

    weight: Tensor
    bias: Tensor | None
    packed: Tensor
    stored: Tensor
    own: Tensor
    order: Tensor | None

    def programs(self) -> int:
        """Return how many programs move them."""
        n, o = self.packed.shape
        return -(-n // PACK.rows) * -(-o // PACK.columns)


def run_gather(x: Tensor | None, index: Tensor | None, out: Tensor, weights: Weights | None) -> None:
    """Copy the columns of ``x``, ``[b, i]``, that ``index`` names, into ``out``, ``[b, n]``; and pack weights.

    Both have rows of consecutive numbers; each may have a type of its own. Where the index is −1, 0 is written, and
    where it is −2, 1. Without ``x``, nothing is gathered.
    """
    (b, n), tile = out.shape, _fitting(GATHER, out)
    bands = triton.cdiv(b, tile.rows) if x is not None else 0
    across = max(1, min(triton.cdiv(n, tile.columns), PROGRAMS // max(bands, 1)))
    programs = bands * across + (weights.programs() if weights else 0)
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        gather[(programs,)](
            x, index, out, b, n, 0 if x is None else x.stride(0), out.stride(0), bands, across,
            *_arguments(weights), gathers=x is not None, packs=weights is not None, tile_rows=tile.rows,
            tile_columns=tile.columns, vector=tile.vector, pack_rows=PACK.rows, pack_columns=PACK.columns,
            num_warps=tile.warps,
        )  # fmt: skip


def run_sum(slots: Tensor | None, readers: Tensor, pointers: Tensor | None, out: Tensor,
            weights: Weights | None) -> None:  # fmt: skip
    """Write the sum of the columns of ``slots``, ``[b, n]``, that read each column of ``out``, ``[b, i]``; and unpack.

    Args:
        slots: with rows of consecutive numbers, as ``out``. None: nothing is added up.
        readers, pointers: of :class:`~neuropil.connect.kernels.gathering.Gathering`.
        out: of any type.
        weights: gradients, from ``packed`` to ``weight`` and ``bias``.
    """
    (b, n), tile = out.shape, _fitting(SUM, out)
    bands = triton.cdiv(b, tile.rows) if slots is not None else 0
    across = triton.cdiv(n, tile.columns)
    programs = bands * across + (weights.programs() if weights else 0)
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        add[(programs,)](
            slots, readers, pointers, out, b, n, readers.numel() // n, 0 if slots is None else slots.stride(0),
            out.stride(0), bands, across, *_arguments(weights), adds=slots is not None, packs=weights is not None,
            tile_rows=tile.rows, tile_columns=tile.columns, vector=tile.vector, pack_rows=PACK.rows,
            pack_columns=PACK.columns, num_warps=tile.warps,
        )  # fmt: skip


def _fitting(tile: Tile, out: Tensor) -> Tile:
    """Return the tile, with one number at once where rows do not all begin at a multiple of more."""
    return tile if out.stride(0) % tile.vector == 0 else tile._replace(vector=1)


def _arguments(weights: Weights | None) -> tuple[Tensor | int | None, ...]:
    return (None,) * 6 + (0, 0) if weights is None else (*weights, *weights.packed.shape)


@triton.jit(do_not_specialize=["b", "out_row", "bands", "across"])  # type: ignore[untyped-decorator]
def gather(
    x: tl.tensor,
    index: tl.tensor,
    out: tl.tensor,
    b: tl.tensor,
    n: tl.tensor,
    x_row: tl.tensor,
    out_row: tl.tensor,
    bands: tl.tensor,
    across: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    packed: tl.tensor,
    stored: tl.tensor,
    own: tl.tensor,
    order: tl.tensor,
    slots: tl.tensor,
    o: tl.tensor,
    gathers: tl.constexpr,
    packs: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    vector: tl.constexpr,
    pack_rows: tl.constexpr,
    pack_columns: tl.constexpr,
) -> None:
    """Gather a part of a band of rows, tile by tile, so that a source is loaded once; or pack a tile of weights.

    Args:
        x, index, out: as in :func:`run_gather`.
        b, n: shape of ``out``.
        x_row, out_row: from one row to the next.
        bands: number of bands.
        across: number of parts of a band.
        weight, bias, packed, stored, own, order: of :class:`Weights`.
        slots, o: shape of ``packed``.
        gathers, packs: what is to be done.
        tile_rows, tile_columns, vector: of :data:`GATHER`.
        pack_rows, pack_columns: of :data:`PACK`.
    """
    program = tl.program_id(0)
    if gathers:  # noqa: SIM102 - left out where not
        if program < bands * across:
            row = (program // across).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
            here = (row < b)[:, None]
            tiles = tl.cdiv(n, tile_columns)
            each = tl.cdiv(tiles, across)
            first = program % across * each
            wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
            for tile in range(first, tl.minimum(first + each, tiles)):
                column = tile * tile_columns + tl.arange(0, tile_columns)
                inside = column < n
                at = tl.load(index + column, mask=inside, other=-1)
                value = tl.load(x + row[:, None] * x_row + at[None, :], mask=here & (at >= 0)[None, :], other=0.0)
                value = tl.where((at == -2)[None, :], 1.0, value.to(wide))
                to = out + row[:, None] * (out_row // vector * vector) + column[None, :]
                tl.store(to, value.to(out.dtype.element_ty), mask=here & inside[None, :])
    if packs:  # noqa: SIM102 - left out where not
        if program >= bands * across:
            pack(program - bands * across, weight, bias, packed, stored, own, order, slots, o, False, pack_rows,
                 pack_columns)  # fmt: skip


@triton.jit(do_not_specialize=["b", "out_row", "bands", "across", "n_rows"])  # type: ignore[untyped-decorator]
def add(
    of_slots: tl.tensor,
    readers: tl.tensor,
    pointers: tl.tensor,
    out: tl.tensor,
    b: tl.tensor,
    n: tl.tensor,
    n_rows: tl.tensor,
    slots_row: tl.tensor,
    out_row: tl.tensor,
    bands: tl.tensor,
    across: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    packed: tl.tensor,
    stored: tl.tensor,
    own: tl.tensor,
    order: tl.tensor,
    slots: tl.tensor,
    o: tl.tensor,
    adds: tl.constexpr,
    packs: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    vector: tl.constexpr,
    pack_rows: tl.constexpr,
    pack_columns: tl.constexpr,
) -> None:
    """Add up a tile, or unpack a tile of gradients of weights.

    Args:
        of_slots, readers, pointers, out: as in :func:`run_sum`.
        b, n: shape of ``out``.
        n_rows: number of rows of blocks.
        slots_row, out_row: from one row to the next.
        bands, across: number of tiles along rows and columns.
        weight, bias, packed, stored, own, order: of :class:`Weights`.
        slots, o: shape of ``packed``.
        adds, packs: what is to be done.
        tile_rows, tile_columns, vector: of :data:`SUM`.
        pack_rows, pack_columns: of :data:`PACK`.
    """
    program = tl.program_id(0)
    if adds:  # noqa: SIM102 - left out where not
        if program < bands * across:
            row = (program // across).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
            column = program % across * tile_columns + tl.arange(0, tile_columns)
            here, inside = (row < b)[:, None], column < n
            wide: tl.constexpr = tl.float64 if of_slots.dtype.element_ty == tl.float64 else tl.float32
            total = tl.zeros([tile_rows, tile_columns], wide)
            start = of_slots + row[:, None] * slots_row
            if pointers is None:  # a table: what lies near each other in a row of blocks is read at once
                table = readers + column
                for _ in tl.range(0, n_rows, loop_unroll_factor=4):
                    at = tl.load(table, mask=inside, other=-1)
                    table += n
                    total += tl.load(start + at[None, :], mask=here & (at >= 0)[None, :], other=0.0)
            else:
                first = tl.load(pointers + column, mask=inside, other=0)
                count = tl.load(pointers + column + 1, mask=inside, other=0) - first
                for nth in range(tl.max(count)):
                    at = tl.load(readers + first + nth, mask=nth < count, other=0)
                    total += tl.load(start + at[None, :], mask=here & (nth < count)[None, :], other=0.0)
            to = out + row[:, None] * (out_row // vector * vector) + column[None, :]
            tl.store(to, total.to(out.dtype.element_ty), mask=here & inside[None, :])
    if packs:  # noqa: SIM102 - left out where not
        if program >= bands * across:
            pack(program - bands * across, weight, bias, packed, stored, own, order, slots, o, True, pack_rows,
                 pack_columns)  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def pack(
    program: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    packed: tl.tensor,
    stored: tl.tensor,
    own: tl.tensor,
    order: tl.tensor,
    slots: tl.tensor,
    o: tl.tensor,
    back: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    """Copy a tile of weights.

    Args:
        program: number of the tile.
        weight, bias, packed, stored, own, order: of :class:`Weights`.
        slots, o: shape of ``packed``.
        back: from ``packed`` to ``weight`` and ``bias``.
        rows, columns: of a tile.
    """
    across = tl.cdiv(o, columns)
    slot = program // across * rows + tl.arange(0, rows)
    column = program % across * columns + tl.arange(0, columns)
    inside = (column < o)[None, :]
    at = tl.load(stored + slot, mask=slot < slots, other=-1)
    from_weight = (at >= 0)[:, None] & inside
    in_weight = weight + at.to(tl.int64)[:, None] * o + column[None, :]
    in_packed = packed + slot.to(tl.int64)[:, None] * o + column[None, :]
    from_bias = (at == -2)[:, None] & inside
    if bias is not None:
        target = tl.load(own + slot, mask=slot < slots, other=0)[:, None] * o + column[None, :]
        if order is not None:
            target = tl.load(order + target, mask=from_bias, other=-1)
            from_bias = from_bias & (target >= 0)
    if back:
        value = tl.load(in_packed, mask=from_weight | from_bias)
        tl.store(in_weight, value.to(weight.dtype.element_ty), mask=from_weight)
        if bias is not None:
            tl.store(bias + target, value.to(bias.dtype.element_ty), mask=from_bias)
    else:
        value = tl.load(in_weight, mask=from_weight, other=0.0).to(packed.dtype.element_ty)
        if bias is not None:
            value = tl.where(from_bias, tl.load(bias + target, mask=from_bias, other=0.0).to(value.dtype), value)
        tl.store(in_packed, value, mask=(slot < slots)[:, None] & inside)
