"""Pictures of what probes measured in the course of training: a panel a layer, a line an arm."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuropil.compare.arms import run_recipe
from neuropil.compare.charts import Chart, Look, Panel, line_of
from neuropil.compare.drawing import INK, mean, new_figure, over_seeds, style, to_svg
from neuropil.compare.figures import TWIN_LOOKS
from neuropil.compare.layer_titles import layer_titles
from neuropil.compare.probes import ProbePlan, Quantity, read_probe
from neuropil.compare.results import ArmResult, Results
from neuropil.compare.run_result import RunResult, is_number
from neuropil.compare.tuned import passed_over
from neuropil.data import SOURCES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# told apart by the colour-blind, and from the greys and the orange of twins; then once more with dashes
_COLOURS = ("#0067a5", "#b3305f", "#00876c", "#7a4fb5", "#8a6d00", "#3aa6c9")
_DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.4)), (0, (1.4, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_PANELS_A_ROW, _FEWEST_COLUMNS = 4, 3
_WIDTH, _HEIGHT = 8.75, 1.95  # of a picture, and of a row of panels, in inches
_WIDE = 20.0  # largest over smallest from which on an axis is logarithmic, where a quantity may be wide
_ONE = ""  # the layer of a quantity that is not by layer

Curves = Sequence[Mapping[float, float]]


@dataclass(frozen=True)
class ProbePicture:
    """One probe of a comparison.

    Attributes:
        plan: what the recipe asks for.
        picture: an SVG picture as a data URI; None while nothing is recorded.
        chart: the same as data.
        missing: names of arms that the measure cannot be taken of.
    """

    plan: ProbePlan
    picture: str | None
    chart: Chart | None
    missing: tuple[str, ...]


def probe_pictures(results: Results) -> list[ProbePicture]:
    """Draw each probe of a comparison in the course of training, in the order of the recipe.

    A panel a quantity, or one a layer where it is by layer; a line an arm: means over the runs that have come as far,
    with a band from the lowest to the highest. Panels of a quantity share their axes. What is not finite is left out,
    as are candidates of tuned arms that were not chosen.
    """
    left_out = passed_over(results)
    shown = {name: arm for name, arm in results.arms.items() if name not in left_out}
    courses = {name: trace(results, arm) for name, arm in shown.items()}
    pictures = []
    for description in results.recipe.probes:
        plan = read_probe(description)
        own = {name: course[plan.name] for name, course in courses.items() if plan.name in course}
        missing = [
            name
            for name, arm in shown.items()
            if name not in own and plan.kind.for_wirings and arm.arm.is_dense
        ]  # fmt: skip
        picture, chart = (_draw(results, plan, own), _chart(results, plan, own)) if own else (None, None)
        pictures.append(ProbePicture(plan, picture, chart, tuple(missing)))
    return pictures


def trace(
    results: Results, arm: ArmResult, runs: Sequence[RunResult] | None = None
) -> dict[str, dict[str, dict[str, list[dict[float, float]]]]]:
    """Return what probes measured of an arm: by probe, quantity and title of the layer, for each run by epochs done.

    Args:
        results: of the comparison.
        arm: which arm.
        runs: some of its runs; None: all.
    """
    found: dict[str, dict[str, dict[str, list[dict[float, float]]]]] = {}
    for run in arm.single_runs if runs is None else runs:
        steps = steps_per_epoch(run_recipe(results.recipe, arm.arm, run.seed, run.fold))
        for (probe, quantity, layer), curve in _curves(run, steps).items():
            found.setdefault(probe, {}).setdefault(quantity, {}).setdefault(layer, []).append(curve)
    return found


def steps_per_epoch(run: Mapping[str, Any]) -> int:
    """Return how many steps of the optimizer an epoch has, from the recipe of a run."""
    data = run["data"]
    n_train, batch_size = SOURCES[data["name"]].n_train, int(run["training"]["batch_size"])
    # folds differ by one image at most
    held_out: int = n_train // data["n_folds"] if data.get("n_folds") else round(data["validation"] * n_train)
    return -(-(n_train - held_out) // batch_size)


def _curves(run: RunResult, steps: int) -> dict[tuple[str, str, str], dict[float, float]]:
    """Return the curves of a run by probe, quantity and title of the layer; without what is damaged or not finite."""
    curves: dict[tuple[str, str, str], dict[float, float]] = {}
    for record in run.probes:
        probe, epoch, step, value = (record.get(key) for key in ("probe", "epoch", "step", "value"))
        if not isinstance(probe, str) or not isinstance(epoch, int) or not isinstance(value, Mapping):
            continue
        # never beyond the epoch that the record names
        x = float(epoch) if not is_number(step) else min(max(step / steps, epoch - 1.0), float(epoch))  # type: ignore[operator]
        for quantity, numbers in value.items():
            by_layer = numbers if isinstance(numbers, Mapping) else {_ONE: numbers}
            titles = layer_titles(by_layer) if isinstance(numbers, Mapping) else {_ONE: _ONE}
            for layer, number in by_layer.items():
                if is_number(number):
                    curves.setdefault((probe, str(quantity), titles[layer]), {})[x] = float(number)
    return curves


@dataclass(frozen=True)
class _Panels:
    """The panels of one quantity that stand side by side, a layer each."""

    key: str
    quantity: Quantity
    layers: tuple[str, ...]

    @property
    def scale(self) -> float:
        """By what its numbers are multiplied to be told."""
        return 100.0 if self.quantity.percent else 1.0


def _draw(results: Results, plan: ProbePlan, courses: Mapping[str, Mapping[str, Mapping[str, Curves]]]) -> str:
    rows = _rows(plan, courses)
    n_columns = max(sum(len(panels.layers) for panels in row) for row in rows)
    looks = _looks(results, courses)
    n_legend = _WIDTH // (0.75 + 0.075 * max(map(len, looks)))
    figure = new_figure(_WIDTH, 0.2 + 0.19 * math.ceil(len(looks) / n_legend) + _HEIGHT * len(rows))
    grid = figure.subplots(len(rows), max(n_columns, _FEWEST_COLUMNS), squeeze=False)
    for row, axes in zip(rows, grid, strict=True):
        free = iter(axes)
        for panels in row:
            own = [next(free) for _ in panels.layers]
            for layer, ax in zip(panels.layers, own, strict=True):
                style(ax)
                for name, look in looks.items():
                    _draw_arm(ax, courses[name].get(panels.key, {}).get(layer, []), name, look, panels.quantity)
                ax.set_title(layer, fontsize=8.5, loc="left", color=INK)
                ax.set_xlim(0, max(1, results.recipe.training.epochs))
                ax.xaxis.get_major_locator().set_params(integer=True, nbins=5)
                ax.set_xlabel("epoch", labelpad=1)
            above = (0, 4) if panels.layers == (_ONE,) else (0, 17)
            own[0].annotate(
                panels.quantity.title, (0, 1), above, xycoords="axes fraction", textcoords="offset points",
                fontsize=8.5, fontweight="bold", color=INK, annotation_clip=False,
            )  # fmt: skip
            _share_heights(own, panels, courses)
        for ax in free:
            ax.set_visible(False)
    handles: dict[str, Any] = {}
    for ax in grid.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    shown = [name for name in looks if name in handles]
    figure.legend(
        [handles[name] for name in shown], shown, loc="outside upper left", ncols=min(int(n_legend), len(shown)),
        frameon=False, handlelength=2.6, columnspacing=1.5, fontsize=8, borderaxespad=0.1,
    )  # fmt: skip
    return to_svg(figure, f"probe {plan.name}")


def _chart(results: Results, plan: ProbePlan, courses: Mapping[str, Mapping[str, Mapping[str, Curves]]]) -> Chart:
    """Return what :func:`_draw` draws as data."""
    looks = _looks(results, courses)
    legend = [Look.of(name, look.colour, look.dashes, look.width, band=look.band) for name, look in looks.items()]
    back_to_front = sorted(enumerate(looks), key=lambda entry: not looks[entry[1]].is_control)
    panels = []
    for row in _rows(plan, courses):
        for quantity in row:
            low, high, logarithmic = _heights(quantity, courses)
            for layer in quantity.layers:
                found = [(i, name, courses[name].get(quantity.key, {}).get(layer, [])) for i, name in back_to_front]
                lines = [line_of(name, i, curves, scale=quantity.scale) for i, name, curves in found if curves]
                title = f"{quantity.quantity.title}{', ' if layer else ''}{layer}"
                width = (0.0, max(1.0, results.recipe.training.epochs))
                panels.append(Panel(title, None, width, (low, high), logarithmic, lines))
    return Chart(plan.name, legend, panels)


def _rows(plan: ProbePlan, courses: Mapping[str, Mapping[str, Mapping[str, Curves]]]) -> list[list[_Panels]]:
    """Return the panels of each quantity, those of several in one row where they find room."""
    rows: list[list[_Panels]] = []
    room = 0
    for key, quantity in plan.kind.quantities.items():
        layers = list(dict.fromkeys(layer for course in courses.values() for layer in course.get(key, {})))
        for i in range(0, len(layers), _PANELS_A_ROW):
            panels = _Panels(key, quantity, tuple(layers[i : i + _PANELS_A_ROW]))
            if len(panels.layers) > room:
                rows.append([])
                room = _PANELS_A_ROW
            rows[-1].append(panels)
            room -= len(panels.layers)
    return rows


@dataclass(frozen=True)
class _Look:
    colour: str
    dashes: Any
    width: float
    is_control: bool

    @property
    def band(self) -> float:
        """How dense the band from the lowest to the highest run is."""
        return 0.08 if self.is_control else 0.16


def _looks(results: Results, shown: Iterable[str]) -> dict[str, _Look]:
    """Return how each arm is drawn, wirings compared first; controls as in the learning curves."""
    twins = {twin: kind for arm in results.sparse_arms for kind, twin in arm.arm.twins.items()}
    names = list(shown)
    controls = [name for name in names if name in results.controls and name in twins]
    arms = [name for name in names if name not in controls]
    looks = {
        name: _Look(_COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)], 1.7, is_control=False)
        for i, name in enumerate(arms)
    }
    for name in controls:
        colour, dashes, width, _ = TWIN_LOOKS[twins[name]]
        looks[name] = _Look(colour, dashes, width, is_control=True)
    return looks


def _draw_arm(ax: "Axes", curves: Curves, name: str, look: _Look, quantity: Quantity) -> None:
    if not curves:
        return
    scale = 100.0 if quantity.percent else 1.0
    x, middle = over_seeds(curves, mean)
    low, high = (over_seeds(curves, end)[1] for end in (min, max))
    ax.fill_between(x, [scale * y for y in low], [scale * y for y in high], color=look.colour,
                    alpha=look.band, linewidth=0)  # fmt: skip
    ax.plot(
        x, [scale * y for y in middle], color=look.colour, linestyle=look.dashes, linewidth=look.width, label=name,
        marker="o" if len(x) == 1 else None, markersize=3.5, zorder=2 if look.is_control else 3,
    )  # fmt: skip


def _share_heights(
    axes: Sequence["Axes"], panels: _Panels, courses: Mapping[str, Mapping[str, Mapping[str, Curves]]]
) -> None:
    """Give the panels of a quantity the same axis upwards, logarithmic where its numbers lie far apart."""
    from matplotlib.ticker import MaxNLocator

    low, high, logarithmic = _heights(panels, courses)
    for ax in axes:
        ax.set_yscale("log" if logarithmic else "linear")
        ax.set_ylim(low, high)
        if not logarithmic:
            ax.yaxis.set_major_locator(MaxNLocator(5))
        if ax is not axes[0]:
            ax.tick_params(labelleft=False)


def _heights(panels: _Panels, courses: Mapping[str, Mapping[str, Mapping[str, Curves]]]) -> tuple[float, float, bool]:
    """Return both ends of the axis of a quantity upwards, and whether it is logarithmic."""
    numbers = [
        panels.scale * number
        for course in courses.values()
        for layer in panels.layers
        for curve in course.get(panels.key, {}).get(layer, [])
        for number in curve.values()
    ]
    low, high = min(numbers), max(numbers)
    if panels.quantity.wide and low > 0 and high / low > _WIDE:
        return low / 1.3, high * 1.3, True
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return 0.0 if 0 <= low <= margin else low - margin, high + margin, False
