"""From a spiking network to a NIR graph."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuropil.connect import EventLinear, SparseLinear
from neuropil.models.interchange.neurons import UNIT_NAMES, UNITS, node_of
from neuropil.models.interchange.notes import KEY, layer_notes
from neuropil.models.interchange.package import SNNTORCH_DT, nir_package
from neuropil.models.spiking_ensemble_net import SpikingEnsembleNet
from neuropil.units import AdaptiveLIF, Izhikevich, Unit

if TYPE_CHECKING:
    import nir

Network = SpikingEnsembleNet | nn.Sequential | nn.ModuleList | Sequence[nn.Module]
_LINEAR = (SparseLinear, nn.Linear, EventLinear)


@torch.no_grad()
def to_nir(model: Network, *, dt: float = SNNTORCH_DT) -> "nir.NIRGraph":
    """Describe a spiking network as a NIR graph: Input → Affine → neurons → Affine → … → Output.

    NIR's neurons are continuous in time. Ours are what explicit Euler steps of ``dt`` make of them:

    * :class:`LIF`: τ v̇ = (v_leak − v) + R I, set to v_reset when v exceeds v_threshold; τ = dt / (1 − β), R = τ / dt,
      v_leak = v_reset = 0, v_threshold = θ.
    * :class:`CurrentLIF`: node CubaLIF, the same with τ_mem, and τ_syn İ = −I + w_in S; τ_syn = dt / (1 − α),
      w_in = τ_syn / dt. I goes first in each step, and v is driven by the new I, as in snnTorch. Whoever steps both
      from their old values gives the same spikes one step later, whatever the numbers.
    * :class:`IF`: v̇ = R I; R = 1 / dt.
    * :class:`LeakyIntegrator`: node LI, a LIF without threshold and reset.

    Numbers are one each a neuron; a learned decay is exported as it is used, LIF whose decay has become 1 as IF.
    Layers become dense weights, 0 where nothing connects or is transmitted; without a bias they are ``Linear``.

    NIR leaves to each simulator how time is discretized and with what potential neurons begin, and it only knows the
    reset to a value. So another simulator gives our spikes if it takes Euler steps of the same ``dt`` from 0 and
    ``reset="zero"``; then ``reset_delay`` makes no difference. ``subtract`` (our default) and ``none`` are noted in
    the node's metadata, as are the surrogate, what is learned, kernels and wirings: :func:`from_nir` reads
    them, others reset to 0. snnTorch (1.0.0) takes steps of 1e-4 s whatever the graph says, refuses thresholds that
    differ within a layer, has nothing for LI, and refuses IF unless R = 1, when it lets neurons leak by 0.9.

    Args:
        model: a :class:`SpikingEnsembleNet`, whose features and encoder stay outside: the graph's input is what the
            encoder gives; or modules in a row, each a linear layer or one of these units, a linear layer first.
        dt: seconds a step; the default is snnTorch's.

    Raises:
        ImportError: the package nir is missing.
        TypeError: a module is of another kind; for AdaptiveLIF and Izhikevich, NIR (1.0.8) has no node.
        ValueError: there is no module, sizes do not fit, a decay is 1, a threshold not above 0, or a weight not finite.

    Reference:
        J. E. Pedersen et al., Neuromorphic intermediate representation, Nature Communications 2024
        (10.1038/s41467-024-52259-9); dt, τ and R as in snnTorch's ``export_nir``.

    Example:
        >>> from neuropil.units import LIF
        >>> graph = to_nir([nn.Linear(4, 2), LIF(decay=0.9, reset="zero")])
        >>> list(graph.nodes), round(float(graph.nodes["lif"].tau[0]), 6)
        (['input', 'affine', 'lif', 'output'], 0.001)
    """
    nir = nir_package("to_nir")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"to_nir: dt must be finite and above 0, in seconds, got {dt:g}")
    nodes: list[Any] = []
    width = 0
    for i, module in enumerate(_modules(model)):
        name = f"module {i} ({type(module).__name__})"
        if type(module) in _LINEAR:
            node = _affine(nir, name, module, width)
            width = len(node.weight)
        elif isinstance(module, Unit) and type(module) in UNITS:
            node = node_of(nir, name, module, width, dt)
        elif isinstance(module, (AdaptiveLIF, Izhikevich)):
            raise TypeError(
                f"to_nir: {name} must be a unit that NIR has a node for, and it has none for {type(module).__name__}; "
                f"try {UNIT_NAMES}"
            )
        else:
            raise TypeError(f"to_nir: {name} must be a linear layer, {UNIT_NAMES}, got another kind")
        nodes.append(node)
    if not nodes:
        raise ValueError("to_nir: model must have at least one module, got none")
    graph = nir.NIRGraph.from_list(*nodes)
    graph.metadata = {KEY: {"dt": float(dt)}}
    return graph


def _modules(model: Any) -> Iterable[nn.Module]:
    """Return the modules in a row."""
    if isinstance(model, SpikingEnsembleNet):
        return [module for stage in model.stages for module in stage]
    if isinstance(model, (nn.Sequential, nn.ModuleList, list, tuple)):
        return model
    raise TypeError(f"to_nir: model must be a SpikingEnsembleNet or modules in a row, got {type(model).__name__}")


def _affine(nir: Any, name: str, layer: Any, width: int) -> Any:
    weight = _array(layer.dense_weight() if isinstance(layer, SparseLinear) else layer.weight)
    bias = None if layer.bias is None else _array(layer.bias)
    if width and weight.shape[1] != width:
        raise ValueError(f"to_nir: {name} must take the {width} neurons before it, got in_features={weight.shape[1]}")
    if not (np.isfinite(weight).all() and (bias is None or np.isfinite(bias).all())):
        raise ValueError(f"to_nir: {name}: weights must be finite, got some that are not")
    notes = layer_notes(layer)
    if bias is None:
        return nir.Linear(weight=weight, metadata=notes)
    return nir.Affine(weight=weight, bias=bias, metadata=notes)


def _array(values: Tensor) -> NDArray[Any]:
    wide = values if values.dtype in (torch.float32, torch.float64) else values.float()
    return wide.detach().cpu().numpy().copy()
