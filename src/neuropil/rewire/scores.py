"""What single synapses are worth, as pure functions of weights, activity, gradients or the wiring itself."""

import torch
from torch import Tensor

_TINY = 1e-8  # added to norms, as in the laboratory's code


def magnitude(weight: Tensor) -> Tensor:
    """Return |w|, of any shape.

    Reference:
        D. C. Mocanu et al., SET, arXiv 1707.04780; U. Evci et al., RigL, arXiv 1911.11134 (what is pruned).
    """
    return weight.abs()


def hebbian_correlation(pre: Tensor, post: Tensor, *, centered: bool = False) -> Tensor:
    """Return C_H(o, i) = ⟨a_o, b_i⟩ / ((‖a_o‖ + 1e-8)(‖b_i‖ + 1e-8)), in [−1, 1]: who fires together.

    a_o and b_i are the activities of target o and source i over all samples. The laboratory's code takes the cosine
    of raw activities; ``centered`` subtracts each neuron's mean first, which makes it Pearson's correlation.

    Args:
        pre: activity of the sources ``[samples, i]``.
        post: activity of the targets ``[samples, o]``.
        centered: correlation in place of the cosine.

    Returns:
        ``[o, i]``; 0 for a neuron that is silent (centered: constant).

    Reference:
        G2GNet, arXiv 2508.14140, after the laboratory's public spiking code.

    Example:
        >>> pre, post = torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[2.0], [2.0]])
        >>> hebbian_correlation(pre, post)
        tensor([[1.0000, 0.7071]])
    """
    cosines: Tensor = unit_columns(post, centered=centered).T @ unit_columns(pre, centered=centered)
    return cosines


def unit_columns(activity: Tensor, *, centered: bool = False) -> Tensor:
    """Return activities ``[samples, n]`` with each neuron's divided by (its norm + 1e-8)."""
    if centered:
        activity = activity - activity.mean(0)
    lengths: Tensor = activity.norm(dim=0) + _TINY
    return activity / lengths


def dense_gradient(pre: Tensor, output_gradient: Tensor) -> Tensor:
    """Return ∂L/∂W of a linear layer for every pair of neurons, connected or not: gᵀ x, ``[o, i]``.

    Args:
        pre: inputs x ``[samples, i]``.
        output_gradient: ∂L/∂y ``[samples, o]``.

    Reference:
        U. Evci et al., RigL, arXiv 1911.11134, which grows where its absolute value is largest.
    """
    gradient: Tensor = output_gradient.T @ pre
    return gradient


def magnitude_and_gradient(weight: Tensor, gradient: Tensor, *, coefficient: float = 0.01) -> Tensor:
    """Return |w| + coefficient · |∂L/∂w|, of any shape.

    Reference:
        G. Yuan et al., MEST (2021), with the coefficient of its re-implementation in the CHT repository.
    """
    return weight.abs() + coefficient * gradient.abs()


def sensitivity(weight: Tensor, gradient: Tensor) -> Tensor:
    """Return |w · ∂L/∂w|, of any shape: to first order, how much the loss changes if the synapse goes.

    Reference:
        N. Lee et al., SNIP, arXiv 1810.02340.
    """
    return (weight * gradient).abs()


def common_neighbours(mask: Tensor, rows: slice, *, order: int) -> Tensor:
    """Return k(r, c) between nodes of one side, for some of them: ``[rows, n]``.

    With C the number of nodes of the other side that two nodes share, and e(r, c) = max(deg(c) − C(r, c), 1) − 1 the
    links of c beyond those shared, k = 1 / (e + 1) for CH3 and (C + 1) / (e + 1) for CH2; 0 where C = 0.

    Args:
        mask: connections ``[n, m]`` of 0 and 1, the side in question first.
        rows: which of the n nodes are r.
        order: 2 or 3.
    """
    shared = mask[rows] @ mask.T
    external = (mask.sum(1) - shared).clamp(min=1)  # e + 1
    strength = (shared + 1) / external if order == 2 else 1 / external
    return torch.where(shared > 0, strength, 0.0)


def cannistraci_hebb(mask: Tensor, *, order: int = 3) -> Tensor:
    """Return the Cannistraci–Hebb score of every pair of neurons over the paths of length 3 that join them.

    Score(o, i) = Σ_i′ k(i, i′) mask(o, i′) + Σ_o′ k(o, o′) mask(o′, i), with k of :func:`common_neighbours` taken
    among sources and among targets: many short paths, through nodes with few links to elsewhere.

    Args:
        mask: connections ``[o, i]`` of 0 and 1.
        order: 3 (CH3-L3n) or 2 (CH2-L3n).

    Returns:
        ``[o, i]``, at least 0.

    Reference:
        Y. Zhang et al., CHT (ICLR 2024) and CHTs, arXiv 2501.19107: the node-based form of their code.
    """
    sources = common_neighbours(mask.T, slice(None), order=order)
    targets = common_neighbours(mask, slice(None), order=order)
    return mask @ sources.T + targets @ mask
