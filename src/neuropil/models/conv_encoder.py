"""A small stack of convolutions that makes features of images."""

from collections.abc import Sequence

import torch
from torch import nn

from neuropil.initialize import reset_


class ConvEncoder(nn.Sequential):
    """Convolutions 3 × 3, each with an activation and a maximum over 2 × 2, then all features flat.

    Args:
        input_shape: ``(channels, height, width)`` of an image.
        channels: features of each convolution, at least one.
        batch_norm: put a batch normalization between each convolution and its activation.
        activation: type of the activation.
        bias: whether convolutions have biases.
        generator: where the initial weights come from; default: PyTorch's default generator.

    Shape:
        ``[b, c, h, w]`` → ``[b, out_features]``, channels first.

    Raises:
        ValueError: no convolution, a number of channels below 1, or an image too small to be halved that often.

    Example:
        >>> ConvEncoder((3, 32, 32), [16, 32, 32])(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        channels: Sequence[int],
        *,
        batch_norm: bool = False,
        activation: type[nn.Module] = nn.ReLU,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        self.out_features = conv_features(input_shape, channels)
        layers: list[nn.Module] = []
        incoming = input_shape[0]
        for outgoing in channels:
            convolution: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
                nn.Conv2d, incoming, outgoing, 3, padding=1, bias=bias
            )
            reset_(convolution, generator=generator)
            norm = [nn.BatchNorm2d(outgoing)] if batch_norm else []
            layers += [convolution, *norm, activation(), nn.MaxPool2d(2)]
            incoming = outgoing
        super().__init__(*layers, nn.Flatten())


def conv_features(input_shape: tuple[int, int, int], channels: Sequence[int]) -> int:
    """Return how many features a :class:`ConvEncoder` makes of an image; arguments and errors as there."""
    _, height, width = input_shape
    if not channels or min(channels) < 1:
        raise ValueError(f"ConvEncoder: channels must list at least one number of at least 1, got {[*channels]}")
    height, width = height >> len(channels), width >> len(channels)
    if not height * width:
        raise ValueError(
            f"ConvEncoder: each convolution halves the image, so that {input_shape[1]} × {input_shape[2]} must be at "
            f"least 2 to the number of them, got {len(channels)}; try fewer"
        )
    return channels[-1] * height * width
