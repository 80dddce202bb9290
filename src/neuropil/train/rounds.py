"""A learning rate that starts anew with each round of training."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_in_rounds(optimizer: Optimizer, epochs: int, starts: Sequence[float]) -> LambdaLR:
    """Return a schedule that falls to 0 along half a cosine in each round, from the optimizer's rate; by the epoch.

    An epoch that a round begins in is of the round that has more of it.

    Args:
        optimizer: whose learning rate it sets.
        epochs: of the whole training.
        starts: shares of training at which rounds after the first begin, rising within (0, 1), as
            :meth:`neuropil.rewire.Rewiring.rewinds_at` gives them.

    Raises:
        ValueError: the number of epochs is below 1, or the shares do not rise.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> scheduler = cosine_in_rounds(optimizer, 4, [0.5])
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(round(scheduler.get_last_lr()[0], 3))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [1.0, 0.5, 1.0, 0.5]
    """
    ends = (0.0, *starts, 1.0)
    if epochs < 1:
        raise ValueError(f"cosine_in_rounds: epochs must be at least 1, got {epochs}")
    if not all(a < b for a, b in pairwise(ends)):
        raise ValueError(f"cosine_in_rounds: starts must be shares of training that rise within (0, 1), got {starts!r}")

    def factor(epoch: int) -> float:
        start, end = next((a, b) for a, b in reversed([*pairwise(ends)]) if a <= (epoch + 0.5) / epochs)
        done = (epoch / epochs - start) / (end - start)
        return (1 + math.cos(math.pi * min(1.0, max(0.0, done)))) / 2

    return LambdaLR(optimizer, factor)
