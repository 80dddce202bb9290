"""From a NIR graph to a spiking network."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuropil.connect import EventLinear, SparseLinear, Wiring
from neuropil.connect.kernels import KERNELS
from neuropil.models.interchange.neurons import NODE_NAMES, factor_of, kind_of, size_of, unit_of
from neuropil.models.interchange.notes import noted_dt, noted_kernel, noted_wiring, notes_of
from neuropil.models.interchange.package import SNNTORCH_DT, nir_package
from neuropil.models.spiking_sequential import SpikingSequential

if TYPE_CHECKING:
    import nir


def from_nir(
    graph: "nir.NIRGraph", *, dt: float | None = None, sparse: bool = True, kernel: str | None = None
) -> SpikingSequential:
    """Build the network that a NIR graph describes: linear maps and neurons in a row.

    The nodes are those that :func:`to_nir` writes, read by the same equations: β = 1 − dt / τ, α = 1 − dt / τ_syn,
    θ = v_threshold. Each step multiplies a neuron's input by R dt / τ (LIF, LI), R dt / τ_mem · w_in dt / τ_syn
    (CubaLIF) or R dt (IF); where that is not 1, the linear layer before it takes the factor over. Some simulators write
    R = 1 where an IF neuron adds up its input as it is (Norse, snnTorch): such a graph wants ``dt=1``.

    Where :func:`to_nir` has noted the reset, surrogate, what is learned and so on, they are as they were; for other
    graphs the reset is NIR's, to 0, and numbers are not learned. snnTorch exports nets that subtract as if they reset
    to 0; for those, set ``unit.reset`` and ``unit.reset_delay`` of the result's ``units``.

    Args:
        graph: for a file, see :func:`read_nir`.
        dt: seconds a step; default: what the graph's maker has noted, or else snnTorch's 1e-4.
        sparse: layers get the wiring noted, unless weights have come since where it has no connection; without
            notes, what is 0 in the weights is not connected. A layer in which nothing is 0 is an ``nn.Linear``, and
            all are if False.
        kernel: as for :class:`SparseLinear`, ``events`` also for dense layers; default: that noted, or ``auto``.

    Raises:
        ImportError: the package nir is missing.
        TypeError: the graph is none.
        ValueError: nodes do not follow each other in a row, are of other kinds, or say what our units cannot do.

    Example:
        >>> from neuropil.models.interchange import to_nir
        >>> from neuropil.units import LIF
        >>> net = SpikingSequential(nn.Linear(4, 2), LIF(decay=0.9))
        >>> again = from_nir(to_nir(net))
        >>> again
        SpikingSequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
          (1): LIF(decay=0.9, threshold=1, reset=subtract a step later, surrogate=ATan(alpha=2.0), kernel=auto)
        )
        >>> torch.equal(again(torch.ones(5, 1, 4))[0], net(torch.ones(5, 1, 4))[0])
        True
    """
    nir = nir_package("from_nir")
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"from_nir: graph must be a nir.NIRGraph, got {type(graph).__name__}; for a file, try read_nir")
    if dt is None:
        dt = noted_dt(notes_of("the graph", graph.metadata), SNNTORCH_DT)
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"from_nir: dt must be finite and above 0, in seconds, got {dt:g}")
    modules: list[nn.Module] = []
    width, dtype = 0, torch.get_default_dtype()
    chain = _chain(nir, graph)
    following = [*chain[1:], ("", None)]
    for (name, node), (next_name, next_node) in zip(chain, following, strict=True):
        notes = notes_of(name, node.metadata)
        kind = kind_of(nir, node)
        if kind is not None:
            factor = factor_of(name, node, kind, dt)
            if factor is not None and not (modules and isinstance(modules[-1], (nn.Linear, SparseLinear))):
                raise ValueError(
                    f"from_nir: {name}: what its input is multiplied by must be 1 where no linear node before it could "
                    f"take that over, got {factor.flat[0]:g}; try another dt than {dt:g}"
                )
            modules.append(unit_of(name, node, kind, notes, width, dt, dtype))
            width = width or size_of(node)
        else:
            next_kind = kind_of(nir, next_node)
            factor = None if next_kind is None else factor_of(next_name, next_node, next_kind, dt)
            weight, bias = _affine(name, node, width, factor)
            modules.append(_linear(name, notes, weight, bias, sparse, kernel))
            width, dtype = len(weight), weight.dtype
    return SpikingSequential(*modules)


def _chain(nir: Any, graph: Any) -> list[tuple[str, Any]]:
    """Return the nodes between Input and Output, in the order in which they follow each other."""
    ends = [[name for name, node in graph.nodes.items() if isinstance(node, kind)] for kind in (nir.Input, nir.Output)]
    if [len(names) for names in ends] != [1, 1]:
        raise ValueError(f"from_nir: graph must have one Input and one Output, got {len(ends[0])} and {len(ends[1])}")
    for name, node in graph.nodes.items():
        if not isinstance(node, (nir.Input, nir.Output, nir.Affine, nir.Linear)) and kind_of(nir, node) is None:
            raise ValueError(
                f"from_nir: {name} must be an Affine, Linear, {NODE_NAMES} node, the ones that can be built here, got "
                f"{type(node).__name__}"
            )
    name, last = ends[0][0], ends[1][0]
    passed = [name]
    while name != last:
        following = [end for start, end in graph.edges if start == name]
        if len(following) != 1 or following[0] in passed or following[0] not in graph.nodes:
            raise ValueError(
                f"from_nir: nodes must follow each other in a row, without branches or loops, got {name} before "
                f"{_listed(following)}"
            )
        name = following[0]
        passed.append(name)
    outside = [name for name in graph.nodes if name not in passed]
    if outside:
        raise ValueError(f"from_nir: nodes must follow each other in a row, got {_listed(outside)} outside of it")
    if len(passed) == 2:
        raise ValueError("from_nir: graph must have a node between Input and Output, got none")
    return [(name, graph.nodes[name]) for name in passed[1:-1]]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "") if names else "nothing"


# Linear layers


def _affine(name: str, node: Any, width: int, factor: NDArray[Any] | None) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias, multiplied by a factor for each row."""
    weight, bias = np.asarray(node.weight), getattr(node, "bias", None)
    if weight.ndim != 2 or 0 in weight.shape or weight.dtype.kind not in "fiu":
        raise ValueError(
            f"from_nir: {name}: weight must be a matrix of numbers, got {weight.dtype} of shape {list(weight.shape)}"
        )
    if width and weight.shape[1] != width:
        raise ValueError(
            f"from_nir: {name}: weight must have {width} columns, as the node before it, got {weight.shape[1]}"
        )
    values = [weight]
    if bias is not None:
        bias = np.asarray(bias)
        if bias.shape != weight.shape[:1] or bias.dtype.kind not in "fiu":
            raise ValueError(
                f"from_nir: {name}: bias must be {len(weight)} numbers, got {bias.dtype} of shape {list(bias.shape)}"
            )
        values.append(bias)
    if not all(np.isfinite(part).all() for part in values):
        raise ValueError(f"from_nir: {name}: weight and bias must be finite, got values that are not")
    if factor is not None:
        if factor.shape not in ((), weight.shape[:1]):
            raise ValueError(f"from_nir: {name}: the neurons after it must number {len(weight)}, got {len(factor)}")
        values = [part * factor.reshape(-1, *[1] * (part.ndim - 1)) for part in values]
    dtype = torch.float64 if weight.dtype == np.float64 else torch.float32
    tensors = [torch.from_numpy(part.astype(np.float64)).to(dtype) for part in values]
    return tensors[0], tensors[1] if len(tensors) > 1 else None


