"""How far a network's hidden activity has come from what it was: whether it learnt features, or only read them out."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from neuropil.measure.samples import as_finite
from neuropil.measure.tangent import kernel_alignment


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


def activation_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[ActivationChange]:
    """Return how far hidden activity has come, one entry for each layer, as :class:`ActivationChange` says.

    Small changes with a small change of the tangent kernel mean lazy learning, large ones rich. Compare models at the
    same loss. n² · units operations a layer, in float64.

    Args:
        before, after: what layers gave for the same samples in the same order, ``[n, …]``, samples first, such as
            :func:`layer_outputs` with ``samples_first=True``.

    Raises:
        ValueError: the layers or their shapes differ, or entries are not finite.

    Reference:
        ``alignment`` is the representation alignment of Y. H. Liu et al., arXiv 2310.08513.

    Example:
        >>> import torch
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
        start, end = (as_finite("activation_change", x).flatten(1) for x in (first, after[name].to(first.device)))
        length, moved = float(start.norm()), float((end - start).norm())
        relative = moved / length if length else (float("inf") if moved else 0.0)
        if start.any() and end.any():
            cosine, alignment = kernel_alignment(start, end), kernel_alignment(start @ start.T, end @ end.T)
        else:
            cosine = alignment = 0.0 if moved else 1.0
        changes.append(ActivationChange(name, relative, cosine, alignment))
    return changes
