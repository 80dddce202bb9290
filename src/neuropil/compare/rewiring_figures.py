"""Pictures of what rewiring did in the course of training, one an arm."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuropil.compare.drawing import INK, mean, new_figure, over_seeds, style, to_svg
from neuropil.compare.figures import rebuild_network
from neuropil.compare.results import ArmResult, Results
from neuropil.connect import SparseLinear, Wiring
from neuropil.data import SOURCES
from neuropil.rewire.groups import Groups, Modularity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the colours of wirings, see neuropil.connect.picture
_WITHIN, _BETWEEN, _PLAIN = "#1a4a7d", "#e68029", "#4a525c"
_LIGHT, _DARK = (0.47, 0.70, 0.88), (0.04, 0.20, 0.36)  # of the first and the last layer
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_BARS = 40  # more events than these are drawn several in one bar

Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Bar:
    """What came and went, in shares of the connections that there were, mean of seeds and of the events in the bar.

    Attributes:
        epoch: its middle, on the scale of epochs done.
        came, went: shares within groups and between them, or one share where there are no groups.
    """

    epoch: float
    came: tuple[float, ...]
    went: tuple[float, ...]


@dataclass(frozen=True)
class Course:
    """How an arm was rewired, mean over the seeds that have come as far.

    Attributes:
        bars: what each event replaced, all layers together.
        explored, modularity, without_input: by layer; the first two begin with the wiring that training starts with.
        static: modularity that the wiring starts with, mean over layers; None without groups.
    """

    bars: Sequence[Bar]
    explored: Mapping[str, Curve]
    modularity: Mapping[str, Curve]
    without_input: Mapping[str, Curve]
    static: float | None


def rewiring_pictures(results: Results) -> dict[str, str]:
    """Draw, for each rewired arm, what came and went, what was explored, and how far groups kept together.

    Axes of the same kind are equal in all pictures. What is the same in all of them, no groups or not one neuron
    without input, has no panel.

    Returns:
        SVG pictures as data URIs, by the name of the arm; arms without any event have none.
    """
    courses = {arm.arm.name: course for arm in results.rewired_arms if (course := trace(results, arm)) is not None}
    if not courses:
        return {}
    limits = _Limits.of(courses.values(), results.recipe.training.epochs)
    return {name: _draw(name, course, limits) for name, course in courses.items()}


def trace(results: Results, arm: ArmResult) -> Course | None:
    """Return how an arm was rewired; None where no event is recorded.

    Events of layers that the arm's network does not have are passed over.
    """
    layers = _starting_layers(results, arm)
    runs = [[event for event in run.events if event["layer"] in layers] for run in arm.single_runs]
    runs = [events for events in runs if events]
    if not runs:
        return None
    epochs = _epochs_of_steps(results, runs)
    last = max(len(run.metrics) for run in arm.single_runs)

    def curves(key: str, start: Mapping[str, float | None]) -> dict[str, Curve]:
        found = {}
        for layer, (title, _) in layers.items():
            by_seed = [{e["step"]: e[key] for e in events if e["layer"] == layer and e[key] is not None}
                       for events in runs]  # fmt: skip
            steps, values = over_seeds([curve for curve in by_seed if curve], mean)
            if steps:
                before = start[layer]
                if before is not None and key == "explored" and before > values[0]:
                    before = None  # what the rule itself chose to start with is not in the recipe
                x = ([] if before is None else [0.0]) + [epochs[step] for step in steps]
                y = ([] if before is None else [before]) + values
                found[title] = ([*x, max(last, x[-1])], [*y, y[-1]])
        return found

    modularity = {layer: _modularity(wiring) for layer, (_, wiring) in layers.items()}
    known = [value for value in modularity.values() if value is not None]
    return Course(
        bars=_bars(runs, epochs),
        explored=curves("explored", {layer: wiring.density for layer, (_, wiring) in layers.items()}),
        modularity=curves("modularity", modularity),
        without_input=curves("neurons_without_input", {layer: _without_input(w) for layer, (_, w) in layers.items()}),
        static=mean(known) if known else None,
    )


@dataclass(frozen=True)
class _Limits:
    """What all pictures share: their panels and the ends of their axes."""

    epochs: int
    margin: float
    turnover: float
    explored: float
    modularity: tuple[float, float] | None
    without_input: float | None

    @classmethod
    def of(cls, courses: Any, epochs: int) -> "_Limits":
        courses = list(courses)
        modularity = [v for c in courses for _, values in c.modularity.values() for v in values]
        modularity += [c.static for c in courses if c.static is not None]
        without_input = max((v for c in courses for _, values in c.without_input.values() for v in values), default=0)
        return cls(
            epochs=epochs,
            margin=0.45 * max(_distance(c.bars, epochs) for c in courses),
            turnover=max((max(sum(bar.came), sum(bar.went)) for c in courses for bar in c.bars), default=0.0),
            explored=max(v for c in courses for _, values in c.explored.values() for v in values),
            modularity=(min(0.0, *modularity), max(modularity)) if modularity else None,
            without_input=without_input or None,
        )


def _draw(name: str, course: Course, limits: _Limits) -> str:
    n_panels = 2 + (limits.modularity is not None) + (limits.without_input is not None)
    figure = new_figure(8.75, 2.2)
    figure.set_layout_engine("none")  # panels lie at the same places in the pictures of all arms
    places = {"left": 0.04, "right": 0.995, "bottom": 0.2, "top": 0.78, "wspace": 0.2}
    panels = list(
        figure.subplots(1, n_panels, sharex=True, width_ratios=[1.2] + [1] * (n_panels - 1), gridspec_kw=places)
    )
    for ax in panels:
        style(ax)
        ax.set_xlabel("epoch")
    panels[0].set_xlim(0, limits.epochs + limits.margin)
    panels[0].xaxis.get_major_locator().set_params(integer=True, nbins=5)
    _draw_bars(panels[0], course.bars, limits)
    _draw_curves(panels[1], course.explored, 100, "explored so far (%)")
    panels[1].set_ylim(0, min(102.0, 108 * limits.explored))
    following = iter(panels[2:])
    if limits.modularity is not None:
        ax = next(following)
        _draw_curves(ax, course.modularity, 1, "modularity")
        if course.static is not None:
            ax.axhline(course.static, color=INK, linewidth=0.9, linestyle=(0, (1, 1.5)), label="wiring at the start")
        low, high = limits.modularity
        margin = 0.08 * (high - low) or 0.1
        ax.set_ylim(low - margin * (low < 0), high + margin)
        if not course.modularity:
            ax.text(0.5, 0.5, "no groups", transform=ax.transAxes, ha="center", va="center", fontsize=8, color=INK)
    if limits.without_input is not None:
        ax = next(following)
        _draw_curves(ax, course.without_input, 1, "neurons without input")
        ax.set_ylim(0, 1.08 * limits.without_input)
    labelled = [dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True)) for ax in panels]
    handles = {label: handle for entries in labelled for label, handle in entries.items()}
    figure.legend(
        list(handles.values()), list(handles), loc="upper left", ncols=len(handles), frameon=False,
        handlelength=2.4, columnspacing=1.5, fontsize=8, borderaxespad=0.2,
    )  # fmt: skip
    return to_svg(figure, f"rewiring {name}")


def _draw_bars(ax: "Axes", bars: Sequence[Bar], limits: _Limits) -> None:
    """Draw what came upwards and what went downwards, each by where it lies."""
    from matplotlib.ticker import FuncFormatter

    width = 0.75 * _distance(bars, limits.epochs)
    x = [bar.epoch for bar in bars]
    looks = [(_WITHIN, "within groups"), (_BETWEEN, "between groups")]
    if len(bars[0].came) == 1:
        looks = [(_PLAIN, "connections")]
    for sign, key in ((100, "came"), (-100, "went")):
        base = [0.0] * len(bars)
        for i, (colour, label) in enumerate(looks):
            heights = [sign * getattr(bar, key)[i] for bar in bars]
            ax.bar(x, heights, width, base, color=colour, linewidth=0, label=label if sign > 0 else None)
            base = [low + height for low, height in zip(base, heights, strict=True)]
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.grid(visible=False, axis="x")
    top = 112 * limits.turnover or 1.0
    ax.set_ylim(-top, top)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))
    ax.set_title("come ↑ and gone ↓ (%)", fontsize=8.5, loc="left", color=INK)


def _distance(bars: Sequence[Bar], epochs: float) -> float:
    """Return how far neighbouring bars are apart, in epochs."""
    return min((b.epoch - a.epoch for a, b in itertools.pairwise(bars)), default=epochs / 12)


def _draw_curves(ax: "Axes", curves: Mapping[str, Curve], scale: float, title: str) -> None:
    for i, (label, (x, y)) in enumerate(curves.items()):
        ax.plot(
            x, [scale * value for value in y], color=_shade(i, len(curves)), linewidth=1.5,
            linestyle=_DASHES[i % len(_DASHES)], drawstyle="steps-post", label=label,
        )  # fmt: skip
    ax.set_title(title, fontsize=8.5, loc="left", color=INK)


def _shade(i: int, n: int) -> tuple[float, ...]:
    share = 1.0 if n == 1 else i / (n - 1)
    return tuple(light + share * (dark - light) for light, dark in zip(_LIGHT, _DARK, strict=True))


def _starting_layers(results: Results, arm: ArmResult) -> dict[str, tuple[str, Wiring]]:
    """Return title and first wiring of each layer that an arm can rewire, by its name in the network."""
    net = rebuild_network(results, arm)
    wide = [module for module in net.hidden if hasattr(module, "out_features")]
    titles = {id(module): f"layer {i}" for i, module in enumerate(wide, start=1)} | {id(net.readout): "read-out"}
    return {
        name: (titles.get(id(layer), name), layer.wiring)
        for name, layer in net.named_modules()
        if isinstance(layer, SparseLinear)
    }


def _epochs_of_steps(results: Results, runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[int, float]:
    """Return how many epochs are done at each step that has an event, never beyond the epoch that its record names."""
    data, training, folds = results.recipe.data, results.recipe.training, results.recipe.folds
    n_train = SOURCES[data.name].n_train
    n_held_out = n_train // folds if folds else round(data.validation * n_train)  # folds differ by one image at most
    steps = math.ceil((n_train - n_held_out) / training.batch_size)
    return {
        event["step"]: min(max(event["step"] / steps, event["epoch"] - 1), event["epoch"])
        for events in runs
        for event in events
    }


def _bars(runs: Sequence[Sequence[Mapping[str, Any]]], epochs: Mapping[int, float]) -> list[Bar]:
    """Return one bar an event, all layers together; of many events, several a bar."""
    shares: dict[int, list[tuple[tuple[float, ...], tuple[float, ...]]]] = {}
    for events in runs:
        by_step: dict[int, list[Mapping[str, Any]]] = {}
        for event in events:
            by_step.setdefault(event["step"], []).append(event)
        for step, together in by_step.items():
            shares.setdefault(step, []).append(_shares(together))
    grouped = all(len(came) == 2 for seeds in shares.values() for came, _ in seeds)

    def average(steps: Sequence[int], side: int) -> tuple[float, ...]:
        found = [pair[side] for step in steps for pair in shares[step]]
        if not grouped:
            return (mean([sum(parts) for parts in found]),)
        return tuple(mean([parts[i] for parts in found]) for i in range(2))

    steps = sorted(shares)
    size = math.ceil(len(steps) / _BARS)
    chunks = [steps[i : i + size] for i in range(0, len(steps), size)]
    return [Bar(mean([epochs[step] for step in chunk]), average(chunk, 0), average(chunk, 1)) for chunk in chunks]


def _shares(events: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what came and went at one event in all layers, over the blocks that there were before."""
    before = sum(event["n_blocks"] - event["came"] + event["went"] for event in events) or 1

    def parts(key: str) -> tuple[float, ...]:
        if any(event[f"{key}_within"] is None for event in events):
            return (sum(event[key] for event in events) / before,)
        within = sum(event[f"{key}_within"] for event in events)
        return within / before, sum(event[key] for event in events) / before - within / before

    return parts("came"), parts("went")


def _modularity(wiring: Wiring) -> float | None:
    groups = Groups.of(wiring)
    return None if groups is None else Modularity(groups, wiring.cells()).value


def _without_input(wiring: Wiring) -> float:
    return float((wiring.fan_in() == 0).sum())
