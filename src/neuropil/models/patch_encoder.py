"""One convolution for each patch of an image."""

import torch
from torch import Tensor, nn

from neuropil.initialize import reset_


class PatchEncoder(nn.Module):
    """Cut an image into a grid of patches and apply the same convolution and ReLU to each on its own.

    The convolution's kernel and stride equal the side of a patch. Features come out in the order (channel, row of
    patches, column of patches), as in the code of G2GNet's laboratory.

    Args:
        input_shape: ``(channels, height, width)`` of an image.
        patches: patches along either side; must divide height and width.
        channels: features per patch.
        generator: where the initial weights come from; default: PyTorch's default generator.

    Shape:
        ``[b, c, h, w]`` → ``[b, channels · patches²]``.

    Raises:
        ValueError: the patches do not divide the image.

    Reference:
        G2GNet, arXiv 2508.14140 (one convolution per patch); grid 4 × 4, 32 channels and ReLU from the laboratory's
        public spiking code, which is not proven to be the paper's setting.

    Example:
        >>> PatchEncoder((3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        *,
        patches: int = 4,
        channels: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        n_channels, height, width = input_shape
        if patches < 1 or height % patches or width % patches:
            raise ValueError(
                f"PatchEncoder: patches must divide the image's height and width, got {patches} and {height} × {width}"
            )
        side = (height // patches, width // patches)
        self.convolution: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Conv2d, n_channels, channels, side, stride=side
        )
        self.activation = nn.ReLU()
        self.out_features = channels * patches * patches
        reset_(self.convolution, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``[b, out_features]`` of images ``[b, c, h, w]``."""
        features: Tensor = self.activation(self.convolution(images))
        return features.flatten(1)

    def sequence(self) -> list[nn.Module]:
        """Return the same as modules that are called one after the other, for rules of learning."""
        return [self.convolution, self.activation, nn.Flatten()]
