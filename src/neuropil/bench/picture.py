"""Pictures of what was measured: speed-up against sparsity, and time against size."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neuropil.bench.records import Row
from neuropil.bench.suites.layers import LINEAR
from neuropil.bench.table import share
from neuropil.compare.drawing import GRID, INK, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# told apart by the colour-blind: one colour a block, one dash a kernel
_COLOURS = {"1x1": "#d55e00", "groupx1": "#0067a5", "16x16": "#cc79a7", "64x64": "#009e73"}
_OTHERS = ("#e69f00", "#56b4e9", "#7a5195", "#5a6270")
_DASHES: dict[str, object] = {"masked": (0, (1, 1.6)), "events": (0, (4, 1.6)), "torch CSR": (0, (5, 1.2, 1, 1.2))}


def draw(name: str, rows: Sequence[Row], path: Path) -> Path | None:
    """Draw the picture of a suite, if it has one and there is enough to draw; return the file."""
    if name == "layers":
        return draw_layers(rows, path)
    return None


def draw_layers(rows: Sequence[Row], path: Path) -> Path | None:
    """Draw speed-up over ``nn.Linear`` against sparsity: a panel each size, a line each block and kernel."""
    measured = [row for row in rows if row.get("over_linear") is not None and row["kernel"] != LINEAR]
    panels = list(dict.fromkeys((row["size"], row["batch"], row["precision"]) for row in measured))
    if not panels:
        return None
    figure = new_figure(4.6 * len(panels) + 2.0, 4.6)
    axes: list[Axes] = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, [row for row in measured if (row["size"], row["batch"], row["precision"]) == panel], panel)
    axes[0].set_ylabel("times as fast as nn.Linear")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend([*handles.values()], [*handles], loc="outside right upper", fontsize=8, frameon=False,
                  handlelength=3.2, labelcolor=INK)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _draw_panel(ax: "Axes", rows: Sequence[Row], panel: tuple[int, int, str]) -> None:
    size, batch, precision = panel
    style(ax)
    densities = sorted({row["nominal_density"] for row in rows}, reverse=True)
    x = [1 / density for density in densities]
    ax.set_xscale("log")
    ax.set_yscale("log")
    if len(x) > 1:
        ax.plot([x[0], x[-1]], [x[0], x[-1]], color=INK, linewidth=0.9, linestyle=(0, (2, 2)), label="1 / density")
    ax.axhline(1, color=INK, linewidth=0.9)
    for block, pattern, kernel in dict.fromkeys((row["block"], row["pattern"], row["kernel"]) for row in rows):
        if pattern.endswith("interleaved"):
            continue
        line = [row for row in rows if (row["block"], row["pattern"], row["kernel"]) == (block, pattern, kernel)]
        ax.plot(
            [1 / row["density"] for row in line],
            [row["over_linear"] for row in line],
            color=_colour(block),
            linestyle=_DASHES.get(kernel, "-"),
            marker="o",
            markersize=3,
            label=f"{block} {kernel}",
        )
    ax.set_xticks(x, [share(density) for density in densities], minor=False)
    ax.set_xticks([], minor=True)
    ax.set_title(f"{size} → {size}, batch {batch}, {precision}", fontsize=9, color=INK)
    ax.set_xlabel("sparsity")


def _colour(block: str) -> str:
    return _COLOURS.get(block, _OTHERS[sum(map(ord, block)) % len(_OTHERS)])


__all__ = ["GRID", "draw"]
