"""Rules without a backward pass learn handwritten digits, better than the read-out of a net that stays as it is."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

from neuropil import data
from neuropil.initialize import reset_
from neuropil.learn import Backpropagation, ForwardForward, NoProp, Pepita
from neuropil.randomness import stream


def digits_accuracy(make, seed, epochs):
    """Test accuracy of a 64-64-64-10 net."""
    layers = [nn.Flatten()]
    for i, (n_in, n_out) in enumerate(itertools.pairwise((64, 64, 64, 10))):
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
        reset_(layer, generator=stream(seed, "weights", i))
        layers += [layer, nn.ReLU()]
    rule = make(nn.Sequential(*layers[:-1]), generator=stream(seed, "rule"))
    digits = data.load("digits")
    for epoch in range(epochs):
        for x, y in digits.batches(digits.train, 32, generator=stream(seed, "order", epoch)):
            rule.step(x, y)
    x, y = next(digits.batches(digits.test, len(digits.test)))
    with torch.no_grad():
        return (rule.predictor.eval()(x).argmax(1) == y).float().mean()


def forward_forward(model, *, rate=1e-2, generator):
    sgd = partial(torch.optim.SGD, lr=rate, momentum=0.9)
    return ForwardForward(model, optimizer=sgd, readout_rate=0.1, generator=generator)


def readout_only(model, *, generator):
    """The best of rates 0.02, 0.1 and 0.3."""
    for layer in model[:-1]:
        layer.requires_grad_(False)
    return Backpropagation(model, optimizer=partial(torch.optim.SGD, lr=0.3, momentum=0.9))


def noprop(model, *, generator):
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=1e-3)
    return NoProp(model, optimizer=adam, blocks=2, width=32, generator=generator)


PEPITA_SGD = partial(torch.optim.SGD, lr=0.2, momentum=0.9)


@pytest.mark.parametrize(
    ("rule", "control", "epochs", "at_least", "ahead"),
    [
        pytest.param(forward_forward, partial(forward_forward, rate=0.0), 4, 0.89, 0.02, id="forward-forward"),
        pytest.param(partial(Pepita, optimizer=PEPITA_SGD), readout_only, 8, 0.88, 0.03, id="pepita"),
        pytest.param(noprop, readout_only, 4, 0.88, 0.05, id="noprop"),
    ],
)
def test_digits_are_learned(rule, control, epochs, at_least, ahead):
    learned, frozen = (
        torch.stack([digits_accuracy(make, seed, epochs) for seed in range(3)]).mean() for make in (rule, control)
    )
    assert learned > at_least
    assert learned > frozen + ahead


def test_noprop_knows_nothing_without_the_image():
    digits = data.load("digits")
    rule = noprop(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), generator=stream(0))
    for x, y in digits.batches(digits.train, 32, generator=stream(0, "order")):
        rule.step(x, y)
    x, y = next(digits.batches(digits.test, len(digits.test)))
    with torch.no_grad():
        assert (rule.predictor.eval()(torch.zeros_like(x)).argmax(1) == y).float().mean() < 0.2
        assert (rule.first_block(x).argmax(1) == y).float().mean() > 0.6
