"""Penalties in training: mask losses of gated channels, several at once, and runs that are taken up again."""

import json
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.measure import channel_cost
from neuropil.models import spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.rewire import MaskLoss, gate_channels, split_parameters
from neuropil.train import Probe, RatePenalty, RateSchedule, Run, fit


def gated(**settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dense = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10),
        )  # fmt: skip
    return gate_channels(dense, generator=stream(0, "predictors"), **settings)


def train(dataset, *, epochs=4, run=None, loss=F.cross_entropy, extra=(), **settings):
    net = gated(**settings)
    backbone, predictors = split_parameters(net)
    groups = [{"params": backbone, "weight_decay": 5e-4}, {"params": predictors, "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    penalties = [MaskLoss(net), *extra]
    result = fit(net, dataset, optimizer, epochs=epochs, batch_size=16, loss=loss, run=run, penalties=penalties)
    return net, optimizer, result


class Nothing:
    """Adds nothing to any loss, and notes when it was due."""

    def __init__(self):
        self.epochs, self.calls = [], 0

    @contextmanager
    def due(self, epoch, epochs):
        self.epochs.append((epoch, epochs))
        yield

    def __call__(self):
        self.calls += 1
        return 0.0


def test_predictors_learn_which_channels_are_wanted(few_digits):
    net, _, result = train(few_digits, epochs=6, ratio=1.0, softmax=False)
    cost = channel_cost(net, few_digits.normalize(few_digits.test.images))
    untrained = channel_cost(gated(ratio=1.0, softmax=False), few_digits.normalize(few_digits.test.images))
    assert cost.agreement > max(0.9, untrained.agreement + 0.1)
    assert result.test_accuracy > 0.6


def test_predictors_stay_as_they_are_once_the_loss_is_no_longer_due(few_digits):
    (half, *_), (whole, *_) = (train(few_digits, epochs=n, ratio=0.8) for n in (2, 4))
    # 1 of 2 epochs, and 2 of 4
    again, *_ = train(few_digits, epochs=5, ratio=0.8)
    same = [torch.equal(a, b) for a, b in zip(split_parameters(whole)[1], split_parameters(again)[1], strict=True)]
    assert all(same)  # ⌊2.5⌋ epochs with the loss as well, then none
    assert not torch.equal(split_parameters(half)[1][0], split_parameters(whole)[1][0])


def test_penalties_are_due_each_epoch_and_called_each_step(few_digits):
    nothing = Nothing()
    train(few_digits, epochs=3, extra=[nothing])
    assert nothing.epochs == [(1, 3), (2, 3), (3, 3)]
    assert nothing.calls == 3 * -(-len(few_digits.train) // 16)


class Killed(BaseException):
    """Stands for the kill: nothing may catch it."""


def dying_loss(n_before):
    calls = 0

    def loss(logits, labels):
        nonlocal calls
        calls += 1
        if calls > n_before:
            raise Killed
        return F.cross_entropy(logits, labels)

    return loss


@pytest.mark.parametrize("settings", [{"ratio": 0.8}, {"ratio": 0.9, "straight_through": True, "decoupled": False}])
def test_resume_is_exact(settings, few_digits, tmp_path):
    """Killed in the epoch with the mask loss, and in one after it."""
    n_calls = -(-len(few_digits.train) // 16) + 1
    whole = train(few_digits, run=Run(tmp_path / "whole", {}), **settings)
    for n_before in (n_calls // 2, 2 * n_calls + 3):
        with pytest.raises(Killed):
            train(few_digits, run=Run(tmp_path / "killed", {}), loss=dying_loss(n_before), **settings)
    again = train(few_digits, run=Run(tmp_path / "killed", {}), **settings)
    for ours, theirs in zip(again[:2], whole[:2], strict=True):
        as_text = [json.dumps(x.state_dict(), default=lambda t: t.tolist(), sort_keys=True) for x in (ours, theirs)]
        assert as_text[0] == as_text[1]
    assert again[2].test_loss == whole[2].test_loss


def test_probes_on_the_way_leave_a_rate_penalty_as_it_is(few_digits):
    """What a probe runs is not what is penalized; a rate penalty is a penalty by either name."""

    def run(name, probes):
        net = spiking_ensemble_net((1, 8, 8), 10, hidden=[16], steps=4, encoding="current")
        penalty = RatePenalty(net, RateSchedule(warm_up=0, weight=(1.0, 1.0)))
        hook = {"rate_penalty": penalty} if name == "rate_penalty" else {"penalties": [penalty]}
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        fit(net, few_digits.in_unit_range(), optimizer, epochs=1, batch_size=32, probes=probes, **hook)
        return net.state_dict()

    plain = run("rate_penalty", [])
    looked = run("penalties", [Probe("sum", lambda model, x, _: model(x).sum().detach(), every=1, n_samples=8)])
    assert all(torch.equal(value, looked[name]) for name, value in plain.items())
