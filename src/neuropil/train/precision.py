"""How precisely the products of a network are computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Compute products in a precision while the block runs, forward and backward; parameters stay as they are.

    With ``tf32``, factors are rounded to 10 bits behind the point (relative error up to 2⁻¹¹) and summed in float32,
    by the matrix units of a GPU; spikes, being 0 or 1, are exact. Otherwise products are computed as PyTorch is set
    up; for ``bfloat16``, autocast around the forward pass does the rest.
    """
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