def _wiring(name: str, notes: Mapping[str, Any], weight: Tensor) -> tuple[Wiring | None, bool]:
    """Return the wiring noted, or the one that weights show, None where all are connected; and whether it is noted."""
    shown = weight != 0
    wiring = noted_wiring(name, notes)
    if wiring is not None and wiring.shape == tuple(weight.shape) and not bool((shown & ~wiring.mask()).any()):
        return wiring, True
    if not bool(shown.any()):
        raise ValueError(f"from_nir: {name}: some weight must differ from 0, got none; try sparse=False")
    return None if bool(shown.all()) else Wiring.from_mask(shown), False


def _linear(
    name: str, notes: Mapping[str, Any], weight: Tensor, bias: Tensor | None, sparse: bool, kernel: str | None
) -> nn.Linear | SparseLinear:
    wiring, is_noted = _wiring(name, notes, weight) if sparse else (None, False)
    if kernel is None:
        kernel = noted_kernel(name, notes)
        if kernel != "events" and not is_noted:
            kernel = "auto"  # what was chosen for another wiring may be unable to compute this one
    if kernel not in ("auto", *KERNELS):
        raise ValueError(f"from_nir: {name}: kernel must be auto or one of {', '.join(KERNELS)}, got {kernel!r}")
    layer: nn.Linear | SparseLinear
    if wiring is None:
        kind = EventLinear if kernel == "events" else nn.Linear
        sizes = weight.shape[1], weight.shape[0]
        layer = nn.utils.skip_init(kind, *sizes, bias=bias is not None, dtype=weight.dtype)  # type: ignore[no-untyped-call]
    else:
        # all weights drawn are replaced, so they are drawn where that moves no other stream
        own = torch.Generator().manual_seed(0)
        try:
            layer = SparseLinear(wiring, bias=bias is not None, kernel=kernel, generator=own, dtype=weight.dtype)
        except ValueError as error:
            raise ValueError(f"from_nir: {name}: {error}") from error
    with torch.no_grad():
        if isinstance(layer, SparseLinear):
            layer.copy_dense_weight(weight)
        else:
            layer.weight.copy_(weight)
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(bias)
    return layer
