"""A picture of who connects to whom."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.signedinteger[Any]]

# colour-blind safe, and apart in grey as well
_WITHIN = (0.10, 0.29, 0.49)
_BETWEEN = (0.90, 0.50, 0.16)
_PLAIN = (0.20, 0.24, 0.30)
_FRAME = (0.55, 0.58, 0.62)
_CELLS = 512  # a side; more than a screen shows of one picture
_FRAMED_GROUPS = 64  # with more groups, frames would hide what they frame
_TICKS = 8


def plot_wiring(wiring: Wiring, ax: "Axes | None" = None) -> "Axes":
    """Draw the connections as a picture, targets downwards and sources to the right.

    The picture is a square, whatever the sizes of the layers. Neurons are ordered by group, otherwise as they
    are. Connections inside groups have one colour, those between groups another, and groups are framed. A
    side of more than 512 neurons is drawn in cells of several neurons, the darker the denser; the mask is
    never laid out.

    Args:
        wiring: what to draw.
        ax: where to draw; default: axes of a new figure, in no window (``ax.figure.savefig(path)``).

    Returns:
        The axes.

    Example:
        >>> from neuropil.connect.ensembles import Ensembles
        >>> plot_wiring(Ensembles(n_groups=2, p_inter=0.0).wire(8, 4)).get_title()
        'density 0.5, 16 connections'
    """
    if ax is None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.5, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
    within, between, (height, width) = _cell_densities(wiring)
    picture = _shades(within, between, _WITHIN if wiring.n_groups else _PLAIN)
    is_fine = max(within.shape) > _CELLS // 4
    if is_fine:  # smoothing takes away the finest grain, and must not blur a side with few cells
        for axis, n_cells in enumerate(within.shape):
            picture = picture.repeat(-(-_CELLS // 2 // n_cells), axis=axis)
    ax.imshow(
        picture,
        extent=(0, within.shape[1] * width, within.shape[0] * height, 0),
        aspect="auto",
        interpolation="antialiased" if is_fine else "nearest",
    )
    ax.set(xlim=(0, wiring.in_features), ylim=(wiring.out_features, 0), box_aspect=1)
    _label(wiring, ax)
    return ax


def _cell_densities(wiring: Wiring) -> tuple[FloatArray, FloatArray, tuple[int, int]]:
    """Return the density of each cell, by connections inside and between groups, and a cell's neurons a side.

    A piece is the part of a cell that belongs to one group. Connections between two pieces are counted by
    multiplying, over the block grid, neurons per piece and position with the blocks; so the memory grows with
    the blocks and the cells, not with the neurons' pairs.
    """
    from scipy.sparse import csr_array

    rows = _Side(wiring.out_features, wiring.out_order, wiring.out_groups, wiring.block[0])
    columns = _Side(wiring.in_features, wiring.in_order, wiring.in_groups, wiring.block[1])
    ones = np.ones(wiring.n_blocks, dtype=np.int64)
    blocks = csr_array((ones, wiring.indices, wiring.indptr), shape=wiring.grid)
    counts = (rows.per_piece @ blocks @ columns.per_piece.T).tocoo()
    cell = rows.cell[counts.row] * columns.n_cells + columns.cell[counts.col]
    is_within = rows.group[counts.row] == columns.group[counts.col]
    shape = (rows.n_cells, columns.n_cells)
    area = np.outer(rows.sizes, columns.sizes)
    within, between = (
        np.bincount(cell[kind], weights=counts.data[kind], minlength=area.size).reshape(shape) / area
        for kind in (is_within, ~is_within)
    )
    return within, between, (rows.width, columns.width)


class _Side:
    """The neurons of one side, ordered by group and cut into cells of equal width."""

    def __init__(self, n: int, order: IntArray, groups: IntArray | None, side: int) -> None:
        from scipy.sparse import csr_array

        labels = np.zeros(n, dtype=np.int64) if groups is None else groups
        by_group = np.argsort(labels, kind="stable")
        self.width = -(-n // _CELLS)
        cell = np.arange(n) // self.width
        self.n_cells = int(cell[-1]) + 1
        self.sizes = np.bincount(cell)
        border = (np.diff(cell) > 0) | (np.diff(labels[by_group]) > 0)
        first = np.concatenate([[0], np.flatnonzero(border) + 1])
        self.cell, self.group = cell[first], labels[by_group][first]  # of each piece
        piece = np.empty(n, dtype=np.int64)
        piece[by_group] = np.concatenate([[0], np.cumsum(border)])
        there = np.flatnonzero(order >= 0)
        entries = (np.ones(n, dtype=np.int64), (piece[order[there]], there // side))
        self.per_piece = csr_array(entries, shape=(len(first), len(order) // side))


def _shades(within: FloatArray, between: FloatArray, colour: tuple[float, float, float]) -> FloatArray:
    """Return the picture, ``[rows, columns, 3]``: white where nothing connects, in colour where much does.

    Each kind is scaled by its own densest cells, as few connections between groups would not show beside many
    inside; the square root lifts the thinnest cells off the paper.
    """
    picture = np.ones((*within.shape, 3))
    for density, shade in ((within, colour), (between, _BETWEEN)):
        strength = np.sqrt(density / max(density.max(), 1e-12))
        picture -= strength[:, :, None] * (1.0 - np.array(shade))
    return np.clip(picture, 0.0, 1.0)


def _label(wiring: Wiring, ax: "Axes") -> None:
    """Write title and axis labels, small on small axes; for groups also frames, numbers and a key."""
    from matplotlib.ticker import MaxNLocator

    is_small = ax.get_window_extent().width < 3.0 * ax.figure.dpi
    points = 7 if is_small else 9
    ax.set_title(
        f"density {wiring.density:.3g}, {wiring.n_connections:,} connections",
        fontsize=points + 1,
        pad=2 * points + 2 if wiring.n_groups else points - 2,
    )
    for write, name, n in (
        (ax.set_xlabel, "source", wiring.in_features),
        (ax.set_ylabel, "target", wiring.out_features),
    ):
        grouped = f" ({n:,} in {wiring.n_groups} groups)" if wiring.n_groups else ""
        write(f"{name} neuron{grouped}", fontsize=points)
    ax.tick_params(labelsize=points - 1, length=2, pad=2, color=_FRAME)
    for spine in ax.spines.values():
        spine.set(color=_FRAME, linewidth=0.8)
    if wiring.in_groups is None or wiring.out_groups is None:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))
        return
    for x, colour, text in ((0.0, _WITHIN, "■ inside groups"), (1.0, _BETWEEN, "■ between groups")):
        ax.annotate(
            text,
            xy=(x, 1.0),
            xycoords="axes fraction",
            xytext=(0, points / 2),
            textcoords="offset points",
            ha="left" if x == 0.0 else "right",
            color=colour,
            fontsize=points - 0.5,
        )
    _frame_groups(ax, wiring.n_groups, wiring.in_groups, wiring.out_groups)


def _frame_groups(ax: "Axes", n_groups: int, in_groups: IntArray, out_groups: IntArray) -> None:
    """Draw the borders between groups, number the groups, and frame what joins a group to itself."""
    from matplotlib.patches import Rectangle

    (x_size, x_end), (y_size, y_end) = (
        (size, np.cumsum(size)) for size in (np.bincount(side, minlength=n_groups) for side in (in_groups, out_groups))
    )
    numbered = np.arange(0, n_groups, -(-n_groups // _TICKS))
    names = [str(group) for group in numbered]
    ax.set_xticks((x_end - x_size / 2)[numbered], names)
    ax.set_yticks((y_end - y_size / 2)[numbered], names)
    if n_groups > _FRAMED_GROUPS:
        return
    thin = 0.4 if n_groups <= _FRAMED_GROUPS // 2 else 0.2
    ax.vlines(x_end[:-1], 0, len(out_groups), color=_FRAME, linewidth=thin)
    ax.hlines(y_end[:-1], 0, len(in_groups), color=_FRAME, linewidth=thin)
    for x, y, width, height in zip(x_end - x_size, y_end - y_size, x_size, y_size, strict=True):
        ax.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=_WITHIN, linewidth=2.5 * thin))
