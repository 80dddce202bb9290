"""Pictures of sweeps: accuracy against the setting that varies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuropil.compare.drawing import ARM, new_figure, style, to_svg
from neuropil.compare.figures import accuracy_words
from neuropil.compare.results import Results
from neuropil.compare.statistics import FEWEST_SEEDS, Estimate
from neuropil.compare.sweeps import Sweep, list_sweeps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_VALUES = 3  # two make no curve
_APART = 0.008  # of neighbouring curves, in shares of the axis, so that intervals do not cover each other
# told apart by the colour-blind, and by their markers in print
_ARM_LOOKS = ((ARM, "o"), ("#c46a12", "s"), ("#2e7d5b", "D"), ("#8a4b96", "^"), ("#7a5a2b", "v"))
_CONTROL_LOOKS: dict[str, tuple[str, str, Any]] = {
    "dense-same-parameters": ("dense, same parameters", "#6f757d", (0, (4, 1.6))),
    "erdos-renyi": ("Erdős–Rényi, same density", "#7d848c", (0, (1.2, 1.2))),
}

Point = tuple[float, Estimate]


@dataclass(frozen=True)
class Curve:
    """Accuracy along a sweep.

    Attributes:
        label: for the legend.
        kind: ``arm``, or the kind of twin that it is.
        points: swept value and accuracy, ascending; values without any run that is done are left out.
    """

    label: str
    kind: str
    points: tuple[Point, ...]


def sweep_pictures(results: Results) -> list[tuple[str, str]]:
    """Draw accuracy against each setting that is swept by itself, with at least three numbers as its values.

    Arms that sweep the same setting are drawn together, with a line each. The lines of their controls are those of the
    dense network of the same parameters and of the Erdős–Rényi one at each value; where arms share them, they are drawn
    once.

    Returns:
        The setting, and an SVG picture as a data URI; nothing for settings without any run that is done.
    """
    pictures = []
    for key, curves in sweep_curves(results).items():
        if any(curve.points for curve in curves):
            pictures.append((key, _draw(results, key, curves)))
    return pictures


def sweep_curves(results: Results) -> dict[str, list[Curve]]:
    """Return what :func:`sweep_pictures` draws, by the setting that is swept: arms first, then their controls."""
    by_key: dict[str, list[Sweep]] = {}
    for sweep in list_sweeps(results.recipe.arms):
        if (
            len(sweep.keys) == 1
            and not sweep.n_tuned
            and len(sweep.values) >= _FEWEST_VALUES
            and all(map(_is_numeric, sweep.values.values()))
        ):
            by_key.setdefault(sweep.keys[0], []).append(sweep)
    return {key: _curves(results, sweeps) for key, sweeps in by_key.items()}


def _curves(results: Results, sweeps: list[Sweep]) -> list[Curve]:
    curves, controls = [], []
    for kind, (words, _, _) in _CONTROL_LOOKS.items():
        owners: dict[tuple[tuple[float, str], ...], list[str]] = {}  # whose controls these are
        for sweep in sweeps:
            twins = {name: results.arms[name].arm.twins.get(kind, name) for name in sweep.values}
            others = [(sweep.values[name][0], twin) for name, twin in twins.items() if twin != name]
            owners.setdefault(tuple(sorted(others)), []).append(sweep.arm)
        for places, arms in owners.items():
            label = words if len(owners) == 1 else f"{words} ({', '.join(arms)})"
            controls.append(Curve(label, kind, _points(results, places)))
    for sweep in sweeps:
        own = tuple(sorted((value, name) for name, (value,) in sweep.values.items()))
        curves.append(Curve(sweep.arm, "arm", _points(results, own)))
    return curves + [control for control in controls if control.points]


def _points(results: Results, places: tuple[tuple[float, str], ...]) -> tuple[Point, ...]:
    found = [(float(value), results.arms[name].accuracy) for value, name in places]
    return tuple((value, accuracy) for value, accuracy in found if accuracy is not None)


def _is_numeric(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _draw(results: Results, key: str, curves: list[Curve]) -> str:
    figure = new_figure(5.4, 3.5)
    ax = figure.subplots()
    style(ax)
    looks: Mapping[int, tuple[str, str]] = {
        id(curve): _ARM_LOOKS[i % len(_ARM_LOOKS)]
        for i, curve in enumerate(curve for curve in curves if curve.kind == "arm")
    }
    values = [value for curve in curves for value, _ in curve.points]
    step = _APART * (max(values) - min(values))
    for i, curve in reversed([*enumerate(curves)]):  # arms above their controls
        aside = step * (i - (len(curves) - 1) / 2)
        if curve.kind == "arm":
            colour, marker = looks[id(curve)]
            _line(ax, curve, aside, colour, linestyle="solid", linewidth=1.7, marker=marker, markersize=5)
        else:
            _, colour, dashes = _CONTROL_LOOKS[curve.kind]
            _line(ax, curve, aside, colour, linestyle=dashes, linewidth=1.3, marker=".", markersize=5)
    ax.set_xlabel(key)
    ax.set_ylabel(f"{accuracy_words(results)} (%)")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside upper left", ncols=2, frameon=False, handlelength=2.6,
        columnspacing=1.4, fontsize=8,
    )  # fmt: skip
    return to_svg(figure, f"sweep {key}")


def _line(ax: "Axes", curve: Curve, aside: float, colour: str, **line: Any) -> None:
    """Draw one curve, a little to the side, with the intervals that say anything."""
    x, y = [value + aside for value, _ in curve.points], [100 * accuracy.mean for _, accuracy in curve.points]
    ax.plot(x, y, color=colour, label=curve.label, **line)
    for at, (_, accuracy) in zip(x, curve.points, strict=True):
        if accuracy.interval is not None and accuracy.n >= FEWEST_SEEDS:
            ax.plot([at, at], [100 * end for end in accuracy.interval], color=colour, linewidth=0.9, alpha=0.7)
