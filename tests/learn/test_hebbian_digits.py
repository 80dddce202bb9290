"""What Hebbian features are good for: digits, against random ones."""

from functools import partial

import pytest
import torch
from torch import nn

from neuropil.data import load
from neuropil.learn import KrotovHopfield, Oja, ReadoutOnly, Sanger, SoftHebb, WinnerTakeAll
from neuropil.randomness import stream

WIDTH = 16  # features are scarce: 64 random ones do nearly as well as learnt ones, 256 as well


def digits(make, seed):
    """Test accuracy of a network of few hidden neurons, after six epochs."""
    dataset = load("digits")
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(),
        nn.BatchNorm1d(64, affine=False),
        nn.Linear(64, WIDTH, bias=False),
        nn.ReLU(),
        nn.Linear(WIDTH, 10),
    )
    rule = make(model, optimizer=partial(torch.optim.Adam, lr=0.02), generator=stream(seed))
    batches = stream(seed, "batches")
    rule.set_length(epochs=6, steps_per_epoch=23)
    for _ in range(6):
        rule.train()
        for x, y in dataset.batches(dataset.train, 64, generator=batches):
            rule.step(x, y)
    model.eval()
    with torch.no_grad():
        predicted = model(dataset.normalize(dataset.test.images)).argmax(1)
    return (predicted == dataset.test.labels).float().mean().item()


@pytest.fixture(scope="module")
def control():
    return [digits(ReadoutOnly, seed) for seed in range(3)]


@pytest.mark.parametrize(
    ("make", "gain"),
    [
        (partial(Oja, learning_rate=1e-3, readout="throughout"), 0.02),
        (partial(Sanger, learning_rate=0.01), 0.03),
        (WinnerTakeAll, 0.08),
        (partial(KrotovHopfield, learning_rate=0.2, delta=0.1), 0.08),
        (partial(SoftHebb, learning_rate=0.2), 0.07),
    ],
    ids=["oja", "sanger", "winner-take-all", "krotov-hopfield", "soft-hebb"],
)
def test_few_learnt_features_of_digits_beat_random_ones(make, gain, control):
    learnt = [digits(make, seed) for seed in range(3)]
    assert min(learnt) > 0.73
    assert min(mine - its for mine, its in zip(learnt, control, strict=True)) > gain


def test_oja_neurons_that_learn_on_become_alike_and_worse_than_random_ones(control):
    assert digits(partial(Oja, learning_rate=1e-2), 0) < control[0] - 0.02
