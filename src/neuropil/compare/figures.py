"""The pictures of a report, each a string for the ``src`` of an image."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropil.compare.arms import run_recipe
from neuropil.compare.drawing import ARM, INK, data_uri, mean, new_figure, over_seeds, style, to_svg
from neuropil.compare.results import ArmResult, Results
from neuropil.compare.scatter import name_points, pareto_front, short_number
from neuropil.compare.sentences import verdict
from neuropil.compare.statistics import FEWEST_SEEDS
from neuropil.compare.tuned import passed_over
from neuropil.connect import SparseLinear, Wiring

if TYPE_CHECKING:
    from neuropil.models import EnsembleNet, SpikingEnsembleNet

# one look for each twin, the same in every panel: colour, dashes, width, marker
TWIN_LOOKS: dict[str, tuple[str, Any, float, str]] = {
    "dense-same-width": ("#3c4148", "solid", 1.1, "s"),
    "dense-same-parameters": ("#6f757d", (0, (4, 1.6)), 1.3, "D"),
    "erdos-renyi": ("#7d848c", (0, (1.2, 1.2)), 1.6, "^"),
    "static": ("#c46a12", (0, (6, 1.5, 1.2, 1.5)), 1.3, "o"),
}
_PANELS_A_ROW = 3
_PIXELS_AN_INCH = 130  # of wirings, whose fine grain makes large files
_COLOURS = 32
_PALE = 0.45  # opacity of points that another one dominates
_SKIPPED = 6  # from this many epochs on, the first ones may leave the picture below


def learning_curves(results: Results) -> str | None:
    """Draw validation accuracy by epoch: a panel for each sparse arm, with its twins; of tuned arms the chosen ones.

    Lines are means over the seeds that have come as far, the band of the arm reaches from the lowest to the
    highest seed. All panels share their axes, whose lower end leaves out the steep beginning.

    Returns:
        An SVG picture as a data URI, or None while no epoch is done.
    """
    curves = {name: validation_curves(arm) for name, arm in results.arms.items()}
    if not any(curves.values()):
        return None
    shown = arms_with_curves(results)
    n_columns = min(_PANELS_A_ROW, len(shown))
    n_rows = math.ceil(len(shown) / n_columns)
    figure = new_figure(0.5 + 2.75 * n_columns, 0.75 + 2.15 * n_rows)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for arm, ax in zip(shown, panels.flat, strict=False):
        style(ax)
        for kind, words in results.twin_words.items():
            colour, dashes, width, _ = TWIN_LOOKS[kind]
            means = over_seeds(curves[arm.arm.twins[kind]] if kind in arm.arm.twins else [], mean)
            ax.plot(*means, color=colour, linestyle=dashes, linewidth=width, label=words)
        own = curves[arm.arm.name]
        low, high = over_seeds(own, min), over_seeds(own, max)
        ax.fill_between(low[0], low[1], high[1], color=ARM, alpha=0.22, linewidth=0)
        ax.plot(*over_seeds(own, mean), color=ARM, linewidth=1.6, label="the arm; band: lowest to highest seed")
        ax.set_title(arm.arm.name, fontsize=9, fontweight="bold", loc="left", color=INK)
    for ax in list(panels.flat)[len(shown) :]:
        ax.set_visible(False)
    for column in range(n_columns):  # the last panel of a column may not lie in the last row
        last = panels[(len(shown) - 1 - column) // n_columns, column]
        last.set_xlabel("epoch")
        last.tick_params(labelbottom=True)
    for row in panels:
        row[0].set_ylabel("validation accuracy (%)")
    panels[0, 0].set_ylim(*accuracy_range(curves, shown))
    panels[0, 0].set_xlim(1, max(2, results.recipe.training.epochs))
    panels[0, 0].xaxis.get_major_locator().set_params(integer=True, nbins=6)
    if results.sparse_arms:
        handles, labels = panels[0, 0].get_legend_handles_labels()
        order = [len(handles) - 1, *range(len(handles) - 1)]
        n_legend = 2 if n_columns < 3 else 4 if len(handles) == 4 else 3
        figure.legend(
            [handles[i] for i in order], [labels[i] for i in order], loc="outside upper left",
            ncols=n_legend, frameon=False, handlelength=2.6, columnspacing=1.4, fontsize=8,
        )  # fmt: skip
    return to_svg(figure, "curves")


def differences(results: Results) -> str | None:
    """Draw the paired difference of every arm to its twins and to the reference, with intervals, around a line at 0.

    Full points: a test finds them other than 0, after correction.

    Returns:
        An SVG picture as a data URI, or None where there is nothing yet.
    """
    arms, kinds = results.compared_arms, results.difference_words
    found = [d.accuracy for arm in arms for d in arm.differences.values() if d.accuracy is not None]
    if not found:
        return None
    figure = new_figure(8.75, 0.9 + 0.26 * len(arms))
    panels = figure.subplots(1, len(kinds), sharey=True, sharex=True, squeeze=False)[0]
    for ax, (kind, words) in zip(panels, kinds.items(), strict=True):
        style(ax)
        ax.grid(visible=False, axis="y")
        ax.axvline(0, color=INK, linewidth=0.9)
        for y, arm in enumerate(arms):
            compared = arm.differences.get(kind)
            difference = None if compared is None else compared.accuracy
            if compared is None or difference is None:
                continue
            if difference.interval is not None and difference.n >= FEWEST_SEEDS:
                ax.plot([100 * end for end in difference.interval], [y, y], color=ARM, linewidth=1.4)
            is_clear = verdict(difference, compared.test) in ("better", "worse")
            ax.plot(
                100 * difference.mean,
                y,
                "o",
                color=ARM,
                markersize=5.5,
                markerfacecolor=ARM if is_clear else "white",
            )
        ax.set_title(f"− {words}", fontsize=9, loc="left", color=INK)
    figure.supxlabel(f"points of {accuracy_words(results)}", fontsize=9, color=INK)
    panels[0].set_yticks(range(len(arms)), [arm.arm.name for arm in arms])
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    low, high = _differences_range([(d.mean, d.interval, d.n) for d in found])
    panels[0].set_xlim(low, high)
    return to_svg(figure, "differences")


def accuracy_by_parameters(results: Results) -> str | None:
    """Draw test accuracy against the number of parameters, with 95 % intervals; None while no run is done."""
    values = {name: arm.parameters for name, arm in results.arms.items()}
    return cost_picture(results, values, {}, "parameters")


def accuracy_by_time(results: Results) -> str | None:
    """Draw test accuracy against seconds per epoch, with 95 % intervals and lowest–highest time."""
    spreads = {name: arm.seconds_per_epoch for name, arm in results.arms.items()}
    values = {name: spread.median for name, spread in spreads.items() if spread is not None}
    ranges = {name: (spread.low, spread.high) for name, spread in spreads.items() if spread is not None}
    return cost_picture(results, values, ranges, "seconds per epoch")


def accuracy_by_operations(results: Results) -> str | None:
    """Draw test accuracy against the multiply-accumulates of an image, or the synaptic operations of spiking networks.

    With intervals of accuracy; None while no run is done.
    """
    if results.recipe.spiking is not None:
        operations = {name: arm.activity.synaptic_operations for name, arm in results.arms.items()}
        return cost_picture(results, operations, {}, "synaptic operations of an image")
    work = {name: arm.multiply_accumulates for name, arm in results.arms.items()}
    return cost_picture(results, work, {}, "multiply-accumulates of an image")


def cost_picture(
    results: Results,
    values: Mapping[str, float | None],
    ranges: Mapping[str, tuple[float, float]],
    label: str,
) -> str | None:
    """Draw accuracy against a cost on a logarithmic axis, names in a column at the right, joined to their points.

    A stepped line joins the arms of the Pareto front: for its cost, or less, no arm has a higher mean. The others are
    paler. Candidates of tuned arms that were not chosen, and controls of these alone, have no part in it and no name.

    Args:
        results: of which arms without accuracy or cost are left out.
        values: cost of each arm, above 0.
        ranges: lowest and highest cost, where there is one.
        label: of the axis.

    Returns:
        An SVG picture as a data URI, or None where there is nothing to draw, or all arms cost the same.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    shown = [(arm, arm.accuracy, x) for name, arm in results.arms.items() if arm.accuracy and (x := values.get(name))]
    if not shown or (len(shown) > 1 and len({x for _, _, x in shown}) == 1 and not ranges):
        return None
    pale = _beside_the_point(results)
    figure = new_figure(5.4, max(3.3, 0.7 + 0.2 * sum(arm.arm.name not in pale for arm, _, _ in shown)))
    ax = figure.subplots()
    style(ax)
    ax.set_xscale("log")
    looks = {
        twin: TWIN_LOOKS[kind]
        for arm in results.sparse_arms
        for kind, twin in arm.arm.twins.items()
        if twin in results.controls
    }
    judged = [i for i, (arm, _, _) in enumerate(shown) if arm.arm.name not in pale]
    front = [judged[i] for i in pareto_front([(shown[i][2], shown[i][1].mean) for i in judged])]
    steps = [(shown[i][2], 100 * shown[i][1].mean) for i in front]
    ax.step([x for x, _ in steps], [y for _, y in steps], where="post", color=INK, linewidth=0.8, alpha=0.45, zorder=1)
    points = []
    for i, (arm, accuracy, x) in enumerate(shown):
        colour, _, _, marker = looks.get(arm.arm.name, (ARM, None, None, "o"))
        y, strength = 100 * accuracy.mean, 1.0 if i in front else _PALE
        if arm.arm.name in pale:
            ax.plot(x, y, marker, color=colour, markersize=3.5, markeredgewidth=0, alpha=0.25, zorder=1.5)
            continue
        bar: dict[str, Any] = {"color": colour, "linewidth": 0.9, "alpha": 0.7 * strength}
        if accuracy.interval is not None and accuracy.n >= FEWEST_SEEDS:
            ax.plot([x, x], [100 * end for end in accuracy.interval], **bar)
        if arm.arm.name in ranges:
            ax.plot(ranges[arm.arm.name], [y, y], **bar)
        ax.plot(x, y, marker, color=colour, markersize=5, alpha=strength, markeredgewidth=0)
        points.append((arm.arm.name, x, y, colour))
    ax.set_ylabel(f"{accuracy_words(results)} (%)")
    ax.set_xlabel(f"{label} (logarithmic)")
    ax.margins(x=0.08, y=0.08)
    low, high = ax.get_xlim()
    if high / low < 30:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high / low > 6 else MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_number(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="minor", length=0)
    name_points(ax, points, least=0.2 / (figure.get_figheight() - 0.6))
    return to_svg(figure, label)


