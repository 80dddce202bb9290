"""Neurons that read each other's spikes."""

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.units.unit import State, Unit


class Recurrent(Unit):
    """Neurons connected among themselves: what they put out at one step comes back as a current at the next.

        I_t = x_t + V S_{t−1} + c, which drives the neurons; S is 0 before the first step

    Sequences are computed step by step.

    Args:
        neurons: any unit.
        layer: V and c, from the neurons to themselves, dense or of any wiring; whether a neuron reads itself is up to
            its wiring.
        detach_transmission: whether no gradient flows back over V from one step to the one before. Then the gradient
            of a loss on the outputs is that of e-prop, exactly where reset is detached too.

    Shape:
        current ``[t, b, n]`` → outputs ``[t, b, n]`` and the state: the last outputs, and what the neurons remember.

    Raises:
        ValueError: the layer has other targets than sources.

    Example:
        >>> from neuropil.units import LIF
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.5, 0.0]]))
        >>> spikes, _ = Recurrent(LIF(decay=0.5), layer)(torch.tensor([[[1.5, 0.0]], [[0.0, 0.0]]]))
        >>> spikes.tolist()
        [[[1.0, 0.0]], [[0.0, 1.0]]]
    """

    def __init__(self, neurons: Unit, layer: nn.Linear | SparseLinear, *, detach_transmission: bool = False) -> None:
        super().__init__()
        if layer.in_features != layer.out_features:
            raise ValueError(
                f"Recurrent: the layer must have as many targets as sources, got {layer.out_features} and "
                f"{layer.in_features}"
            )
        self.neurons, self.layer, self.detach_transmission = neurons, layer, detach_transmission

    def rest(self, current: Tensor) -> State:
        """Return outputs of 0, and neurons at rest."""
        return torch.zeros_like(current), *self.neurons.rest(current)

    def step(self, current: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Go one time step: from current ``[b, n]`` and state to outputs ``[b, n]`` and state."""
        before, *rest = self.rest(current) if state is None else state
        if self.detach_transmission:
            before = before.detach()
        outputs, end = self.neurons.step(current + self.layer(before), tuple(rest))
        return outputs, (outputs, *end)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows beside the neurons and their connections."""
        return f"detach_transmission={self.detach_transmission}"
