"""The same analog current at every step."""

from torch import Tensor, nn

from neuropil.units.encode.checks import check_floating, check_steps


class CurrentEncoder(nn.Module):
    """Feed a sample as an analog current that stays the same over time.

    y[t] = scale · x + bias for every t. The steps are one view of the same numbers (stride 0 in time), so that the
    layer after it may compute its product once for all steps. Do not write into the result.

    Args:
        steps: number of time steps, at least 1.
        scale: factor on the input.
        bias: current that is added to every input.

    Shape:
        ``[b, …]`` → ``[t, b, …]``, in the input's type. The input gets the sum of the gradients of all steps.

    Raises:
        ValueError: ``steps`` is less than 1.
        TypeError: at the call: the input is not of a floating-point type.

    Reference:
        The ``current`` input of G2GNet's spiking code (arXiv 2508.14140), which repeats x · scale + bias T times.

    Example:
        >>> import torch
        >>> current = CurrentEncoder(3, scale=0.5)(torch.tensor([[1.0, 4.0]]))
        >>> current[:, 0].tolist(), current.stride(0)
        ([[0.5, 2.0], [0.5, 2.0], [0.5, 2.0]], 0)
    """

    def __init__(self, steps: int, *, scale: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.steps = check_steps("CurrentEncoder", steps)
        self.scale = scale
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Return the currents ``[t, b, …]`` of samples ``[b, …]``."""
        check_floating("CurrentEncoder", x)
        if self.scale != 1.0:
            x = x * self.scale
        if self.bias != 0.0:
            x = x + self.bias
        return x.expand(self.steps, *x.shape)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"{self.steps}, scale={self.scale}, bias={self.bias}"
