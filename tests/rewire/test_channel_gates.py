"""Which channels are wanted, by a plain loop; what gates say."""

import math

import pytest
import torch
import torch.nn.functional as F

from neuropil.randomness import stream
from neuropil.rewire import ChannelPredictor, FixedChannels, RandomChannels, peaks, wanted_channels


def by_mass(strengths, ratio):
    """What the definition says, channel by channel."""
    total, kept, summed = sum(strengths), [False] * len(strengths), 0.0
    for channel in sorted(range(len(strengths)), key=lambda c: -strengths[c]):
        share = strengths[channel] / total
        summed += share
        kept[channel] = share > 1e-5 if ratio == 1 else summed - ratio <= 1e-5
    return kept


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_mass_by_a_plain_loop(ratio, n):
    strength = torch.rand(20, n, generator=stream(0, n), dtype=torch.float64)
    strength[::3, 0] = 0.0
    strength[strength.sum(1) == 0] = 1.0
    found = wanted_channels(strength, ratio)
    assert found.tolist() == [by_mass(row, ratio) for row in strength.tolist()]


def test_mass_by_hand():
    strength = torch.tensor([[1.0, 6.0, 0.0, 3.0], [9.0, 0.5, 0.5, 0.0]])
    assert wanted_channels(strength, 0.9).tolist() == [[False, True, False, True], [True, False, False, False]]
    # the channel that crosses is left out: 6 of 10 is more than a half, so nothing is wanted
    assert wanted_channels(strength, 0.5).tolist() == [[False] * 4, [False] * 4]
    # at 1 only what is silent is left out
    assert wanted_channels(strength, 1.0).tolist() == [[True, True, False, True], [True, True, True, False]]
    assert wanted_channels(torch.tensor([[1.0, 1e-6]]), 1.0).tolist() == [[True, False]]
    assert wanted_channels(strength, -1.0).all()
    assert wanted_channels(torch.zeros(1, 3), 0.9).all()
    assert wanted_channels(torch.zeros(1, 3), 1.0).all()


def test_uniform_by_hand():
    strength = torch.tensor([[1.0, 6.0, 0.0, 3.0, 2.0]])
    assert wanted_channels(strength, 0.5, target="uniform").tolist() == [[False, True, False, True, True]]  # ⌊2.5⌋
    assert wanted_channels(strength, 0.0, target="uniform").tolist() == [[True, True, False, True, True]]
    assert not wanted_channels(strength, 1.0, target="uniform").any()
    assert wanted_channels(strength, -1.0, target="uniform").all()


def test_peaks_are_of_magnitude():
    y = torch.randn(3, 4, 5, 6, generator=stream(0)).requires_grad_()
    found = peaks(y)
    assert found.tolist() == [[float(channel.abs().max()) for channel in image] for image in y.detach()]
    assert not found.requires_grad


@pytest.mark.parametrize("softmax", [True, False])
def test_predictor_by_its_formula(softmax):
    x = torch.randn(5, 3, 6, 6, generator=stream(0))
    gate = ChannelPredictor(3, 7, softmax=softmax, generator=stream(1))
    pooled = torch.stack([torch.stack([channel.mean() for channel in image]) for image in x])
    values = torch.stack([row.exp() / row.exp().sum() for row in pooled]) if softmax else pooled
    torch.testing.assert_close(gate(x), values @ gate.linear.weight.T + gate.linear.bias)
    assert gate.linear.weight.abs().max() <= 1 / math.sqrt(3)
    again = ChannelPredictor(3, 7, softmax=softmax, generator=stream(1))
    assert torch.equal(again.linear.weight, gate.linear.weight)


@pytest.mark.parametrize(("embedding", "side"), [(None, 1), (1, 1), (12, 2), (27, 3), (40, 4)])
def test_embedding_pools_to_a_square(embedding, side):
    gate = ChannelPredictor(3, 2, embedding=embedding, softmax=False, generator=stream(1))
    assert gate.linear.in_features == 3 * side**2
    x = torch.randn(2, 3, 12, 12, generator=stream(0))
    pooled = F.avg_pool2d(x, 12 // side).flatten(1)
    torch.testing.assert_close(gate(x), pooled @ gate.linear.weight.T + gate.linear.bias)


@pytest.mark.parametrize("decoupled", [True, False])
def test_only_a_joint_predictor_passes_gradients_on(decoupled):
    x = torch.randn(2, 3, 4, 4, generator=stream(0)).requires_grad_()
    gate = ChannelPredictor(3, 2, decoupled=decoupled, generator=stream(1))
    gate(x).square().sum().backward()
    assert (x.grad is None) == decoupled
    assert gate.linear.weight.grad is not None


def test_drawn_channels_are_as_many_as_asked_for():
    x = torch.zeros(4000, 1, 1, 1)
    is_open = RandomChannels(5, 2.25, generator=stream(0))(x) > 0
    counts = is_open.sum(1)
    assert set(counts.tolist()) == {2, 3}
    assert float(counts.double().mean()) == pytest.approx(2.25, abs=0.03)
    assert is_open.double().mean(0).tolist() == pytest.approx([0.45] * 5, abs=0.03)
    assert (RandomChannels(5, 5, generator=stream(0))(x) > 0).all()
    assert not (RandomChannels(5, 0, generator=stream(0))(x) > 0).any()


ERRORS = [
    (lambda: wanted_channels(torch.ones(1, 2), 1.1), "wanted_channels: ratio must be at most 1, got 1.1; try"),
    (lambda: wanted_channels(torch.ones(1, 2), math.nan), "ratio must be at most 1, got nan"),
    (lambda: wanted_channels(torch.ones(1, 2), 0.5, target="most"), "target must be mass or uniform, got 'most'"),
    (lambda: ChannelPredictor(0, 2), "ChannelPredictor: in_channels must be at least 1, got 0"),
    (lambda: ChannelPredictor(2, 2, embedding=0), "ChannelPredictor: embedding must be at least 1, got 0"),
    (lambda: RandomChannels(4, 5), "RandomChannels: n_open must be from 0 to 4 channels, got 5"),
    (
        lambda: FixedChannels(torch.ones(3)),
        r"FixedChannels: is_open must be a bool for each channel, got torch.float32",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), ERRORS)
def test_errors_say_what_is_wrong(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
