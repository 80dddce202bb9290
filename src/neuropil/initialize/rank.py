"""Weights of a given rank at an unchanged norm: a knob between lazy and rich learning."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.connect import SparseLinear
from neuropil.initialize.fan_in import Layer, kaiming_normal_


@dataclass(frozen=True)
class RankReached:
    """What :func:`rank_controlled_` reached in a layer.

    Attributes:
        effective_rank: see :func:`effective_rank`.
        outside: share of Σ s² that lies outside the largest ``rank`` singular values: 0 in dense layers, up to
            rounding, not on a sparse wiring; with ``decay``, 0.
        norm: Frobenius norm of the weights, that of the start they were made from.
    """

    effective_rank: float
    outside: float
    norm: float


def effective_rank(weight: Tensor) -> float:
    """Return (Σ s)² / Σ s² of a matrix's singular values s: from 1 (rank 1) to the rank (all equal); 0 for zeros.

    Which effective rank arXiv 2310.08513 uses is not known to us; this participation ratio is one reading of it.

    Args:
        weight: ``[out, in]``, or ``[out, in, *kernel]``, flattened from the second axis on.

    Raises:
        ValueError: the weight is not finite.

    Example:
        >>> round(effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))), 6)
        2.0
    """
    if not bool(weight.isfinite().all()):
        raise ValueError("effective_rank: weights must be finite, got inf or nan; try a smaller learning rate")
    s = torch.linalg.svdvals(weight.detach().double().flatten(1))
    square = float(s.square().sum())
    return float(s.sum()) ** 2 / square if square > 0 else 0.0


@torch.no_grad()
def rank_controlled_(
    layer: Layer,
    *,
    rank: int | None = None,
    decay: float | None = None,
    gain: float = 1.0,
    n_projections: int = 20,
    generator: torch.Generator | None = None,
) -> RankReached:
    """Draw N(0, gain²/fan_in) weights, W = U diag(s) Vᵀ, reduce s, and scale back to the Frobenius norm of W.

    With ``rank`` = r the r largest s are kept, with ``decay`` = d s_k becomes s_k dᵏ, k = 0, 1, …; both keep the norm
    of the draw, so that rank and scale are not mixed. Low rank is reported to make recurrent networks learn richly
    (larger changes of kernel and representation, compared at equal loss), high rank lazily, unless a low-rank start is
    aligned with the task.

    On a sparse wiring the rank of a matrix cannot be set exactly. There the matrix is projected in turn onto the
    spectrum and onto the wiring, ``n_projections`` times, ending with the wiring, which is exact; how far the rank is
    from what was asked for is returned. The norm is that of the masked draw, for the layer as a whole and **not for
    each neuron**: a random wiring allows a low rank only where few neurons hold most of the weight. Measured at
    100 × 100 and density 0.1: rank 5 is reached but for 2e-4 of Σ s², with 49 of 100 neurons above 1 % of the mean
    squared length (all 100 if dense), and rank 1 with 11. There, rank is mixed with how many neurons take part.

    Args:
        layer: a dense, convolutional (its weight flattened to ``[out, in · field]``) or sparse layer; biases are
            left alone.
        rank: at least 1, at most the shorter side of the matrix.
        decay: in (0, 1]; 1 leaves the draw as it is.
        gain: deviation of the draw times √fan_in; 1.25 in the source.
        n_projections: how often a sparse matrix is projected, each by one singular value decomposition.
        generator: where random numbers come from; default: PyTorch's default generator.

    Raises:
        ValueError: both or neither of ``rank`` and ``decay`` is given, or one is out of range, or ``n_projections``
            is below 1.

    Reference:
        Y. H. Liu et al., How connectivity structure shapes rich and lazy learning in neural circuits, ICLR 2024,
        arXiv 2310.08513 (``rank``, dense). ``decay`` and sparse wirings are ours.

    Example:
        >>> layer = torch.nn.Linear(50, 50, bias=False)
        >>> reached = rank_controlled_(layer, rank=1, generator=torch.Generator().manual_seed(0))
        >>> round(reached.effective_rank, 3)
        1.0
    """
    if (rank is None) == (decay is None):
        told = "neither" if rank is None else "both"
        raise ValueError(f"rank_controlled_: exactly one of rank and decay must be given, got {told}")
    side = min(layer.wiring.shape if isinstance(layer, SparseLinear) else layer.weight.flatten(1).shape)
    if rank is not None and not 1 <= rank <= side:
        raise ValueError(f"rank_controlled_: rank must be from 1 to {side}, the layer's shorter side, got {rank}")
    if decay is not None and not 0 < decay <= 1:
        raise ValueError(f"rank_controlled_: decay must be in (0, 1], got {decay}")
    if n_projections < 1:
        raise ValueError(f"rank_controlled_: n_projections must be at least 1, got {n_projections}")
    kaiming_normal_(layer, nonlinearity="linear", generator=generator)
    layer.weight.mul_(gain)
    start = _matrix(layer)
    norm = start.norm()
    if decay == 1:
        return _reached(start, rank)
    factors = torch.ones(side, dtype=start.dtype, device=start.device)
    factors[rank:] = 0.0
    if decay is not None:
        factors = decay ** torch.arange(side, dtype=start.dtype, device=start.device)
    spectrum = torch.linalg.svdvals(start) * factors
    mask = layer.wiring.mask().to(start.device) if isinstance(layer, SparseLinear) else None
    weight = start
    for _ in range(1 if mask is None else n_projections):
        left, s, right = torch.linalg.svd(weight, full_matrices=False)
        weight = left @ ((spectrum if rank is None else s * factors)[:, None] * right)
        if mask is not None:
            weight = weight * mask
        weight = weight * (norm / weight.norm().clamp(min=1e-300))
    if isinstance(layer, SparseLinear):
        layer.copy_dense_weight(weight)
    else:
        layer.weight.copy_(weight.view_as(layer.weight))
    return _reached(weight, rank)


def _matrix(layer: Layer) -> Tensor:
    """Return the weights as one matrix in float64, zero where nothing connects; silent ones among them."""
    if not isinstance(layer, SparseLinear):
        return layer.weight.detach().double().flatten(1)
    silent = layer.silent
    layer.set_silent(None)
    weight = layer.dense_weight().detach().double()
    layer.set_silent(silent)
    return weight


def _reached(weight: Tensor, rank: int | None) -> RankReached:
    square = torch.linalg.svdvals(weight).square()
    total = float(square.sum())
    outside = float(square[rank:].sum()) / total if rank is not None and total > 0 else 0.0
    return RankReached(effective_rank(weight), outside, total**0.5)
