"""Dead and saturated units, in cases laid out by hand."""

import pytest
import torch
from torch import nn

from neuropil.measure import LayerActivity, layer_activity


def test_dead_is_zero_for_every_sample():
    # unit 0 is never above 0, unit 1 once, unit 2 always
    batch = torch.tensor([[-1.0, -1.0, 1.0], [-2.0, 3.0, 1.0], [0.0, -3.0, 2.0]])
    assert layer_activity(nn.ReLU(), batch) == [LayerActivity("", 3, pytest.approx(1 / 3), 0.0)]


BOUNDED = [
    (nn.Sigmoid(), -9.0, 9.0),
    (nn.Hardsigmoid(), None, 9.0),
    (nn.Tanh(), -9.0, 9.0),
    (nn.Softsign(), -999.0, 999.0),
    (nn.ReLU6(), None, 7.0),
    (nn.Hardtanh(), -2.0, 2.0),
    (nn.Hardtanh(-3.0, 5.0), -4.0, 6.0),
    (nn.Hardtanh(0.5, 5.0), -4.0, 6.0),
]


@pytest.mark.parametrize(("activation", "low", "high"), BOUNDED, ids=lambda value: str(value))
def test_saturated_is_near_one_bound_for_every_sample(activation, low, high):
    middle = 0.7
    # low throughout; high throughout; in between once; in between throughout; low and high in turn
    low_or_zero = -9.0 if low is None else low
    batch = torch.tensor([[low_or_zero, high, middle, middle, low_or_zero], [low_or_zero, high, high, middle, high]])
    (found,) = layer_activity(activation, batch)
    assert found.n_units == 5
    # a lower bound of 0 is dead, not saturated
    assert found.dead == (0.2 if low is None else 0.0)
    assert found.saturated == pytest.approx(0.2 if low is None else 0.4)


def test_one_percent_of_the_range_counts_as_saturated():
    batch = torch.tensor([[6.0 - 0.05, 6.0 - 0.07, 0.05, 0.07]]).repeat(3, 1)
    (found,) = layer_activity(nn.ReLU6(), batch)
    assert found == LayerActivity("", 4, 0.0, 0.5)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.GELU(), nn.SiLU(), nn.Softplus()])
def test_unbounded_activations_do_not_saturate(activation):
    (found,) = layer_activity(activation, torch.tensor([[1e4, -1e4, 0.0]]))
    assert found.saturated == 0.0


def test_units_of_a_convolution_are_channels():
    layer = nn.Conv2d(1, 3, 2, bias=True)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[2, 0, 0, 0] = 1.0
        layer.bias.copy_(torch.tensor([-1.0, 1.0, 0.0]))
    images = torch.zeros(2, 1, 4, 4)
    assert layer_activity(nn.Sequential(layer, nn.ReLU()), images)[0].dead == pytest.approx(2 / 3)
    images[1, 0, 2, 1] = 5.0  # one sample, one position: no longer dead
    assert layer_activity(nn.Sequential(layer, nn.ReLU()), images)[0] == LayerActivity("1", 3, pytest.approx(1 / 3), 0)


def test_units_of_a_sequence_lie_on_its_last_axis():
    batch = torch.zeros(2, 5, 3)
    batch[0, 4, 1] = 1.0
    assert layer_activity(nn.ReLU(), batch) == [LayerActivity("", 3, pytest.approx(2 / 3), 0.0)]


def test_one_entry_for_each_call_in_the_order_of_the_calls():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early = nn.Tanh(), nn.ReLU()

        def forward(self, x):
            return self.early(self.late(self.early(x)))

    assert [found.name for found in layer_activity(Net(), torch.ones(2, 2))] == ["early", "late", "early"]


def test_a_model_without_activation_modules_gives_nothing():
    assert layer_activity(nn.Linear(2, 2), torch.ones(2, 2)) == []


def test_measured_in_evaluation_mode_and_left_as_it_was():
    net = nn.Sequential(nn.Dropout(0.999), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout())
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    batch = torch.ones(3, 4)
    # with dropout at work all units would be dead
    assert layer_activity(net, batch)[0].dead == 0.0
    with pytest.raises(ValueError, match="expected"):
        layer_activity(net, torch.ones(4))
    assert [module.training for module in net] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in net.modules())
    assert not net.eval().training
    layer_activity(net, batch)
    assert not net.training


def test_no_gradient_is_kept():
    batch = torch.ones(2, 2, requires_grad=True)
    layer_activity(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), batch)
    assert batch.grad is None
