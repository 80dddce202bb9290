"""Curves as data: what the report's own small program draws anew, arm by arm, and reads out under the pointer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from neuropil.compare.drawing import ARM
from neuropil.compare.figures import TWIN_LOOKS, accuracy_range, arms_with_curves, validation_curves
from neuropil.compare.results import Results
from neuropil.compare.statistics import estimate

X = TypeVar("X", int, float)

LEARNING = "Learning curves"  # the name of that chart


@dataclass(frozen=True)
class Look:
    """How a line is drawn, and what the legend calls it.

    Attributes:
        label: in the legend.
        colour: of the line, and of its band.
        dashes: lengths of dashes and gaps in widths of the line; empty: solid.
        width: of the line, in points.
        band: how dense the band from the lowest to the highest run is, 0 for none to 1.
    """

    label: str
    colour: str
    dashes: tuple[float, ...]
    width: float
    band: float

    @classmethod
    def of(cls, label: str, colour: str, dashes: Any, width: float, *, band: float) -> "Look":
        """Return the look of a line whose dashes are given as Matplotlib takes them."""
        return cls(label, colour, () if dashes == "solid" else tuple(dashes[1]), width, band)


@dataclass(frozen=True)
class Line:
    """One arm in one panel; the lists have an entry for each place at which some run has a value.

    Attributes:
        arm: its name.
        look: which of the chart's looks it has.
        x: epochs done, ascending.
        mean, low, high: mean, lowest and highest over runs.
        ends: the 95 % t interval of the mean; None where there is one run.
        n: how many runs.
    """

    arm: str
    look: int
    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    ends: list[tuple[float, float] | None]
    n: list[int]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        arm: name of the arm that it is of; None: of all.
        x, y: both ends of each axis.
        logarithmic: whether the axis upwards is.
        lines: those to the front last.
    """

    title: str
    arm: str | None
    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool
    lines: list[Line]


@dataclass(frozen=True)
class Chart:
    """Panels that share a legend.

    Attributes:
        name: the page has a place of this name for it.
        looks: the legend.
        panels: in reading order.
    """

    name: str
    looks: list[Look]
    panels: list[Panel]

    def as_data(self) -> dict[str, Any]:
        """Return the chart as values that JSON knows."""
        return asdict(self)


def line_of(arm: str, look: int, runs: Sequence[Mapping[X, float]], *, scale: float = 1.0) -> Line:
    """Return the line of an arm, from the values of each run by epochs done.

    Args:
        arm: its name.
        look: see :class:`Line`.
        runs: all values finite.
        scale: by which values are multiplied.

    Example:
        >>> line = line_of("mixer", 0, [{1: 0.5, 2: 0.75}, {1: 0.7}], scale=100)
        >>> line.x, line.mean, line.high, line.n, line.ends[1]
        ([1.0, 2.0], [60.0, 75.0], [70.0, 75.0], [2, 1], None)
    """
    line = Line(arm, look, [], [], [], [], [], [])
    for x in sorted({x for run in runs for x in run}):
        values = [scale * run[x] for run in runs if x in run]
        found = estimate(values)
        line.x.append(_short(x))
        line.mean.append(_short(found.mean))
        line.low.append(_short(min(values)))
        line.high.append(_short(max(values)))
        line.ends.append(None if found.interval is None else (_short(found.interval[0]), _short(found.interval[1])))
        line.n.append(found.n)
    return line


def learning_chart(results: Results) -> Chart | None:
    """Return what :func:`neuropil.compare.figures.learning_curves` draws, as data; None while no epoch is done."""
    runs = {name: validation_curves(arm) for name, arm in results.arms.items()}
    if not any(runs.values()):
        return None
    looks = [Look.of(words, *TWIN_LOOKS[kind][:3], band=0) for kind, words in results.twin_words.items()]
    kinds = [*results.twin_words]
    looks.append(Look.of("the arm; band: lowest to highest seed", ARM, "solid", 1.6, band=0.22))
    shown = arms_with_curves(results)
    x, y = (1.0, max(2.0, results.recipe.training.epochs)), accuracy_range(runs, shown)
    panels = []
    for arm in shown:
        twins = [(i, arm.arm.twins[kind]) for i, kind in enumerate(kinds) if kind in arm.arm.twins]
        drawn = [(i, name) for i, name in [*twins, (len(kinds), arm.arm.name)] if runs[name]]
        lines = [line_of(name, i, runs[name]) for i, name in drawn]
        panels.append(Panel(arm.arm.name, arm.arm.name, x, y, logarithmic=False, lines=lines))
    return Chart(LEARNING, looks, panels)


def _short(value: float) -> float:
    """Return a number with five digits, which is finer than any screen."""
    return float(f"{value:.5g}")
