"""Which layers have weights, and in what order."""

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, EventLinear, SparseConv2d, SparseLinear
from neuropil.initialize import weight_layers
from neuropil.randomness import stream


class Backwards(nn.Module):
    """Calls its layers in the other order than they are registered, and one not at all."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3, 3)
        self.unused = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.normal = nn.BatchNorm1d(3)
        self.first = nn.Linear(3, 3)

    def forward(self, x):
        x = self.drop(self.normal(self.first(x)))
        return self.last(x) + self.first(x)


def names(*arguments):
    return [name for name, _ in weight_layers(*arguments)]


def test_every_kind_of_layer():
    wiring = Ensembles(n_groups=4, block=("group", 1)).wire(8, 8, generator=stream(0))
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        SparseConv2d(wiring, 8, 3, padding=1),
        nn.Sequential(nn.Flatten(), nn.Linear(8 * 16, 8)),
        SparseLinear(ErdosRenyi(0.5).wire(8, 8, generator=stream(0))),
        EventLinear(8, 2),
    )
    expected = ["0", "2.synapses", "3.1", "4", "5"]
    assert names(model) == expected
    assert names(model, torch.ones(2, 1, 4, 4)) == expected
    assert all(model.get_submodule(name) is layer for name, layer in weight_layers(model))
    assert names(nn.Linear(2, 2)) == [""]
    assert names(nn.ReLU()) == []


def test_forward_order_of_a_sample():
    model = Backwards()
    model.normal.eval()
    assert names(model) == ["last", "unused", "first"]
    state, before = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
    assert names(model, torch.ones(2, 3)) == ["first", "last"]
    # nothing is left behind: modes, statistics, hooks, random numbers, gradients
    assert [module.training for module in model.modules()] == [True, True, True, True, False, True]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(RuntimeError):
        weight_layers(model, torch.ones(2, 4))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_that_cannot_be_set_are_told():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="^weight_layers: every layer must have a weight of its own, got one that"):
        weight_layers(tied)
    computed = nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="^weight_layers: the weight of every layer must be a parameter .* '0', where"):
        weight_layers(computed)
    with pytest.raises(ValueError, match="^weight_layers: the weight of every layer must be a parameter .* '0', where"):
        weight_layers(computed, torch.ones(2, 3))
