"""Rules of learning in the training loop."""

import pytest
import torch

from neuropil.compare.rules import RULES, build_rule
from neuropil.connect import Ensembles
from neuropil.learn import CounterCurrent, FeedbackAlignment
from neuropil.models import ensemble_net
from neuropil.randomness import stream
from neuropil.rewire import TopKast, g2g
from neuropil.train import Run, fit

TRAINING = {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 1e-4, "momentum": 0.9, "clip_norm": 1.0}
STEPS = 3  # of an epoch
NEEDS = {"equilibrium-propagation": "hard-sigmoid"}


def network(name):
    pattern = Ensembles(n_groups=4, p_inter=0.2, block=("group", 1))
    return ensemble_net((1, 8, 8), 10, hidden=[32, 32], pattern=pattern, activation=NEEDS.get(name, "relu"), seed=1)


class KilledError(Exception):
    """What happens to a run in the middle of an epoch."""


def train(name, dataset, folder=None, *, rewired=False, epochs=4, steps=None):
    net = network(name)
    rule = build_rule({**TRAINING, "rule": name}, net, stream(0, "rule"))
    if steps is not None:
        update, done = rule.update, []

        def dying():
            done.append(update())
            if len(done) > steps:
                raise KilledError

        rule.update = dying
    rewirer = None
    if rewired:
        rewirer = g2g(prune="hebb", grow="hebb", every=3).attach(net, rule.optimizer, generator=stream(0, "rewiring"))
    run = Run(folder, {"rule": name}) if folder else None
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(rule.optimizer, 4)
    result = fit(
        net, dataset, rule, epochs=epochs, batch_size=32, scheduler=scheduler, run=run, rewirer=rewirer, seed=3
    )
    return result, net


# the copies that NoProp trains are no part of the network that a rewirer knows
CASES = [(name, rewired) for name in RULES for rewired in (False, True) if not (name == "noprop" and rewired)]


@pytest.mark.parametrize(("name", "rewired"), [case for case in CASES if case[0] != "backpropagation"])
def test_a_run_is_taken_up_again_bit_for_bit(name, rewired, few_digits, tmp_path):
    whole, net = train(name, few_digits, rewired=rewired)
    with pytest.raises(KilledError):  # in the third of four epochs
        train(name, few_digits, tmp_path / "run", rewired=rewired, steps=2 * STEPS + 1)
    again, other = train(name, few_digits, tmp_path / "run", rewired=rewired)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert [r["train_loss"] for r in whole.history] == [r["train_loss"] for r in again.history]
    assert whole.test_accuracy == again.test_accuracy


def test_a_checkpoint_of_another_rule_is_refused(few_digits, tmp_path):
    train("counter-current", few_digits, tmp_path, epochs=1)
    net = network("feedback-alignment")
    rule = FeedbackAlignment(net, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(rule.optimizer, 4)
    run = Run(tmp_path, {"rule": "counter-current"})
    with pytest.raises(ValueError, match="must be of the rule FeedbackAlignment, got CounterCurrent"):
        fit(net, few_digits, rule, epochs=1, run=run, scheduler=schedule)


def test_what_only_backpropagation_can_is_refused(few_digits):
    net = network("counter-current")
    rule = CounterCurrent(net)
    for settings, message in (
        ({"precision": "bfloat16"}, "precision bfloat16 needs backpropagation, got CounterCurrent"),
        ({"clip_norm": 1.0}, "clip_norm must be given to the rule itself, got 1"),
        (
            {"rewirer": TopKast(net, rule.optimizer, density=0.1, backward_density=0.2)},
            "penalties, and Top-KAST, need backpropagation",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fit(net, few_digits, rule, epochs=1, **settings)
    with pytest.raises(ValueError, match="the rule must be attached to the model"):
        fit(network("counter-current"), few_digits, rule, epochs=1)


def test_a_rule_that_diverges_is_stopped(few_digits):
    net = network("feedback-alignment")
    rule = FeedbackAlignment(net, optimizer=lambda p: torch.optim.SGD(p, lr=1e6))
    assert fit(net, few_digits, rule, epochs=2, batch_size=16).status == "diverged"