def wiring_pictures(results: Results) -> dict[str, str]:
    """Draw the wirings of each arm that is not dense, one picture an arm, its layers side by side.

    A rewired arm starts like its static twin, and is left out where it has one, as are candidates of tuned arms that
    were not chosen. The wirings are drawn anew from the
    recipe's first seed, from the streams that the run itself has used.

    Returns:
        PNG pictures as data URIs, by the name of the arm.
    """
    left_out = passed_over(results)
    return {
        name: _wirings(wirings)
        for name, arm in results.arms.items()
        if not arm.arm.is_dense
        and "static" not in arm.arm.twins
        and name not in left_out
        and (wirings := rebuild_wirings(results, arm))
    }


def rebuild_wirings(results: Results, arm: ArmResult) -> dict[int, Wiring]:
    """Return the wirings of an arm as the first seed starts with them, by number of the hidden layer from 1.

    Dense layers have none.
    """
    layers = [layer for layer in rebuild_network(results, arm).hidden if hasattr(layer, "out_features")]
    return {i: layer.wiring for i, layer in enumerate(layers, start=1) if isinstance(layer, SparseLinear)}


def rebuild_network(results: Results, arm: ArmResult) -> "EnsembleNet | SpikingEnsembleNet":
    """Return the network of an arm as the first seed starts with it."""
    from neuropil.compare.execute import build_network
    from neuropil.data import SOURCES

    source = SOURCES[results.recipe.data.name]
    recipe = run_recipe(results.recipe, arm.arm, results.recipe.seeds[0])
    return build_network(recipe, source.image_shape, source.n_classes)


