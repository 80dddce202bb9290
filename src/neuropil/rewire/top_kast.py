"""Top-KAST: the largest weights transmit, and the next largest learn with them in silence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuropil.connect import SparseLinear
from neuropil.connect.change import Change
from neuropil.rewire.history import Event
from neuropil.rewire.layers import layers_to_rewire
from neuropil.rewire.limits import Limits
from neuropil.rewire.reserve import Reserve
from neuropil.rewire.schedule import count_steps
from neuropil.rewire.select import largest
from neuropil.rewire.track import Track, summarize


class TopKast:
    """Let the largest weights of each layer transmit, and gradients reach some more of them.

    Of each layer's weights θ

    * A, the ``density`` share of all possible blocks with the largest mean |θ|, transmit;
    * B ⊃ A, the ``backward_density`` share with the largest, are live: they get the gradient of the dense product, so
      those in B∖A learn without being heard (:meth:`neuropil.connect.SparseLinear.set_silent`);
    * all others wait, unchanged by gradients, momentum or weight decay, and come back with the value they had.

    A and B are chosen when the object is made, which rewires the model, and anew after every ``every`` steps. Their
    numbers of blocks are exact; among equals chance decides. What may be connected is what each layer is built with:
    ``ErdosRenyi(1.0)`` gives the published method, a sparser wiring confines it to its own blocks. Initial weights are
    those of that wiring. Call :meth:`step` after each step of the optimizer, and add :meth:`penalty` to the loss.

    Needs the memory of one dense layer for each layer, beside the live weights: of its wiring as it was built.

    Args:
        model: holds at least one :class:`neuropil.connect.SparseLinear`.
        optimizer: trains the layers; any whose state per parameter is shaped like it, or scalar. The state of a weight
            starts at 0 whenever it comes back to B.
        density: share of all possible blocks in A, in (0, 1].
        backward_density: share of all possible blocks in B, from ``density`` to 1.
        every: steps from one choice to the next, at least 1.
        penalty: α, at least 0.
        skip: names of sparse layers that stay as they are.
        generator: where chance comes from; default: one seeded with 0. The object keeps it to itself.

    Attributes:
        history: what each choice did to each layer. ``dropped`` are blocks that transmit no longer; ``density`` and
            ``neurons_without_input`` are of what transmits; all else is of the live blocks, B.

    Raises:
        ValueError: there is no sparse layer, one is less dense than ``backward_density`` or has too few blocks, the
            optimizer does not train one, or a number lies outside its range.

    Reference:
        S. Jayakumar et al., Top-KAST, arXiv 2106.03517, read through third-party code (A-Klass/torch_topkast) and
        accounts of it: see :meth:`penalty` for what could not be verified. There, single weights are chosen, at any
        step or, with no loss, every 100; blocks are ours.

    Example:
        >>> from neuropil.connect import ErdosRenyi, sparsify
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = sparsify(nn.Linear(32, 16), ErdosRenyi(1.0), generator=generator)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> rewirer = TopKast(model, optimizer, density=0.1, backward_density=0.2, every=2)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     loss = model(torch.randn(8, 32, generator=generator)).square().mean() + rewirer.penalty()
        ...     loss.backward()
        ...     optimizer.step()
        ...     events = rewirer.step()
        >>> model.n_transmitting, model.wiring.n_connections, len(events)
        (51, 102, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        density: float,
        backward_density: float,
        every: int = 100,
        penalty: float = 1e-4,
        skip: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        _check_settings(density, backward_density, every, penalty)
        self._layers = layers_to_rewire(model, optimizer, skip, who="TopKast")
        self._optimizer = optimizer
        self._density, self._backward_density = density, backward_density
        self._every, self._penalty = every, penalty
        self._generator = torch.Generator().manual_seed(0) if generator is None else generator
        self._step = self._n_events = 0
        self._n_steps: int | None = None
        self.history: list[Event] = []
        for name, layer in self._layers.items():
            (n_sending, n_live), n_blocks = self._counts(layer), layer.wiring.n_blocks
            if n_blocks < n_live:
                raise ValueError(
                    f"TopKast: every layer must be built with the {n_live} blocks that backward_density="
                    f"{backward_density:g} asks for, got {n_blocks} in {name!r}; try wiring it by ErdosRenyi(1.0)"
                )
            if n_sending < 1:
                raise ValueError(
                    f"TopKast: density={density:g} must leave every layer a block, got none of the "
                    f"{layer.wiring.grid[0] * layer.wiring.grid[1]} possible ones in {name!r}; try smaller blocks"
                )
        self._reserves = {name: Reserve(layer) for name, layer in self._layers.items()}
        for name in self._layers:
            self._choose(name)
        self._tracks = {name: Track.of(name, layer, Limits(), is_last=False) for name, layer in self._layers.items()}

    # In the course of training

    @property
    def layers(self) -> Mapping[str, SparseLinear]:
        """The layers that are rewired, by their names in the model."""
        return self._layers

    def set_length(self, *, epochs: int, steps_per_epoch: int) -> None:
        """Say how long training is, so that nothing is chosen after its last step.

        Raises:
            ValueError: a number is below 1.
        """
        self._n_steps = count_steps(epochs, steps_per_epoch, who="TopKast.set_length")

    def penalty(self) -> Tensor:
        """Return α Σ (‖θ_A‖₂ + ‖θ_{B∖A}‖₂ / density), summed over layers, to be added to the loss.

        It shrinks what is live, and most of all what is not in A, so that a weight must earn its place.

        Reference:
            Arxiv 2106.03517. The form of the norm is unverified: here it is the unsquared 2-norm of each part of each
            layer, as in third-party code, which squares with an account of the paper as an L2 penalty; the same
            account prints |θ_i| weight by weight. No published α could be read.
        """
        if self._penalty == 0:
            return torch.zeros((), device=next(iter(self._layers.values())).weight.device)
        total: Tensor | None = None
        for layer in self._layers.values():
            sent = layer.effective_weight()
            silent = layer.weight - sent.detach()  # the gradient of a norm is 0 wherever the vector is
            part = torch.linalg.vector_norm(sent) + torch.linalg.vector_norm(silent) / self._density
            total = part if total is None else total + part.to(total.device)
        assert total is not None
        return self._penalty * total

    def step(self) -> list[Event]:
        """Count one step of the optimizer, and choose anew if that is due; return what it did, layer by layer.

        No choice follows upon the last step of a training whose length is known.
        """
        self._step += 1
        if self._step % self._every or (self._n_steps is not None and self._step >= self._n_steps):
            return []
        events = []
        for name, track in self._tracks.items():
            reserve = self._reserves[name]
            before = reserve.sending
            change = self._choose(name)
            dropped = len(np.setdiff1d(before, reserve.sending, assume_unique=True))
            event = track.event(self._step, change, dropped)
            events.append(replace(event, density=reserve.density, neurons_without_input=reserve.neurons_without_input))
        self._n_events += 1
        self.history += events
        return events

    def summary(self) -> dict[str, Any]:
        """Return what rewiring has come to so far, as :meth:`Rewirer.summary` does, of the live blocks."""
        return summarize(self._tracks.values(), self._n_events)

    @torch.no_grad()
    def _choose(self, name: str) -> Change:
        """Choose A and B of a layer; return how its wiring changed."""
        reserve = self._reserves[name]
        n_sending, n_live = self._counts(reserve.layer)
        worth = reserve.worth()
        live = largest(worth, n_live, self._generator)
        sending = live[largest(worth[live], n_sending, self._generator)]
        return reserve.choose(live, sending, self._optimizer)

    def _counts(self, layer: SparseLinear) -> tuple[int, int]:
        """Return how many blocks of a layer transmit, and how many are live."""
        n_cells = layer.wiring.grid[0] * layer.wiring.grid[1]
        return round(self._density * n_cells), round(self._backward_density * n_cells)

    # Storing

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on: plain values and tensors under flat names."""
        state: dict[str, Any] = {
            "step": self._step,
            "n_events": self._n_events,
            "generator": self._generator.get_state(),
        }
        for name, track in self._tracks.items():
            own = {**track.state_dict(), **self._reserves[name].state_dict()}
            state |= {f"layers.{name}.{key}": value for key, value in own.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another one, made alike for a model alike, was; load the model's own state first.

        Raises:
            ValueError: the state is that of other layers.
        """
        for name, track in self._tracks.items():
            prefix = f"layers.{name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            self._reserves[name].load_state_dict(own, name)
            track.load_state_dict(own)
        self._step, self._n_events = int(state["step"]), int(state["n_events"])
        self._generator.set_state(state["generator"].cpu())


@dataclass(frozen=True)
class TopKastRewiring:
    """Top-KAST before it is put on a model: see :func:`neuropil.rewire.top_kast`.

    Args:
        density, backward_density, every, penalty: as for :class:`TopKast`.

    Raises:
        ValueError: a number lies outside its range.
    """

    density: float
    backward_density: float
    every: int = 100
    penalty: float = 1e-4

    def __post_init__(self) -> None:
        _check_settings(self.density, self.backward_density, self.every, self.penalty)

    @property
    def keeps_density(self) -> bool:
        """False: the network transmits at ``density``, whatever it is built with."""
        return False

    def final_density(self, initial: float) -> float:
        """Return the density at the end, in (0, 1], of a network or layer that is built with ``initial``."""
        return min(initial, self.density)

    def peak_density(self, initial: float) -> float:
        """Return the highest density of live connections at any time; weights of the others are kept aside."""
        return min(initial, self.backward_density)

    @property
    def dense_gradient_steps(self) -> int:
        """0: gradients are those of live connections alone."""
        return 0

    def attach(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        skip: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> TopKast:
        """Return a :class:`TopKast` for a model and its optimizer."""
        return TopKast(
            model,
            optimizer,
            density=self.density,
            backward_density=self.backward_density,
            every=self.every,
            penalty=self.penalty,
            skip=skip,
            generator=generator,
        )


def _check_settings(density: float, backward_density: float, every: int, penalty: float) -> None:
    if not 0 < density <= backward_density <= 1:
        raise ValueError(
            f"TopKast: density and backward_density must lie in (0, 1], the first one no larger, got {density:g} and "
            f"{backward_density:g}"
        )
    if every < 1:
        raise ValueError(f"TopKast: every must be at least 1 step, got {every}")
    if not penalty >= 0:
        raise ValueError(f"TopKast: penalty must be at least 0, got {penalty:g}")
