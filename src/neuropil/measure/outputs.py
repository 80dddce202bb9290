"""What the layers of a model say to a batch."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.connect.conv import synapses_of_convolutions
from neuropil.evaluation import run_watched
from neuropil.measure.activity import ACTIVATIONS
from neuropil.units import Unit

WEIGHT_LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, SparseLinear, SparseConv2d)
_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "activations": (*ACTIVATIONS, Unit),
    "weights": WEIGHT_LAYERS,
}


@torch.no_grad()
def layer_outputs(
    model: nn.Module,
    batch: Tensor,
    *,
    layers: Literal["activations", "weights"] | Sequence[str] = "activations",
    samples_first: bool = False,
) -> dict[str, Tensor]:
    """Run a batch through a model in evaluation mode and return what its layers put out.

    Args:
        model: any module.
        batch: what it takes.
        layers: ``activations``: all activation modules (``nn.ReLU``, …, :class:`neuropil.units.Unit`); ``weights``: all
            linear and convolutional layers, sparse ones too, before their activation; or names as in
            ``model.named_modules()``, of modules that return a tensor or a tuple that starts with one.
        samples_first: whether what spiking neurons give, ``[t, b, …]``, is turned into ``[b, t, …]``, as
            :func:`activation_change` wants it.

    Returns:
        Copies of outputs by name, in the order of the calls; a second call of the same layer is ``name[1]``, and so
        on. Measures of representations take ``[samples, units]``: flatten images, average the time steps of spikes.
        Cost: one forward pass, and the memory of the outputs.

    Raises:
        ValueError: a name that the model does not have, a layer that is not called, or no layer of the kind.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> {name: list(output.shape) for name, output in layer_outputs(model, torch.ones(5, 2)).items()}
        {'1': [5, 3]}
        >>> list(layer_outputs(model, torch.ones(5, 2), layers="weights"))
        ['0', '2']
    """
    modules = dict(model.named_modules())
    calls = dict.fromkeys(_chosen(model, modules, layers), 0)
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def keep(layer: nn.Module, _: Any, __: Any, output: Any) -> None:
            values = output if isinstance(output, Tensor) else output[0]
            if samples_first and isinstance(layer, Unit):
                values = values.transpose(0, 1)
            # a copy, for the next layer may write into its input
            found[f"{name}[{calls[name]}]" if calls[name] else name] = values.detach().clone()
            calls[name] += 1

        return keep

    run_watched(model, batch, [(modules[name], watch(name)) for name in calls])
    idle = [name for name, times in calls.items() if not times]
    if idle:
        raise ValueError(
            f"layer_outputs: every layer must be called when the model runs, got {idle[0]!r}, which is not; try "
            "layers=[…] without it"
        )
    return found


def _chosen(model: nn.Module, modules: dict[str, nn.Module], layers: str | Sequence[str]) -> Sequence[str]:
    if isinstance(layers, str):
        if layers not in _KINDS:
            raise ValueError(
                f"layer_outputs: layers must be activations, weights or a list of names, got {layers!r}; try "
                f"[{layers!r}]"
            )
        inner = synapses_of_convolutions(model)
        chosen = [name for name, part in modules.items() if isinstance(part, _KINDS[layers]) and part not in inner]
        if not chosen:
            raise ValueError(
                f"layer_outputs: the model must have modules of the kind {layers!r}, got {type(model).__name__} "
                "without; try layers=[…] with names of other modules"
            )
        return chosen
    unknown = [name for name in layers if name not in modules]
    if unknown or not layers:
        raise ValueError(
            f"layer_outputs: layers must be names of modules, got {unknown[0] if unknown else 'none'!r}; try some of "
            f"{sorted(modules)[:8]}"
        )
    return layers
