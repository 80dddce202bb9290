"""Each loss against its formula in a loop, and against snnTorch where that defines the same."""

import math
import re
import warnings

import pytest
import torch

from neuropil.units.losses import (
    count_cross_entropy,
    count_mse,
    first_spike_cross_entropy,
    first_spike_mse,
    potential_cross_entropy,
    potential_mse,
    rate_cross_entropy,
    step_cross_entropy,
)


def mean_potential_cross_entropy(potentials, labels):
    return potential_cross_entropy(potentials, labels, readout="mean")


CROSS_ENTROPIES = [
    count_cross_entropy,
    rate_cross_entropy,
    step_cross_entropy,
    potential_cross_entropy,
    mean_potential_cross_entropy,
    first_spike_cross_entropy,
]
LOSSES = [*CROSS_ENTROPIES, count_mse, potential_mse, first_spike_mse]
OF_POTENTIALS = [potential_cross_entropy, mean_potential_cross_entropy, potential_mse]
SIZES = [(1, 1, 1), (1, 3, 4), (5, 1, 2), (6, 3, 4), (20, 7, 1)]


def mean(values):
    return sum(values) / len(values)


def cross_entropy(logits, label):
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def first_spike(train):
    return next((step for step, spike in enumerate(train) if spike > 0), len(train))


def twin(loss, values, labels):
    """The loss number by number."""
    n_steps, n_samples, n_classes = values.shape
    values = values.tolist()
    trains = [[[values[t][b][c] for t in range(n_steps)] for c in range(n_classes)] for b in range(n_samples)]
    logits = {
        count_cross_entropy: sum,
        rate_cross_entropy: mean,
        potential_cross_entropy: max,
        mean_potential_cross_entropy: mean,
        first_spike_cross_entropy: lambda train: -first_spike(train),
    }
    distance = {
        count_mse: lambda train, right: (sum(train) - n_steps * right) ** 2 / n_steps,
        potential_mse: lambda train, right: mean([(u - right) ** 2 for u in train]),
        first_spike_mse: lambda train, right: ((first_spike(train) - (0 if right else n_steps)) / n_steps) ** 2,
    }
    each = []
    for b, label in enumerate(labels.tolist()):
        if loss in logits:
            each.append(cross_entropy([logits[loss](train) for train in trains[b]], label))
        elif loss is step_cross_entropy:
            each.append(mean([cross_entropy(values[t][b], label) for t in range(n_steps)]))
        else:
            each.append(mean([distance[loss](train, float(c == label)) for c, train in enumerate(trains[b])]))
    return mean(each)


def outputs(loss, size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, size[2], (size[1],), generator=generator)
    if loss in OF_POTENTIALS:
        return torch.randn(size, generator=generator, dtype=dtype), labels
    return (torch.rand(size, generator=generator) < 0.3).to(dtype), labels


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_equals_its_twin(loss, size):
    values, labels = outputs(loss, size)
    ours = loss(values, labels)
    assert ours.shape == ()
    assert ours.dtype == torch.float64
    assert ours.item() == pytest.approx(twin(loss, values, labels), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_an_empty_batch_has_no_mean(loss):
    assert loss(torch.zeros(4, 0, 3), torch.zeros(0, dtype=torch.int64)).isnan()  # as PyTorch's losses


@pytest.mark.parametrize("loss", [f for f in LOSSES if "first_spike" not in f.__name__], ids=lambda f: f.__name__)
def test_gradient(loss, generator):
    values = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 0, 1])
    torch.autograd.gradcheck(lambda x: loss(x, labels), values)


@pytest.mark.parametrize("loss", [first_spike_cross_entropy, first_spike_mse], ids=lambda f: f.__name__)
def test_first_spike_losses_drive_the_right_neuron_and_hold_the_others(loss):
    spikes = torch.zeros(5, 1, 3)
    spikes[3, 0, 0] = spikes[1, 0, 1] = 1  # neuron 2 is silent
    for label in range(3):
        train = spikes.clone().requires_grad_()
        loss(train, torch.tensor([label])).backward()
        for neuron, step in enumerate([3, 1, 4]):
            gradient = train.grad[step, 0, neuron].item()
            assert gradient < 0 if neuron == label else gradient >= 0
            assert train.grad[:, 0, neuron].count_nonzero() <= 1
        # the first of the wrong ones is held back most
        wrong = min((n for n in range(3) if n != label), key=[3, 1, 5].__getitem__)
        assert train.grad.sum(0).argmax() == wrong


def test_the_worst_rates_by_hand():
    # right neuron silent, the other at every step
    spikes = torch.tensor([[[0.0, 1.0]]]).expand(10, 1, 2)
    assert rate_cross_entropy(spikes, torch.tensor([0])).item() == pytest.approx(math.log(1 + math.e))
    assert count_cross_entropy(spikes, torch.tensor([0])).item() == pytest.approx(math.log(1 + math.e**10))
    assert count_mse(spikes, torch.tensor([0])).item() == pytest.approx(10.0)
    # 8 wanted and 0, 2 wanted and 10: both 8 off
    off = count_mse(spikes, torch.tensor([0]), correct_rate=0.8, incorrect_rate=0.2)
    assert off.item() == pytest.approx(6.4)


# targets that are not classes


