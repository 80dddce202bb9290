"""Event-driven products on a GPU, by Triton: what is not zero in a matrix is listed, and only that is multiplied.

Lists have room for a whole row, so that nothing waits for the GPU to say how much is not zero.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_LISTED = 1024  # columns that are looked at together
_WIDTH = 1024  # columns of the result that a program computes
_WARPS = 4


def event_product(x: Tensor, matrix: Tensor) -> Tensor:
    """Return ``x`` · ``matrix``, ``[r, c]``, of ``[r, n]`` and ``[n, c]``, for the price of what is not zero in x.

    Each sum runs over the events of its row in order, in float32 or wider. ``x`` may have any strides.
    """
    (r, n), c = x.shape, matrix.shape[1]
    matrix = matrix.contiguous()
    columns = torch.empty(r, n, dtype=torch.int32, device=x.device)
    counts = torch.empty(r, dtype=torch.int32, device=x.device)
    out = matrix.new_empty(r, c)
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        find[(r,)](x, columns, counts, n, *x.stride(), listed=_LISTED, num_warps=_WARPS)
        grid = (r * triton.cdiv(c, _WIDTH),)
        multiply[grid](x, columns, counts, matrix, out, n, c, *x.stride(), width=_WIDTH, num_warps=_WARPS)
    return out


@triton.jit  # type: ignore[untyped-decorator]
def find(
    x: tl.tensor,
    columns: tl.tensor,
    counts: tl.tensor,
    n: tl.tensor,
    x_row: tl.tensor,
    x_column: tl.tensor,
    listed: tl.constexpr,
) -> None:
    """List the columns that are not zero in a row of ``x``, ascending.

    Args:
        x: ``[r, n]``.
        columns: ``[r, n]``, of which the first ``counts`` are written.
        counts: ``[r]``.
        n, x_row, x_column: width and strides of ``x``.
        listed: how many are looked at together.
    """
    row = tl.program_id(0).to(tl.int64)
    count = tl.zeros([], tl.int32)
    for first in range(0, n, listed):
        column = first + tl.arange(0, listed)
        value = tl.load(x + row * x_row + column.to(tl.int64) * x_column, mask=column < n, other=0.0)
        fires = value != 0.0
        at = row * n + count + tl.cumsum(fires.to(tl.int32), 0) - 1
        tl.store(columns + at, column, mask=fires)
        count += tl.sum(fires.to(tl.int32))
    tl.store(counts + row, count)


@triton.jit  # type: ignore[untyped-decorator]
def multiply(
    x: tl.tensor,
    columns: tl.tensor,
    counts: tl.tensor,
    matrix: tl.tensor,
    out: tl.tensor,
    n: tl.tensor,
    c: tl.tensor,
    x_row: tl.tensor,
    x_column: tl.tensor,
    width: tl.constexpr,
) -> None:
    """Add up the rows of ``matrix`` that a row lists, each times its number.

    Args:
        x, columns, counts: as in :func:`find`.
        matrix: ``[n, c]``.
        out: ``[r, c]``.
        n, c: shape of ``matrix``.
        x_row, x_column: strides of ``x``.
        width: columns of ``out`` at once.
    """
    across = tl.cdiv(c, width)
    row = (tl.program_id(0) // across).to(tl.int64)
    at = tl.program_id(0) % across * width + tl.arange(0, width)
    inside = at < c
    wide: tl.constexpr = tl.float64 if matrix.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([width], wide)
    listed = columns + row * n
    for _ in range(tl.load(counts + row)):
        column = tl.load(listed).to(tl.int64)
        value = tl.load(x + row * x_row + column * x_column).to(wide)
        total += value * tl.load(matrix + column * c + at, mask=inside, other=0.0).to(wide)
        listed += 1
    tl.store(out + row * c + at, total.to(out.dtype.element_ty), mask=inside)