def accuracy_words(results: Results) -> str:
    """Say on an axis which accuracy it is."""
    return "test accuracy" if results.recipe.folds is None else "accuracy on held-out folds"


def _beside_the_point(results: Results) -> set[str]:
    """Return the names of candidates that were not chosen, and of the controls that only such arms have."""
    left_out = passed_over(results)
    needed = {twin for name, arm in results.arms.items() if name not in left_out for twin in arm.arm.twins.values()}
    return left_out | (results.controls - needed)


def _wirings(wirings: Mapping[int, Wiring]) -> str:
    figure = new_figure(2.05 * len(wirings), 2.3)
    for ax, (layer, wiring) in zip(figure.subplots(1, len(wirings), squeeze=False).flat, wirings.items(), strict=True):
        wiring.plot(ax)
        for text in list(ax.texts):  # the key to the colours stands once in the report
            text.remove()
        ax.set_title("")
        ax.set_title(f"layer {layer}: density {wiring.density:.3f}", fontsize=8, pad=5, loc="left", color=INK)
        ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
    from PIL import Image

    figure.set_dpi(_PIXELS_AN_INCH)
    canvas: Any = figure.canvas
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3]).quantize(_COLOURS)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def arms_with_curves(results: Results) -> list[ArmResult]:
    """Return the arms that have a panel of learning curves: sparse ones if there are any; of tuned ones the chosen."""
    left_out = passed_over(results)
    return [arm for arm in results.sparse_arms or results.arms.values() if arm.arm.name not in left_out]


