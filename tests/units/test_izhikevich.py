"""Izhikevich's neurons: by hand, against a plain loop, and whether they spike as the kinds they are named after."""

import itertools
import re

import pytest
import torch

from neuropil.units import ATan, Boxcar, FastSigmoid, Izhikevich, IzhikevichState, Sigmoid, Triangle
from neuropil.units.izhikevich import KINDS
from neuropil.units.scans.izhikevich import scan

KERNELS = ["torch", "numba"]
NAMES = ["a", "b", "c", "d"]


def naive(a, b, c, d, current, dt=0.5):
    """One neuron in plain Python; returns the steps in which it spikes, and its potential."""
    v, u = -65.0, -65.0 * b
    spikes, trace = [], []
    for t, drive in enumerate(current):
        v, u = v + dt * (0.04 * v * v + 5 * v + 140 - u + drive), u + dt * a * (b * v - u)
        if v > 30:
            spikes.append(t)
            v, u = c, u + d
        trace.append(v)
    return spikes, trace


def exact(kind, **options):
    """Neurons of a kind whose numbers are doubles."""
    return Izhikevich(*(torch.tensor(value, dtype=torch.float64) for value in KINDS[kind]), **options)


def spike_times(kind, drive, milliseconds=1000):
    """Times of the spikes in milliseconds, of a constant current, in float64."""
    spikes, _ = exact(kind)(torch.full((1, 1, 1), drive, dtype=torch.float64).expand(2 * milliseconds, 1, 1))
    return 0.5 * spikes.flatten().nonzero().flatten().double()


