"""What a network costs: parameters, connections, multiply-accumulates."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.connect.conv import synapses_of_convolutions
from neuropil.evaluation import run_watched
from neuropil.measure.energy import MULTIPLY_ACCUMULATE_JOULES
from neuropil.measure.samples import check_batch

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@dataclass(frozen=True)
class Cost:
    """The size of a network, counting live connections only.

    A silent connection (:meth:`neuropil.connect.SparseLinear.set_silent`) is a parameter, for it learns, but neither
    a connection nor a multiply-accumulate, for nothing passes it.

    Attributes:
        parameters: trained numbers: live weights, biases, and all parameters of other layers.
        connections: live connections of the linear layers that are not silent, the read-out included; not those of
            convolutions, dense or sparse.
        possible_connections: what ``connections`` would be if every one of those layers were dense.
        multiply_accumulates: of one sample's forward pass, in linear and convolutional layers; biases, activations
            and normalization are not counted. What a kernel really executes may be more: the masked one always
            computes the dense product, and all of them compute silent connections as zeros.
    """

    parameters: int
    connections: int
    possible_connections: int
    multiply_accumulates: int

    @property
    def density(self) -> float:
        """Connections over possible connections of all linear layers together, in [0, 1]; silent ones do not count."""
        return self.connections / self.possible_connections if self.possible_connections else 1.0

    @property
    def energy_joules(self) -> float:
        """Estimated energy of one sample's arithmetic: 4.6 pJ a multiply-accumulate (32 bits, 45 nm).

        What memory takes comes on top, and is mostly more: :func:`neuropil.measure.memory_traffic`.

        Reference:
            M. Horowitz, ISSCC 2014, 10.1109/ISSCC.2014.6757323.
        """
        return MULTIPLY_ACCUMULATE_JOULES * self.multiply_accumulates


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, dead entries of sparse layers left out; a shared one counts once.

    Example:
        >>> from neuropil.connect import Ensembles, sparsify
        >>> model = sparsify(nn.Linear(64, 64, bias=False), Ensembles(n_groups=8, p_inter=0.0))
        >>> count_parameters(model)
        512
    """
    stored = sum(parameter.numel() for parameter in model.parameters())
    sparse = {layer.weight: layer.wiring for layer in model.modules() if isinstance(layer, SparseLinear)}
    return stored - sum(weight.numel() - wiring.n_connections for weight, wiring in sparse.items())


@torch.no_grad()
def network_cost(model: nn.Module, sample: Tensor) -> Cost:
    """Count what a model costs; one forward pass of ``sample`` finds what runs and how often.

    Args:
        model: any module.
        sample: a batch that the model accepts, any batch size of at least 1.

    Returns:
        The cost; multiply-accumulates are those of one sample.

    Raises:
        ValueError: there is no sample.
    """
    check_batch("network_cost", sample)
    connections = possible = multiply_accumulates = 0
    seen: set[nn.Module] = set()

    inner = synapses_of_convolutions(model)

    def count(layer: nn.Linear | Convolution | SparseLinear, _: Any, __: Any, output: Tensor) -> None:
        nonlocal connections, possible, multiply_accumulates
        if isinstance(layer, Convolution):
            multiply_accumulates += layer.weight.numel() * (output.numel() // layer.out_channels)
            return
        live = layer.n_transmitting if isinstance(layer, SparseLinear) else layer.weight.numel()
        multiply_accumulates += live * (output.numel() // output.shape[-1])
        if layer not in seen and layer not in inner:
            seen.add(layer)
            connections += live
            possible += layer.in_features * layer.out_features

    counted = [layer for layer in model.modules() if isinstance(layer, nn.Linear | Convolution | SparseLinear)]
    run_watched(model, sample, [(layer, count) for layer in counted])
    return Cost(
        parameters=count_parameters(model),
        connections=connections,
        possible_connections=possible,
        multiply_accumulates=multiply_accumulates // sample.shape[0],
    )
