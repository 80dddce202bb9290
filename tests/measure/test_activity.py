"""Dead and saturated units, in cases laid out by hand."""

import pytest
import torch
from torch import nn

from neuropil.connect import Dense
from neuropil.measure import LayerActivity, layer_activity
from neuropil.models import spiking_ensemble_net
from neuropil.units import LIF, LeakyIntegrator, Unit


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


# Spiking neurons


def spikes_by_hand():
    """Ten steps of ten samples: neurons that never fire, once, every other step, in 98 %, in 99 %, and always."""
    spikes = torch.zeros(10, 10, 6)
    spikes[3, 7, 1] = 1.0
    spikes[::2, :, 2] = 1.0
    spikes[..., 3:] = 1.0
    spikes[0, :2, 3] = spikes[5, 0, 4] = 0.0
    return spikes


class Recording(Unit):
    """Neurons whose outputs are given."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def rest(self, current):
        return (torch.zeros_like(current),)

    def step(self, current, state=None):
        raise AssertionError("not called")

    def forward(self, current, state=None):
        return self.outputs, self.rest(current)


def test_spiking_neurons_by_hand():
    (found,) = layer_activity(Recording(spikes_by_hand()), torch.zeros(10, 10, 6))
    rate = (0 + 1 + 50 + 98 + 99 + 100) / 600
    assert found == LayerActivity("", 6, pytest.approx(1 / 6), pytest.approx(2 / 6), pytest.approx(rate))


def test_spikes_of_real_neurons():
    """A current of 0.8 with a decay of 0.5 and a reset at once: fires every second step; −1 never, 3 always."""
    current = torch.tensor([-1.0, 0.8, 3.0]).expand(6, 4, 3)
    neurons = LIF(decay=0.5, reset="zero", reset_delay=False)
    assert neurons(current)[0][:, 0, 1].tolist() == [0, 1, 0, 1, 0, 1]
    (found,) = layer_activity(neurons, current)
    assert found == LayerActivity("", 3, pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(0.5))


@pytest.mark.parametrize(
    ("outputs", "dead"),
    [
        (torch.tensor([0.0, 0.5, 1.0]).expand(4, 2, 3), 1 / 3),
        (torch.tensor([0.0, -1.0, 0.0]).expand(4, 2, 3), 2 / 3),  # a delta code's spikes have signs
        (torch.tensor([0.0, 2.0, 2.0]).expand(4, 2, 3), 1 / 3),
        (torch.tensor([0.0, float("nan"), 1.0]).expand(4, 2, 3), 1 / 3),
    ],
)
def test_outputs_that_are_no_spikes_have_no_rate(outputs, dead):
    (found,) = layer_activity(Recording(outputs), torch.zeros(4, 2, 3))
    assert found == LayerActivity("", 3, pytest.approx(dead), 0.0, None)


def test_leaky_integrators_have_no_rate():
    net = nn.Sequential(nn.Linear(3, 2), LeakyIntegrator())
    (found,) = layer_activity(net, torch.ones(4, 5, 3))
    assert found == LayerActivity("1", 2, 0.0, 0.0, None)


def test_each_layer_of_a_spiking_network_in_its_order():
    net = spiking_ensemble_net((1, 4, 4), 3, hidden=[8, 8], pattern=Dense(), encoding="current", steps=5)
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = layer_activity(net, images)
    assert [layer.name for layer in found] == ["hidden.1", "hidden.3", "output"]
    spikes = net.output_spikes(images)
    assert found[2].firing_rate == pytest.approx(spikes.mean().item())
    assert found[2].dead == pytest.approx((spikes == 0).flatten(0, 1).all(0).double().mean().item())


def test_rates_are_as_exact_in_half_precision():
    spikes = torch.zeros(1000, 1, 3, dtype=torch.bfloat16)
    spikes[:991, :, 0], spikes[:3, :, 1] = 1, 1
    (found,) = layer_activity(Given(spikes), torch.zeros(1, 1))
    assert found.firing_rate == pytest.approx(994 / 3000, abs=1e-12)
    assert found.saturated == pytest.approx(1 / 3)


class Given(nn.Module):
    """Puts out the spikes that it is given."""

    def __init__(self, spikes):
        super().__init__()
        self.neurons, self.spikes = Through(), spikes

    def forward(self, x):
        return self.neurons(self.spikes)[0]


class Through(LIF):
    def forward(self, current, state=None):
        return current, state