def validation_curves(arm: ArmResult) -> list[dict[int, float]]:
    """Return validation accuracy in percent by epoch, for each seed that has any."""
    curves = []
    for run in arm.single_runs:
        curve = {}
        for record in run.metrics:
            epoch, accuracy = record.get("epoch"), record.get("validation_accuracy")
            if isinstance(epoch, int) and isinstance(accuracy, int | float) and math.isfinite(accuracy):
                curve[epoch] = 100.0 * accuracy
        if curve:
            curves.append(curve)
    return curves


def accuracy_range(
    found: Mapping[str, Sequence[Mapping[int, float]]], shown: Sequence[ArmResult]
) -> tuple[float, float]:
    """Return the limits of the accuracy axis of some arms and their twins, from the curves of all arms by name.

    Of long runs, the first third may fall out below.
    """
    drawn = {name for arm in shown for name in (arm.arm.name, *arm.arm.twins.values())}
    curves = [curve for name in drawn for curve in found[name]] or [curve for arm in found.values() for curve in arm]
    last = max(epoch for curve in curves for epoch in curve)
    first = 1 + last // 3 if last >= _SKIPPED else 1
    seen = [value for curve in curves for epoch, value in curve.items() if epoch >= first]
    low, high = min(seen), max(seen)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, min(high + margin, 100.5)


def _differences_range(found: Sequence[tuple[float, tuple[float, float] | None, int]]) -> tuple[float, float]:
    """Return the limits of the axis of differences; intervals from two seeds are too long to rule it."""
    ends = [100 * mean for mean, _, _ in found] + [0.0]
    ends += [100 * end for _, interval, n in found if interval and n >= FEWEST_SEEDS for end in interval]
    margin = 0.06 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin
