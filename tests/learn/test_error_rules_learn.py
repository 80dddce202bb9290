"""Rules that carry errors, and counter-current learning, on digits, above hidden layers that stay as they start."""

from functools import partial

import pytest
import torch

from neuropil import data
from neuropil.connect import Dense
from neuropil.learn import (
    Backpropagation,
    CounterCurrent,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    KolenPollack,
    ReadoutOnly,
    SignSymmetry,
)
from neuropil.models import ensemble_net
from neuropil.randomness import stream
from neuropil.train import evaluate

SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9)
RULES = {
    "backpropagation": (partial(Backpropagation, optimizer=SGD), 0.94),
    "feedback-alignment": (FeedbackAlignment, 0.86),
    "direct-feedback-alignment": (DirectFeedbackAlignment, 0.86),
    "sign-symmetry": (SignSymmetry, 0.92),
    "kolen-pollack": (KolenPollack, 0.92),
    "counter-current": (CounterCurrent, 0.86),
}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def mean_accuracy(make, digits, epochs=6):
    found = []
    for seed in range(3):
        net = ensemble_net(digits.input_shape, 10, hidden=[64, 64], pattern=Dense(), activation="elu", seed=seed)
        rule = make(net)
        for epoch in range(epochs):
            for x, y in digits.batches(digits.train, 32, generator=stream(seed, "order", epoch)):
                rule.step(x, y)
        found.append(evaluate(net, digits, digits.test)[1])
    return sum(found) / len(found)


@pytest.fixture(scope="module")
def frozen(digits):
    return mean_accuracy(partial(ReadoutOnly, optimizer=SGD), digits)


@pytest.mark.parametrize("name", RULES)
def test_digits_are_learned_better_than_by_the_readout_alone(name, digits, frozen):
    make, least = RULES[name]
    accuracy = mean_accuracy(make, digits)
    assert accuracy > least
    assert accuracy > frozen + 0.02
