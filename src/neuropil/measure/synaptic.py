"""What passes the synapses of a network, and what energy that would take on a chip."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.connect.conv import synapses_of_convolutions
from neuropil.evaluation import run_watched
from neuropil.measure.energy import ACCUMULATE_JOULES, MULTIPLY_ACCUMULATE_JOULES
from neuropil.measure.graphs import transmitting
from neuropil.measure.samples import check_batch


@dataclass(frozen=True)
class SynapticWork:
    """What passes the synapses of linear layers for one sample, all its time steps together.

    Attributes:
        synaptic_operations: a spike that passes one connection, an addition.
        multiply_accumulates: a number that is neither 0 nor 1 passing one connection. An input that is the same at
            every time step counts once.
    """

    synaptic_operations: float
    multiply_accumulates: float

    @property
    def energy_joules(self) -> float:
        """Estimated energy: 0.9 pJ a synaptic operation and 4.6 pJ a multiply-accumulate (32 bits, 45 nm).

        What memory (:func:`neuropil.measure.memory_traffic`), the neurons themselves, and convolutions take is left
        out; on most machines memory takes far more.
        """
        spikes, numbers = self.synaptic_operations, self.multiply_accumulates
        return ACCUMULATE_JOULES * spikes + MULTIPLY_ACCUMULATE_JOULES * numbers


@torch.no_grad()
def synaptic_work(model: nn.Module, batch: Tensor) -> SynapticWork:
    """Run a batch through a model in evaluation mode and count what passes its linear layers.

    An entry of a layer's input that is 0 passes nothing; one that is 1 counts as a spike; any other as a number. Each
    passes as many connections as its source has, silent ones (:meth:`neuropil.connect.SparseLinear.set_silent`) left
    out. Kernels may compute more: see :func:`neuropil.measure.network_cost`.

    Args:
        model: any module; ``nn.Linear`` and :class:`neuropil.connect.SparseLinear` are counted, convolutions are not.
        batch: input ``[b, …]``, at least one sample.

    Returns:
        Means over the samples.

    Raises:
        ValueError: there is no sample.

    Example:
        >>> layer = nn.Linear(3, 10)
        >>> synaptic_work(layer, torch.tensor([[0.0, 1.0, 0.5]]))
        SynapticWork(synaptic_operations=10.0, multiply_accumulates=10.0)
    """
    check_batch("synaptic_work", batch)
    spikes = numbers = 0.0

    def count(layer: nn.Linear | SparseLinear, inputs: tuple[Tensor, ...], named: dict[str, Tensor], _: Tensor) -> None:
        nonlocal spikes, numbers
        x = (*inputs, *named.values())[0]
        if x.dim() > 2 and x.stride(0) == 0:
            x = x[:1]
        x = x.reshape(-1, x.shape[-1])
        ones, others = (x == 1), (x != 0) & (x != 1)
        fan_out = _fan_out(layer).to(x.device)
        spikes += float((ones.sum(0) * fan_out).sum())
        numbers += float((others.sum(0) * fan_out).sum())

    inner = synapses_of_convolutions(model)
    counted = [layer for layer in model.modules() if isinstance(layer, nn.Linear | SparseLinear) and layer not in inner]
    run_watched(model, batch, [(layer, count) for layer in counted])
    return SynapticWork(spikes / len(batch), numbers / len(batch))


def _fan_out(layer: nn.Linear | SparseLinear) -> Tensor:
    """Return how many targets each source of a layer transmits to, ``[in_features]``."""
    if not isinstance(layer, SparseLinear):
        return torch.full((layer.in_features,), layer.out_features)
    wiring = transmitting(layer)
    return torch.zeros(layer.in_features, dtype=torch.int64) if wiring is None else wiring.fan_out()
