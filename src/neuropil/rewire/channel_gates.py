"""Which channels of a convolution are computed for an image: predicted from its input, drawn, or always the same."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Target = Literal["mass", "uniform"]
_TOLERANCE = 1e-5


class ChannelPredictor(nn.Module):
    """Predict from the input of a convolution which of its channels will matter for this image.

    Channel c is open if its logit is above 0: logits = W softmax(pool(x)) + b.

    Args:
        in_channels: of the convolution, at least 1.
        out_channels: of the convolution, at least 1.
        embedding: None: each input channel is pooled to its mean; a number: to d × d means, d = √(embedding /
            in_channels), rounded, at least 1.
        softmax: whether the pooled numbers go through a softmax.
        decoupled: whether no gradient goes from here to the input (``decoupled``; else ``joint``).
        generator: where the initial weights, U(−1/√n, 1/√n) of n pooled numbers, come from; default: PyTorch's own.

    Shape:
        ``[b, in_channels, height, width]`` → ``[b, out_channels]``.

    Raises:
        ValueError: a number is below 1.

    Reference:
        S. Elkerdawy et al., Fire Together Wire Together, arXiv 2110.08232, and its public code.

    Example:
        >>> ChannelPredictor(3, 16)(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        embedding: int | None = None,
        softmax: bool = True,
        decoupled: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "embedding": embedding}
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"ChannelPredictor: {name} must be at least 1, got {size}; try 16")
        self.side = 1 if embedding is None else max(1, round(math.sqrt(embedding / in_channels)))
        self.softmax, self.decoupled = softmax, decoupled
        self.linear = nn.Linear(in_channels * self.side**2, out_channels)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw weights and biases anew."""
        bound = 1 / math.sqrt(self.linear.in_features)
        for parameter in (self.linear.weight, self.linear.bias):
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[b, out_channels]``."""
        pooled = F.adaptive_avg_pool2d(x.detach() if self.decoupled else x, self.side).flatten(1)
        logits: Tensor = self.linear(pooled.softmax(1) if self.softmax else pooled)
        return logits

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"side={self.side}, softmax={self.softmax}, decoupled={self.decoupled}"


class RandomChannels(nn.Module):
    """Open so many channels, drawn anew for every image: what a predictor must be better than.

    Args:
        channels: of the convolution.
        n_open: mean number of open channels, from 0 to ``channels``; between whole numbers, chance decides.
        generator: where draws come from, not kept in checkpoints; default: PyTorch's own state, which ``train.fit``
            seeds, so that a run can be taken up again.

    Raises:
        ValueError: the number is out of range.

    Example:
        >>> gate = RandomChannels(8, 3, generator=torch.Generator().manual_seed(0))
        >>> (gate(torch.ones(2, 4, 5, 5)) > 0).sum(1).tolist()
        [3, 3]
    """

    def __init__(self, channels: int, n_open: float, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if not 0 <= n_open <= channels:
            raise ValueError(f"RandomChannels: n_open must be from 0 to {channels} channels, got {n_open:g}")
        self.channels, self.n_open, self.generator = channels, n_open, generator

    def forward(self, x: Tensor) -> Tensor:
        """Return 1 for open channels and −1 for others, ``[b, channels]``."""
        where = "cpu" if self.generator is None else self.generator.device
        draws = torch.rand(len(x), self.channels + 1, generator=self.generator, device=where).to(x.device)
        n_open = math.floor(self.n_open) + (draws[:, :1] < self.n_open % 1)
        rank = draws[:, 1:].argsort(1).argsort(1)
        return torch.where(rank < n_open, 1.0, -1.0)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.channels}, n_open={self.n_open:g}"


class FixedChannels(nn.Module):
    """Open the same channels for every image, as static pruning does.

    Args:
        is_open: bool ``[channels]``.

    Raises:
        ValueError: it is something else.

    Example:
        >>> FixedChannels(torch.tensor([True, False]))(torch.ones(1, 3, 4, 4))
        tensor([[ 1., -1.]])
    """

    is_open: Tensor

    def __init__(self, is_open: Tensor) -> None:
        super().__init__()
        if is_open.dtype != torch.bool or is_open.dim() != 1:
            raise ValueError(
                f"FixedChannels: is_open must be a bool for each channel, got {is_open.dtype} of shape "
                f"{tuple(is_open.shape)}"
            )
        self.register_buffer("is_open", is_open)

    def forward(self, x: Tensor) -> Tensor:
        """Return 1 for open channels and −1 for others, ``[b, channels]``."""
        return torch.where(self.is_open, 1.0, -1.0).expand(len(x), -1)


def peaks(output: Tensor) -> Tensor:
    """Return how strongly each channel answers an image, c = max |y| over its places: ``[b, c]`` of ``[b, c, h, w]``.

    Example:
        >>> peaks(torch.tensor([[[[1.0, -3.0]], [[0.0, 0.5]]]]))
        tensor([[3.0000, 0.5000]])
    """
    return output.detach().abs().amax((2, 3))


def wanted_channels(strength: Tensor, ratio: float, *, target: Target = "mass") -> Tensor:
    """Return which channels matter for an image, what a :class:`ChannelPredictor` learns to predict.

    ``mass``: with p = c / Σ c in falling order, the channels whose cumulative sum stays within ``ratio`` (to 1e-5). The
    channel that crosses it is left out, so less than ``ratio`` is kept, of a single strong channel perhaps nothing. At
    ``ratio=1`` only channels with p ≤ 1e-5 are left out. An image that no channel answers wants them all.

    ``uniform``: all but the ⌊ratio · n⌋ channels with the smallest c, and but those with c ≤ 1e-5.

    Args:
        strength: c ≥ 0, ``[b, n]``, see :func:`peaks`.
        ratio: in [0, 1], the mass that is kept, or the share that is left out; below 0: all channels are wanted.
        target: see above.

    Returns:
        Bool ``[b, n]``. Cost: a sort of n numbers an image.

    Raises:
        ValueError: the ratio is above 1, or the target unknown.

    Reference:
        arXiv 2110.08232 and its public code, which has the rule for the channel that crosses.

    Example:
        >>> strength = torch.tensor([[5.0, 3.0, 2.0, 0.0]])
        >>> wanted_channels(strength, 0.8), wanted_channels(strength, 1.0)
        (tensor([[ True,  True, False, False]]), tensor([[ True,  True,  True, False]]))
        >>> wanted_channels(strength, 0.5, target="uniform")
        tensor([[ True,  True, False, False]])
    """
    check_target("wanted_channels", ratio, target)
    if ratio < 0:
        return torch.ones_like(strength, dtype=torch.bool)
    if target == "uniform":
        weakest = strength.argsort(1)[:, : int(ratio * strength.shape[1])]
        return (strength > _TOLERANCE).scatter(1, weakest, False)
    mass = strength / strength.sum(1, keepdim=True)  # nan where no channel answers: nothing is left out
    if ratio == 1:
        return ~(mass <= _TOLERANCE)
    ordered, channels = mass.sort(dim=1, descending=True)
    return torch.empty_like(mass, dtype=torch.bool).scatter(1, channels, ~(ordered.cumsum(1) - ratio > _TOLERANCE))


def check_target(owner: str, ratio: float, target: str) -> None:
    """Raise a ``ValueError`` unless a ratio and a target are possible."""
    if not ratio <= 1:
        raise ValueError(f"{owner}: ratio must be at most 1, got {ratio:g}; try 0.9, or −1 to keep all channels")
    if target not in get_args(Target):
        raise ValueError(f"{owner}: target must be mass or uniform, got {target!r}; try 'mass'")
