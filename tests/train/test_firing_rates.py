"""The firing-rate penalty by hand and in training, and spiking runs that are taken up again."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil import models, rewire
from neuropil.connect import Dense, Ensembles
from neuropil.measure import layer_activity
from neuropil.models import spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.train import RatePenalty, RateSchedule, Run, fit
from neuropil.train.run import read_events
from neuropil.units import LIF

MEASURED = ("seconds", "peak_memory_bytes")


def small(**settings):
    settings = {"hidden": [24, 16], "pattern": Ensembles(n_groups=4), "steps": 6, **settings}
    return spiking_ensemble_net((1, 8, 8), 10, **settings)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def mean_rates(net, dataset):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the rate code's draws
        layers = layer_activity(net, dataset.normalize(dataset.train.images))
    return torch.tensor([layer.firing_rate for layer in layers if layer.name != "output"])


# The schedule


@pytest.mark.parametrize(
    ("epoch", "weight", "target"),
    [
        (1, 0.0, 0.25),
        (10, 0.0, 0.25),
        (11, 1e-4 + 0.1 * 9.9e-3, 0.25 - 0.016),
        (15, 1e-4 + 0.5 * 9.9e-3, 0.17),
        (20, 1e-2, 0.09),
    ],
)
def test_schedule(epoch, weight, target):
    """The published one, over 20 epochs: r = (epoch − 10) / 10, λ = 1e-4 + r (1e-2 − 1e-4), target = 0.25 − 0.16 r."""
    assert RateSchedule().at(epoch, epochs=20) == (pytest.approx(weight, rel=1e-12), pytest.approx(target, rel=1e-12))


def test_schedule_without_warm_up_and_one_that_never_begins():
    schedule = RateSchedule(warm_up=0, weight=(0.0, 1.0), target=(0.0, 1.0))
    assert [schedule.at(epoch, epochs=4) for epoch in (1, 2, 4)] == [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0)]
    assert [RateSchedule().at(epoch, epochs=5)[0] for epoch in (1, 5)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"warm_up": -1}, "RateSchedule: warm_up must be 0 or more, got -1"),
        ({"weight": (-0.1, 1.0)}, "RateSchedule: weight must be finite and 0 or more, got (-0.1, 1.0)"),
        ({"weight": (0.1, float("nan"))}, "RateSchedule: weight must be finite and 0 or more, got (0.1, nan)"),
        ({"weight": (0.1, float("inf"))}, "RateSchedule: weight must be finite and 0 or more, got (0.1, inf)"),
        ({"target": (0.1, 1.5)}, "RateSchedule: target must lie in [0, 1], got (0.1, 1.5)"),
    ],
)
def test_wrong_schedules_are_told(settings, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole sentence is compared)
        RateSchedule(**settings)
    assert str(caught.value) == sentence


# The penalty


def test_penalty_is_the_formula(few_digits):
    """λ Σ over layers and neurons of (mean over steps and samples − target)², the read-out's neurons left out."""
    net, dataset = small(), few_digits.in_unit_range()
    images = dataset.normalize(dataset.train.images[:9])
    penalty = RatePenalty(net, RateSchedule(warm_up=1, weight=(0.5, 2.0), target=(0.2, 0.1)))
    seen = []
    for name in ("1", "3"):
        net.hidden[int(name)].register_forward_hook(lambda _, __, output: seen.append(output[0].detach().clone()))
    for epoch, weight, target in ((2, 1.25, 0.15), (3, 2.0, 0.1)):
        seen.clear()
        with penalty.due(epoch, 3):
            net(images)
            found = penalty()
            again = penalty()
        expected = 0.0
        for spikes in seen:
            for n in range(spikes.shape[-1]):
                fired = [float(spikes[t, b, n]) for t in range(6) for b in range(9)]
                expected += weight * (sum(fired) / len(fired) - target) ** 2
        assert found.item() == pytest.approx(expected, rel=1e-5)
        assert expected > 0.01
        assert again == 0.0  # what has run since the last call


