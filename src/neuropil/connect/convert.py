"""Putting a wiring into an existing model, and taking it out again."""

import copy
import difflib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

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

    Subclasses of ``nn.Linear`` stay as they are: whoever wrote them may read their weights directly, as
    PyTorch's attention does. Hooks on a converted layer are not taken over.

    Args:
        model: any module; it is not changed. An ``nn.Linear`` itself gives a ``SparseLinear``.
        pattern: how every layer is wired, or one pattern or one wiring for each layer by name; layers that are not
            named stay dense.
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
            if type(model.get_submodule(name)) is not nn.Linear:
                kind = type(model.get_submodule(name)).__name__
                raise ValueError(
                    f"sparsify: every name in pattern must be that of an nn.Linear, got {name!r}, a {kind}"
                )

    # wirings and weights never share numbers: each gets a stream of its own
    wiring_stream, weight_stream = (torch.Generator().manual_seed(
        int(torch.randint(2**62, (), generator=generator, device="cpu"))) for _ in range(2))  # fmt: skip
    replaced: dict[str, SparseLinear] = {}
    for name, layer in model.named_modules():
        chosen = pattern.get(name) if isinstance(pattern, Mapping) else pattern
        if type(layer) is not nn.Linear or chosen is None or is_inside(name, skip):
            continue
        check_not_shared("sparsify", model, name, layer.weight)
        try:
            wiring = _wiring(chosen, layer, wiring_stream)
        except ValueError as error:
            raise ValueError(f"sparsify: layer {name!r}: {error}") from error
        sparse = SparseLinear(
            wiring,
            bias=layer.bias is not None,
            kernel=kernel,
            generator=weight_stream,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
        if keep_weights:
            sparse.copy_dense_weight(layer.weight)
        _take_bias(layer, sparse, values=keep_weights)
        sparse.weight.requires_grad_(layer.weight.requires_grad)
        replaced[name] = sparse.train(layer.training)
    if not replaced:
        raise ValueError("sparsify: the model must have an nn.Linear that is not skipped, got none")
    sparse_model = _with_layers(model, replaced)
    for module in sparse_model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            # its shortcut in evaluation mode reads the weights of its layers and passes their forward by
            module.activation_relu_or_gelu = 0
    return sparse_model


def densify(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which every :class:`SparseLinear` has become the ``nn.Linear`` of equal output.

    Weights are kept, zero where nothing connected. A ``SparseLinear`` itself gives an ``nn.Linear``; a model
    without sparse layers gives an equal copy.

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
        if isinstance(layer, SparseLinear):
            dense = nn.Linear(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                device=layer.weight.device,
                dtype=layer.weight.dtype,
            )
            with torch.no_grad():
                dense.weight.copy_(layer.dense_weight())
            _take_bias(layer, dense, values=True)
            dense.weight.requires_grad_(layer.weight.requires_grad)
            replaced[name] = dense.train(layer.training)
    return _with_layers(model, replaced)


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


def _wiring(chosen: Pattern | Wiring, layer: nn.Linear, generator: torch.Generator) -> Wiring:
    if not isinstance(chosen, Wiring):
        return chosen.wire(layer.in_features, layer.out_features, generator=generator)
    if chosen.shape != (layer.out_features, layer.in_features):
        raise ValueError(f"its wiring must be from {layer.in_features} to {layer.out_features} neurons, got {chosen!r}")
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
