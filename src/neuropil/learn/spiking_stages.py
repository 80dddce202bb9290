"""A spiking classifier as stages: a layer with weights and its neurons, from the encoder to a read-out that leaks."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.units import IF, LIF, AdaptiveLIF, LeakyIntegrator, Recurrent, Unit
from neuropil.units.unit import State

Connected = nn.Linear | SparseLinear
_SPIKING = (LIF, IF, AdaptiveLIF)


@dataclass(frozen=True, eq=False)
class SpikingStage:
    """A layer and the neurons that it drives.

    Attributes:
        layer: from what the stage reads to its neurons.
        unit: the neurons, as the model calls them.
        neurons: the same without their recurrence.
        among: connections among the neurons, or None.
    """

    layer: Connected
    unit: Unit
    neurons: Unit
    among: Connected | None

    def parameters(self) -> list[nn.Parameter]:
        """Return the weights and biases that learn, the layer's own first."""
        layers = [self.layer] if self.among is None else [self.layer, self.among]
        return [parameter for layer in layers for parameter in layer.parameters() if parameter.requires_grad]


@dataclass(frozen=True, eq=False)
class SpikingStages:
    """A spiking classifier in pieces.

    Attributes:
        encoder: from what the model takes to ``[t, b, n]``, without anything that learns.
        hidden: stages of spiking neurons, first to last.
        layer: of the read-out.
        readout: its neurons, which leak and do not spike.
    """

    encoder: nn.Sequential
    hidden: list[SpikingStage]
    layer: Connected
    readout: LeakyIntegrator

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the input of the first layer, ``[t, b, n]``."""
        encoded: Tensor = self.encoder(x)
        if encoded.dim() != 3:
            raise ValueError(
                f"EProp: the first layer must read [t, b, n], got {list(encoded.shape)}; try an encoder, such as "
                "units.encode.RateEncoder, before it"
            )
        return encoded


class MeanPotential(nn.Module):
    """A spiking classifier whose logits are the potentials of its read-out, averaged over time.

    Shape:
        what the model takes → ``[b, n_classes]``.
    """

    def __init__(self, model: nn.Module, stages: SpikingStages) -> None:
        super().__init__()
        self.model = model
        self._stages = stages

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean potentials."""
        spikes = self._stages.encode(x)
        for stage in self._stages.hidden:
            spikes, _ = stage.unit(stage.layer(spikes))
        potentials, _ = self._stages.readout(self._stages.layer(spikes))
        mean: Tensor = potentials.mean(0)
        return mean


def spiking_stages_of(model: nn.Module, *, who: str) -> SpikingStages:
    """Return the stages of a spiking classifier.

    Args:
        model: an ``nn.Sequential``, which may hold others: an encoder, then layers and units in turn; or a model with
            ``features``, ``encoder`` and ``stages``, as :class:`neuropil.models.SpikingEnsembleNet` has.
        who: whom an error names.

    Raises:
        ValueError: it is none of these, or has a part that e-prop cannot train.
    """
    if all(hasattr(model, name) for name in ("features", "encoder", "stages")):
        front: list[nn.Module] = [model.features, model.encoder]  # type: ignore[list-item]
        rest: list[nn.Module] = [module for pair in model.stages for module in pair]  # type: ignore[union-attr]
    elif isinstance(model, nn.Sequential):
        modules = list(_leaves(model))
        first = next((i for i, module in enumerate(modules) if isinstance(module, Connected)), len(modules))
        front, rest = modules[:first], modules[first:]
    else:
        raise ValueError(
            f"{who}: the model must be an nn.Sequential of an encoder, layers and units, or a SpikingEnsembleNet, got "
            f"a {type(model).__name__}"
        )
    encoder = nn.Sequential(*front)
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ValueError(f"{who}: what comes before the first spiking layer must be frozen, got parameters that learn")
    if len(rest) < 4 or len(rest) % 2:
        kinds = ", ".join(type(module).__name__ for module in rest) or "nothing"
        raise ValueError(f"{who}: the model must have hidden layers and a read-out, each with its units, got {kinds}")
    pairs = list(zip(rest[::2], rest[1::2], strict=True))
    hidden = [_stage(layer, unit, who) for layer, unit in pairs[:-1]]
    layer, readout = pairs[-1]
    if not isinstance(layer, Connected) or type(readout) is not LeakyIntegrator or readout.decay.dim():
        what = f"{type(layer).__name__} and {type(readout).__name__}"
        raise ValueError(
            f"{who}: the model must end in a linear layer and a LeakyIntegrator of one decay, got {what}; of a "
            'spiking_ensemble_net, output="potentials"'
        )
    if len({id(module) for module in rest}) < len(rest):
        raise ValueError(f"{who}: each layer and unit must be called once, got one twice")
    return SpikingStages(encoder, hidden, layer, readout)


def step_with_slope(neurons: Unit, current: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
    """Go one step; return spikes and state, and ψ: the surrogate of the spike's derivative by the potential.

    Args:
        neurons: LIF, IF or AdaptiveLIF.
        current, state: as for :meth:`neuropil.units.Unit.step`.
    """
    assert isinstance(neurons, LIF)
    spikes, end = neurons.step(current, state)
    if neurons.reset_delay:  # the state is from before the reset
        potential, *adaptation = end
    else:
        potential, adaptation = neurons.effective_decay() * state[0] + current, list(state[1:])
    threshold = neurons.threshold
    if isinstance(neurons, AdaptiveLIF):
        threshold = threshold + neurons.effective_adaptation()[0] * adaptation[0]
    return spikes, end, neurons.surrogate.derivative(potential - threshold)


def _stage(layer: nn.Module, unit: nn.Module, who: str) -> SpikingStage:
    if not isinstance(layer, Connected):
        raise ValueError(  # noqa: TRY004 (it is the model that is wrong)
            f"{who}: before each unit must come a linear layer, got a {type(layer).__name__}"
        )
    neurons, among = (unit.neurons, unit.layer) if isinstance(unit, Recurrent) else (unit, None)
    if type(neurons) not in _SPIKING:
        known = ", ".join(kind.__name__ for kind in _SPIKING)
        raise ValueError(f"{who}: hidden units must be one of {known}, got a {type(neurons).__name__}")
    assert isinstance(unit, Unit)
    assert isinstance(neurons, LIF)
    if not neurons.detach_reset and neurons.reset != "none":
        raise ValueError(f"{who}: no gradient may flow through the reset of its units, got detach_reset=False")
    return SpikingStage(layer, unit, neurons, among)


def _leaves(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _leaves(module)
        else:
            yield module
