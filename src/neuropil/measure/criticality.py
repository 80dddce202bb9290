"""Whether activity dies out, stays, or grows: branching ratios, and how far they are from 1."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neuropil.measure.samples import as_finite

_LARGEST = 2.0  # branching ratios are searched up to here; activity that doubles every step does not stay long


@dataclass(frozen=True)
class BranchingRatio:
    """How many spikes one spike causes in the next step, by two estimators.

    Attributes:
        ratio: m by multistep regression, in [0, 2]; 1 is critical. nan where activity does not vary or no positive
            geometric series explains any of the slopes.
        conventional: slope of A(t + 1) on A(t). Equal to m of a process that is seen whole; too small of a part of it.
        slopes: r₁, r₂, …, the slopes of A(t + k) on A(t).
        amplitude: b of r_k ≈ b mᵏ: 1 of a process that is seen whole, below 1 of a part of it.
        fit: share of the slopes' squares that b mᵏ explains, in [0, 1]. Where it is low, m means nothing: activity
            without memory, periodic activity, or a drive that changes.
    """

    ratio: float
    conventional: float
    slopes: tuple[float, ...]
    amplitude: float
    fit: float

    @property
    def distance(self) -> float:
        """Distance to criticality |1 − m|, by multistep regression."""
        return abs(1 - self.ratio)

    @property
    def conventional_distance(self) -> float:
        """Distance to criticality |1 − m|, by the conventional estimator."""
        return abs(1 - self.conventional)

    @property
    def timescale(self) -> float:
        """Intrinsic timescale −1 / ln m in time steps, by multistep regression; inf from m = 1 on."""
        if self.ratio >= 1:
            return math.inf
        return -1 / math.log(self.ratio) if self.ratio != 0 else 0.0


def branching_ratio(activity: Tensor, *, k_max: int | None = None, common_mean: bool = True) -> BranchingRatio:
    """Estimate the branching ratio m of a process with E[A(t + 1) | A(t)] = m A(t) + h, A(t) the sum over units.

    Conventional: m = r₁, where r_k is the slope of the regression of A(t + k) on A(t), with an intercept for the drive
    h. If only a part of the neurons is seen, r_k = b mᵏ with a b < 1 that does not depend on k; multistep regression
    fits b and m to r₁ … r_k by least squares, so that m is what it would be of the whole network.

    Of 2 lags, m is just r₂ / r₁. Slopes of short recordings are too small: with an intercept for each of many samples,
    r₁ by about (1 + m) / t.

    Args:
        activity: spikes or other activity ``[t, b, n]`` of a network whose drive does not change in time; leave out
            the steps before it has settled.
        k_max: largest lag, from 2 to t − 2, at best a few timescales; None: a quarter of the time steps, from 2 to 50.
        common_mean: whether one intercept serves all samples. False gives each sample its own: for samples of different
            drive, such as different stimuli, whose differences would otherwise look like an m near 1.

    Returns:
        Both estimates. Cost: O(t b (n + k_max)).

    Raises:
        ValueError: another shape, fewer than 4 time steps, a k_max out of range, entries that are not finite.

    Reference:
        J. Wilting, V. Priesemann, Nat. Commun. 9 (2018), arXiv 1608.07035. Here samples are pooled into one regression
        a lag, not regressed one by one.

    Example:
        >>> import torch
        >>> a = 0.5 ** torch.arange(9.0)
        >>> found = branching_ratio(a.view(9, 1, 1), k_max=3)
        >>> round(found.ratio, 6), round(found.conventional, 6), round(found.distance, 6)
        (0.5, 0.5, 0.5)
    """
    if activity.dim() != 3 or activity.shape[0] < 4 or not activity.numel():
        raise ValueError(
            "branching_ratio: activity must be [t, b, n] with at least 4 time steps, got a shape of "
            f"{list(activity.shape)}; try activity.unsqueeze(1) of one sample"
        )
    steps = activity.shape[0]
    lags = min(max(2, steps // 4), 50) if k_max is None else k_max
    if not 2 <= lags <= steps - 2:
        raise ValueError(f"branching_ratio: k_max must be from 2 to t − 2 = {steps - 2}, got {k_max}; try None")
    total = as_finite("branching_ratio", activity).sum(-1)
    slopes = [_slope(total[:-k], total[k:], common_mean) for k in range(1, lags + 1)]
    ratio, amplitude, fit = _geometric(np.array(slopes))
    return BranchingRatio(ratio, slopes[0], tuple(slopes), amplitude, fit)


def _slope(x: Tensor, y: Tensor, common_mean: bool) -> float:
    """Return the slope of y on x, both ``[t, b]``, with one intercept or one for each column; nan if x is constant."""
    if common_mean:
        x, y = x.reshape(-1, 1), y.reshape(-1, 1)
    varies = x.amax(0) != x.amin(0)
    x, y = (x - x.mean(0))[:, varies], (y - y.mean(0))[:, varies]
    return float((x * y).sum() / x.square().sum())


def _geometric(slopes: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit b mᵏ, b > 0, to r₁, r₂, … by least squares: m, b, and the share of Σ r² explained.

    At a given m the best b is known, so that only m is searched: on a grid, then between its neighbours.
    """
    from scipy.optimize import minimize_scalar

    squares = float(np.square(slopes).sum())
    if not math.isfinite(squares) or squares == 0:
        return math.nan, math.nan, math.nan
    exponents = np.arange(len(slopes))

    def explained(m: float) -> float:
        powers = m**exponents if m <= 1 else m ** (exponents - float(len(slopes) - 1))  # the scale is b's
        return float(max(float(slopes @ powers), 0.0) ** 2 / float(powers @ powers)) / squares

    grid = np.linspace(0.0, _LARGEST, 1001)
    best = int(np.argmax([explained(float(m)) for m in grid]))
    around = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    found = minimize_scalar(lambda m: -explained(float(m)), bounds=around, method="bounded", options={"xatol": 1e-10})
    ratio, on_grid = float(found.x), float(grid[best])
    if explained(on_grid) >= explained(ratio):  # at an end of the grid, the search never reaches it
        ratio = on_grid
    fit = explained(ratio)
    if fit == 0:
        return math.nan, math.nan, math.nan
    powers = ratio ** (exponents + 1.0)
    norm = float(powers @ powers)
    return ratio, float(slopes @ powers) / norm if norm else math.nan, fit