def test_gradient_is_that_of_finite_differences():
    """Where spikes depend on the current smoothly: ∂/∂r of λ Σ (r − target)² = 2 λ (r − target), a share a step."""
    unit = LIF()
    penalty = RatePenalty(unit, RateSchedule(warm_up=0, weight=(0.0, 3.0), target=(0.0, 0.25)), units=[unit])
    spikes = torch.rand(5, 4, 7, generator=stream(0, "spikes"), dtype=torch.float64).requires_grad_()
    with penalty.due(2, 2):
        penalty._watch(unit, (), (spikes,))
        penalty().backward()
    expected = 2 * 3.0 * (spikes.detach().mean((0, 1)) - 0.25) / 20
    torch.testing.assert_close(spikes.grad, expected.expand(5, 4, 7))


def test_penalty_reaches_weights_and_neurons(few_digits):
    net, dataset = small(), few_digits.in_unit_range()
    penalty = RatePenalty(net, RateSchedule(warm_up=0))
    with penalty.due(1, 1):
        net(dataset.normalize(dataset.train.images[:9]))
        penalty().backward()
    for name, parameter in net.named_parameters():
        is_last = name.startswith(("readout", "output"))
        assert (parameter.grad is None) == is_last, name
        assert is_last or parameter.grad.any(), name


def test_units_may_be_chosen(few_digits):
    net, dataset = small(), few_digits.in_unit_range()
    penalty = RatePenalty(net, RateSchedule(warm_up=0, weight=(0.0, 1.0), target=(0.0, 0.5)), units=[net.output])
    with penalty.due(1, 1):
        logits = net(dataset.normalize(dataset.train.images[:9]))
        found = penalty()
    assert found.item() == pytest.approx((logits / 6 - 0.0).mean(0).sub(0.5).square().sum().item(), rel=1e-5)


def test_hooks_are_there_only_while_a_penalty_is_due(few_digits):
    net, dataset = small(), few_digits.in_unit_range()
    images = dataset.normalize(dataset.train.images[:9])
    penalty = RatePenalty(net, RateSchedule(warm_up=2))
    assert hooks(net) == 0
    for epoch, n_hooks in ((1, 0), (2, 0), (3, 2), (4, 2)):
        with penalty.due(epoch, 4):
            assert hooks(net) == n_hooks
            net(images)
            assert isinstance(penalty(), torch.Tensor) == bool(n_hooks)
            net(images)
        assert hooks(net) == 0
        assert penalty() == 0.0  # nothing is left over
    with pytest.raises(KeyboardInterrupt), penalty.due(4, 4):
        raise KeyboardInterrupt
    assert hooks(net) == 0


def test_models_without_hidden_neurons_are_refused():
    for model in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), LIF())):
        with pytest.raises(ValueError, match="RatePenalty: the model must have hidden spiking neurons, got none"):
            RatePenalty(model)


# In training


@pytest.mark.parametrize("target", [0.02, 0.6])
def test_rates_go_towards_their_target(few_digits, target):
    """Either way, to within a third of the distance that is left without a penalty."""
    dataset = few_digits.in_unit_range()
    distances = []
    for weight in (0.0, 5.0):
        net = small(pattern=Dense(), seed=1)
        schedule = RateSchedule(warm_up=0, weight=(weight, weight), target=(target, target))
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        fit(net, dataset, optimizer, epochs=15, batch_size=16, rate_penalty=RatePenalty(net, schedule))
        distances.append((mean_rates(net, dataset) - target).abs())
        assert hooks(net) == 0
    assert (distances[0] > 0.1).all()
    assert (distances[1] < distances[0] / 3).all()


def test_the_loss_that_is_told_has_no_penalty(few_digits):
    """A penalty on neurons that no weight reaches changes nothing but what is minimized."""
    dataset, histories = few_digits.in_unit_range(), []
    for weight in (0.0, 1e6):
        net = small(encoding="current").requires_grad_(False)
        net.readout.requires_grad_(True)
        schedule = RateSchedule(warm_up=0, weight=(weight, weight))
        optimizer = torch.optim.SGD(net.readout.parameters(), lr=0.1)
        result = fit(net, dataset, optimizer, epochs=2, batch_size=32, rate_penalty=RatePenalty(net, schedule))
        histories.append([record["train_loss"] for record in result.history])
    assert histories[0] == histories[1]


