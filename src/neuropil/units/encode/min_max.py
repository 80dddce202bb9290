"""Each sample on its own scale from 0 to 1."""

from torch import Tensor, nn

from neuropil.units.encode.checks import check_floating


class MinMax(nn.Module):
    """Shift and scale every sample so that its smallest value is 0 and its largest 1.

    y = (x − min x) / (max x − min x), minimum and maximum of the sample over all its axes. A sample whose values are
    all equal becomes 0. Minimum and maximum take part in the gradient.

    Shape:
        ``[b, …]`` → ``[b, …]``, in the input's type.

    Raises:
        ValueError: at the call: the input has no axis beside the batch's.
        TypeError: at the call: the input is not of a floating-point type.

    Reference:
        G2GNet's spiking code (arXiv 2508.14140) does so with the features of an encoder before :class:`RateEncoder`.

    Example:
        >>> import torch
        >>> MinMax()(torch.tensor([[1.0, 3.0, 2.0], [7.0, 7.0, 7.0]]))
        tensor([[0.0000, 1.0000, 0.5000],
                [0.0000, 0.0000, 0.0000]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return samples ``[b, …]`` scaled to [0, 1]."""
        check_floating("MinMax", x)
        if x.dim() < 2:
            raise ValueError(f"MinMax: x must be [b, …] with at least two axes, got shape {tuple(x.shape)}")
        if x.numel() == 0:
            return x
        axes = tuple(range(1, x.dim()))
        low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
        spread = high - low
        return (x - low) / spread.where(spread > 0, 1.0)
