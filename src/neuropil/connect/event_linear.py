"""A dense layer that is computed from events."""

from torch import Tensor, nn

from neuropil.connect.kernels.event_product import event_linear


class EventLinear(nn.Linear):
    """A dense layer whose product skips what is zero in its input, such as the silence of spiking neurons.

    Everything else is ``nn.Linear``: parameters, start, values up to rounding. An input that is the same at every time
    step (expanded over time, stride 0) is computed once.

    Shape:
        ``[..., in_features]`` → ``[..., out_features]``.

    Example:
        >>> import torch
        >>> layer = EventLinear(4, 2)
        >>> spikes = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
        >>> bool(torch.allclose(layer(spikes), layer.weight[:, 1] + layer.bias))
        True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        if input.dim() > 2 and len(input) > 1 and input.stride(0) == 0:
            once = event_linear(input[:1], self.weight, self.bias)
            return once.expand(len(input), *once.shape[1:])
        return event_linear(input, self.weight, self.bias)
