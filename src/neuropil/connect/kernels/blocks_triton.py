"""What gathered products move on a GPU, by Triton: sources into slots, gradients back, stored weights into matrices.

A program handles a tile of rows and columns. Every result is written by one program, which adds up in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# (rows, columns, warps) of a tile; numbers of a thread that are written at once: see benchmarks/results
GATHER = {"rows": 8, "columns": 256, "num_warps": 4, "vector": 2}
SUM = {"rows": 8, "columns": 256, "num_warps": 4, "vector": 2}
PACK = {"rows": 8, "columns": 256, "num_warps": 4}


def run_gather(x: Tensor, index: Tensor, out: Tensor) -> None:
    """Copy the columns of ``x``, ``[b, i]``, that ``index`` names, into ``out``, ``[b, n]``, in its type.

    Both have rows of consecutive numbers. Where the index is −1, 0 is written, and where it is −2, 1.
    """
    tile, (b, n) = GATHER, out.shape
    grid = (triton.cdiv(n, tile["columns"]) * triton.cdiv(b, tile["rows"]),)
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        gather[grid](x, index, out, b, n, x.stride(0), out.stride(0), **_fitting(tile, out))


def run_sum(slots: Tensor, readers: Tensor, pointers: Tensor, out: Tensor) -> None:
    """Write the sum of the columns of ``slots``, ``[b, n]``, that each column of ``out``, ``[b, i]``, is read by."""
    tile, (b, n) = SUM, out.shape
    grid = (triton.cdiv(n, tile["columns"]) * triton.cdiv(b, tile["rows"]),)
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        add[grid](slots, readers, pointers, out, b, n, slots.stride(0), out.stride(0), **_fitting(tile, out))


def run_pack(
    weight: Tensor, bias: Tensor | None, stored: Tensor, own: Tensor, order: Tensor | None, packed: Tensor, *,
    back: bool,
) -> None:  # fmt: skip
    """Copy stored weights ``[r, o]`` and bias into ``packed``, ``[n, o]``, or ``back``; all are contiguous.

    Args:
        weight, bias: as a layer has them.
        stored, own, order: of :class:`~neuropil.connect.kernels.gathering.Gathering`.
        packed: a row for each slot.
        back: from ``packed`` to ``weight`` and ``bias``.
    """
    tile, (n, o) = PACK, packed.shape
    grid = (triton.cdiv(o, tile["columns"]) * triton.cdiv(n, tile["rows"]),)
    with torch.cuda.device_of(packed):  # type: ignore[no-untyped-call]
        pack[grid](weight, bias, stored, own, order, packed, n, o, back=back, **tile)


def _fitting(tile: dict[str, int], out: Tensor) -> dict[str, int]:
    """Return the tile, with one number at once where rows do not all begin at a multiple of more."""
    return tile if out.stride(0) % tile["vector"] == 0 else tile | {"vector": 1}


@triton.jit(do_not_specialize=["b", "out_row"])  # type: ignore[untyped-decorator]
def gather(
    x: tl.tensor,
    index: tl.tensor,
    out: tl.tensor,
    b: tl.tensor,
    n: tl.tensor,
    x_row: tl.tensor,
    out_row: tl.tensor,
    rows: tl.constexpr,
    columns: tl.constexpr,
    vector: tl.constexpr,
) -> None:
    """Gather a tile.

    Args:
        x, index, out: as in :func:`run_gather`.
        b, n: shape of ``out``.
        x_row, out_row: from one row to the next.
        rows, columns: of a tile.
        vector: how many neighbours a thread handles: few, so that the reads of a warp are near each other.
    """
    across = tl.cdiv(n, columns)
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = tl.program_id(0) % across * columns + tl.arange(0, columns)
    inside = column < n
    at = tl.load(index + column, mask=inside, other=-1)
    here = (row < b)[:, None]
    value = tl.load(x + row[:, None] * x_row + at[None, :], mask=here & (at >= 0)[None, :], other=0.0)
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    value = tl.where((at == -2)[None, :], 1.0, value.to(wide))
    to = out + row[:, None] * (out_row // vector * vector) + column[None, :]
    tl.store(to, value.to(out.dtype.element_ty), mask=here & inside[None, :])


@triton.jit(do_not_specialize=["b", "out_row"])  # type: ignore[untyped-decorator]
def add(
    slots: tl.tensor,
    readers: tl.tensor,
    pointers: tl.tensor,
    out: tl.tensor,
    b: tl.tensor,
    n: tl.tensor,
    slots_row: tl.tensor,
    out_row: tl.tensor,
    rows: tl.constexpr,
    columns: tl.constexpr,
    vector: tl.constexpr,
) -> None:
    """Add up a tile.

    Args:
        slots, readers, pointers, out: as in :func:`run_sum`.
        b, n: shape of ``out``.
        slots_row, out_row: from one row to the next.
        rows, columns: of a tile.
        vector: as in :func:`gather`.
    """
    across = tl.cdiv(n, columns)
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = tl.program_id(0) % across * columns + tl.arange(0, columns)
    inside = column < n
    first = tl.load(pointers + column, mask=inside, other=0)
    count = tl.load(pointers + column + 1, mask=inside, other=0) - first
    here = (row < b)[:, None]
    wide: tl.constexpr = tl.float64 if slots.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([rows, columns], wide)
    for nth in range(tl.max(count)):
        reads = nth < count
        at = tl.load(readers + first + nth, mask=reads, other=0)
        total += tl.load(slots + row[:, None] * slots_row + at[None, :], mask=here & reads[None, :], other=0.0)
    to = out + row[:, None] * (out_row // vector * vector) + column[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=here & inside[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def pack(
    weight: tl.tensor,
    bias: tl.tensor,
    stored: tl.tensor,
    own: tl.tensor,
    order: tl.tensor,
    packed: tl.tensor,
    n: tl.tensor,
    o: tl.tensor,
    back: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    """Copy a tile of weights.

    Args:
        weight, bias, stored, own, order, packed, back: as in :func:`run_pack`.
        n, o: shape of ``packed``.
        rows, columns: of a tile.
    """
    across = tl.cdiv(o, columns)
    slot = tl.program_id(0) // across * rows + tl.arange(0, rows)
    column = tl.program_id(0) % across * columns + tl.arange(0, columns)
    inside = (column < o)[None, :]
    at = tl.load(stored + slot, mask=slot < n, other=-1)
    from_weight = (at >= 0)[:, None] & inside
    in_weight = weight + at.to(tl.int64)[:, None] * o + column[None, :]
    in_packed = packed + slot.to(tl.int64)[:, None] * o + column[None, :]
    from_bias = (at == -2)[:, None] & inside
    if bias is not None:
        target = tl.load(own + slot, mask=slot < n, other=0)[:, None] * o + column[None, :]
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
        tl.store(in_packed, value, mask=(slot < n)[:, None] & inside)
