"""Which units take part, and how often: dead and saturated ones, firing rates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.evaluation import run_watched
from neuropil.measure.samples import check_batch
from neuropil.units import Unit

# activations whose output is bounded, with their bounds
_BOUNDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
}
_ALWAYS = 0.99  # share of time steps in which a saturated neuron fires at least
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    *_BOUNDS,
    nn.Hardtanh,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
)


@dataclass(frozen=True)
class LayerActivity:
    """How many units of one activation layer take part on a batch.

    Attributes:
        name: the activation's name in the model.
        n_units: units; of a convolution, channels.
        dead: share of units, in [0, 1], whose output is exactly 0 for every sample (and position).
        saturated: share of units, in [0, 1], whose output lies within 1 % of the activation's range from one of
            its bounds for every sample, dead ones left out; always 0 for unbounded activations. Of spiking neurons:
            those that fire in at least 99 % of all time steps of the batch.
        firing_rate: spikes a neuron and time step, in [0, 1]; None where units do not spike.
    """

    name: str
    n_units: int
    dead: float
    saturated: float
    firing_rate: float | None = None


@torch.no_grad()
def layer_activity(model: nn.Module, batch: Tensor) -> list[LayerActivity]:
    """Run a batch through a model in evaluation mode and say, per activation layer, which units take part.

    Args:
        model: any module whose activations are modules (``nn.ReLU``, …, :class:`neuropil.units.Unit`); others are not
            seen.
        batch: input ``[b, …]``; the rule is "for every sample of this batch", so give at least a hundred.

    Returns:
        One entry for each call of an activation layer, in the order of the calls.

    Raises:
        ValueError: there is no sample.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.bias.data.copy_(torch.tensor([-100.0, 100.0]))
        >>> layer_activity(nn.Sequential(layer, nn.ReLU()), torch.ones(4, 2))
        [LayerActivity(name='1', n_units=2, dead=0.5, saturated=0.0, firing_rate=None)]
    """
    check_batch("layer_activity", batch)
    found: list[LayerActivity] = []

    def watch(name: str) -> Callable[..., None]:
        def record(layer: nn.Module, _: Any, __: Any, output: Any) -> None:
            if isinstance(layer, Unit):
                found.append(_firing(name, output[0]))
                return
            units = _units_first(output)
            dead = dead_units(output)
            saturated = torch.zeros_like(dead)
            # ReLU6 is one of PyTorch's Hardtanhs
            own = (float(layer.min_val), float(layer.max_val)) if isinstance(layer, nn.Hardtanh) else None
            bounds = own or _BOUNDS.get(type(layer))
            if bounds is not None:
                margin = 0.01 * (bounds[1] - bounds[0])
                for near in (units <= bounds[0] + margin, units >= bounds[1] - margin):
                    saturated |= near.all(dim=1)
            saturated &= ~dead
            shares = (float(flag.double().mean()) for flag in (dead, saturated))
            found.append(LayerActivity(name, len(dead), *shares))

        return record

    watched: tuple[type[nn.Module], ...] = (*ACTIVATIONS, Unit)
    layers = [(layer, watch(name)) for name, layer in model.named_modules() if isinstance(layer, watched)]
    run_watched(model, batch, layers)
    return found


def dead_units(output: Tensor) -> Tensor:
    """Return which units of a layer are exactly 0 throughout its output, bool ``[n]``.

    Args:
        output: images ``[b, n, h, w]``, whose units are channels, or units on the last axis, ``[…, n]``.

    Example:
        >>> dead_units(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        tensor([ True, False])
    """
    return (_units_first(output) == 0).all(dim=1)


def _units_first(output: Tensor) -> Tensor:
    units = output.movedim(1, 0) if output.dim() == 4 else output.movedim(-1, 0)
    return units.reshape(units.shape[0], -1)


def _firing(name: str, output: Tensor) -> LayerActivity:
    """Return the activity of neurons with an output ``[t, b, n]``; the rate is told where it consists of spikes."""
    units = output.flatten(0, -2)
    rates = units.mean(0, dtype=torch.float64)  # of bfloat16, a mean has three digits
    spikes = bool(((units == 0) | (units == 1)).all())
    return LayerActivity(
        name,
        n_units=len(rates),
        dead=float(dead_units(units).double().mean()),
        saturated=float((rates >= _ALWAYS).double().mean()) if spikes else 0.0,
        firing_rate=float(rates.mean()) if spikes and rates.numel() else None,
    )
