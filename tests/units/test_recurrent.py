"""Neurons that read each other's spikes."""

import pytest
import torch
from torch import nn

from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.randomness import stream
from neuropil.testing import assert_unit
from neuropil.units import LIF, AdaptiveLIF, LeakyIntegrator, Recurrent


def connections(kind, n=5):
    if kind == "sparse":
        return SparseLinear(ErdosRenyi(0.5).wire(n, n, generator=stream(0)), generator=stream(1)).double()
    layer = nn.Linear(n, n, bias=kind == "biased").double()
    with torch.no_grad():
        layer.weight.normal_(std=0.6, generator=stream(1))
    return layer


@pytest.mark.parametrize("kind", ["dense", "biased", "sparse"])
@pytest.mark.parametrize("neurons", [LIF, AdaptiveLIF])
def test_contract(kind, neurons):
    current = torch.randn(7, 3, 5, generator=stream(2), dtype=torch.float64)
    assert_unit(Recurrent(neurons(learn=["decay"]).double(), connections(kind)), current)


def test_is_a_loop_over_neurons_and_products():
    layer = connections("biased")
    current = torch.randn(9, 2, 5, generator=stream(2), dtype=torch.float64)
    neurons, z, state, expected = LIF().double(), torch.zeros(2, 5, dtype=torch.float64), None, []
    for now in current:
        z, state = neurons.step(now + z @ layer.weight.T + layer.bias, state)
        expected.append(z)
    with torch.no_grad():
        found, end = Recurrent(neurons, layer)(current)
    assert torch.equal(found, torch.stack(expected))
    assert 0 < float(found.mean()) < 1
    torch.testing.assert_close(end, (z, *state))


def test_detached_transmission_cuts_what_goes_from_neuron_to_neuron():
    for detach in (False, True):
        current = torch.randn(4, 1, 5, generator=stream(2), dtype=torch.float64).requires_grad_()
        unit = Recurrent(LeakyIntegrator(0.0).double(), connections("dense"), detach_transmission=detach)
        outputs, _ = unit(current)
        outputs[-1].sum().backward()
        assert bool(current.grad[:3].any()) != detach
        assert current.grad[3].any()


def test_layers_that_lead_elsewhere_are_told():
    with pytest.raises(ValueError, match="as many targets as sources, got 3 and 4"):
        Recurrent(LIF(), nn.Linear(4, 3))
