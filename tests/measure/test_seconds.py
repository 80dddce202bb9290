"""The median of passes, told by a clock that the model itself moves."""

import pytest
import torch
from torch import nn

from neuropil.measure import forward_seconds, seconds


class Slow(nn.Module):
    """Takes as long as it is told, one pass after the other."""

    def __init__(self, durations):
        super().__init__()
        self.now, self.durations, self.modes = 0.0, [*durations], []

    def forward(self, x):
        self.now += self.durations.pop(0)
        self.modes.append(self.training)
        return x


def test_median_after_the_warm_up(monkeypatch):
    model = Slow([100.0, 50.0, 3.0, 1.0, 2.0, 9.0])
    monkeypatch.setattr(seconds.time, "perf_counter", lambda: model.now)
    assert forward_seconds(model, torch.ones(1), passes=4, warm_up=2) == 2.5
    assert not model.durations
    assert not any(model.modes)
    assert model.training


@pytest.mark.parametrize("wrong", [{"passes": 0}, {"warm_up": -1}])
def test_numbers_out_of_range(wrong):
    (name, value), = wrong.items()  # fmt: skip
    with pytest.raises(ValueError, match=f"forward_seconds: {name} must be at least .*, got {value}; try"):
        forward_seconds(nn.Identity(), torch.ones(1), **wrong)
