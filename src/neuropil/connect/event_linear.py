"""A dense layer that is computed from events."""

import torch
from torch import Tensor, nn

from neuropil.connect.kernels.event_product import event_linear
from neuropil.connect.kernels.input_gradient import check_input_gradient


class EventLinear(nn.Linear):
    """A dense layer whose product skips what is zero in its input, such as the silence of spiking neurons.

    Everything else is ``nn.Linear``: parameters, start, values up to rounding. An input that is the same at every time
    step (expanded over time, stride 0) is computed once.

    Args:
        in_features, out_features, bias, device, dtype: as for ``nn.Linear``.
        input_gradient: as for :class:`SparseLinear`.

    Raises:
        ValueError: ``input_gradient`` is unknown.

    Shape:
        ``[..., in_features]`` → ``[..., out_features]``.

    Example:
        >>> layer = EventLinear(4, 2)
        >>> spikes = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
        >>> bool(torch.allclose(layer(spikes), layer.weight[:, 1] + layer.bias))
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        input_gradient: str = "full",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        check_input_gradient("EventLinear", input_gradient)
        self.input_gradient = input_gradient

    def forward(self, input: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        if input.dim() > 2 and len(input) > 1 and input.stride(0) == 0:
            once = event_linear(input[:1], self.weight, self.bias, input_gradient=self.input_gradient)
            return once.expand(len(input), *once.shape[1:])
        return event_linear(input, self.weight, self.bias, input_gradient=self.input_gradient)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of the layer."""
        told = super().extra_repr()
        return told if self.input_gradient == "full" else f"{told}, input_gradient={self.input_gradient}"
