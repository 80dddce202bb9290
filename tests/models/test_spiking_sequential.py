"""Layers and units in a row, against calling them one by one."""

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, SparseLinear
from neuropil.models import SpikingSequential
from neuropil.units import LIF


@pytest.fixture
def net(generator):
    wiring = Ensembles(n_groups=4, p_inter=0.2).wire(16, 24, generator=generator)
    readout = nn.utils.skip_init(nn.Linear, 24, 5)
    nn.init.normal_(readout.weight, std=0.5, generator=generator)
    nn.init.zeros_(readout.bias)
    layer = SparseLinear(wiring, generator=generator)
    with torch.no_grad():
        layer.weight.mul_(3)
    return SpikingSequential(layer, LIF(decay=0.8), readout, LIF(reset="zero"))


@pytest.fixture
def spikes(generator):
    return (torch.rand(30, 6, 16, generator=generator) < 0.4).float()


def test_equals_calling_the_modules(net, spikes):
    found, states = net(spikes)
    hidden, first = net[1](net[0](spikes))
    expected, second = net[3](net[2](hidden))
    assert torch.equal(found, expected)
    assert 0.02 < found.mean() < 0.9
    assert torch.equal(states[0].potential, first.potential)
    assert torch.equal(states[1].potential, second.potential)
    assert net.units == [net[1], net[3]]


def test_goes_on_from_states(net, spikes):
    whole, ended = net(spikes)
    start, states = net(spikes[:13])
    rest, states = net(spikes[13:], states)
    assert torch.equal(torch.cat([start, rest]), whole)
    for state, other in zip(states, ended, strict=True):
        assert torch.equal(state.potential, other.potential)


def test_every_parameter_gets_a_gradient(net, spikes):
    net(spikes)[0].sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    assert bool(net[0].weight.grad.any())


def test_states_of_another_number_of_units(net, spikes):
    with pytest.raises(
        ValueError,
        match=r"^SpikingSequential: states must be one for each of the 2 units, got 1; start anew with states=None$",
    ):
        net(spikes, net(spikes)[1][:1])
