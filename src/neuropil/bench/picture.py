"""Pictures of what was measured: speed-up against sparsity, and time against size."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neuropil.bench.records import Row
from neuropil.bench.suites.layers import CSR, LINEAR, MASKED, OTHERS, RANDOM
from neuropil.compare.drawing import INK, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# told apart by the colour-blind; what others do is grey
_COLOURS = {MASKED: "#9aa0a6", CSR: "#5f6670", "masked": "#b9bec4", "events": "#009e73", "blocks": "#0067a5",
            "synapses": "#d55e00"}  # fmt: skip
_MORE = ("#cc79a7", "#e69f00", "#7a5195", "#56b4e9")
_SPARSITIES = (0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999)


def draw(name: str, rows: Sequence[Row], path: Path) -> Path | None:
    """Draw the picture of a suite, if it has one and there is enough to draw; return the file."""
    drawing: dict[str, Callable[[Sequence[Row]], Figure | None]] = {"layers": draw_layers, "scale": draw_scale}
    figure = drawing[name](rows) if name in drawing else None
    if figure is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def draw_layers(rows: Sequence[Row]) -> "Figure | None":
    """Draw speed-up over ``nn.Linear`` against sparsity: a panel each size and block, a line each kernel."""
    measured = [
        row
        for row in rows
        if row.get("over_linear") is not None and row["kernel"] != LINEAR and "interleaved" not in row["pattern"]
    ]
    settings = list(dict.fromkeys((row["size"], row["batch"], row["precision"]) for row in measured))
    blocks = sorted({row["block"] for row in measured}, key=_block_order)
    if not measured:
        return None
    figure = new_figure(2.7 * len(blocks) + 0.5, 2.7 * len(settings) + 0.8)
    grid = figure.subplots(len(settings), len(blocks), sharex=True, sharey=True, squeeze=False)
    colours = _colours([row["kernel"] for row in measured])
    for axes, setting in zip(grid, settings, strict=True):
        for ax, block in zip(axes, blocks, strict=True):
            here = [
                row
                for row in measured
                if (row["size"], row["batch"], row["precision"]) == setting and row["block"] == block
            ]
            _draw_speedups(ax, here, colours)
            ax.set_title(f"block {block.replace('x', ' × ')}", fontsize=9, color=INK, fontweight="bold")
        size, batch, precision = setting
        axes[0].set_ylabel(f"{size} → {size}, batch {batch}, {precision}\ntimes as fast as nn.Linear")
    for ax in grid[-1]:
        ax.set_xlabel("sparsity")
    _scale_axes(grid[0][0], [row["density"] for row in measured], [row["over_linear"] for row in measured])
    dot: dict[str, object] = {"marker": "o", "markersize": 3.6, "linewidth": 0}
    marks: list[tuple[str, dict[str, object]]] = [
        ("1 / density", {"linestyle": (0, (2, 2)), "linewidth": 0.8}),
        ("ensembles", dot),
        ("at random", dot | {"markerfacecolor": "white"}),
    ]
    kernels = dict.fromkeys(row["kernel"] for row in measured)
    _legend(figure, {kernel: colours[kernel] for kernel in kernels}, marks, wide=len(blocks) > 2)
    return figure


def _draw_speedups(ax: "Axes", rows: Sequence[Row], colours: dict[str, str]) -> None:
    """Draw the lines of one block; where wirings change from ensembles to random ones, a line ends."""
    style(ax)
    ax.set_xscale("log")
    ax.set_yscale("log")
    if rows:
        ends = [1 / max(row["density"] for row in rows), 1 / min(row["density"] for row in rows)]
        ax.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.axhline(1, color=INK, linewidth=0.8)
    for kernel, pattern in dict.fromkeys((row["kernel"], row["pattern"]) for row in rows):
        line = sorted(
            (row for row in rows if (row["kernel"], row["pattern"]) == (kernel, pattern)),
            key=lambda row: -float(row["density"]),
        )
        x = [1 / row["density"] for row in line]
        lower, upper = ([row[f"over_linear_{end}"] for row in line] for end in ("lower", "upper"))
        ax.fill_between(x, lower, upper, color=colours[kernel], alpha=0.15, linewidth=0)
        ax.plot(x, [row["over_linear"] for row in line], color=colours[kernel], linewidth=1.6, marker="o",
                markersize=3.6, markerfacecolor="white" if pattern == RANDOM else colours[kernel])  # fmt: skip


def _scale_axes(ax: "Axes", densities: Sequence[float], speedups: Sequence[float]) -> None:
    """Name sparsities and speed-ups on the axes that all panels share."""
    from matplotlib.ticker import NullFormatter, NullLocator

    low, high = 1 / max(densities), 1 / min(densities)
    shown = [s for s in _SPARSITIES if low / 1.1 <= 1 / (1 - s) <= high * 1.1]
    ax.set_xlim(low / 1.15, high * 1.15)
    ax.set_xticks([1 / (1 - s) for s in shown], [f"{100 * s:g} %" for s in shown])
    ax.xaxis.set_minor_locator(NullLocator())
    bottom, top = min(0.5, *speedups), max(2.0, *speedups) * 1.3
    ticks = [v * 10**e for e in range(-3, 4) for v in (1, 2, 5) if bottom <= v * 10**e <= top]
    ax.set_ylim(bottom / 1.15, top)
    ax.set_yticks(ticks, [f"{tick:g}×" for tick in ticks])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())


def draw_scale(rows: Sequence[Row]) -> "Figure | None":
    """Draw time against connections: a panel for trained layers, one for spiking networks, a line each kernel."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    titles = {
        "train": "a training step, 64 connections a neuron",
        "spiking": "a simulated second, 100 connections a neuron",
    }
    measured = [row for row in rows if row["task"] in titles and row.get("median_ms") is not None]
    if not measured:
        return None
    figure = new_figure(8.0, 3.6)
    colours = _colours([row["kernel"] for row in measured])
    for ax, (task, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        style(ax)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(title, fontsize=9, color=INK, fontweight="bold")
        ax.set_xlabel("connections")
        for kernel in dict.fromkeys(row["kernel"] for row in measured if row["task"] == task):
            line = [row for row in measured if (row["kernel"], row["task"]) == (kernel, task)]
            x, seconds = [row["connections"] for row in line], [_seconds(row) for row in line]
            ax.plot(x, seconds, color=colours[kernel], marker="o", markersize=3.6, linewidth=1.6)
            # as if time grew as connections do, from the first size on
            ax.plot(x, [seconds[0] * each / x[0] for each in x], color=colours[kernel], linewidth=0.9,
                    linestyle=(0, (2, 2)))  # fmt: skip
        for axis, unit in ((ax.xaxis, ""), (ax.yaxis, "s")):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(EngFormatter(unit, sep=" " if unit else ""))
            axis.set_minor_locator(NullLocator())
    _legend(figure, {kernel: colours[kernel] for kernel in dict.fromkeys(row["kernel"] for row in measured)},
            [("proportional to connections", {"linestyle": (0, (2, 2)), "linewidth": 0.9})])  # fmt: skip
    return figure


def _seconds(row: Row) -> float:
    seconds = row.get("seconds_per_simulated_second")
    return float(row["median_ms"]) / 1000 if seconds is None else float(seconds)


def _colours(kernels: Sequence[str]) -> dict[str, str]:
    others = sorted({kernel for kernel in kernels if kernel not in _COLOURS})
    return _COLOURS | {kernel: _MORE[i % len(_MORE)] for i, kernel in enumerate(others)}


def _block_order(block: str) -> list[int]:
    return [10**6 if side == "group" else int(side) for side in block.split("x")]


def _legend(
    figure: "Figure", colours: dict[str, str], marks: Sequence[tuple[str, dict[str, object]]], *, wide: bool = False
) -> None:
    """Explain colours of kernels, ours first, and other marks, above all panels."""
    from matplotlib.lines import Line2D

    order = [kernel for kernel in colours if kernel not in OTHERS] + [k for k in colours if k in OTHERS]
    lines = {kernel: Line2D([], [], color=colours[kernel], linewidth=2) for kernel in order}
    lines |= {label: Line2D([], [], **({"color": INK} | mark)) for label, mark in marks}  # type: ignore[arg-type]
    figure.legend([*lines.values()], [*lines], loc="outside upper center", ncols=len(lines) if wide else 4,
                  fontsize=8.5, frameon=False, labelcolor=INK)  # fmt: skip


__all__ = ["draw"]
