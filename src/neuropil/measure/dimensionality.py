"""In how many directions activity varies."""

from torch import Tensor

from neuropil.measure.samples import as_samples, centred


def participation_ratio(activity: Tensor) -> float:
    """Return the participation ratio (Σ λ)² / Σ λ² of the eigenvalues λ of the covariance of activity.

    Both sums are traces, so no eigenvalue is computed: Σ λ is the total variance and Σ λ² the squared Frobenius norm
    of the covariance, or of the samples' inner products, whichever of the two matrices is smaller.

    s samples of isotropic noise in n dimensions do not reach n but about n s / (n + s): compare networks at an equal
    number of samples.

    Args:
        activity: ``[s, n]`` of n units for s ≥ 2 samples; of spiking neurons, ``spikes.mean(0)`` for the geometry of
            rates, ``spikes.flatten(0, 1)`` with time steps as samples.

    Returns:
        A number in [1, min(n, s − 1)]; nan if no unit varies. Cost: O(s n min(s, n)) time, O(s n + min(s, n)²) memory.

    Raises:
        ValueError: another shape, too few samples, entries that are not finite.

    Reference:
        P. Gao et al., A theory of multineuronal dimensionality, dynamics and measurement (2017), 10.1101/214262.

    Example:
        >>> import torch
        >>> participation_ratio(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        2.0
        >>> participation_ratio(torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]))
        1.0
    """
    x = centred(as_samples("participation_ratio", activity))
    x = x / x.abs().max()
    products = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    return float(products.trace().square() / products.square().sum())
