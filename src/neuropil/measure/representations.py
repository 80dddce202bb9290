"""How far a network's hidden activity has come from what it was: whether it learnt features, or only read them out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.evaluation import run_watched
from neuropil.measure.activity import ACTIVATIONS
from neuropil.measure.tangent import kernel_alignment
from neuropil.measure.trained_function import same_draws
from neuropil.units import Unit


@dataclass(frozen=True)
class ActivationChange:
    """How far one layer's activity H has come from H₀, on the same samples.

    Attributes:
        name: of the layer.
        relative: ‖H − H₀‖ / ‖H₀‖ in Frobenius norm, at least 0; infinite where H₀ was 0 throughout and H is not.
        cosine: ⟨H, H₀⟩ / (‖H‖ ‖H₀‖), in [−1, 1]: not changed by scale, but by an exchange of units.
        alignment: the cosine between H Hᵀ and H₀ H₀ᵀ, over samples, in [0, 1]: changed by neither scale nor rotation.
            Not centred: what is the same for all samples, as much of a ReLU's output is, brings it nearer to 1.

    Both cosines are 1 where H and H₀ are 0 throughout, and 0 where one of them is.
    """

    name: str
    relative: float
    cosine: float
    alignment: float


@torch.no_grad()
def hidden_activations(model: nn.Module, batch: Tensor, *, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return copies of what layers give for a batch, in evaluation mode, for :func:`activation_change`.

    One forward pass; the memory is that of the outputs.

    Args:
        model: any module.
        batch: ``[n, …]``.
        layers: names of modules; None: all activation modules (``nn.ReLU``, …, :class:`neuropil.units.Unit`).

    Returns:
        By name, in the order of the calls; a second call of the same layer is ``name[1]``, and so on. Outputs are as
        the module gives them, of spiking neurons their spikes, with samples first, ``[n, t, …]``.

    Raises:
        ValueError: the model has no such layer, or none at all.

    Example:
        >>> found = hidden_activations(nn.Sequential(nn.Identity(), nn.ReLU()), torch.tensor([[-1.0, 2.0]]))
        >>> found
        {'1': tensor([[0., 2.]])}
    """
    modules = dict(model.named_modules())
    if unknown := sorted(set(layers or ()) - set(modules)):
        raise ValueError(f"hidden_activations: layers must name modules of the model, got {unknown}; see named_modules")
    watched: tuple[type[nn.Module], ...] = (*ACTIVATIONS, Unit)
    chosen = [
        name for name, part in modules.items() if (isinstance(part, watched) if layers is None else name in layers)
    ]
    if not chosen:
        raise ValueError(
            f"hidden_activations: the model must have activation modules, got a {type(model).__name__} without; try "
            "layers=[…]"
        )
    found: dict[str, Tensor] = {}
    calls = dict.fromkeys(chosen, 0)

    def watch(name: str) -> Callable[..., None]:
        def record(layer: nn.Module, _: Any, __: Any, output: Any) -> None:
            values = output[0] if isinstance(output, tuple) else output
            if isinstance(layer, Unit):
                values = values.transpose(0, 1)
            found[f"{name}[{calls[name]}]" if calls[name] else name] = values.detach().clone()
            calls[name] += 1

        return record

    with same_draws(model):
        run_watched(model, batch, [(modules[name], watch(name)) for name in chosen])
    return found


def activation_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[ActivationChange]:
    """Return how far hidden activity has come, one entry for each layer, as :class:`ActivationChange` says.

    Small changes with a small change of the tangent kernel mean lazy learning, large ones rich. Compare models at the
    same loss. n² · units operations a layer, in float64.

    Args:
        before, after: what :func:`hidden_activations` gave for the same samples in the same order.

    Raises:
        ValueError: the layers or their shapes differ.

    Reference:
        ``alignment`` is the representation alignment of Y. H. Liu et al., arXiv 2310.08513.

    Example:
        >>> start, end = {"relu": torch.tensor([[1.0, 0.0]])}, {"relu": torch.tensor([[0.0, 1.0]])}
        >>> activation_change(start, end)
        [ActivationChange(name='relu', relative=1.4142135623730951, cosine=0.0, alignment=1.0)]
    """
    if list(before) != list(after):
        raise ValueError(f"activation_change: both must be of the same layers, got {list(before)} and {list(after)}")
    changes = []
    for name, first in before.items():
        if first.shape != after[name].shape:
            raise ValueError(
                f"activation_change: layer {name!r} must have the same shape in both, got {tuple(first.shape)} and "
                f"{tuple(after[name].shape)}"
            )
        start = first.detach().double().flatten(1)
        end = after[name].detach().to(first.device).double().flatten(1)
        length, moved = float(start.norm()), float((end - start).norm())
        relative = moved / length if length else (float("inf") if moved else 0.0)
        if start.any() and end.any():
            cosine, alignment = kernel_alignment(start, end), kernel_alignment(start @ start.T, end @ end.T)
        else:
            cosine = alignment = 0.0 if moved else 1.0
        changes.append(ActivationChange(name, relative, cosine, alignment))
    return changes
