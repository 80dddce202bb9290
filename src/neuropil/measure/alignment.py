"""How alike two representations are: centred kernel alignment."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.measure.samples import as_same_samples, as_samples, centred

_STRIP = 128  # rows at a time of a product that is symmetric
_ROUNDING = 1e-24  # a kernel of which centring leaves less, in squares, is constant but for rounding


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> float:
    """Return the linear centred kernel alignment of two representations of the same samples.

    With X and Y centred over samples, CKA = ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖), in Frobenius norms: HSIC(K, L) divided by
    √(HSIC(K, K) HSIC(L, L)) for K = X Xᵀ and L = Y Yᵀ. It does not change with rotations, reflections and
    permutations of units, nor with one factor for all units; it does change with other linear maps.

    The biased estimate is far above 0 of unrelated representations with more units than samples; the unbiased one
    is about 0: use it there.

    Args:
        x: ``[s, n]``.
        y: ``[s, m]``, the same samples in the same order.
        unbiased: whether HSIC is estimated without bias (s ≥ 4).

    Returns:
        A number in [0, 1], unbiased in [−1, 1]; 1 of identical representations, nan if one does not vary.
        Cost: O(s n m) time of the biased one where units are no more than half the samples, else O(s² (n + m)) and s²
        numbers. One representation with many others: :class:`LinearAlignment`.

    Raises:
        ValueError: other shapes, different numbers of samples, too few of them, entries that are not finite.

    Reference:
        S. Kornblith et al., arXiv 1905.00414; unbiased HSIC: L. Song et al., J. Mach. Learn. Res. 13 (2012), 1393–1434.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> round(linear_cka(x, 3 * x.flip(1)), 6)
        1.0
        >>> round(linear_cka(x, x[:, :1]), 6)
        0.707107
    """
    x, y = as_same_samples("linear_cka", x, y, least=4 if unbiased else 2)
    if not unbiased:
        return _linear_kernel(x).alignment(_linear_kernel(y))
    x, y = (_unit_scale(centred(z)) for z in (x, y))
    return _alignment(x @ x.T, y @ y.T, unbiased)


class LinearAlignment:
    """The biased :func:`linear_cka` of one representation with others; what depends on that one alone is computed once.

    That of a network before training with the same network at every epoch takes half of the time.

    Args:
        x: ``[s, n]``. Of more units than half the samples, s² numbers are kept, else s n.

    Shape:
        Called with another representation of the same samples, ``[s, m]``; gives a number.

    Raises:
        ValueError: as :func:`linear_cka`.

    Reference:
        S. Kornblith et al., arXiv 1905.00414.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> with_start = LinearAlignment(x)
        >>> round(with_start(3 * x.flip(1)), 6), round(with_start(x[:, :1]), 6)
        (1.0, 0.707107)
    """

    def __init__(self, x: Tensor) -> None:
        self._start = _linear_kernel(as_samples("LinearAlignment", x))

    def __call__(self, y: Tensor) -> float:
        """Return the alignment with y ``[s, m]``, in [0, 1], nan if one of the two does not vary."""
        y = as_samples("LinearAlignment", y)
        if len(y) != len(self._start.part):
            raise ValueError(
                f"LinearAlignment: y must hold activations for the {len(self._start.part)} samples of x, got {len(y)} "
                "samples; try the same batch"
            )
        return self._start.alignment(_linear_kernel(y.to(self._start.part.device)))


@dataclass(frozen=True)
class _LinearKernel:
    """The kernel K = X Xᵀ of centred activations.

    Attributes:
        part: K itself where there are more units than half the samples, which is quicker then, else X.
        is_whole: which of them it is.
        square: ‖K‖², the sum of the squares of its entries.
    """

    part: Tensor
    is_whole: bool
    square: float

    def alignment(self, other: "_LinearKernel") -> float:
        """Return the cosine of two kernels; of K and L = Y Yᵀ, whose ⟨K, L⟩ is ‖Yᵀ X‖² and Σ Y ⊙ K Y as well."""
        k, y = (self.part, other.part) if self.is_whole else (other.part, self.part)
        if self.is_whole and other.is_whole:
            between = _inner(k, y)
        elif self.is_whole or other.is_whole:
            between = _inner(k @ y, y)
        else:
            product = k.T @ y
            between = _inner(product, product)
        return _ratio(between, self.square, other.square)


def _linear_kernel(x: Tensor) -> _LinearKernel:
    """Return the kernel of activations ``[s, n]``, float64, which need not be centred."""
    x = _unit_scale(centred(x))
    is_whole = 2 * x.shape[1] > len(x)
    product = _with_itself(x if is_whole else x.T)
    return _LinearKernel(product if is_whole else x, is_whole, _inner(product, product))


def _inner(first: Tensor, second: Tensor) -> float:
    """Return the sum of the products of the entries of two matrices."""
    return float(torch.dot(first.flatten(), second.flatten()))


def _with_itself(x: Tensor) -> Tensor:
    """Return X Xᵀ, of which little more than one half is computed, and the other one is its mirror image."""
    product = x.new_empty(len(x), len(x))
    for first in range(0, len(x), _STRIP):
        last = first + _STRIP
        strip = x[first:last] @ x[first:].T
        product[first:last, first:] = strip
        product[first:, first:last] = strip.T
    return product


def rbf_cka(x: Tensor, y: Tensor, *, bandwidth: float = 1.0, unbiased: bool = False) -> float:
    """Return the centred kernel alignment with Gaussian kernels exp(−d² / (2 σ²)) of Euclidean distances d.

    σ is ``bandwidth`` times the median distance between two samples (of an even number, the lower one), of each
    representation by itself, which makes the measure invariant to scale. Small bandwidths compare neighbourhoods; large
    ones approach the linear measure.

    Args:
        x: ``[s, n]``.
        y: ``[s, m]``, the same samples in the same order.
        bandwidth: above 0.
        unbiased: whether HSIC is estimated without bias (s ≥ 4).

    Returns:
        A number in [0, 1], unbiased in [−1, 1]; 1 of identical representations, nan if half of the pairs of samples of
        one representation coincide, or if all samples are equally far apart and ``unbiased``.
        Cost: O(s² (n + m)) time, s² numbers.

    Raises:
        ValueError: as :func:`linear_cka`, or a bandwidth that is not above 0.

    Reference:
        S. Kornblith et al., arXiv 1905.00414. The authors' code counts the zero distances of samples to themselves
        in the median; here they do not count.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> round(rbf_cka(x, -2 * x), 6)
        1.0
    """
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"rbf_cka: bandwidth must be above 0, got {bandwidth}; try 1.0")
    x, y = as_same_samples("rbf_cka", x, y, least=4 if unbiased else 3)
    return _alignment(_gaussian(x, bandwidth), _gaussian(y, bandwidth), unbiased)


def minibatch_cka(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the linear CKA of representations that come in batches: mean unbiased HSICs, then their ratio.

    Args:
        batches: pairs ``[s, n]`` and ``[s, m]`` for the same samples, at least 4 each; equally large ones, for each
            counts the same. They are read once, so that a generator serves.

    Returns:
        A number in [−1, 1], 1 of identical representations. With many batches it approaches :func:`linear_cka` with
        ``unbiased=True`` of all samples at once. Cost: O(s² (n + m)) a batch, and the memory of one.

    Raises:
        ValueError: no batches, or as :func:`linear_cka`.

    Reference:
        T. Nguyen, M. Raghu, S. Kornblith, arXiv 2010.15327.

    Example:
        >>> x = torch.arange(8.0).view(8, 1)
        >>> round(minibatch_cka((batch, -batch) for batch in x.split(4)), 6)
        1.0
    """
    between = within = other = 0.0
    empty = True
    for first, second in batches:
        empty = False
        x, y = (centred(z) for z in as_same_samples("minibatch_cka", first, second, least=4))
        of_x, of_y = x @ x.T, y @ y.T
        between, within, other = between + hsic(of_x, of_y), within + hsic(of_x, of_x), other + hsic(of_y, of_y)
    if empty:
        raise ValueError("minibatch_cka: there must be at least one batch, got none; try a generator not read before")
    return _ratio(between, within, other)


