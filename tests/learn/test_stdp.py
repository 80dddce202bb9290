"""The network and the rule of Diehl and Cook, against a loop over single spikes, and on digits."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from neuropil import data
from neuropil.learn import STDP, DiehlCookNet
from neuropil.learn.diehl_cook_loops import present
from neuropil.randomness import stream


class Twin:
    """The equations of the card, neuron by neuron, with traces from the times of single spikes."""

    def __init__(self, weights, thresholds):
        self.n_inputs, self.n = weights.shape
        self.w, self.theta, self.now = weights.tolist(), thresholds.tolist(), 0
        self.v, self.u = [-65.0] * self.n, [-60.0] * self.n
        self.ge, self.gi, self.gu = ([0.0] * self.n for _ in range(3))
        self.free_v, self.free_u = [0] * self.n, [0] * self.n  # from which step on they are no longer at rest
        self.last_in, self.last_out = [-math.inf] * self.n_inputs, [-math.inf] * self.n

    def trace(self, last, tau):
        return math.exp(-(self.now - last) * 0.5 / tau)

    def step(self, arrived, learns, depression, potentiation, raised):
        fired, inhibiting = [], []
        for j in range(self.n):
            if self.now >= self.free_v[j]:
                step = ((-65 - self.v[j]) - self.ge[j] * self.v[j] + self.gi[j] * (-100 - self.v[j])) / 200
                ends = (-65 - 100 * self.gi[j]) / (1 + self.ge[j] + self.gi[j])
                self.v[j] = self.v[j] + step if abs(step) <= abs(ends - self.v[j]) else ends
            if self.now >= self.free_u[j]:
                self.u[j] += 0.5 / 10 * ((-60 - self.u[j]) - self.gu[j] * self.u[j])
            self.ge[j], self.gi[j], self.gu[j] = 0.5 * self.ge[j], 0.75 * self.gi[j], 0.5 * self.gu[j]
            # rest ends with the step from which potentials move again, one step after a spike may come
            fired.append(self.now >= self.free_v[j] - 1 and self.v[j] > self.theta[j] - 72)
            inhibiting.append(self.now >= self.free_u[j] - 1 and self.u[j] > -40)
            if learns:
                self.theta[j] *= math.exp(-0.5 / 1e7)
        for i in arrived:
            for j in range(self.n):
                self.ge[j] += self.w[i][j]
                if learns:
                    self.w[i][j] = max(0.0, self.w[i][j] - depression * self.trace(self.last_out[j], 20))
            self.last_in[i] = self.now
        for j in range(self.n):
            if inhibiting[j]:
                self.u[j], self.free_u[j] = -45.0, self.now + 4 + 1
                for k in range(self.n):
                    if k != j:
                        self.gi[k] += 17.0
        for j in range(self.n):
            if fired[j]:
                self.v[j], self.free_v[j] = -65.0, self.now + 10 + 1
                self.gu[j] += 10.4
                if learns:
                    for i in range(self.n_inputs):
                        grown = potentiation * self.trace(self.last_in[i], 20) * self.trace(self.last_out[j], 40)
                        self.w[i][j] = min(1.0, self.w[i][j] + grown)
                    self.last_out[j] = self.now
                    self.theta[j] += raised
        self.now += 1
        return fired


@pytest.mark.parametrize(("learns", "depression"), [(True, 0.01), (True, 0.0), (False, 0.01)])
def test_is_a_loop_over_single_spikes(learns, depression):
    rng = np.random.default_rng(0)
    weights, thresholds = rng.uniform(0.2, 0.99, (12, 5)), np.full(5, 20.0)
    twin = Twin(weights, thresholds)
    net = DiehlCookNet(12, 2, n_neurons=5)
    state, traces, before = net.state.numpy(), net.traces.numpy(), weights.copy()
    rates = (depression, 4.0, 0.1)
    total = 0
    for _ in range(2):  # the second begins where the first one has ended
        spikes = (rng.random((300, 12)) < 0.1).astype(np.uint8)
        counts = present(spikes, 40, weights, thresholds, state, traces, learns, *rates)
        fired = [twin.step(np.flatnonzero(row), learns, *rates) for row in spikes]
        fired += [twin.step([], learns, *rates) for _ in range(40)]
        assert counts.tolist() == np.sum(fired, axis=0).tolist()
        total += counts.sum()
    assert total > 15
    np.testing.assert_allclose(weights, twin.w, rtol=1e-9)
    np.testing.assert_allclose(thresholds, twin.theta, rtol=1e-9)
    assert np.array_equal(weights, before) != learns
    if learns:
        assert (weights < before).any() == (depression > 0)
        assert (weights > before).any()
        assert (weights.max() == 1.0) == (depression == 0)  # else they have fallen again from there


def test_inhibition_leaves_out_its_own_neuron():
    weights, thresholds = np.array([[1.0, 0.0, 0.0]]), np.full(3, 20.0)
    net = DiehlCookNet(1, 2, n_neurons=3)
    state = net.state.numpy()
    spikes = np.ones((40, 1), dtype=np.uint8)
    seen = []
    for row in spikes:
        present(row[None], 0, weights, thresholds, state, net.traces.numpy(), False, 0.0, 0.0, 0.0)
        seen.append(state[2].copy())
    inhibition = np.array(seen).max(0)
    assert inhibition.tolist() == [0.0, 17.0, 17.0]


def test_potentials_stay_where_reversals_pull_them_when_all_fire_at_once():
    net = DiehlCookNet(4, 2, n_neurons=200)
    spikes = np.zeros((400, 4), dtype=np.uint8)
    spikes[::20] = 1
    state, weights, thresholds = net.state.numpy(), np.full((4, 200), 20.0), np.full(200, 20.0)
    counts = present(spikes, 0, weights, thresholds, state, net.traces.numpy(), False, 0.0, 0.0, 0.0)
    assert counts.min() >= 1  # so that each is inhibited by 199 others at once
    assert state[0].min() >= -100
    assert state[0].max() <= 0


def tiled(images):
    """Digits of 8 × 8 at twice the size: 256 pixels."""
    return images.repeat_interleave(2, 2).repeat_interleave(2, 3)


def trained(seed, n_images=250, **settings):
    digits = data.load("digits").in_unit_range()
    net = DiehlCookNet(256, 10, n_neurons=30, intensity=3.0, generator=stream(seed, "weights"))
    rule = STDP(net, generator=stream(seed, "spikes"), **settings)
    for i, (x, y) in enumerate(digits.batches(digits.train, 50, generator=stream(seed, "order"))):
        if 50 * i < n_images:
            rule.step(tiled(x), y)
    x, y = next(digits.batches(digits.test, 100, generator=stream(seed, "test")))
    return float((net(tiled(x)).argmax(1) == y).float().mean())


def test_digits_are_told_apart_without_errors():
    for seed in range(3):
        learned, control = trained(seed), trained(seed, potentiation=0.0, depression=0.0)
        assert learned > 0.55
        assert learned > control + 0.1


def small(seed=0, **settings):
    net = DiehlCookNet(64, 3, n_neurons=8, total=30.0, generator=stream(seed))
    return net, STDP(net, generator=stream(seed, "rule"), **settings)


def images(n=4, seed=0):
    return torch.rand(n, 1, 8, 8, generator=stream(seed, "images")), torch.arange(n) % 3


def test_a_batch_is_its_images_one_after_the_other():
    (together, of_batch), (single, of_images) = small(memory=2), small(memory=2)
    x, y = images()
    of_batch.step(x, y)
    for i in range(len(x)):
        of_images.step(x[i : i + 1], y[i : i + 1])
    # weights are rounded to float32 once a step
    torch.testing.assert_close(together.weight, single.weight, rtol=1e-5, atol=1e-6)
    for name in ("thresholds", "responses", "shown"):
        torch.testing.assert_close(getattr(together, name), getattr(single, name))


def test_weights_are_scaled_before_each_image_and_thresholds_rise_by_spikes():
    net, rule = small(potentiation=0.0, depression=0.0)
    x, y = images()
    rule.step(x, y)
    torch.testing.assert_close(net.weight.sum(1), torch.full((8,), 30.0))
    expected = 20 + 0.05 * net.responses.sum(0)
    torch.testing.assert_close(net.thresholds, expected, rtol=1e-3, atol=0)
    assert (net.thresholds > 20).any()


def test_a_schedule_of_the_learning_rate_scales_the_change():
    (net, rule), (other, still) = small(), small(potentiation=0.0, depression=0.0)
    for group in rule.optimizer.param_groups:
        group["lr"] = 0.0
    for one in (rule, still):
        one.step(*images())
    assert torch.equal(net.weight, other.weight)


def test_neurons_are_named_by_the_class_of_their_largest_mean_response():
    net, _ = small()
    with torch.no_grad():
        net.responses[:, :4] = torch.tensor([[8.0, 1.0, 0.0, 0.0], [3.0, 2.0, 0.0, 5.0], [0.0, 1.0, 0.0, 4.0]])
        net.shown.copy_(torch.tensor([8.0, 2.0, 1.0]))
    assert net.labels[:5].tolist() == [1, 1, -1, 2, -1]
    counts = torch.tensor([[4, 2, 9, 7, 0, 0, 0, 0]])
    assert net.logits(counts).tolist() == [[0.0, 3.0, 7.0]]


def test_weak_images_are_shown_brighter_and_black_ones_once():
    net, rule = small()
    weak = torch.full((1, 1, 8, 8), 0.02)
    assert float(small()[0].responses.sum()) == 0
    rule.step(torch.cat([weak, torch.zeros(1, 1, 8, 8)]), torch.tensor([0, 1]))
    assert net.responses[0].sum() >= 4.9
    assert net.responses[1].sum() == 0


def test_prediction_changes_nothing_and_does_not_depend_on_what_came_before():
    net, rule = small()
    x, y = images()
    rule.step(x, y)
    before, drawn = copy.deepcopy(net.state_dict()), rule.generator.get_state()
    first = net(x)
    rule.generator.set_state(drawn)
    assert torch.equal(net(x), first)
    assert first.any()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net(x[:0]).shape == (0, 3)


def test_state_goes_on_bit_for_bit():
    (first, rule), (other, its) = small(), small(seed=5)
    x, y = images()
    rule.step(x, y)
    other.load_state_dict(first.state_dict())
    its.load_state_dict(copy.deepcopy(rule.state_dict()))
    for one in (rule, its):
        one.step(*images(seed=1))
    assert its.n_done == 2
    for name, value in first.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_what_does_not_fit_is_named():
    net, rule = small()
    x, y = images()
    with pytest.raises(TypeError, match="the model must be a DiehlCookNet, got a Linear"):
        STDP(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="memory at least 1, got 0.0001, 0.01, 0.05 and 0"):
        STDP(net, memory=0)
    with pytest.raises(ValueError, match="must be at least 1, total and intensity above 0, got 0, 3, 400, 78 and 2"):
        DiehlCookNet(0, 3)
    with pytest.raises(ValueError, match=r"images must have 64 pixels, got \[4, 1, 8, 4\]"):
        rule.step(x[..., :4], y)
    with pytest.raises(ValueError, match=r"pixels must be in \[0, 1\], got .* try dataset.in_unit_range"):
        rule.step(3 * x, y)
    with pytest.raises(ValueError, match="labels must be in 0 … 2"):
        rule.step(x, y + 1)
