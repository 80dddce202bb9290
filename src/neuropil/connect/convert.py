"""Putting a wiring into an existing model, and taking it out again."""

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.connect.conv import SparseConv2d
from neuropil.connect.linear import SparseLinear
from neuropil.connect.pattern import Pattern
from neuropil.connect.wiring import Wiring


def sparsify(
    model: nn.Module,
    pattern: Pattern | Mapping[str, Pattern | Wiring],
    *,
    skip: Iterable[str] = (),
    keep_weights: bool = False,
    kernel: str = "auto",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return a copy of a model in which every ``nn.Linear`` has become a :class:`SparseLinear`.

    Every ``nn.Conv2d`` becomes a :class:`SparseConv2d`, in which a pattern connects channels: a connection is a whole
    filter. Those with groups, or padded with anything but zeros on either side alike, stay as they are. So do
    subclasses of either: whoever wrote them may read their weights directly, as PyTorch's attention does. Hooks on a
    converted layer are not taken over.

    Args:
        model: any module; it is not changed. An ``nn.Linear`` itself gives a ``SparseLinear``.
        pattern: how every layer is wired, or one pattern or one wiring for each layer by name; layers that are not
            named stay dense. A wiring of a convolution may be from channels, or from taps.
        skip: names of layers, or of modules that contain them, that stay dense.
        keep_weights: take the live weights and the biases over, instead of drawing new ones.
        kernel: as for :class:`SparseLinear`.
        generator: where wirings and new weights come from, for each from a stream split off it; default: PyTorch's
            default generator.

    Raises:
        ValueError: a name is not in the model, a weight is shared between layers, the pattern or the wiring does not
            fit a layer, or the model has no layer to convert.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        >>> generator = torch.Generator().manual_seed(0)
        >>> sparsify(model, Ensembles(n_groups=8), skip=("2",), generator=generator)[0]
        SparseLinear(in_features=64, out_features=128, block=(1, 1), density=0.2535, bias=True, kernel=masked)
    """
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    check_names("sparsify", model, (*skip, *(pattern if isinstance(pattern, Mapping) else ())))
    if isinstance(pattern, Mapping):
        for name in pattern:
            if not can_be_sparse(layer := model.get_submodule(name)):
                told = "an nn.Linear or an nn.Conv2d without groups, padded with zeros"
                kind = type(layer).__name__
                raise ValueError(f"sparsify: every name in pattern must be that of {told}, got {name!r}, a {kind}")

    # wirings and weights never share numbers: each gets a stream of its own
    wiring_stream, weight_stream = (torch.Generator().manual_seed(
        int(torch.randint(2**62, (), generator=generator, device="cpu"))) for _ in range(2))  # fmt: skip
    replaced: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        chosen = pattern.get(name) if isinstance(pattern, Mapping) else pattern
        if not isinstance(layer, nn.Linear | nn.Conv2d) or not can_be_sparse(layer):
            continue
        if chosen is None or is_inside(name, skip):
            continue
        check_not_shared("sparsify", model, name, layer.weight)
        try:
            replaced[name] = _sparse(layer, chosen, wiring_stream, weight_stream, kernel, keep_weights=keep_weights)
        except ValueError as error:
            raise ValueError(f"sparsify: layer {name!r}: {error}") from error
    if not replaced:
        raise ValueError("sparsify: the model must have an nn.Linear or nn.Conv2d that is not skipped, got none")
    sparse_model = _with_layers(model, replaced)
    for module in sparse_model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            # its shortcut in evaluation mode reads the weights of its layers and passes their forward by
            module.activation_relu_or_gelu = 0
    return sparse_model


def densify(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which every :class:`SparseLinear` has become the ``nn.Linear`` of equal output.

    Every :class:`SparseConv2d` becomes an ``nn.Conv2d``. Weights are kept, zero where nothing connected. A
    ``SparseLinear`` itself gives an ``nn.Linear``; a model without sparse layers gives an equal copy.

    Example:
        >>> from neuropil.connect import ErdosRenyi
        >>> generator = torch.Generator().manual_seed(0)
        >>> layer = SparseLinear(ErdosRenyi(0.5).wire(4, 3, generator=generator), generator=generator)
        >>> x = torch.ones(2, 4)
        >>> torch.allclose(densify(layer)(x), layer(x))
        True
    """
    replaced: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, SparseConv2d):
            sizes = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation")}
            convolution = nn.Conv2d(layer.in_channels, layer.out_channels, **sizes, **_kind(layer.synapses))
            replaced[name] = _dense(layer.synapses, convolution, layer.dense_weight())
        elif isinstance(layer, SparseLinear) and not is_inside(name, tuple(replaced)):
            linear = nn.Linear(layer.in_features, layer.out_features, **_kind(layer))
            replaced[name] = _dense(layer, linear, layer.dense_weight())
    return _with_layers(model, replaced)


