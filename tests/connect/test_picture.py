"""plot_wiring: the picture shows the mask, and belongs to nobody's global state."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neuropil.connect import picture
from neuropil.connect.ensembles import Ensembles
from neuropil.connect.erdos_renyi import ErdosRenyi
from neuropil.connect.pattern import Dense
from neuropil.connect.picture import plot_wiring
from neuropil.connect.wiring import Wiring


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive_cells(wiring: Wiring, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort the dense mask by group and average it cell by cell, inside and between groups."""
    mask = wiring.mask().numpy()
    within = np.ones_like(mask)
    if wiring.n_groups:
        out_order, in_order = (np.argsort(g, kind="stable") for g in (wiring.out_groups, wiring.in_groups))
        within = wiring.out_groups[out_order, None] == wiring.in_groups[in_order][None, :]
        mask = mask[out_order][:, in_order]
    height, width = (-(-n // n_cells) for n in mask.shape)
    result = []
    for part in (mask & within, mask & ~within):
        cells = [
            [part[r : r + height, c : c + width].mean() for c in range(0, mask.shape[1], width)]
            for r in range(0, mask.shape[0], height)
        ]
        result.append(np.array(cells))
    return result[0], result[1]


@settings(deadline=None, max_examples=60)
@given(
    n_in=st.integers(4, 30),
    n_out=st.integers(4, 30),
    grouping=st.sampled_from(["index", "interleaved", "random"]),
    block=st.sampled_from([(1, 1), ("group", 1), (3, 2), ("group", "group")]),
    n_cells=st.sampled_from([5, 8, 512]),
    seed=st.integers(0, 1000),
)
def test_cells_are_those_of_the_mask(n_in, n_out, grouping, block, n_cells, seed) -> None:
    pattern = Ensembles(4, p_inter=0.3, grouping=grouping, block=block, uneven=True)
    wiring = pattern.wire(n_in, n_out, generator=seeded(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "_CELLS", n_cells)
        within, between, _ = picture._cell_densities(wiring)
    expected_within, expected_between = naive_cells(wiring, n_cells)
    np.testing.assert_allclose(within, expected_within)
    np.testing.assert_allclose(between, expected_between)


def test_small_wirings_are_drawn_neuron_by_neuron() -> None:
    wiring = Ensembles(2, p_inter=0.25, grouping="interleaved", exact=True).wire(8, 4, generator=seeded())
    ax = plot_wiring(wiring)
    pixels = np.asarray(ax.images[0].get_array())
    assert pixels.shape == (4, 8, 3)
    white = (pixels == 1.0).all(axis=2)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    assert np.array_equal(~white, wiring.mask().numpy()[[0, 2, 1, 3]][:, order])
    colours = {tuple(colour.round(2)) for colour in pixels[~white]}
    assert colours == {picture._WITHIN, picture._BETWEEN}
    assert (pixels[0, 0].round(2) == picture._WITHIN).all()


def test_labels_of_groups() -> None:
    ax = plot_wiring(Ensembles(4, p_inter=0.0).wire(16, 8))
    assert ax.get_title() == "density 0.25, 32 connections"
    assert ax.get_xlabel() == "source neuron (16 in 4 groups)"
    assert ax.get_ylabel() == "target neuron (8 in 4 groups)"
    assert ax.get_xticks().tolist() == [2, 6, 10, 14]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "2", "3"]
    frames = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [frame.get_bbox().bounds for frame in frames] == [(4 * g, 2 * g, 4, 2) for g in range(4)]
    assert {text.get_text() for text in ax.texts} == {"■ inside groups", "■ between groups"}


def test_wirings_without_groups_are_plain() -> None:
    ax = plot_wiring(ErdosRenyi(0.5, exact=True).wire(20, 10, generator=seeded()))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("source neuron", "target neuron")
    assert not ax.texts
    assert not ax.patches
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.0, 20.0), (10.0, 0.0))


def test_many_groups_are_numbered_now_and_then_and_not_framed() -> None:
    ax = plot_wiring(Ensembles(128, p_inter=0.0).wire(256, 128))
    assert len(ax.get_xticks()) == 8
    assert not ax.patches


def test_huge_wirings_are_not_laid_out(monkeypatch) -> None:
    def refuse(self: Wiring) -> None:
        raise AssertionError("the picture needs no list of connections")

    monkeypatch.setattr(Wiring, "mask", refuse)
    monkeypatch.setattr(Wiring, "connections", refuse)
    ax = plot_wiring(Dense().wire(100_000, 70_001))  # 7 · 10⁹ connections
    assert max(ax.images[0].get_array().shape) <= 512
    assert ax.get_ylim() == (70_001.0, 0.0)
    plot_wiring(Ensembles(8, p_inter=0.01, block=("group", "group")).wire(80_000, 80_000, generator=seeded()))


@pytest.mark.parametrize("shape", [(1, 1), (784, 10), (10, 784), (600, 600)])
def test_every_shape_can_be_saved(shape: tuple[int, int]) -> None:
    figure = Figure(figsize=(3, 3), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    assert ErdosRenyi(1.0).wire(*shape).plot(ax) is ax
    figure.savefig(io.BytesIO(), dpi=50)
    own = plot_wiring(ErdosRenyi(1.0).wire(*shape))
    own.figure.savefig(io.BytesIO(), format="svg")


def test_pyplot_is_not_touched() -> None:
    code = (
        "import sys; from neuropil.connect.pattern import Dense; loaded = 'matplotlib' in sys.modules; "
        "Dense().wire(3, 2).plot(); sys.exit(loaded or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
