"""The look that all pictures of a report share, and how they become strings.

Colours and dashes are told apart by the colour-blind and in print: arms in blue, controls in greys,
the static twin of a rewired arm in orange.
"""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X = TypeVar("X", int, float)

ARM = "#0067a5"
INK, GRID = "#33373d", "#e3e5e8"
_LINE = "#9aa0a6"


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, of a size in inches, that no window and no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style(ax: "Axes") -> None:
    """Leave of an axes what a reader needs."""
    for side, spine in ax.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=_LINE, linewidth=0.8)
    ax.tick_params(labelsize=8, length=3, color=_LINE, labelcolor=INK)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(fontsize=8.5, color=INK)
    ax.grid(visible=True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)


def to_svg(figure: "Figure", name: str) -> str:
    """Return a figure as SVG in a data URI, the same for the same figure."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return data_uri("image/svg+xml", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Return some content as a string for the ``src`` of an image."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def over_seeds(
    curves: Sequence[Mapping[X, float]], combine: Callable[[list[float]], float]
) -> tuple[list[X], list[float]]:
    """Return epochs (or steps), and the mean, lowest or highest of the seeds that have come as far."""
    epochs = sorted({epoch for curve in curves for epoch in curve})
    return epochs, [combine([curve[epoch] for curve in curves if epoch in curve]) for epoch in epochs]


def mean(values: Sequence[float]) -> float:
    """Return the mean of one value or more."""
    return math.fsum(values) / len(values)