def can_be_sparse(layer: nn.Module) -> bool:
    """Return whether a layer is one that :func:`sparsify` knows."""
    if type(layer) is nn.Conv2d:
        return layer.groups == 1 and layer.padding_mode == "zeros" and _padding(layer) is not None
    return type(layer) is nn.Linear


def _padding(layer: nn.Conv2d) -> tuple[int, int] | None:
    """Return how much a convolution pads on either side; None where the sides differ."""
    if not isinstance(layer.padding, str):
        return layer.padding[0], layer.padding[1]
    if layer.padding == "valid":
        return 0, 0
    height, width = (d * (size - 1) for d, size in zip(layer.dilation, layer.kernel_size, strict=True))
    return None if height % 2 or width % 2 else (height // 2, width // 2)


def _kind(layer: nn.Linear | nn.Conv2d | SparseLinear) -> dict[str, Any]:
    """Return the arguments of a layer that is to have a bias where this one has, on its device and in its type."""
    return {"bias": layer.bias is not None, "device": layer.weight.device, "dtype": layer.weight.dtype}


def _sparse(
    layer: nn.Linear | nn.Conv2d,
    chosen: Pattern | Wiring,
    wiring_stream: torch.Generator,
    weight_stream: torch.Generator,
    kernel: str,
    *,
    keep_weights: bool,
) -> nn.Module:
    """Return the sparse layer of a dense one."""
    settings = {**_kind(layer), "kernel": kernel, "generator": weight_stream}
    sparse: SparseLinear | SparseConv2d
    if isinstance(layer, nn.Conv2d):
        sizes = {key: getattr(layer, key) for key in ("kernel_size", "stride", "dilation")}
        wiring = _wiring(chosen, layer.in_channels, layer.out_channels, wiring_stream, taps=layer.weight[0].numel())
        sparse = SparseConv2d(wiring, layer.in_channels, padding=_padding(layer) or 0, **sizes, **settings)
        synapses = sparse.synapses
    else:
        sparse = synapses = SparseLinear(
            _wiring(chosen, layer.in_features, layer.out_features, wiring_stream), **settings
        )
    if keep_weights:
        synapses.copy_dense_weight(layer.weight.flatten(1))
    _take_bias(layer, synapses, values=keep_weights)
    synapses.weight.requires_grad_(layer.weight.requires_grad)
    return sparse.train(layer.training)


@torch.no_grad()
def _dense(sparse: SparseLinear, dense: nn.Linear | nn.Conv2d, weight: Tensor) -> nn.Module:
    """Return a dense layer with the weights of a sparse one."""
    dense.weight.copy_(weight)
    _take_bias(sparse, dense, values=True)
    dense.weight.requires_grad_(sparse.weight.requires_grad)
    return dense.train(sparse.training)


def _with_layers(model: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """Return a copy of the model with the named layers in place of its own, which are never copied."""
    if "" in layers:
        return layers[""]
    old = {id(model.get_submodule(name)): new for name, new in layers.items()}
    return copy.deepcopy(model, old)


@torch.no_grad()
def _take_bias(source: nn.Module, target: nn.Module, *, values: bool) -> None:
    if isinstance(source.bias, nn.Parameter) and isinstance(target.bias, nn.Parameter):
        target.bias.requires_grad_(source.bias.requires_grad)
        if values:
            target.bias.copy_(source.bias)


def is_inside(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a module is one of those named, or part of one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _wiring(
    chosen: Pattern | Wiring, sources: int, targets: int, generator: torch.Generator, *, taps: int | None = None
) -> Wiring:
    """Return the wiring of a layer of so many source and target neurons, or of channels that have so many taps."""
    if not isinstance(chosen, Wiring):
        return chosen.wire(sources, targets, generator=generator)
    if chosen.shape not in ((targets, sources), (targets, taps)):
        neurons = (
            f"{sources} to {targets} neurons" if taps is None else f"{sources} channels or {taps} taps to {targets}"
        )
        raise ValueError(f"its wiring must be from {neurons}, got {chosen!r}")
    return chosen


def check_names(owner: str, model: nn.Module, names: Iterable[str]) -> None:
    """Raise a ``ValueError`` unless every name is that of a module of the model."""
    known = [name for name, _ in model.named_modules()]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; try {near[0]!r}" if near else f"; its modules are {', '.join(known[1:]) or 'none'}"
            raise ValueError(f"{owner}: every name must be that of a module of the model, got {name!r}{hint}")


def check_not_shared(owner: str, model: nn.Module, name: str, weight: Tensor) -> None:
    """Raise a ``ValueError`` if a layer's weight also belongs to another module of the model."""
    for other_name, other in model.named_modules():
        if other_name != name and any(parameter is weight for parameter in other.parameters(recurse=False)):
            raise ValueError(
                f"{owner}: a layer's weight must be its own, got {name!r}, which shares it with {other_name!r}; "
                f"try skip=({name!r},)"
            )