@pytest.mark.parametrize("kernel", KERNELS)
def test_by_hand(kernel):
    unit = exact("regular_spiking", kernel=kernel)
    current = torch.full((2, 1, 1), 10.0, dtype=torch.float64)
    spikes, state = unit(current)
    # v = −65 + 0.5 (169 − 325 + 140 + 13 + 10) = −61.5, then + 0.5 (151.29 − 307.5 + 140 + 13 + 10)
    assert spikes.sum() == 0
    assert state.potential.item() == pytest.approx(-58.105, abs=1e-12)
    assert state.recovery.item() == pytest.approx(-13 + 0.5 * 0.02 * (0.2 * -61.5 + 13), abs=1e-12)
    assert isinstance(state, IzhikevichState)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_spike_by_hand(kernel):
    start = IzhikevichState(torch.tensor([[29.0]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    spikes, state = exact("regular_spiking", kernel=kernel)(torch.zeros(1, 1, 1, dtype=torch.float64), start)
    assert spikes.item() == 1
    assert state.potential.item() == -65
    assert state.recovery.item() == pytest.approx(0.5 * 0.02 * 0.2 * 29 + 8, abs=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_spike_trains_are_those_of_a_plain_loop(kind, kernel, generator):
    current = 8 + 6 * torch.randn(300, 1, 1, generator=generator, dtype=torch.float64)
    spikes, state = exact(kind, kernel=kernel)(current)
    times, trace = naive(*KINDS[kind], current.flatten().tolist())
    assert len(times) > 2
    assert spikes.flatten().nonzero().flatten().tolist() == times
    assert state.potential.item() == pytest.approx(trace[-1], rel=1e-9)


def test_kinds_have_the_published_numbers():
    unit = Izhikevich.of_kind("intrinsically_bursting", dt=0.25)
    assert [getattr(unit, name).item() for name in NAMES] == pytest.approx([0.02, 0.2, -55, 4])
    assert unit.dt == 0.25
    assert [getattr(Izhikevich(), name).item() for name in NAMES] == pytest.approx(KINDS["regular_spiking"])


def test_regular_spiking():
    times, _ = naive(0.02, 0.2, -65.0, 8.0, [10.0] * 2000)
    found = spike_times("regular_spiking", 10.0)
    assert (2 * found).long().tolist() == times
    assert (len(found), float(found[0])) == (23, 3.5)
    intervals = found.diff()
    assert float(intervals[0]) < 0.8 * float(intervals[-1])  # the rate adapts


def test_kinds_are_told_apart_by_their_spikes():
    regular, fast = spike_times("regular_spiking", 10.0), spike_times("fast_spiking", 10.0)
    assert len(fast) > 3 * len(regular)
    assert float(fast.diff()[5:].std()) < 1  # no adaptation
    chattering = spike_times("chattering", 10.0).diff()
    assert int((chattering < 6).sum()) > 2 * int((chattering > 15).sum()) > 10  # bursts, over and over
    bursting = spike_times("intrinsically_bursting", 10.0).diff()
    assert float(bursting[0]) < 6  # one burst, then single spikes
    assert float(bursting[5:].min()) > 15
    assert len(spike_times("low_threshold_spiking", 2.0)) > len(spike_times("regular_spiking", 2.0))


def test_at_rest_nothing_happens():
    # without current, v = −70 and u = −14 solve both equations
    spikes, state = Izhikevich()(torch.zeros(1, 1, 1).expand(4000, 1, 1))
    assert spikes.sum() == 0
    assert state.potential.item() == pytest.approx(-70, abs=1e-2)
    assert state.recovery.item() == pytest.approx(-14, abs=1e-2)


def test_a_thalamo_cortical_neuron_bursts_after_inhibition():
    current = torch.zeros(800, 1, 1)
    current[200:400] = -20
    spikes, _ = Izhikevich.of_kind("thalamo_cortical")(current)
    assert spikes[200:400].sum() == 0
    assert spikes[400:].sum() >= 2


@pytest.mark.parametrize("surrogate", [ATan(0.02), FastSigmoid(0.05), Sigmoid(0.05), Triangle(80.0), Boxcar(80.0)])
@pytest.mark.parametrize("learn", [[], NAMES], ids=["fixed", "learned"])
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "through"])
def test_compiled_is_the_loop_over_steps(detach, learn, surrogate, agree, generator):
    current = 15 + 15 * torch.randn(24, 3, 4, generator=generator, dtype=torch.float64)
    start = [
        40 * torch.randn(3, 4, generator=generator, dtype=torch.float64),  # some above the peak
        torch.randn(3, 4, generator=generator, dtype=torch.float64) - 13,
    ]
    options = {"learn": learn, "detach_reset": detach, "surrogate": surrogate}
    per_neuron = {
        name: value * (1 + 0.1 * torch.rand(4, generator=generator))
        for name, value in zip(NAMES, KINDS["fast_spiking"], strict=True)
    }
    assert 0 < float(agree(Izhikevich(**per_neuron, **options).double(), current, start).mean()) < 1
    agree(Izhikevich(**options, dt=0.25).double(), current[:1].expand(24, 3, 4), start)
    agree(Izhikevich(**options).double(), current)


@pytest.mark.parametrize("size", list(itertools.product((1, 2), (0, 1, 3), (0, 1, 33))), ids=str)
def test_sizes(size, agree, generator):
    agree(Izhikevich(learn=NAMES).double(), 40 * torch.randn(size, generator=generator, dtype=torch.float64))


def test_single_precision(agree, generator):
    assert float(agree(Izhikevich(learn=NAMES), 10 + 10 * torch.randn(40, 4, 50, generator=generator)).mean()) > 0


@pytest.mark.parametrize("detach", [True, False])
def test_between_spikes_the_compiled_gradient_is_that_of_finite_differences(detach, generator):
    # a surrogate this narrow is 0 at every potential: what is left is the exact derivative of the last state
    surrogate = Triangle(width=1e-6)
    current = (20 + 20 * torch.randn(12, 2, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    v = (10 * torch.randn(2, 3, generator=generator, dtype=torch.float64) - 50).requires_grad_()
    u = (torch.randn(2, 3, generator=generator, dtype=torch.float64) - 10).requires_grad_()
    values = tuple(
        (value * torch.ones(3, dtype=torch.float64)).requires_grad_() for value in KINDS["intrinsically_bursting"]
    )
    spikes, _, _ = scan(current, (v, u), values, 0.5, detach, surrogate)
    assert 0 < float(spikes.detach().mean()) < 1

    def last(current, v, u, *values):
        return scan(current, (v, u), values, 0.5, detach, surrogate)[1:]

    assert torch.autograd.gradcheck(last, (current, v, u, *values), eps=1e-7, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("drive", [1e30, -1e15, -1e25])
def test_an_enormous_current_overflows_nowhere(drive, kernel):
    current = torch.zeros(40, 1, 1)
    current[0] = drive
    current.requires_grad_()
    spikes, state = Izhikevich(kernel=kernel)(current)
    spikes.sum().backward()
    assert bool(spikes.isfinite().all())
    assert bool(current.grad.isfinite().all())
    assert bool(state.potential.isfinite().all() and state.recovery.isfinite().all())


def test_the_default_surrogate_is_that_of_lif_at_the_scale_of_millivolts():
    ours, theirs = ATan(alpha=0.02), ATan()
    assert Izhikevich().surrogate == ours
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(100 * ours.derivative(100 * x), theirs.derivative(x))


def test_what_learns_is_a_parameter():
    assert [name for name, _ in Izhikevich(learn=NAMES).named_parameters()] == NAMES
    assert repr(Izhikevich(learn=["d"])) == (
        "Izhikevich(a=0.02, b=0.2, c=-65, d=8 (learned), dt=0.5, surrogate=ATan(alpha=0.02), kernel=auto)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 1.0}, "Izhikevich: dt must lie in (0, 0.5] ms, got 1; try dt=0.5 and more time steps"),
        ({"dt": 0.0}, "Izhikevich: dt must lie in (0, 0.5] ms, got 0; try dt=0.5 and more time steps"),
        ({"dt": float("nan")}, "Izhikevich: dt must lie in (0, 0.5] ms, got nan; try dt=0.5 and more time steps"),
        ({"a": float("nan")}, "Izhikevich: a must be finite, got nan"),
        ({"c": 30.0}, "Izhikevich: c must be below the peak of 30 mV, got 30"),
        ({"learn": ["v"]}, "Izhikevich: learn must list some of a, b, c, d, got ['v']"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Izhikevich(**arguments)


def test_an_unknown_kind():
    with pytest.raises(ValueError, match=f"^Izhikevich: kind must be one of {', '.join(KINDS)}, got 'tonic'$"):
        Izhikevich.of_kind("tonic")