def hsic(first: Tensor, second: Tensor, *, unbiased: bool = True) -> float:
    """Return the Hilbert–Schmidt independence criterion of two kernel matrices K and L over the same samples.

    Biased: tr(K H L H) / (s − 1)², H = I − 1/s. Unbiased: with both diagonals at 0, [tr(K L) + 1ᵀK1 1ᵀL1 /
    ((s − 1) (s − 2)) − 2 / (s − 2) 1ᵀK L 1] / (s (s − 3)), computed by U-centring both.

    Args:
        first: K, symmetric, ``[s, s]``.
        second: L, symmetric, ``[s, s]``.
        unbiased: whether to use the unbiased estimator, which needs s ≥ 4.

    Returns:
        A number at or above 0, or, unbiased, of either sign: 0 on average if what the kernels see is independent.
        Cost: O(s²).

    Raises:
        ValueError: other shapes, or too few samples.

    Reference:
        A. Gretton et al., ALT 2005; L. Song et al., J. Mach. Learn. Res. 13 (2012), 1393–1434.

    Example:
        >>> hsic(torch.eye(2), torch.eye(2), unbiased=False)
        1.0
        >>> hsic(torch.eye(4), torch.eye(4))
        0.0
    """
    samples, least = first.shape[0] if first.dim() else 0, 4 if unbiased else 2
    if first.shape != second.shape or first.shape != (samples, samples) or samples < least:
        raise ValueError(
            f"hsic: both kernels must be [s, s] over the same s ≥ {least} samples, got {list(first.shape)} and "
            f"{list(second.shape)}; try x @ x.T"
        )
    k, other = (_centred_kernel(kernel.detach().to(torch.float64), unbiased) for kernel in (first, second))
    return float((k * other).sum()) / (samples * (samples - 3) if unbiased else (samples - 1) ** 2)


