"""What every encoder asks of its arguments."""

import torch
from torch import Tensor

_ROUNDING = 1e-6  # how far a number may lie outside [0, 1] and still count as rounded


def check_steps(who: str, steps: int) -> int:
    """Return the number of steps, or raise a ``ValueError`` unless it is a whole number of at least 1."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"{who}: steps must be a whole number of at least 1, got {steps!r}")
    return steps


def check_floating(who: str, x: Tensor) -> None:
    """Raise a ``TypeError`` unless a tensor is of a floating-point type."""
    if not x.is_floating_point():
        raise TypeError(f"{who}: x must be a floating-point tensor, got {x.dtype}; try x.float()")


def into_unit_interval(who: str, what: str, values: Tensor) -> Tensor:
    """Return values clamped to [0, 1], or raise a ``ValueError`` where one lies outside by more than rounding."""
    if values.numel() == 0:
        return values
    low, high = (float(bound) for bound in torch.aminmax(values.detach()))
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # so written, NaN is refused too
        raise ValueError(
            f"{who}: {what} must lie in [0, 1], got values from {low:g} to {high:g}; try Dataset.in_unit_range() for "
            "pixels, or MinMax() for features"
        )
    return values.clamp(0.0, 1.0)
