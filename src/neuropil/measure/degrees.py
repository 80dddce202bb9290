"""How many sources and targets neurons have: distributions of fan-in and fan-out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class DegreeStatistics:
    """The distribution of one side's degrees.

    Attributes:
        mean: mean degree.
        std: standard deviation over the neurons (not a sample's).
        variation: coefficient of variation std / mean, 0 where all neurons are alike; at least 0.
        largest: largest degree.
        gini: Gini coefficient, in [0, 1): 0 where all neurons are alike, near 1 where one has all connections.
        counts: number of neurons of each degree, int64 ``[largest + 1]``.
    """

    mean: float
    std: float
    variation: float
    largest: int
    gini: float
    counts: Tensor


@dataclass(frozen=True)
class PowerLaw:
    """A power law fitted to the upper part of a degree distribution.

    Attributes:
        exponent: α of P(k) ∝ k^−α for k ≥ minimum, above 1.
        minimum: smallest degree that is fitted.
        n_fitted: number of neurons of at least that degree.
        distance: largest distance between the distribution functions of data and fit (Kolmogorov–Smirnov), in
            [0, 1]; it says how bad the fit is.
        p_value: share of samples drawn from the fit that lie at least as far from their own fit; below 0.1 a power
            law is implausible. None where no samples were asked for.
    """

    exponent: float
    minimum: int
    n_fitted: int
    distance: float
    p_value: float | None


def degree_statistics(degrees: Tensor) -> DegreeStatistics:
    """Describe degrees: of a wiring's targets, ``wiring.fan_in()``, or of its sources, ``wiring.fan_out()``.

    With n degrees k_(1) ≤ … ≤ k_(n), the Gini coefficient is 2 Σ_i i k_(i) / (n Σ_i k_(i)) − (n + 1) / n. Costs a sort.

    Args:
        degrees: integers of at least 0, ``[n]``, not all of them 0.

    Raises:
        ValueError: there are no connections, or a degree is negative.

    Example:
        >>> from neuropil.connect import Wiring
        >>> wiring = Wiring(4, 2, [0, 0, 0, 1], [0, 1, 2, 3])
        >>> found = degree_statistics(wiring.fan_in())
        >>> found.mean, found.variation, found.gini, found.counts.tolist()
        (2.0, 0.5, 0.25, [0, 1, 0, 1])
    """
    values = np.sort(_checked("degree_statistics", degrees))
    n, total = len(values), int(values.sum())
    if total == 0:
        raise ValueError(f"degree_statistics: degrees must hold at least one connection, got {n} of 0")
    mean, std = float(values.mean()), float(values.std())
    ranked = float(np.arange(1, n + 1, dtype=np.float64) @ values)
    counts = torch.from_numpy(np.bincount(values).astype(np.int64))
    return DegreeStatistics(mean, std, std / mean, int(values[-1]), 2 * ranked / (n * total) - (n + 1) / n, counts)


def fit_power_law(
    degrees: Tensor, *, minimum: int | None = None, n_samples: int = 0, generator: torch.Generator | None = None
) -> PowerLaw:
    """Fit a power law to degrees by maximum likelihood, and say how well it fits.

    α = 1 + n / Σ_i ln(k_i / (k_min − 1/2)), over the n degrees of at least k_min: the fit is the continuous law from
    k_min − 1/2 on, rounded, P(K ≥ k) = ((k − 1/2) / (k_min − 1/2))^(1 − α). For a discrete law k^−α that is good to 1 %
    from k_min = 6 on, and too low below. Without ``minimum``, k_min is the degree
    at which data and fit are nearest. Look at ``p_value`` before speaking of a power law. Costs degrees × different
    degrees, and as much again for each sample.

    Args:
        degrees: integers of at least 0, ``[n]``; zeros are left out.
        minimum: smallest degree that is fitted, at least 1; default: chosen.
        n_samples: how many samples to draw from the fit for the p-value, each fitted likewise; 0: no p-value. Its
            error is about 1 / (2 √n_samples).
        generator: draws the samples.

    Raises:
        ValueError: fewer than two different degrees are left, or samples are asked for without a generator.

    Reference:
        A. Clauset, C. R. Shalizi and M. E. J. Newman, Power-law distributions in empirical data, SIAM Review 51, 661
        (2009), equation 3.7 and section 4;
        the exact law has zeta functions instead, which we replace in the distance and the samples as well.

    Example:
        >>> from neuropil.connect import ScaleFree
        >>> wiring = ScaleFree(density=0.02).wire(2000, 2000, generator=torch.Generator().manual_seed(0))
        >>> 2 < fit_power_law(wiring.fan_out(), minimum=40).exponent < 4
        True
    """
    values = _checked("fit_power_law", degrees)
    values = values[values > 0]
    if minimum is not None and minimum < 1:
        raise ValueError(f"fit_power_law: minimum must be at least 1, got {minimum}")
    if n_samples < 0:
        raise ValueError(f"fit_power_law: n_samples must be at least 0, got {n_samples}")
    if n_samples and generator is None:
        raise ValueError(f"fit_power_law: generator must be given to draw {n_samples} samples, got none")
    if len(np.unique(values[values >= (minimum or 1)])) < 2:
        raise ValueError(
            f"fit_power_law: degrees must take at least two values from {minimum or 1} on, got fewer; "
            "all neurons alike follow no power law"
        )
    exponent, first, distance = _best_fit(values, minimum)
    tail = int((values >= first).sum())
    p_value = None
    if n_samples:
        below = values[values < first]
        worse = 0
        for _ in range(n_samples):
            worse += _best_fit(_sample(below, tail, exponent, first, generator), minimum)[2] >= distance
        p_value = worse / n_samples
    return PowerLaw(exponent, first, tail, distance, p_value)


def _best_fit(values: NDArray[np.int64], minimum: int | None) -> tuple[float, int, float]:
    """Return exponent, smallest fitted degree, and distance of the nearest fit."""
    different = np.unique(values)
    starts = [minimum] if minimum is not None else (different[:-1].tolist() or [int(different[0])])
    fits = [(*_fit(np.sort(values[values >= start]), start), start) for start in starts]
    exponent, distance, first = min(fits, key=lambda fit: fit[1])
    return exponent, int(first), distance


def _fit(tail: NDArray[np.int64], start: int) -> tuple[float, float]:
    """Return the exponent for ascending degrees of at least ``start``, and the distance from data to fit."""
    exponent = 1 + len(tail) / float(np.log(tail / (start - 0.5)).sum())
    # both distribution functions are steps at whole numbers: they are furthest apart at a degree or just before one
    degrees, counts = np.unique(tail, return_counts=True)
    up_to = np.cumsum(counts) / len(tail)
    above = 1 - ((degrees + 0.5) / (start - 0.5)) ** (1 - exponent)
    before = 1 - ((degrees - 0.5) / (start - 0.5)) ** (1 - exponent)
    gaps = np.maximum(np.abs(above - up_to), np.abs(before - np.concatenate([[0.0], up_to[:-1]])))
    return exponent, float(gaps.max())


def _sample(
    below: NDArray[np.int64], n_tail: int, exponent: float, start: int, generator: torch.Generator | None
) -> NDArray[np.int64]:
    """Draw as many degrees as the data has: below ``start`` from the data, from there on from the power law."""
    n = len(below) + n_tail
    kind, value = torch.rand(2, n, dtype=torch.float64, generator=generator, device="cpu").numpy()
    kind[0] = 0  # at least one
    drawn = np.floor((start - 0.5) * (1 - value) ** (-1 / (exponent - 1)) + 0.5)
    degrees: NDArray[np.int64] = np.minimum(drawn, 2.0**52).astype(np.int64)
    if len(below):
        degrees = np.where(kind * n < n_tail, degrees, below[(value * len(below)).astype(np.int64)])
    return degrees


def _checked(name: str, degrees: Tensor) -> NDArray[np.int64]:
    values: NDArray[Any] = degrees.detach().cpu().numpy()
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{name}: degrees must be a vector of integers, got {values.dtype} of shape {values.shape}")
    if len(values) == 0 or values.min() < 0:
        got = "none" if len(values) == 0 else int(values.min())
        raise ValueError(f"{name}: degrees must be at least one number of at least 0, got {got}")
    checked: NDArray[np.int64] = values.astype(np.int64)
    return checked
