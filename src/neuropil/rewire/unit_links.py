"""Which layers of a model have units that one other layer alone reads, and what lies in between."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from neuropil.connect import SparseConv2d, SparseLinear

Layer = nn.Linear | nn.Conv2d | SparseLinear | SparseConv2d
_LAYERS = (nn.Linear, nn.Conv2d, SparseLinear, SparseConv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# what treats every unit by itself, each number of a sample or each channel of an image
_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.Tanhshrink,
    nn.Softshrink, nn.Hardshrink, nn.Threshold, nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout,
)  # fmt: skip
_OF_CHANNELS = (
    nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.ZeroPad2d,
)  # fmt: skip
_FUNCTIONS: frozenset[Any] = frozenset({
    torch.relu, torch.tanh, torch.sigmoid, F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.mish,
    F.tanh, F.sigmoid, F.softplus, F.hardtanh, F.hardswish, F.dropout, F.dropout2d,
})  # fmt: skip
_CHANNEL_FUNCTIONS: frozenset[Any] = frozenset({
    F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.interpolate,
})  # fmt: skip
_METHODS = frozenset({"relu", "relu_", "tanh", "sigmoid", "contiguous"})


@dataclass(frozen=True)
class Link:
    """A layer whose units only another one reads.

    Attributes:
        name: of the layer.
        n_units: its output neurons or channels.
        reader: name of the layer that reads them.
        width: numbers in a row that the reader has for each unit; above 1 where an image was made flat.
        between: names of the modules in between that have numbers of their own for each unit, and how many.
    """

    name: str
    n_units: int
    reader: str
    width: int
    between: dict[str, int] = field(default_factory=dict)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, _LAYERS) or bool(super().is_leaf_module(module, name))


def find_links(who: str, model: nn.Module) -> tuple[dict[str, Link], dict[str, str]]:
    """Return the layers whose units could be taken away, by name, and why those of the other layers could not.

    Args:
        who: named in errors.
        model: traced, not run.

    Raises:
        ValueError: what the model does depends on what it is given, so that it cannot be traced.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever its own code does with a stand-in for a tensor
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{who}: the model must do the same operations whatever its input, so that torch.fx can follow them, got a "
            f"{type(model).__name__} with which that fails: {reason}"
        ) from error
    modules = dict(model.named_modules())
    owners = Counter(id(parameter) for module in modules.values() for parameter in module.parameters(recurse=False))
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    read = {node.target for node in graph.nodes if node.op == "get_attr"}

    def fault(name: str) -> str | None:
        layer = modules[name]
        weight = layer.synapses.weight if isinstance(layer, SparseConv2d) else layer._parameters.get("weight")
        if not calls[name]:
            return "no operation of the model calls it by itself"
        if calls[name] > 1:
            return "it is called more than once"
        if weight is None or isinstance(weight, nn.UninitializedParameter):
            return "its weight is computed from others, or not yet there"
        if owners[id(weight)] > 1 or any(name == str(target).rpartition(".")[0] for target in read):
            return "its weight is used elsewhere, too"
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            return "it is a convolution with groups"
        return None

    links: dict[str, Link] = {}
    left: dict[str, str] = {}
    nodes = {node.target: node for node in graph.nodes if node.op == "call_module"}
    insides = tuple(f"{name}." for name, module in modules.items() if isinstance(module, SparseConv2d))
    for name, layer in modules.items():
        if not isinstance(layer, _LAYERS) or (insides and name.startswith(insides)):
            continue
        found = fault(name) or _follow(name, nodes[name], modules, fault)
        if isinstance(found, Link):
            links[name] = found
        else:
            left[name] = found
    return links, left


def _follow(name: str, node: fx.Node, modules: dict[str, nn.Module], fault: Callable[[str], str | None]) -> Link | str:
    """Return where the units of a layer end, or why that cannot be said."""
    layer = modules[name]
    assert isinstance(layer, _LAYERS)
    is_image, is_flat = isinstance(layer, nn.Conv2d | SparseConv2d), False
    n_units = units_of(layer)
    between: dict[str, int] = {}
    while True:
        if len(node.users) != 1:
            return f"{len(node.users)} operations read its units, not one"
        (reader,) = node.users
        if reader.op == "output":
            return "its units are what the model returns"
        if len(reader.all_input_nodes) != 1:
            return f"its units meet others in {_title(reader, modules)}"
        module = modules[str(reader.target)] if reader.op == "call_module" else None
        if isinstance(module, _LAYERS):
            width, rest = divmod(inputs_of(module), n_units)
            fits = not rest and (width == 1 or is_flat) and is_image == isinstance(module, nn.Conv2d | SparseConv2d)
            why = fault(str(reader.target))
            if why or not fits:
                return f"layer {str(reader.target)!r} reads its units: " + (why or "it does not take them one by one")
            return Link(name, n_units, str(reader.target), width, between)
        own = _own_numbers(module)
        if own:
            width, rest = divmod(own, n_units)
            if rest or not (width == 1 or is_flat):
                return f"its units pass {_title(reader, modules)}, which does not take them one by one"
            between[str(reader.target)] = width
        elif _flattens(reader, module):
            is_flat, is_image = is_flat or is_image, False
        elif not _is_by_unit(reader, module, is_image=is_image):
            return f"its units pass {_title(reader, modules)}, which may mix them"
        node = reader


def units_of(layer: Layer) -> int:
    """Return the number of output neurons or channels of a layer."""
    return layer.out_channels if isinstance(layer, nn.Conv2d | SparseConv2d) else layer.out_features


def inputs_of(layer: Layer) -> int:
    """Return the number of input neurons or channels of a layer."""
    return layer.in_channels if isinstance(layer, nn.Conv2d | SparseConv2d) else layer.in_features


def _own_numbers(module: nn.Module | None) -> int:
    """Return how many units a module has numbers for, 0 if for none."""
    if isinstance(module, _NORMS):
        return module.num_features
    return module.num_parameters if isinstance(module, nn.PReLU) and module.num_parameters > 1 else 0


def _is_by_unit(node: fx.Node, module: nn.Module | None, *, is_image: bool) -> bool:
    if module is not None:
        return isinstance(module, _ELEMENTWISE) or (is_image and isinstance(module, _OF_CHANNELS))
    if node.op == "call_method":
        return node.target in _METHODS
    return node.target in _FUNCTIONS or (is_image and node.target in _CHANNEL_FUNCTIONS)


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Return whether an operation makes each sample one row."""
    if module is not None:
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    if node.target not in (torch.flatten, "flatten"):
        return False
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
    return (given.get("start_dim", 0), given.get("end_dim", -1)) == (1, -1)


def _title(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        return f"{str(node.target)!r}, a {type(modules[str(node.target)]).__name__}"
    return f"{getattr(node.target, '__name__', node.target)!r}"
