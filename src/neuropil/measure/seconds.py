"""How long a network really takes."""

import statistics
import time

import torch
from torch import Tensor, nn

from neuropil.evaluation import evaluation_mode, same_draws


@torch.no_grad()
def forward_seconds(model: nn.Module, batch: Tensor, *, passes: int = 20, warm_up: int = 3) -> float:
    """Return how long a forward pass of a batch takes on this machine: the median of several, in evaluation mode.

    It is of this machine, its threads, its load and this batch size: compare networks in one process, by turns
    (``neuropil bench`` does), and never across machines. A GPU is waited for.

    Args:
        model: any module, on the device where it is timed.
        batch: what it takes, on that device.
        passes: how many are timed, at least 1.
        warm_up: passes before them, which compile, allocate and fill caches, at least 0.

    Returns:
        Seconds, above 0. Cost: ``warm_up + passes`` forward passes.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> forward_seconds(nn.Linear(10, 10), torch.ones(4, 10), passes=3) > 0
        True
    """
    for name, value, least in (("passes", passes, 1), ("warm_up", warm_up, 0)):
        if value < least:
            raise ValueError(f"forward_seconds: {name} must be at least {least}, got {value}; try 20 passes, 3 before")
    seconds = []
    with same_draws(model), evaluation_mode(model):
        for _ in range(warm_up + passes):
            _wait_for(batch.device)
            started = time.perf_counter()
            model(batch)
            _wait_for(batch.device)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[warm_up:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
