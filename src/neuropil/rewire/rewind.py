"""Setting a network back to weights that it had before, whenever connections have gone: lottery tickets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuropil.connect import SparseLinear
from neuropil.connect.change import Change
from neuropil.connect.storage import as_stored

_KEPT, _START = "rewind.kept.", "rewind.start."


@dataclass(frozen=True)
class Rewind:
    """To which weights a network is set back after each round of pruning.

    Args:
        to: a whole number: to what they were after so many steps of the optimizer, 0: when the rewirer was made; a
            fraction in (0, 1): after that share of training. It must come before the first event.
        redraw: after the last round, start from other weights instead: each connection that is left gets one of the
            weights that its layer started with, drawn without replacement; every other weight matrix is shuffled, and
            biases and all else are as they were at the start. This is the control: if the ticket wins by its wiring
            alone, it does as well so. Until then, the network goes the way of the ticket.

    Raises:
        ValueError: ``to`` is neither.
    """

    to: float = 0
    redraw: bool = False

    def __post_init__(self) -> None:
        if not (self.to >= 0 if isinstance(self.to, int) else 0 < self.to < 1):
            raise ValueError(
                f"Rewind: to must be a whole number of steps, at least 0, or a share of training in (0, 1), got "
                f"{self.to!r}"
            )

    @property
    def needs_length(self) -> bool:
        """Whether the moment follows from how long training is."""
        return not isinstance(self.to, int)

    def moment(self, n_steps: int | None) -> int:
        """Return after which step the weights are kept."""
        if isinstance(self.to, int):
            return self.to
        assert n_steps is not None
        return math.ceil(self.to * n_steps - 1e-9)


@dataclass
class Rewinder:
    """What a model was like at one moment, in the connections that it still has.

    Args:
        model: all its parameters and stored buffers are set back, whether rewired or not.
        optimizer: forgets what it keeps of the model's parameters.
        layers: the layers that are rewired, by name.
        rewind: to which moment.
        generator: where redrawn weights come from.
    """

    model: nn.Module
    optimizer: Optimizer
    layers: Mapping[str, SparseLinear]
    rewind: Rewind
    generator: torch.Generator
    _kept: dict[str, Tensor] = field(default_factory=dict)
    _start: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        self._weight_names = {name: names[id(layer.weight)] for name, layer in self.layers.items()}
        self._by_weight = {self._weight_names[name]: layer for name, layer in self.layers.items()}
        if self.rewind.to == 0:
            self.keep()
        if self.rewind.redraw:
            for name, tensor in self._tensors().items():
                layer = self._by_weight.get(name)
                values = tensor.detach() if layer is None else tensor.detach().view(-1)[_places(layer)]
                self._start[name] = values.clone()

    def keep(self) -> None:
        """Keep what the model is like now."""
        self._kept = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def check(self, step: int, n_steps: int | None) -> None:
        """Raise a ``ValueError`` unless the moment comes before a step after which connections go."""
        moment = self.rewind.moment(n_steps)
        if moment >= step:
            raise ValueError(
                f"Rewirer: a network must be set back to a moment before its first event, got rewinding to step "
                f"{moment} and an event after step {step}; try a smaller rewind_to"
            )

    def carry(self, name: str, change: Change) -> None:
        """Let what is kept of a layer's weights follow a change of its wiring."""
        key = self._weight_names[name]
        if key in self._kept:
            self._kept[key] = change.carry(self._kept[key])

    @torch.no_grad()
    def restore(self, *, is_last: bool) -> None:
        """Set the model back, or give it redrawn weights after the last round if so asked; clear the optimizer."""
        redraws = is_last and self.rewind.redraw
        for name, tensor in self._tensors().items():
            if not redraws:
                tensor.copy_(self._kept[name])
            elif name in self._by_weight:
                places = _places(self._by_weight[name])
                tensor.view(-1)[places] = self._drawn(self._start[name], len(places))
            elif tensor.dim() > 1:
                tensor.copy_(self._drawn(self._start[name].view(-1), tensor.numel()).view_as(tensor))
            else:
                tensor.copy_(self._start[name])
        for parameter in self.model.parameters():
            self.optimizer.state.pop(parameter, None)

    def _drawn(self, values: Tensor, n: int) -> Tensor:
        return values[torch.randperm(len(values), generator=self.generator)[:n].to(values.device)]

    def _tensors(self) -> dict[str, Tensor]:
        """Return the parameters and the buffers that a stored model would have, by name."""
        stored = self.model.state_dict().keys()
        everything = (*self.model.named_parameters(), *self.model.named_buffers())
        return {name: tensor for name, tensor in everything if name in stored}

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is kept, under flat names."""
        parts = ((_KEPT, self._kept), (_START, self._start))
        return {prefix + name: tensor for prefix, part in parts for name, tensor in part.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was kept; the layers must already have the wirings of that time.

        Raises:
            ValueError: it is of another model.
        """
        own = self._tensors()
        kept, start = (
            {key.removeprefix(prefix): value.clone() for key, value in state.items() if key.startswith(prefix)}
            for prefix in (_KEPT, _START)
        )
        for name, value in kept.items():
            layer = self._by_weight.get(name)
            if layer is not None:
                kept[name] = as_stored(value, layer.wiring, dense=layer.stores_dense)
        strange = (kept and kept.keys() != own.keys()) or start.keys() != self._start.keys()
        if strange or any(kept[name].shape != own[name].shape for name in kept):
            raise ValueError("Rewirer: what is kept for rewinding must be of this model, got that of another")
        self._kept = {name: value.to(own[name].device) for name, value in kept.items()}
        self._start = {name: value.to(own[name].device) for name, value in start.items()}


def _places(layer: SparseLinear) -> Tensor:
    """Return where the live entries of a layer's weight lie in it, laid out flat, int64 ``[n_connections]``."""
    if layer.stores_dense:
        places = layer.wiring.cells()
    else:
        targets, sources = layer.weight_units()
        real = ((targets >= 0) & (sources >= 0)).expand(layer.weight.shape)
        places = np.flatnonzero(real.numpy())
    return torch.from_numpy(places).to(layer.weight.device)