def test_potentials_wanted_at_every_step(generator):
    potentials, wanted = (torch.randn(5, 2, 3, generator=generator) for _ in range(2))
    assert potential_mse(potentials, wanted).item() == pytest.approx((potentials - wanted).square().mean().item())
    constant = potential_mse(potentials, wanted[0])
    assert constant.item() == pytest.approx((potentials - wanted[0]).square().mean().item())
    labels = torch.tensor([2, 0])
    classes = torch.tensor([[-1.0, -1.0, 3.0], [3.0, -1.0, -1.0]])
    assert potential_mse(potentials, labels, correct=3.0, incorrect=-1.0) == potential_mse(potentials, classes)


def test_wanted_times():
    spikes = torch.zeros(10, 1, 2)
    spikes[4, 0, 0] = 1
    assert first_spike_mse(spikes, torch.tensor([[4.0, 10.0]])) == 0
    assert first_spike_mse(spikes, torch.tensor([[1.0, 6.0]])).item() == pytest.approx((0.3**2 + 0.4**2) / 2)
    wanted = first_spike_mse(spikes, torch.tensor([0]), correct_time=1, incorrect_time=6)
    assert wanted.item() == pytest.approx((0.3**2 + 0.4**2) / 2)


# snnTorch


def snntorch_functional():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("snntorch.functional")


SNNTORCH = [
    ("ce_count_loss", {}, count_cross_entropy, {}),
    ("ce_rate_loss", {}, step_cross_entropy, {}),
    ("ce_max_membrane_loss", {}, potential_cross_entropy, {}),
    ("mse_count_loss", {}, count_mse, {}),
    # of ten steps, so that their int() cuts nothing off
    ("mse_count_loss", {"correct_rate": 0.8, "incorrect_rate": 0.2}, count_mse, {"correct_rate": 0.8, "incorrect_rate": 0.2}),
    ("mse_membrane_loss", {}, potential_mse, {}),
    ("mse_membrane_loss", {"on_target": 2.0, "off_target": 0.5}, potential_mse, {"correct": 2.0, "incorrect": 0.5}),
    ("ce_temporal_loss", {}, first_spike_cross_entropy, {}),
    ("mse_temporal_loss", {"off_target": 9}, first_spike_mse, {"incorrect_time": 9}),
    ("mse_temporal_loss", {"on_target": 2, "off_target": 7}, first_spike_mse, {"correct_time": 2, "incorrect_time": 7}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "theirs", "loss", "ours"), SNNTORCH, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_value_and_gradient_are_snntorchs(name, theirs, loss, ours):
    values, labels = outputs(loss, (10, 6, 4), torch.float32)
    if "first_spike" in loss.__name__:
        values[-1] = 1  # where a neuron is silent, times differ
    x, y = values.clone().requires_grad_(), values.clone().requires_grad_()
    ours, theirs = loss(x, labels, **ours), getattr(snntorch_functional(), name)(**theirs)(y, labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-7)


# bad input

SPIKES, LABELS = torch.zeros(5, 2, 3), torch.tensor([0, 2])


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_bad_input_is_told_in_one_sentence(loss):
    name = loss.__name__.removeprefix("mean_")
    what = "potentials" if loss in OF_POTENTIALS else "spikes"
    cases = [
        (SPIKES[0], LABELS, ValueError, f"{what} must be [t, b, c] with at least one time step, got [2, 3]"),
        (SPIKES[:0], LABELS, ValueError, f"{what} must be [t, b, c] with at least one time step, got [0, 2, 3]"),
        (SPIKES.bool(), LABELS, TypeError, f"{what} must be a floating-point tensor, got torch.bool; try .float()"),
        (SPIKES, LABELS[:1], ValueError, f"labels must be [2], as the batch of {what}, got [1]"),
        (SPIKES, LABELS.int(), TypeError, "labels must be int64 class indices, got torch.int32; try labels.long()"),
        (SPIKES, LABELS + 1, ValueError, "labels must be in 0 … 2, one for each of the 3 output neurons, got 1 to 3"),
        (SPIKES, LABELS - 1, ValueError, "labels must be in 0 … 2, one for each of the 3 output neurons, got -1 to 1"),
    ]
    for values, labels, error, message in cases:
        with pytest.raises(error) as caught:
            loss(values, labels)
        assert str(caught.value) == f"{name}: {message}"


OPTIONS = [
    (lambda: potential_cross_entropy(SPIKES, LABELS, readout="last"), "potential_cross_entropy: readout must be max or mean, got 'last'"),
    (lambda: count_mse(SPIKES, LABELS, correct_rate=1.5), "count_mse: correct_rate must be in [0, 1], got 1.5"),
    (lambda: count_mse(SPIKES, LABELS, incorrect_rate=-1.0), "count_mse: incorrect_rate must be in [0, 1], got -1.0"),
    (lambda: potential_mse(SPIKES, SPIKES[:2]), "potential_mse: targets must be [5, 2, 3] or [2, 3], as potentials, got [2, 2, 3]"),
    (lambda: first_spike_mse(SPIKES, SPIKES), "first_spike_mse: targets must be [2, 3], as spikes without time, got [5, 2, 3]"),
    (lambda: first_spike_mse(SPIKES, LABELS, incorrect_time=6), "first_spike_mse: correct_time and incorrect_time must be in [0, 5], the steps of spikes, got 0.0 and 6"),
    (lambda: first_spike_mse(SPIKES, LABELS, correct_time=-1), "first_spike_mse: correct_time and incorrect_time must be in [0, 5], the steps of spikes, got -1 and 5"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), OPTIONS, ids=[message for _, message in OPTIONS])
def test_options_out_of_range(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
