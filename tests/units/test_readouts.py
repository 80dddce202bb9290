"""Each read-out against a loop over its definition, and the gradient of first-spike times against snnTorch's."""

import warnings

import pytest
import torch

from neuropil.units.readouts import (
    firing_rates,
    first_spike_times,
    max_potential,
    mean_potential,
    predict_by_count,
    predict_by_first_spike,
    spike_counts,
)

READOUTS = [spike_counts, firing_rates, mean_potential, max_potential, first_spike_times]
# the middle of a sequence says the same of neurons in any arrangement
SHAPES = [(1, 1, 1), (1, 3, 4), (6, 0, 4), (6, 3, 0), (6, 3, 4), (7, 2, 3, 2, 2)]


def first_spike_twin(train):
    return float(next((step for step, spike in enumerate(train) if spike), len(train)))


TWINS = {
    spike_counts: sum,
    firing_rates: lambda train: sum(train) / len(train),
    mean_potential: lambda train: sum(train) / len(train),
    max_potential: max,
    first_spike_times: first_spike_twin,
}


def random_spikes(shape, rate=0.2, dtype=torch.float64):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < rate).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("readout", READOUTS, ids=lambda f: f.__name__)
def test_equals_its_twin(readout, shape, dtype):
    values = random_spikes(shape)
    if readout in (mean_potential, max_potential):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = values.to(dtype)
    ours = readout(values)
    assert ours.shape == shape[1:]
    assert ours.dtype == dtype
    trains = values.double().flatten(1).T.tolist()
    expected = torch.tensor([TWINS[readout](train) for train in trains], dtype=torch.float64)
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(ours.double().flatten(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "readout", [spike_counts, firing_rates, mean_potential, max_potential], ids=lambda f: f.__name__
)
def test_gradient(readout, generator):
    values = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(readout, values)


def test_of_equal_potentials_the_first_gets_the_gradient():
    potentials = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1).requires_grad_()
    max_potential(potentials).sum().backward()
    assert potentials.grad.flatten().tolist() == [0.0, 1.0, 0.0]


# first spikes


def test_first_spikes_by_hand():
    # neurons: at once; at step 1 and 2; at the last step; never
    spikes = (
        torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]).double().unsqueeze(1).requires_grad_()
    )
    times = first_spike_times(spikes)
    assert times.tolist() == [[0.0, 1.0, 3.0, 4.0]]
    times.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64))
    assert spikes.grad[:, 0].tolist() == [[-1, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 0], [0, 0, -3, -4]]


def test_the_gradient_of_a_silent_neuron_is_what_a_spike_would_change():
    silent = torch.zeros(5, 1, 1)
    late = silent.clone()
    late[-1] = 1
    assert first_spike_times(late) - first_spike_times(silent) == -1


def test_graded_spikes_count_as_spikes():
    assert first_spike_times(torch.tensor([-1.0, 0.0, 0.3]).view(3, 1, 1)).item() == 2


def test_times_and_gradients_are_snntorchs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = pytest.importorskip("snntorch.functional.loss")
    ours = random_spikes((6, 5, 4), dtype=torch.float32).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    times, their_times = first_spike_times(ours), loss.SpikeTime.FirstSpike.apply(theirs)
    silent = times == 6
    assert 0 < silent.sum() < 20
    assert torch.equal(times - silent.float(), their_times)
    weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    times.backward(weights)
    their_times.backward(weights)
    assert torch.equal(ours.grad, theirs.grad)


# predictions


def test_predictions_by_hand():
    train = torch.zeros(4, 3, 3)
    train[1, 0, 2] = 1  # sample 0: neuron 2 spikes first, neuron 1 most often
    train[2:, 0, 1] = 1
    train[3, 1, 1:] = 1  # sample 1: neurons 1 and 2 are equal; sample 2: no spike
    assert predict_by_count(train).tolist() == [1, 1, 0]
    assert predict_by_first_spike(train).tolist() == [2, 1, 0]


@pytest.mark.parametrize("predict", [predict_by_count, predict_by_first_spike], ids=lambda f: f.__name__)
def test_predictions_of_no_samples(predict):
    assert predict(torch.zeros(4, 0, 3)).shape == (0,)


@pytest.mark.parametrize("readout", READOUTS, ids=lambda f: f.__name__)
def test_bad_input_is_told_in_one_sentence(readout):
    what = "potentials" if "potential" in readout.__name__ else "spikes"
    start = rf"^{readout.__name__}: {what} must be "
    with pytest.raises(ValueError, match=start + r"\[t, b, …\] with at least one time step, got \[0, 2, 3\]$"):
        readout(torch.zeros(0, 2, 3))
    with pytest.raises(ValueError, match=start + r"\[t, b, …\] with at least one time step, got \[5\]$"):
        readout(torch.zeros(5))
    with pytest.raises(TypeError, match=start + r"a floating-point tensor, got torch.bool; try \.float\(\)$"):
        readout(torch.zeros(5, 2, 3, dtype=torch.bool))
