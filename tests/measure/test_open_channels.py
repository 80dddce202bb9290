"""Multiply-accumulates of open channels, counted by hand."""

import pytest
import torch
from torch import nn

from neuropil.measure import channel_cost, network_cost
from neuropil.randomness import stream
from neuropil.rewire import FixedChannels, gate_channels, gated_layers, wanted_channels


class Signs(nn.Module):
    """Opens the first or the last channels, by the sign of the image's mean."""

    def __init__(self, channels, n_first, n_last):
        super().__init__()
        rows = torch.full((2, channels), -1.0)
        rows[0, :n_first] = 1.0
        rows[1, channels - n_last :] = 1.0
        self.rows = rows

    def forward(self, x):
        return self.rows[(x.mean((1, 2, 3)) < 0).long()]


def chain():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, groups=2, padding=1), nn.BatchNorm2d(6), nn.Tanh(),
        nn.Conv2d(6, 3, 1),
    )  # fmt: skip


def test_open_channels_by_hand():
    gated = gate_channels(chain())
    first, second = gated_layers(gated).values()
    first.gate = Signs(4, 1, 3)
    second.gate = FixedChannels(torch.tensor([True, True, False, False, False, False]))
    x = torch.ones(3, 2, 8, 8)
    x[0] = -1  # one image opens 3 channels, two open 1
    found = channel_cost(gated, x)
    places = [64 * 9, 16 * 9, 16]
    assert found.dense == 2 * 4 * places[0] + 4 * 6 // 2 * places[1] + 6 * 3 * places[2]
    assert found.dense == network_cost(chain(), x).multiply_accumulates
    opened = (3 + 1 + 1) / 3
    active = [2 * opened * places[0], opened * 2 / 2 * places[1], 2 * 3 * places[2]]
    assert found.active == pytest.approx(sum(active))
    assert [layer.active for layer in found.layers] == pytest.approx(active[:2])
    assert [layer.open for layer in found.layers] == pytest.approx([opened, 2])
    assert [layer.dense for layer in found.layers] == [2 * 4 * places[0], 4 * 6 // 2 * places[1]]
    assert found.cut == pytest.approx(1 - sum(active) / found.dense)
    assert found.predictors == 0


def test_agreement_with_what_is_wanted():
    gated = gate_channels(chain(), ratio=0.6, embedding=32, generator=stream(1))
    x = torch.randn(40, 2, 8, 8, generator=stream(0))
    found = channel_cost(gated, x)
    layer = gated_layers(gated)["0"]
    wanted = wanted_channels(layer.body(x).abs().flatten(2).amax(2), 0.6)
    agree = (layer.gate(x) > 0) == wanted
    assert found.layers[0].agreement == pytest.approx(float(agree.double().mean()))
    frequency = wanted.double().mean(0)
    assert found.layers[0].wanted == pytest.approx(float(frequency.sum()))
    assert found.layers[0].best_fixed == pytest.approx(float(torch.maximum(frequency, 1 - frequency).mean()))
    total = 4 * found.layers[0].agreement + 6 * found.layers[1].agreement
    assert found.agreement == pytest.approx(total / 10)
    assert found.predictors == 2 * 16 * 4 + 4 * 9 * 6  # 4 × 4 and 3 × 3 means a channel: √(32 / 2), √(32 / 4)


def test_all_open_costs_what_the_network_costs():
    gated = gate_channels(chain())
    for layer in gated_layers(gated).values():
        layer.gate = FixedChannels(torch.ones(layer.convolution.out_channels, dtype=torch.bool))
    x = torch.zeros(2, 2, 8, 8)
    found = channel_cost(gated, x)
    assert found.cut == 0
    assert found.active == found.dense
    assert gated.training
    assert not any(module._forward_hooks for module in gated.modules())


def test_what_is_no_channel_of_the_gate_is_read_whole():
    gated = nn.Sequential(gate_channels(chain()[:2]), nn.PixelShuffle(2), nn.Conv2d(1, 3, 1))
    gated_layers(gated)["0.0"].gate = FixedChannels(torch.tensor([True, True, False, False]))
    found = channel_cost(gated, torch.ones(1, 2, 8, 8))
    assert found.active - found.layers[0].active == 16 * 16 * 3


def test_a_model_without_gates():
    with pytest.raises(ValueError, match="channel_cost: the model must have a GatedChannels, got a Sequential without"):
        channel_cost(chain(), torch.zeros(1, 2, 8, 8))
