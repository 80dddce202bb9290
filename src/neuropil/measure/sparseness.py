"""How few units answer a stimulus, and how few stimuli a unit answers."""

import math

from torch import Tensor

from neuropil.measure.samples import as_finite, as_samples


def treves_rolls(activity: Tensor, *, dim: int = -1) -> Tensor:
    """Return the Treves–Rolls activity ratio a = (mean r)² / mean r² along one axis.

    Of binary activity, a is the share that is active. Vinje and Gallant's sparseness is (1 − a) / (1 − 1/n): see
    :func:`lifetime_sparseness` and :func:`population_sparseness`.

    Args:
        activity: rates r ≥ 0, any shape; r = 0 counts as not active.
        dim: axis of length n, over which the means are taken.

    Returns:
        A value in [1/n, 1] for each remaining position, in float64: 1/n if one entry is active, 1 if all are equally,
        nan if none is. Cost: O(numel).

    Raises:
        ValueError: negative or infinite entries, or an axis of length 0.

    Reference:
        A. Treves, E. T. Rolls, Network 2 (1991), 10.1088/0954-898X_2_4_004.

    Example:
        >>> import torch
        >>> treves_rolls(torch.tensor([[0.0, 0.0, 0.0, 5.0], [2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 0.0, 0.0]])).tolist()
        [0.25, 1.0, 0.5]
    """
    return _activity_ratio("treves_rolls", activity, dim)


def lifetime_sparseness(activity: Tensor) -> Tensor:
    """Return, for each unit, how few samples it answers: (1 − a) / (1 − 1/s), a the Treves–Rolls ratio over samples.

    Args:
        activity: rates ``[s, n]`` ≥ 0 of n units for s ≥ 2 samples; of spiking neurons, ``spikes.mean(0)``.

    Returns:
        ``[n]`` values in [0, 1], in float64: 1 of a unit that answers one sample, 0 of one that answers all equally,
        nan of one that answers none. Cost: O(s n).

    Raises:
        ValueError: another shape, too few samples, negative or infinite entries.

    Reference:
        W. E. Vinje, J. L. Gallant, Science 287 (2000), 10.1126/science.287.5456.1273.

    Example:
        >>> import torch
        >>> lifetime_sparseness(torch.tensor([[3.0, 1.0], [0.0, 1.0]])).tolist()
        [1.0, 0.0]
    """
    rates = as_samples("lifetime_sparseness", activity)
    return (1 - _activity_ratio("lifetime_sparseness", rates, 0)) / (1 - 1 / rates.shape[0])


def population_sparseness(activity: Tensor) -> Tensor:
    """Return, for each sample, how few units answer it: (1 − a) / (1 − 1/n), a the Treves–Rolls ratio over units.

    Args:
        activity: rates ``[s, n]`` ≥ 0 of n ≥ 2 units for s samples; of spiking neurons, ``spikes.mean(0)``.

    Returns:
        ``[s]`` values in [0, 1], in float64: 1 where one unit answers, 0 where all do equally, nan where none does.
        Cost: O(s n).

    Raises:
        ValueError: another shape, fewer than two units, negative or infinite entries.

    Reference:
        W. E. Vinje, J. L. Gallant, Science 287 (2000), 10.1126/science.287.5456.1273; over a population: B. Willmore,
        D. J. Tolhurst, Network 12 (2001), 10.1080/net.12.3.255.270.

    Example:
        >>> import torch
        >>> population_sparseness(torch.tensor([[3.0, 0.0], [1.0, 1.0]])).tolist()
        [1.0, 0.0]
    """
    rates = as_samples("population_sparseness", activity, least=1)
    _at_least_two("population_sparseness", rates.shape[1])
    return (1 - _activity_ratio("population_sparseness", rates, 1)) / (1 - 1 / rates.shape[1])


def hoyer_sparseness(activity: Tensor, *, dim: int = -1) -> Tensor:
    """Return Hoyer's sparseness (√n − ‖x‖₁ / ‖x‖₂) / (√n − 1) along one axis, of activity or of weights.

    Args:
        activity: numbers of either sign, any shape; magnitudes count.
        dim: axis of length n ≥ 2.

    Returns:
        A value in [0, 1] for each remaining position, in float64: 1 if one entry differs from 0, 0 if all have the
        same magnitude, nan if all are 0. Cost: O(numel).

    Raises:
        ValueError: infinite entries, or an axis shorter than 2.

    Reference:
        P. O. Hoyer, J. Mach. Learn. Res. 5 (2004), 1457–1469, arXiv cs/0408058.

    Example:
        >>> import torch
        >>> hoyer_sparseness(torch.tensor([[0.0, 0.0, 0.0, -5.0], [2.0, -2.0, 2.0, 2.0]])).tolist()
        [1.0, 0.0]
    """
    x = _scaled("hoyer_sparseness", activity, dim).abs()
    n = x.shape[dim]
    _at_least_two("hoyer_sparseness", n)
    return ((math.sqrt(n) - x.sum(dim) / x.square().sum(dim).sqrt()) / (math.sqrt(n) - 1)).clamp(0.0, 1.0)


def _activity_ratio(measure: str, activity: Tensor, dim: int) -> Tensor:
    rates = _scaled(measure, activity, dim)
    if bool((rates < 0).any()):
        raise ValueError(
            f"{measure}: activity must not be negative, got {float(activity.min()):.4g}; try activity.relu(), or "
            "hoyer_sparseness, which takes magnitudes"
        )
    return rates.mean(dim).square() / rates.square().mean(dim)


def _scaled(measure: str, x: Tensor, dim: int) -> Tensor:
    """Return numbers in float64, divided by the largest magnitude along an axis, so that no square overflows."""
    if not -x.dim() <= dim < x.dim() or not x.shape[dim]:
        raise ValueError(f"{measure}: dim must be an axis with entries, got {dim} of a shape of {list(x.shape)}; try 0")
    x = as_finite(measure, x)
    return x / x.abs().amax(dim, keepdim=True)


def _at_least_two(measure: str, n: int) -> None:
    if n < 2:
        raise ValueError(f"{measure}: there must be at least 2 entries to be sparse among, got {n}; try another axis")
