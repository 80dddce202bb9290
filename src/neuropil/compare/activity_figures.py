"""Pictures of spiking networks' activity: firing rates in the course of training, silent neurons at its end, energy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuropil.compare.activity import layer_shares, neuron_titles
from neuropil.compare.drawing import ARM, INK, mean, new_figure, over_seeds, style, to_svg
from neuropil.compare.figures import TWIN_LOOKS, cost_picture
from neuropil.compare.results import ArmResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS_A_ROW = 5
_HEIGHT = 1.55  # of a row of panels, in inches
_APART = 0.14  # of an arm's and its twins' points in the last panel, in layers
_HEADROOM = 1.12

Curves = Sequence[Mapping[int, float]]


@dataclass(frozen=True)
class Course:
    """How active the networks of an arm are.

    Attributes:
        rates: firing rates in per cent by layer, for each run by epoch.
        dead: share of neurons in per cent that never fire after the last epoch by layer, for each run that is done.
    """

    rates: Mapping[str, Curves]
    dead: Mapping[str, Sequence[float]]


def activity_pictures(results: Results) -> dict[str, str]:
    """Draw, for each arm, the firing rate of each layer by epoch, and the neurons that never fire at the end.

    Lines are means over the runs that have come as far, the arm's with a band from the lowest to the highest, its
    twins' beside it. Axes of the same layer are equal in all pictures.

    Returns:
        SVG pictures as data URIs, by the name of the arm, controls left out; arms without any epoch have none.
    """
    courses = {name: trace(arm) for name, arm in results.arms.items()}
    shown = [arm for arm in results.sparse_arms or results.arms.values() if courses[arm.arm.name].rates]
    tops: dict[str, float] = {}
    for course in courses.values():
        for layer, curves in course.rates.items():
            tops[layer] = max(tops.get(layer, 0.0), *(rate for curve in curves for rate in curve.values()))
    return {arm.arm.name: _draw(results, arm, courses, tops) for arm in shown}


def accuracy_by_energy(results: Results) -> str | None:
    """Draw test accuracy against the estimated energy of an image; None where neurons do not spike, or none is known.

    See :class:`neuropil.measure.SynapticWork` for what is estimated.
    """
    if results.recipe.spiking is None:
        return None
    joules = {name: arm.activity.energy_joules for name, arm in results.arms.items()}
    largest = max((value for value in joules.values() if value is not None), default=0.0)
    size, unit = (1e-6, "µJ") if largest >= 1e-6 else (1e-9, "nJ")
    values = {name: value / size for name, value in joules.items() if value is not None}
    return cost_picture(results, values, {}, f"estimated energy of an image in {unit}")


def trace(arm: ArmResult) -> Course:
    """Return how active the networks of an arm are, as far as their runs have come."""
    rates: dict[str, list[Mapping[int, float]]] = {}
    dead: dict[str, list[float]] = {}
    for run in arm.single_runs:
        by_layer: dict[str, dict[int, float]] = {}
        records = [record for record in run.metrics if isinstance(record.get("epoch"), int)]
        for record in records:
            shares = layer_shares(record, "firing_rates")
            for name, title in neuron_titles(shares).items():
                by_layer.setdefault(title, {})[record["epoch"]] = 100 * shares[name]
        for title, curve in by_layer.items():
            rates.setdefault(title, []).append(curve)
        if run.state == "done" and records:
            shares = layer_shares(records[-1], "dead")
            for name, title in neuron_titles(shares).items():
                dead.setdefault(title, []).append(100 * shares[name])
    return Course(rates, dead)


def _draw(results: Results, arm: ArmResult, courses: Mapping[str, Course], tops: Mapping[str, float]) -> str:
    from matplotlib.ticker import MaxNLocator

    own = courses[arm.arm.name]
    twins = {
        words: (courses[arm.arm.twins[kind]], kind)
        for kind, words in results.twin_words.items()
        if kind in arm.arm.twins
    }
    n_panels = len(own.rates) + 1
    n_columns = min(_PANELS_A_ROW, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    height = 0.65 + _HEIGHT * n_rows
    figure = new_figure(8.75, height)
    figure.set_layout_engine("none")  # panels lie at the same places in the pictures of all arms
    places = {"left": 0.04, "right": 0.995, "bottom": 0.37 / height, "top": 1 - 0.46 / height}
    grid = figure.add_gridspec(n_rows, n_columns, wspace=0.24, hspace=0.5, **places)
    panels = [figure.add_subplot(grid[i]) for i in range(n_panels)]
    for ax, layer in zip(panels, own.rates, strict=False):
        style(ax)
        for words, (course, kind) in twins.items():
            colour, dashes, width, _ = TWIN_LOOKS[kind]
            ax.plot(
                *over_seeds(course.rates.get(layer, []), mean), color=colour, linestyle=dashes, linewidth=width,
                label=words,
            )  # fmt: skip
        _draw_arm(ax, own.rates[layer])
        ax.set_xlim(1, max(2, results.recipe.training.epochs))
        ax.set_ylim(0, _HEADROOM * tops[layer] or 1.0)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.set_title(f"{layer}: fires (%)", fontsize=8.5, loc="left", color=INK)
        ax.set_xlabel("epoch", labelpad=1)
    _draw_dead(panels[-1], list(own.rates), own, twins)
    handles, labels = panels[0].get_legend_handles_labels()
    order = [len(handles) - 1, *range(len(handles) - 1)]
    figure.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="upper left", ncols=len(handles), frameon=False,
        handlelength=2.4, columnspacing=1.4, fontsize=8, borderaxespad=0.1,
    )  # fmt: skip
    return to_svg(figure, f"activity {arm.arm.name}")


def _draw_arm(ax: "Axes", curves: Curves) -> None:
    low, high = over_seeds(curves, min), over_seeds(curves, max)
    ax.fill_between(low[0], low[1], high[1], color=ARM, alpha=0.22, linewidth=0)
    ax.plot(*over_seeds(curves, mean), color=ARM, linewidth=1.6, label="the arm")


def _draw_dead(ax: "Axes", layers: Sequence[str], own: Course, twins: Mapping[str, tuple[Course, str]]) -> None:
    """Draw the neurons that never fire, by layer: the mean of each, and how far the arm's runs lie apart."""
    style(ax)
    ax.grid(visible=False, axis="x")
    looks = [(course, *TWIN_LOOKS[kind][::3]) for course, kind in twins.values()]
    for i, (course, colour, marker) in enumerate([*looks, (own, ARM, "o")]):
        aside = _APART * (i - len(looks) / 2)
        for x, layer in enumerate(layers):
            shares = course.dead.get(layer, [])
            if shares and course is own:
                ax.plot([x + aside] * 2, [min(shares), max(shares)], color=colour, linewidth=1.2)
            if shares:
                ax.plot(x + aside, mean(shares), marker, color=colour, markersize=4)
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_ylim(-4, 104)
    ax.set_xticks(range(len(layers)), [layer.removeprefix("layer ").replace("read-out", "out") for layer in layers])
    ax.set_xlabel("layer", labelpad=1)
    ax.set_title("never fire (%)", fontsize=8.5, loc="left", color=INK)
