"""Points of accuracy against cost: which of them nothing beats, and names that do not cover each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other one dominates, by their place, from the cheapest to the dearest.

    A point (cost, gain) is dominated by one that costs no more and gains no less, and is better in either.

    Reference:
        Pareto, Manuale di economia politica (1906).

    Example:
        >>> pareto_front([(1.0, 0.5), (2.0, 0.9), (3.0, 0.8), (2.0, 0.7)])
        [0, 1]
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front


def name_points(ax: "Axes", points: Sequence[tuple[str, float, float, str]], *, least: float) -> None:
    """Write the names of points beside the axes, as high as they are but never on top of each other."""
    low, high = ax.get_ylim()
    right = ax.get_xlim()[1]
    heights = spread_apart([(y - low) / (high - low) for _, _, y, _ in points], least)
    for (name, x, y, colour), height in zip(points, heights, strict=True):
        ax.annotate(
            name, xy=(x, y), xycoords="data", xytext=(1.06, height), textcoords="axes fraction", va="center",
            fontsize=8, color=colour, annotation_clip=False,
        )  # fmt: skip
        ax.plot([x, right], [y, y], color=colour, linewidth=0.5, alpha=0.5, linestyle=(0, (1, 3)))
        ax.plot(
            [1.0, 1.05], [(y - low) / (high - low), height], transform=ax.transAxes, color=colour, linewidth=0.4,
            alpha=0.6, clip_on=False,
        )  # fmt: skip
    ax.set(ylim=(low, high), xlim=(ax.get_xlim()[0], right))


def short_number(value: float) -> str:
    """Write a tick of a logarithmic axis.

    Example:
        >>> [short_number(value) for value in (0.25, 12.0, 7500.0, 2_500_000.0)]
        ['0.25', '12', '7.5 k', '2.5 M']
    """
    for size, sign in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"


def spread_apart(heights: Sequence[float], least: float) -> list[float]:
    """Move heights in [0, 1] apart until neighbours are ``least`` away, as little as it takes.

    Heights too close to each other are put, evenly spaced, around their common middle.

    Example:
        >>> [round(height, 2) for height in spread_apart([0.5, 0.9, 0.52], 0.1)]
        [0.46, 0.9, 0.56]
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    clusters: list[tuple[float, int]] = []  # middle and number of members, upwards
    for i in order:
        middle, n = heights[i], 1
        while clusters and clusters[-1][0] + clusters[-1][1] * least / 2 > middle - n * least / 2:
            below, m = clusters.pop()
            middle, n = (below * m + middle * n) / (m + n), m + n
        clusters.append((middle, n))
    placed = [middle + (k - (n - 1) / 2) * least for middle, n in clusters for k in range(n)]
    result = [0.0] * len(heights)
    for i, height in zip(order, placed, strict=True):
        result[i] = height
    return result
