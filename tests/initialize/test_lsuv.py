"""Unit variance layer by layer, and nothing else changed."""

import copy
import math

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseConv2d, SparseLinear
from neuropil.initialize import lsuv_, orthogonal_
from neuropil.randomness import stream


def convolutional():
    wiring = Ensembles(n_groups=4, block=("group", 1)).wire(8, 16, generator=stream(0))
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        SparseConv2d(wiring, 8, 3, padding=1, generator=stream(1)),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        SparseLinear(ErdosRenyi(0.1).wire(16 * 36, 32, generator=stream(2)), generator=stream(2)),
        nn.Tanh(),
        nn.Linear(32, 4),
    )


def outputs(model, x):
    """Output of every module, in evaluation mode, by a plain loop."""
    model = copy.deepcopy(model).eval()
    found = []
    for module in model:
        x = module(x)
        found.append(x.detach())
    return found


@pytest.mark.parametrize("orthogonal", [True, False])
def test_every_layer_comes_out_with_unit_variance(orthogonal):
    model, x = convolutional(), 3 * torch.randn(64, 1, 6, 6, generator=stream(3)) + 1
    reached = lsuv_(model, x, tolerance=1e-4, orthogonal=orthogonal, generator=stream(4))
    assert [one.name for one in reached] == ["0", "3.synapses", "7", "9"]
    found = outputs(model, x)
    for one, index in zip(reached, (0, 3, 7, 9), strict=True):
        assert float(found[index].var(correction=0)) == pytest.approx(one.variance, rel=1e-4)
        assert one.variance == pytest.approx(1.0, abs=1e-4)
        assert 1 <= one.iterations <= 3


def test_weights_are_orthogonal_ones_scaled():
    model, x = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6)).double(), torch.randn(50, 12).double()
    twin = copy.deepcopy(model)
    reached = lsuv_(model, x, generator=stream(0))
    weights = stream(0)
    for index, one in zip((0, 2), reached, strict=True):
        orthogonal_(twin[index], generator=weights)
        assert torch.allclose(model[index].weight, twin[index].weight * one.factor, rtol=1e-12)
        assert not model[index].bias.any()


def test_live_weights_only_and_silent_neurons_do_not_count(wiring):
    layer = SparseLinear(wiring, generator=stream(0), dtype=torch.float64)
    x = torch.randn(100, wiring.in_features, generator=stream(1), dtype=torch.float64)
    (one,) = lsuv_(layer, x, generator=stream(2))
    assert (layer.dense_weight()[~wiring.mask()] == 0).all()
    assert int((layer.weight != 0).sum()) <= wiring.n_connections
    reads = wiring.fan_in() > 0
    assert float(layer(x).detach()[:, reads].var(correction=0)) == pytest.approx(1.0, abs=0.01)
    assert one.name == ""


def test_what_is_fine_is_left_alone_and_iterations_end():
    layer = nn.Linear(4, 4, dtype=torch.float64)
    x = torch.randn(30, 4, generator=stream(0), dtype=torch.float64)
    lsuv_(layer, x, tolerance=1e-9, generator=stream(1))
    before = layer.weight.clone()
    (one,) = lsuv_(layer, x, orthogonal=False)
    assert (one.iterations, one.factor) == (0, 1.0)
    assert torch.equal(layer.weight, before)
    # biases whose variance alone is 4: cannot be reached, and is told
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([2.0, -2.0, 2.0, -2.0]))
    (one,) = lsuv_(layer, x, orthogonal=False, zero_biases=False, max_iterations=5)
    assert one.iterations == 5
    assert one.variance > 3
    assert layer.bias.any()


def test_nothing_else_is_changed():
    model, x = convolutional(), torch.randn(8, 1, 6, 6, generator=stream(0))
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    statistics, state = copy.deepcopy(model[1].state_dict()), torch.get_rng_state()
    lsuv_(model, x, generator=stream(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, statistics[key]) for key, value in model[1].state_dict().items())
    assert [module.training for module in model] == [True, False, *[True] * 8]
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_called_twice_is_scaled_at_its_first_call():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x):
            return self.layer(3 * self.layer(x))

    model, x = Recurrent(), torch.randn(40, 5, generator=stream(0))
    (one,) = lsuv_(model, x, generator=stream(1))
    assert float(model.layer(x).detach().var(correction=0)) == pytest.approx(one.variance, rel=1e-5)


def test_errors():
    layer, x = nn.Linear(4, 4), torch.ones(3, 4)
    for tolerance in (0.0, math.nan):
        with pytest.raises(ValueError, match=f"^lsuv_: tolerance must be above 0 and finite, got {tolerance}$"):
            lsuv_(layer, x, tolerance=tolerance)
    with pytest.raises(ValueError, match="^lsuv_: max_iterations must be at least 1, got 0$"):
        lsuv_(layer, x, max_iterations=0)
    with pytest.raises(ValueError, match="^lsuv_: the model must have a weight layer that a forward pass calls, got"):
        lsuv_(nn.ReLU(), x)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout())
    with pytest.raises(ValueError, match="must be finite and vary over the sample, got variance 0.0 in layer '0'$"):
        lsuv_(model, 0 * x)
    with pytest.raises(ValueError, match="got variance nan in layer '0'$"):
        lsuv_(model, math.nan * x)
    assert model.training
    assert not model[0]._forward_hooks
