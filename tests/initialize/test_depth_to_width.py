"""The report on depth over width, and how far starts vary as it says."""

import math

import pytest
import torch
from torch import nn

from neuropil.connect import ErdosRenyi, SparseConv2d, SparseLinear
from neuropil.initialize import critical_normal_, depth_to_width
from neuropil.randomness import stream


def test_dense_layers_by_hand():
    model = nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Linear(50, 25), nn.Linear(25, 2))
    report = depth_to_width(model)
    assert report.layers == (("0", 1 / 8), ("2", 1 / 50), ("3", 1 / 25))
    assert report.ratio == pytest.approx(0.06)
    assert report.depth == 3
    assert report.width == pytest.approx(2 / 0.06)
    assert depth_to_width(nn.Linear(3, 2)).width == math.inf


def test_sparse_layers_by_their_neurons(wiring):
    layer = SparseLinear(wiring, generator=stream(0))
    fan_in = [n for n in wiring.mask().sum(1).tolist() if n]
    ((_, inverse),) = depth_to_width(layer).layers
    assert inverse == pytest.approx(sum(1 / n for n in fan_in) / len(fan_in))


def test_convolutions_by_their_taps():
    wiring = ErdosRenyi(1.0).wire(4, 6, generator=stream(0))
    model = nn.Sequential(nn.Conv2d(1, 4, 5), SparseConv2d(wiring, 4, 3))
    assert depth_to_width(model).layers == (("0", 1 / 25), ("1.synapses", pytest.approx(1 / 36)))
    assert depth_to_width(model, torch.ones(1, 1, 8, 8)).ratio == pytest.approx(1 / 36)


def spread_of_squared_output(width, density, n_layers=9, n_starts=200):
    """Relative variance of the output's squared length over starts of a linear network, and its ratio."""
    values, weights = [], stream(0, "weights")
    wirings = [ErdosRenyi(density).wire(width, width, generator=stream(0, i)) for i in range(n_layers)]
    layers = [SparseLinear(wiring, bias=False, kernel="masked") for wiring in wirings]
    model = nn.Sequential(*layers)
    for _ in range(n_starts):
        for layer in layers:
            critical_normal_(layer, "linear", generator=weights)
        with torch.no_grad():
            values.append(float(model(torch.ones(1, width)).square().mean()))
    values = torch.tensor(values)
    return float(values.log().std()), depth_to_width(model).ratio


def test_narrow_networks_vary_more_and_random_thin_ones_do_not():
    (wide, small), (thin, middle), (narrow, large) = (
        spread_of_squared_output(*sizes) for sizes in ((64, 1.0), (64, 0.25), (8, 1.0))
    )
    assert small < middle < large
    assert narrow > 2 * wide
    assert thin == pytest.approx(wide, abs=0.15)  # fan-in is the upper end, as the docstring says


def test_no_layer_is_told():
    with pytest.raises(ValueError, match="^depth_to_width: the model must have a weight layer, got none$"):
        depth_to_width(nn.ReLU())
