"""Event-driven products on a GPU, by Triton: what is not zero in a matrix is listed, and only that is multiplied.

Lists have room for a whole row, so that nothing waits for the GPU to say how much is not zero.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

LIST = {"columns": 1024, "num_warps": 4}
PRODUCT = {"columns": 1024, "num_warps": 4}


def event_product(x: Tensor, matrix: Tensor) -> Tensor:
    """Return ``x`` · ``matrix``, ``[r, c]``, of ``[r, n]`` and ``[n, c]``, for the price of what is not zero in x.

    Each sum runs over the events of its row in order. Types are those of ``matrix``; sums are float32 or wider.
    """
    (r, n), c = x.shape, matrix.shape[1]
    matrix = matrix.contiguous()
    columns = torch.empty(r, n, dtype=torch.int32, device=x.device)
    values = torch.empty(r, n, dtype=matrix.dtype, device=x.device)
    counts = torch.empty(r, dtype=torch.int32, device=x.device)
    out = matrix.new_empty(r, c)
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        find[(r,)](x, columns, values, counts, n, x.stride(0), x.stride(1), **LIST)
        grid = (r * triton.cdiv(c, PRODUCT["columns"]),)
        multiply[grid](columns, values, counts, matrix, out, n, c, width=PRODUCT["columns"],
                       num_warps=PRODUCT["num_warps"])  # fmt: skip
    return out


@triton.jit  # type: ignore[untyped-decorator]
def find(
    x: tl.tensor,
    sources: tl.tensor,
    values: tl.tensor,
    counts: tl.tensor,
    n: tl.tensor,
    x_row: tl.tensor,
    x_column: tl.tensor,
    columns: tl.constexpr,
) -> None:
    """List what is not zero in a row of ``x``, ascending.

    Args:
        x: ``[r, n]``.
        sources, values: ``[r, n]``, columns and numbers; only the first ``counts`` are written.
        counts: ``[r]``.
        n, x_row, x_column: shape and strides of ``x``.
        columns: handled at once.
    """
    row = tl.program_id(0).to(tl.int64)
    count = tl.zeros([], tl.int32)
    for first in range(0, n, columns):
        column = first + tl.arange(0, columns)
        value = tl.load(x + row * x_row + column.to(tl.int64) * x_column, mask=column < n, other=0.0)
        fires = value != 0.0
        to = row * n + count + tl.cumsum(fires.to(tl.int32), 0) - 1
        tl.store(sources + to, column, mask=fires)
        tl.store(values + to, value.to(values.dtype.element_ty), mask=fires)
        count += tl.sum(fires.to(tl.int32))
    tl.store(counts + row, count)


@triton.jit  # type: ignore[untyped-decorator]
def multiply(
    sources: tl.tensor,
    values: tl.tensor,
    counts: tl.tensor,
    matrix: tl.tensor,
    out: tl.tensor,
    n: tl.tensor,
    c: tl.tensor,
    width: tl.constexpr,
) -> None:
    """Add up the rows of ``matrix`` that a row lists.

    Args:
        sources, values, counts: as in :func:`find`.
        matrix: ``[n, c]``.
        out: ``[r, c]``.
        n, c: shape of ``matrix``.
        width: columns at once.
    """
    across = tl.cdiv(c, width)
    row = (tl.program_id(0) // across).to(tl.int64)
    column = tl.program_id(0) % across * width + tl.arange(0, width)
    inside = column < c
    wide: tl.constexpr = tl.float64 if matrix.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([width], wide)
    at = row * n
    for _ in range(tl.load(counts + row)):
        source = tl.load(sources + at).to(tl.int64)
        value = tl.load(values + at).to(wide)
        total += value * tl.load(matrix + source * c + column, mask=inside, other=0.0).to(wide)
        at += 1
    tl.store(out + row * c + column, total.to(out.dtype.element_ty), mask=inside)