def _centred_kernel(kernel: Tensor, unbiased: bool) -> Tensor:
    if not unbiased:
        return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    samples = len(kernel)
    kernel = kernel.clone().fill_diagonal_(0.0)
    rows = kernel.sum(1) / (samples - 2)
    return (kernel - rows - rows[:, None] + kernel.sum() / ((samples - 1) * (samples - 2))).fill_diagonal_(0.0)


def _alignment(first: Tensor, second: Tensor, unbiased: bool) -> float:
    sizes = [float(kernel.square().sum()) for kernel in (first, second)]
    first, second = _centred_kernel(first, unbiased), _centred_kernel(second, unbiased)
    within, other = float(first.square().sum()), float(second.square().sum())
    if within <= _ROUNDING * sizes[0] or other <= _ROUNDING * sizes[1]:
        return math.nan
    return _ratio(float((first * second).sum()), within, other)


def _ratio(between: float, within: float, other: float) -> float:
    if within <= 0 or other <= 0:
        return math.nan
    return min(max(between / (math.sqrt(within) * math.sqrt(other)), -1.0), 1.0)


def _unit_scale(x: Tensor) -> Tensor:
    """Return activations with a largest magnitude of 1, which no power of them overflows; zeros stay zeros."""
    lowest, highest = x.aminmax()
    largest = torch.maximum(-lowest, highest)
    return x / torch.where(largest > 0, largest, 1.0)


def _gaussian(x: Tensor, bandwidth: float) -> Tensor:
    x = _unit_scale(centred(x))
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    rows, columns = torch.triu_indices(len(x), len(x), 1, device=x.device)
    width = bandwidth * distances[rows, columns].median()
    if float(width) == 0:
        return torch.zeros_like(distances)
    return torch.exp(-(distances / width).square() / 2)
