"""A model as stages, one after the other: a layer with weights, and what follows it up to the next one."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.learn.activations import RectifiedPower

Weighted = nn.Linear | SparseLinear | nn.Conv2d | SparseConv2d

# what may stand between layers with weights: modules without weights that connect units
_NORMALIZATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d,
)
_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Softsign,
    nn.Tanhshrink,
    RectifiedPower,
)
_OTHERS = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


@dataclass(frozen=True, eq=False)
class Stage:
    """A layer with weights and what follows it.

    Attributes:
        name: of the layer in its model.
        layer: the layer.
        before: modules ahead of the first layer of the model; empty for all others.
        after: normalization, activation, pooling and the like, up to the next layer.
    """

    name: str
    layer: Weighted
    before: tuple[nn.Module, ...]
    after: tuple[nn.Module, ...]

    def current(self, reads: Tensor) -> Tensor:
        """Return what the layer makes of the stage's input."""
        for module in self.before:
            reads = module(reads)
        current: Tensor = self.layer(reads)
        return current

    def activity(self, current: Tensor) -> Tensor:
        """Return what the next stage reads, of what the layer gave."""
        for module in self.after:
            current = module(current)
        return current

    def __call__(self, reads: Tensor) -> Tensor:
        """Return what the next stage reads, of the stage's input."""
        return self.activity(self.current(reads))

    def parameters(self) -> list[nn.Parameter]:
        """Return what is learned in the stage, the layer's own first."""
        modules = (self.layer, *self.before, *self.after)
        return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def stages_of(model: nn.Module, *, who: str) -> list[Stage]:
    """Return the stages of a model, first to last; the last layer is the read-out.

    Args:
        model: an ``nn.Sequential`` of linear layers, convolutions, normalizations, pools and activations, nested ones
            too, or a model whose ``sequence()`` lists such modules in the order in which they are called, as
            :class:`neuropil.models.EnsembleNet` does.
        who: whom an error names.

    Raises:
        ValueError: it is none of these, or a part cannot be trained.

    Example:
        >>> [stage.name for stage in stages_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), who="")]
        ['0', '2']
    """
    names = {module: name for name, module in model.named_modules()}
    before: list[nn.Module] = []
    found: list[tuple[str, Weighted, list[nn.Module]]] = []
    for module in _leaves([model], who):
        if isinstance(module, Weighted):
            if any(module is layer for _, layer, _ in found):
                raise ValueError(f"{who}: each layer must be called once, got {names[module]!r} twice")
            found.append((names[module], module, []))
        elif not isinstance(module, (*_NORMALIZATIONS, *_POOLS, *_ACTIVATIONS, *_OTHERS)):
            raise ValueError(  # noqa: TRY004 (it is the model that is wrong)
                f"{who}: a model must be made of linear layers, convolutions, normalizations, pools and activations, "
                f"got {names[module] or 'it'!r}, a {type(module).__name__}"
            )
        else:
            (found[-1][2] if found else before).append(module)
    if not found:
        raise ValueError(f"{who}: the model must have layers with weights, got none")
    return [
        Stage(name, layer, tuple(before) if i == 0 else (), tuple(after))
        for i, (name, layer, after) in enumerate(found)
    ]


def hidden_and_readout(model: nn.Module, *, who: str) -> tuple[list[Stage], Stage]:
    """Return the hidden stages of a model, at least one, and its read-out: a linear layer that nothing follows.

    Raises:
        ValueError: as :func:`stages_of`; there is no hidden layer or no read-out.
    """
    *hidden, readout = stages_of(model, who=who)
    if not hidden:
        raise ValueError(f"{who}: the model must have a hidden layer and a read-out, got one layer in all")
    if readout.after or not isinstance(readout.layer, nn.Linear | SparseLinear):
        what = f"a {type((readout.layer, *readout.after)[-1]).__name__}"
        raise ValueError(f"{who}: the model must end in a linear read-out, one output a class, got {what} at its end")
    return hidden, readout


def weight_of(stage: Stage) -> nn.Parameter:
    """Return the weights of a stage's layer, as they are stored."""
    weight = (stage.layer.synapses if isinstance(stage.layer, SparseConv2d) else stage.layer).weight
    assert isinstance(weight, nn.Parameter)
    return weight


def n_outputs(stage: Stage) -> int:
    """Return how many neurons, or channels, a stage's layer has."""
    layer = stage.layer
    return layer.out_features if isinstance(layer, nn.Linear | SparseLinear) else layer.out_channels


def activation_of(stage: Stage) -> nn.Module:
    """Return a stage's last activation, in a form that changes nothing in place; ``nn.Identity`` where it has none."""
    for module in reversed(stage.after):
        if isinstance(module, _ACTIVATIONS):
            activation = copy.copy(module)
            if hasattr(activation, "inplace"):
                activation.inplace = False
            return activation
    return nn.Identity()


def _leaves(modules: Iterable[nn.Module], who: str) -> Iterable[nn.Module]:
    for module in modules:
        sequence = getattr(module, "sequence", None)
        if callable(sequence):
            yield from _leaves(sequence(), who)
        elif isinstance(module, nn.Sequential):
            yield from _leaves(module, who)
        else:
            yield module