def test_a_record_tells_rates_work_and_energy(few_digits):
    dataset = few_digits.in_unit_range()
    net = small()
    (record,) = fit(net, dataset, torch.optim.SGD(net.parameters(), lr=0.1), epochs=1, batch_size=32).history
    assert set(record["firing_rates"]) == set(record["dead"]) == {"hidden.1", "hidden.3", "output"}
    assert all(0 <= rate <= 1 for rate in record["firing_rates"].values())
    assert record["synaptic_operations"] > 0
    assert record["synaptic_multiply_accumulates"] == 0.0  # a rate code has no numbers but spikes
    assert record["energy_joules"] == pytest.approx(0.9e-12 * record["synaptic_operations"])
    rate_net = models.ensemble_net((1, 8, 8), 10, hidden=[16])
    (record,) = fit(rate_net, few_digits, torch.optim.SGD(rate_net.parameters(), lr=0.1), epochs=1).history
    assert "firing_rates" not in record
    assert record["synaptic_multiply_accumulates"] > 0


def test_scores_do_not_depend_on_what_was_drawn_before(few_digits):
    """Rate codes draw from seeds of their own: the same network is scored alike, whenever, in whatever state."""
    dataset, found = few_digits.in_unit_range(), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = small()
        state = torch.get_rng_state()
        result = fit(net, dataset, torch.optim.Adam(net.parameters()), epochs=2, batch_size=16)
        assert torch.equal(torch.get_rng_state(), state)
        found.append((result.test_loss, told(result)))
    assert found[0] == found[1]
    net = small()
    other = fit(net, dataset, torch.optim.Adam(net.parameters()), epochs=2, batch_size=16, seed=1)
    assert other.test_loss != found[0][0]


# Taken up again


class Killed(BaseException):
    """Stands for the kill: nothing may catch it."""


def told(result):
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in result.history]


def dying_loss(n_steps):
    left = [n_steps]

    def loss(logits, labels):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return F.cross_entropy(logits, labels)

    return loss


VARIANTS = {
    "rate code": {},
    "rate code, penalty": {"penalty": True},
    "rate code, rewiring": {"rewiring": lambda: rewire.set_(every=2)},
    "rate code, Hebbian rewiring, penalty": {"rewiring": lambda: rewire.g2g(prune="three", every=2), "penalty": True},
    "current, rigl": {"rewiring": lambda: rewire.rigl(every=2), "encoding": "current", "neurons": "fixed"},
    "frozen patches": {"patches": 2, "patch_channels": 4, "frozen": True},
}


def train(dataset, run, *, rewiring=None, penalty=False, loss=F.cross_entropy, **settings):
    net = small(**settings)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-4, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    rewirer = rewiring and rewiring().attach(net, optimizer, generator=stream(0, "rewiring"))
    rate_penalty = RatePenalty(net, RateSchedule(warm_up=1, weight=(0.1, 1.0))) if penalty else None
    result = fit(
        net, dataset, optimizer, epochs=4, batch_size=16, scheduler=scheduler, loss=loss, run=run, rewirer=rewirer,
        rate_penalty=rate_penalty,
    )  # fmt: skip
    return net, optimizer, rewirer, result


def as_text(thing):
    return None if thing is None else json.dumps(thing.state_dict(), default=lambda t: t.tolist(), sort_keys=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_resume_is_exact(name, few_digits, tmp_path):
    """Killed in the middle of three epochs, after steps that drew spikes; each time everything is built anew."""
    dataset = few_digits.in_unit_range()
    n_steps = -(-len(dataset.train) // 16)
    whole_run = Run(tmp_path / "whole", {})
    whole = train(dataset, whole_run, **VARIANTS[name])
    # a look at the validation split takes as many calls of the loss as it has batches
    n_calls = n_steps + -(-len(dataset.validation) // 16)
    for n_before in (n_steps // 2, n_calls + 1, n_calls + n_steps - 1):
        with pytest.raises(Killed):
            train(dataset, Run(tmp_path / "killed", {}), loss=dying_loss(n_before), **VARIANTS[name])
    again = train(dataset, Run(tmp_path / "killed", {}), **VARIANTS[name])
    for ours, theirs in zip(again[:3], whole[:3], strict=True):
        assert as_text(ours) == as_text(theirs)
    assert told(again[3]) == told(whole[3])
    assert again[3].test_loss == whole[3].test_loss
    assert read_events(tmp_path / "killed") == read_events(tmp_path / "whole")
    if VARIANTS[name].get("rewiring"):
        assert len(read_events(tmp_path / "whole")) > 4
