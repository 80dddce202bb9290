"""Sums over the batch, such as the gradients of numbers that neurons share."""

from collections.abc import Callable

import torch
from torch import Tensor

from neuropil.threads import in_parallel


def add_up(work: Callable[[int, int, Tensor], None], rows: int, *shape: int) -> Tensor:
    """Call ``work(first, last, sums)`` for parts of a batch on all threads, and return the total of their sums.

    Args:
        work: does rows ``first`` to ``last``, the latter excluded, and adds to ``sums``, doubles that start at 0.
        rows: size of the batch.
        shape: of the sums.
    """
    parts: list[tuple[int, Tensor]] = []

    def part(first: int, last: int) -> None:
        sums = torch.zeros(shape, dtype=torch.float64)
        work(first, last, sums)
        parts.append((first, sums))

    in_parallel(part, rows)
    parts.sort(key=lambda entry: entry[0])  # whoever was first: the same total every time
    total = parts[0][1]
    for _, sums in parts[1:]:
        total += sums
    return total
