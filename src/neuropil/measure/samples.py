"""What measures take: at least one sample, finite numbers, mostly one row a sample and one column a unit."""

import math

import torch
from torch import Tensor


def check_batch(measure: str, batch: Tensor) -> None:
    """Refuse a batch without a sample.

    Raises:
        ValueError: there is none.
    """
    if batch.dim() < 1 or not len(batch):
        raise ValueError(f"{measure}: batch must have at least one sample, got shape {tuple(batch.shape)}")


def as_finite(measure: str, x: Tensor) -> Tensor:
    """Return activity in float64, without its graph.

    Args:
        measure: who asks, for the message.
        x: any shape.

    Raises:
        ValueError: entries that are not finite.
    """
    x = x.detach().to(torch.float64)
    # the extremes tell, nan being one wherever there is any, ten times as fast as looking at each
    if x.numel() and not all(math.isfinite(extreme) for extreme in x.aminmax()):
        raise ValueError(f"{measure}: activity must be finite, got inf or nan; try a smaller learning rate")
    return x


def as_samples(measure: str, x: Tensor, *, least: int = 2) -> Tensor:
    """Return activations ``[s, n]`` in float64, without their graph.

    Args:
        measure: who asks, for the message.
        x: activations, one row a sample.
        least: how many samples there must be.

    Raises:
        ValueError: another number of axes, too few samples, no units, or entries that are not finite.
    """
    if x.dim() != 2:
        hint = "x.flatten(1) of images, or x.mean(0) of a sequence [t, b, n]" if x.dim() > 2 else "x.unsqueeze(1)"
        raise ValueError(f"{measure}: activations must be [samples, units], got a shape of {list(x.shape)}; try {hint}")
    if x.shape[0] < least or not x.shape[1]:
        raise ValueError(
            f"{measure}: activations must have at least {least} samples and 1 unit, got {x.shape[0]} and {x.shape[1]}; "
            "try a larger batch"
        )
    return as_finite(measure, x)


def as_same_samples(measure: str, x: Tensor, y: Tensor, *, least: int = 2) -> tuple[Tensor, Tensor]:
    """Return two matrices of activations for the same samples, as :func:`as_samples` does.

    Raises:
        ValueError: as there, or the numbers of samples differ.
    """
    x, y = as_samples(measure, x, least=least), as_samples(measure, y, least=least)
    if len(x) != len(y):
        raise ValueError(
            f"{measure}: both must hold activations for the same samples, got {len(x)} and {len(y)} samples; "
            "try one batch for both"
        )
    return x, y.to(x.device)


def centred(x: Tensor) -> Tensor:
    """Return activations ``[s, n]`` less each unit's mean; units that do not vary are exactly 0, whatever rounding."""
    return x - torch.where(x.amax(0) == x.amin(0), x[0], x.mean(0))
