"""Which samples a network finds alike: matrices of dissimilarities, their comparison, shared neighbours."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from neuropil.measure.samples import as_same_samples, as_samples

Dissimilarity = Literal["correlation", "cosine", "euclidean"]
Comparison = Literal["spearman", "kendall"]


def dissimilarity_matrix(x: Tensor, metric: Dissimilarity = "correlation") -> Tensor:
    """Return the representational dissimilarity matrix: a distance for each pair of samples.

    Args:
        x: activations ``[s, n]``.
        metric: ``correlation``: 1 − Pearson's r across units, in [0, 2]; ``cosine``: 1 − the cosine, in [0, 2];
            ``euclidean``: ≥ 0.

    Returns:
        ``[s, s]`` in float64, symmetric, 0 on the diagonal. Cost: O(s² n) time, s² numbers.

    Raises:
        ValueError: another shape, too few samples, entries that are not finite, an unknown metric, or samples for which
            it is not defined: all units equal (correlation), all 0 (cosine).

    Reference:
        N. Kriegeskorte, M. Mur, P. Bandettini, Front. Syst. Neurosci. 2 (2008), 10.3389/neuro.06.004.2008.

    Example:
        >>> dissimilarity_matrix(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), metric="euclidean").tolist()
        [[0.0, 5.0], [5.0, 0.0]]
    """
    x = as_samples("dissimilarity_matrix", x)
    if metric not in get_args(Dissimilarity):
        raise ValueError(
            f"dissimilarity_matrix: metric must be one of {', '.join(get_args(Dissimilarity))}, got {metric!r}; try "
            "'correlation'"
        )
    if metric == "euclidean":
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    flat = x.amax(1) == x.amin(1) if metric == "correlation" else (x == 0).all(1)
    if bool(flat.any()):
        without = "differ between units" if metric == "correlation" else "have a unit that is not 0"
        raise ValueError(
            f"dissimilarity_matrix: for {metric}, every sample must {without}, got {int(flat.sum())} of {len(x)} "
            "without; try metric='euclidean'"
        )
    if metric == "correlation":
        x = x - x.mean(1, keepdim=True)
    x = x / x.abs().amax(1, keepdim=True)
    x = x / x.square().sum(1, keepdim=True).sqrt()
    cosines = x @ x.T
    cosines = (cosines + cosines.T) / 2  # products of matrices are not symmetric to the last bit
    return (1 - cosines).clamp(0.0, 2.0).fill_diagonal_(0.0)


def representational_similarity(
    x: Tensor, y: Tensor, *, metric: Dissimilarity = "correlation", comparison: Comparison = "spearman"
) -> float:
    """Return the rank correlation of two representations' dissimilarity matrices, above the diagonal.

    Only the order of the dissimilarities counts; those that differ by less than 1e-10 of the largest count as equal,
    for rounding alone may tell them apart. With few samples chance correlations are large: there are
    s (s − 1) / 2 pairs but only s independent samples, so p values of the rank correlation do not hold.

    Args:
        x: ``[s, n]``.
        y: ``[s, m]``, the same samples in the same order.
        metric: see :func:`dissimilarity_matrix`.
        comparison: ``spearman`` or ``kendall`` (τ-b, which corrects for ties).

    Returns:
        A number in [−1, 1]: 1 of identical representations, about 0 of independent ones, nan if all dissimilarities
        of one are equal. Cost: O(s² (n + m + log s)).

    Raises:
        ValueError: as :func:`dissimilarity_matrix`, fewer than 3 samples, different numbers of them, or an unknown
            comparison.

    Reference:
        N. Kriegeskorte, M. Mur, P. Bandettini, Front. Syst. Neurosci. 2 (2008), 10.3389/neuro.06.004.2008.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> round(representational_similarity(x, -2 * x, metric="euclidean"), 6)
        1.0
    """
    from scipy import stats

    if comparison not in get_args(Comparison):
        raise ValueError(
            f"representational_similarity: comparison must be spearman or kendall, got {comparison!r}; try 'spearman'"
        )
    pair = as_same_samples("representational_similarity", x, y, least=3)
    rows, columns = torch.triu_indices(len(x), len(x), 1)
    first, second = (_in_steps(dissimilarity_matrix(z, metric)).cpu()[rows, columns].numpy() for z in pair)
    if first.min() == first.max() or second.min() == second.max():
        return math.nan
    compare = stats.spearmanr if comparison == "spearman" else stats.kendalltau
    return float(compare(first, second).statistic)


def shared_neighbors(x: Tensor, y: Tensor, *, k: int = 10, metric: Dissimilarity = "cosine") -> float:
    """Return the mutual nearest-neighbour overlap: which share of a sample's k nearest ones two representations share.

    The mean over samples of |N(x) ∩ N(y)| / k, N the k nearest other samples. Independent representations share
    k / (s − 1) by chance: compare measures at equal s and k only.

    Args:
        x: ``[s, n]``.
        y: ``[s, m]``, the same samples in the same order.
        k: neighbours, from 1 to s − 1; at s − 1 the overlap is always 1.
        metric: what near means, see :func:`dissimilarity_matrix`; of samples that are equally near (to
            1e-10 of the largest dissimilarity), the first counts.

    Returns:
        A number in [0, 1]; 1 of identical representations. Cost: O(s² (n + m + log s)) time, s² numbers.

    Raises:
        ValueError: as :func:`dissimilarity_matrix`, different numbers of samples, or k out of range.

    Reference:
        M. Huh et al., The Platonic representation hypothesis, arXiv 2405.07987; inner products of features of
        length 1 there, hence the cosine.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> shared_neighbors(x, -x, k=1, metric="euclidean")
        1.0
        >>> shared_neighbors(x, x[[1, 0, 2, 3]], k=1, metric="euclidean")
        0.75
    """
    x, y = as_same_samples("shared_neighbors", x, y)
    samples = len(x)
    if not 1 <= k < samples:
        raise ValueError(
            f"shared_neighbors: k must be at least 1 and below the number of samples, got {k} of {samples}; try "
            f"{max(1, samples // 10)}"
        )
    first, second = (_neighbors(z, k, metric) for z in (x, y))
    return int((first & second).sum()) / (samples * k)


def _in_steps(distances: Tensor) -> Tensor:
    """Return dissimilarities in whole steps of 1e-10 of the largest: what rounding tells apart has no order."""
    return (distances / distances.max().clamp(min=1e-300) * 1e10).round()


def _neighbors(x: Tensor, k: int, metric: Dissimilarity) -> Tensor:
    """Return which samples (columns) are among the k nearest of which (rows)."""
    distances = _in_steps(dissimilarity_matrix(x, metric)).fill_diagonal_(math.inf)
    nearest = distances.argsort(dim=1, stable=True)[:, :k]
    return torch.zeros_like(distances, dtype=torch.bool).scatter_(1, nearest, True)
