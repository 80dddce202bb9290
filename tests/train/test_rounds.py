"""A learning rate that starts anew with each round."""

import math

import pytest
import torch
from torch import nn

from neuropil.rewire import lottery_ticket, one_shot, set_
from neuropil.train import cosine_in_rounds


def rates(epochs, starts, lr=0.5):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = cosine_in_rounds(optimizer, epochs, starts)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_without_rounds_it_is_a_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for rate in rates(7, []):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_each_round_is_alike():
    one = [0.25 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert rates(12, [1 / 3, 2 / 3]) == pytest.approx(one * 3)


def test_an_epoch_of_two_rounds_is_of_the_one_that_has_more_of_it():
    # 5 epochs, rounds begin after 1.75 and 3.25 of them: epochs 1, 2, 4 begin rounds, epoch 3 does not
    found = rates(5, [0.35, 0.65], lr=1.0)
    half = [(1 + math.cos(math.pi * done)) / 2 for done in (0, 1 / 1.75, 0.25 / 1.5, 0, 0.75 / 1.75)]
    assert found == pytest.approx(half)


def test_rounds_of_a_way_to_prune():
    assert lottery_ticket(0.1, rounds=2).rewinds_at(epochs=3, steps_per_epoch=4) == [4 / 12, 8 / 12]
    assert lottery_ticket(0.1, rounds=2, every=5).rewinds_at(epochs=3, steps_per_epoch=4) == [5 / 12, 10 / 12]
    assert lottery_ticket(0.1, rounds=3, per_epoch=1).rewinds_at(epochs=3, steps_per_epoch=4) == [4 / 12, 8 / 12]
    assert one_shot(0.1).rewinds_at(epochs=3, steps_per_epoch=4) == set_().rewinds_at(epochs=3, steps_per_epoch=4) == []
    with pytest.raises(ValueError, match=r"Rewiring.rewinds_at: epochs and steps_per_epoch must be at least 1, got 0"):
        lottery_ticket(0.1).rewinds_at(epochs=0, steps_per_epoch=4)


@pytest.mark.parametrize(
    ("epochs", "starts", "message"),
    [
        (0, [], "cosine_in_rounds: epochs must be at least 1, got 0"),
        (3, [0.5, 0.2], r"cosine_in_rounds: starts must be shares of training that rise within \(0, 1\), got \[0.5, 0.2\]"),
        (3, [1.0], r"cosine_in_rounds: starts must be shares of training that rise within \(0, 1\), got \[1.0\]"),
    ],
)  # fmt: skip
def test_errors(epochs, starts, message):
    with pytest.raises(ValueError, match=message):
        rates(epochs, starts)
