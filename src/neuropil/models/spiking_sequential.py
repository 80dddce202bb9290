"""Spiking layers in a row, without the encoder and the read-out of a classifier."""

from collections.abc import Sequence

from torch import Tensor, nn

from neuropil.units import Unit
from neuropil.units.unit import State


class SpikingSequential(nn.Sequential):
    """Linear layers and units one after the other: spikes go in, spikes of the last unit come out.

    Args:
        modules: units, and any modules that map ``[t, b, …]`` to ``[t, b, …]``, such as linear layers.

    Shape:
        ``[t, b, n_in]`` → ``[t, b, n_out]`` and the states of the units, first to last.

    Example:
        >>> import torch
        >>> from neuropil.units import LIF
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 0.5)
        >>> net = SpikingSequential(layer, LIF(decay=0.5, threshold=0.7))
        >>> spikes, states = net(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]))
        >>> spikes.flatten().tolist(), states[0].potential.item()
        ([0.0, 1.0], 0.75)
    """

    @property
    def units(self) -> list[Unit]:
        """The units, first to last."""
        return [module for module in self if isinstance(module, Unit)]

    def forward(self, x: Tensor, states: Sequence[State] | None = None) -> tuple[Tensor, tuple[State, ...]]:
        """Run a whole sequence, from rest or from the states that another one has ended with.

        Raises:
            ValueError: there is not one state for each unit, or a state does not fit.
        """
        n_units = len(self.units)
        if states is not None and len(states) != n_units:
            raise ValueError(
                f"SpikingSequential: states must be one for each of the {n_units} units, got {len(states)}; start "
                "anew with states=None"
            )
        ended: list[State] = []
        for module in self:
            if isinstance(module, Unit):
                x, state = module(x, None if states is None else states[len(ended)])
                ended.append(state)
            else:
                x = module(x)
        return x, tuple(ended)
