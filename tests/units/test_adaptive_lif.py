"""Neurons with an adaptive threshold: by hand, against a plain loop, step against sequence, against LIF."""

import re

import pytest
import torch

from neuropil.units import LIF, AdaptiveLIF, AdaptiveLIFState, ATan, Boxcar, FastSigmoid, Sigmoid, Triangle
from neuropil.units.scans.adaptive_lif import scan
from neuropil.units.scans.lif import Dynamics

KERNELS = ["torch", "numba"]
RESETS = ["subtract", "zero", "none"]
DELAYS = [True, False]
NAMES = ["decay", "threshold", "adaptation", "adaptation_decay"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("reset", "delay", "spikes", "potential", "adaptation"),
    [
        # U = 1.5, 1.25, 2.125, 1.5625 and θ = 1, 2, 1.5, 2.25
        ("subtract", True, [1, 0, 1, 0], 1.5625, 1.25),
        # U = 1.5, 1.5, 2.25, 1.5 and the same θ
        ("zero", True, [1, 0, 1, 0], 1.5, 1.25),
        # U = 1.5, 2.25, 2.625, 2.8125 and θ = 1, 2, 2.5, 2.75
        ("none", True, [1, 1, 1, 1], 2.8125, 1.75),
        # H = 1.5, 1.75, 2.375, 2.1875 and θ = 1, 2, 1.5, 2.25; b of the next step
        ("subtract", False, [1, 0, 1, 0], 2.1875, 0.625),
        ("zero", False, [1, 0, 1, 0], 1.5, 0.625),
    ],
)
def test_by_hand(reset, delay, spikes, potential, adaptation, kernel):
    unit = AdaptiveLIF(0.5, 1.0, adaptation=1.0, adaptation_decay=0.5, reset=reset, reset_delay=delay, kernel=kernel)
    found, state = unit(torch.full((4, 1, 1), 1.5))
    assert isinstance(state, AdaptiveLIFState)
    assert found.flatten().tolist() == spikes
    assert (state.potential.item(), state.adaptation.item()) == (potential, adaptation)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_equations_of_e_prop(kernel, generator):
    # b and the threshold first, then the potential, with the spike of the step before kept beside the state
    current = 0.6 * torch.randn(60, 2, 5, generator=generator, dtype=torch.float64)
    v = b = z = torch.zeros(2, 5, dtype=torch.float64)
    expected = []
    for now in current:
        b = 0.9 * b + z
        v = 0.8 * v + now - 0.5 * z
        z = (v - (0.5 + 0.3 * b) > 0).double()
        expected.append(z)
    decay, threshold, strength, persistence = torch.tensor([0.8, 0.5, 0.3, 0.9], dtype=torch.float64)
    unit = AdaptiveLIF(decay, threshold, adaptation=strength, adaptation_decay=persistence, kernel=kernel)
    spikes, state = unit(current)
    assert 0.05 < float(spikes.mean()) < 0.9
    assert torch.equal(spikes, torch.stack(expected))
    torch.testing.assert_close(state, AdaptiveLIFState(v, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("surrogate", [ATan(), FastSigmoid(2.0), Sigmoid(4.0), Triangle(1.5), Boxcar(1.0)])
@pytest.mark.parametrize("learn", [[], NAMES], ids=["fixed", "learned"])
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "through"])
@pytest.mark.parametrize("delay", DELAYS, ids=["delayed", "at-once"])
@pytest.mark.parametrize("reset", RESETS)
def test_compiled_is_the_loop_over_steps(reset, delay, detach, learn, surrogate, agree, generator):
    current = torch.randn(8, 3, 4, generator=generator, dtype=torch.float64)
    start = [
        1.5 * torch.randn(3, 4, generator=generator, dtype=torch.float64),  # some above the threshold
        torch.rand(3, 4, generator=generator, dtype=torch.float64),
    ]
    options = {"learn": learn, "reset": reset, "reset_delay": delay, "detach_reset": detach, "surrogate": surrogate}
    per_neuron = {name: torch.rand(4, generator=generator) + (name == "threshold") for name in NAMES}
    assert 0 < float(agree(AdaptiveLIF(**per_neuron, **options).double(), current, start).mean()) < 1
    agree(AdaptiveLIF(**options).double(), current[:1].expand(8, 3, 4), start)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 0, 3), (2, 3, 0), (1, 2, 33)], ids=str)
def test_sizes(size, agree, generator):
    agree(AdaptiveLIF(learn=NAMES).double(), torch.randn(size, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("delay", DELAYS)
def test_single_precision(delay, agree, generator):
    unit = AdaptiveLIF(learn=NAMES, reset_delay=delay, detach_reset=False)
    agree(unit, torch.randn(40, 4, 50, generator=generator), [torch.rand(4, 50, generator=generator)] * 2)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("reset", RESETS)
def test_between_spikes_the_compiled_gradient_is_that_of_finite_differences(reset, delay, detach, generator):
    # a surrogate this narrow is 0 at every potential: what is left is the exact derivative of the last state
    dynamics = Dynamics(reset, delay, detach, Triangle(width=1e-6))
    current, start, adapted = (
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((7, 2, 3), (2, 3), (2, 3))
    )
    values = [
        (torch.rand(3, generator=generator, dtype=torch.float64) + add).requires_grad_() for add in (0, 0.5, 0, 0)
    ]
    spikes, _, _ = scan(current, (start, adapted), tuple(values), dynamics)
    assert 0 < float(spikes.detach().mean()) < 1

    def last(current, start, adapted, *values):
        return scan(current, (start, adapted), values, dynamics)[1:]

    assert torch.autograd.gradcheck(last, (current, start, adapted, *values), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("reset", RESETS)
def test_without_adaptation_it_is_a_lif(reset, delay, detach, kernel, run, generator):
    current = torch.randn(12, 3, 4, generator=generator, dtype=torch.float64)
    options = {"learn": ["decay", "threshold"], "reset": reset, "reset_delay": delay, "detach_reset": detach}
    lif, adaptive = LIF(**options, kernel=kernel).double(), AdaptiveLIF(**options, adaptation=0, kernel=kernel).double()
    expected = run(lif, current)
    state = adaptive(current)[1].potential
    outputs, _ = adaptive(current)
    assert torch.equal(outputs, expected["outputs"])
    torch.testing.assert_close(state, expected["state 0"], rtol=0, atol=1e-12)
    weights = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    gradients = []
    for unit in (lif, adaptive):
        unit.zero_grad()
        given = current.clone().requires_grad_()
        (unit(given)[0] * weights).sum().backward()
        gradients.append((given.grad, unit.decay.grad, unit.threshold.grad))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-10)


def test_intervals_between_spikes_grow_to_a_rate_that_balances():
    unit = AdaptiveLIF(0.5, adaptation=0.5, adaptation_decay=0.98)
    spikes, state = unit(torch.full((400, 1, 1), 1.2))
    times = spikes.flatten().nonzero().flatten()
    intervals = times.diff()
    assert intervals[0] < intervals[-1]
    assert int(spikes.sum()) < int(LIF(0.5)(torch.full((400, 1, 1), 1.2))[0].sum())
    # each interval gives back what a spike adds
    assert float(state.adaptation) == pytest.approx(1 / (1 - 0.98) / float(intervals[-5:].float().mean()), rel=0.2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_adaptation_carries_credit_when_the_potential_does_not(kernel):
    # nothing else connects the steps: the decay is 0 and the gradient through the reset is cut
    unit = AdaptiveLIF(0.0, adaptation=0.5, adaptation_decay=0.9, kernel=kernel)
    current = torch.ones(5, 1, 1, requires_grad=True)
    spikes, _ = unit(current)
    spikes[4].sum().backward()
    assert bool((current.grad != 0).all())
    assert bool((current.grad[:4] < 0).all())  # a spike then makes this one less likely


@pytest.mark.parametrize("kernel", KERNELS)
def test_learned_numbers_are_clamped(kernel):
    unit = AdaptiveLIF(learn=["adaptation", "adaptation_decay"], kernel=kernel)
    with torch.no_grad():
        unit.adaptation.fill_(-3.0)
        unit.adaptation_decay.fill_(1.5)
    current = torch.full((9, 1, 1), 0.4)
    spikes, state = unit(current)
    assert 1 < float(spikes.detach().sum()) < 5
    assert torch.equal(spikes, LIF(kernel=kernel)(current)[0])
    assert state.adaptation.item() == float(spikes[:-1].detach().sum())


def test_what_learns_is_a_parameter():
    assert [name for name, _ in AdaptiveLIF(learn=NAMES).named_parameters()] == NAMES
    assert repr(AdaptiveLIF(learn=["adaptation"])).startswith(
        "AdaptiveLIF(adaptation=0.2 (learned), adaptation_decay=0.98, decay=0.9, threshold=1, reset=subtract"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adaptation": -0.5}, "AdaptiveLIF: adaptation must be at least 0 and finite, got -0.5"),
        ({"adaptation": float("inf")}, "AdaptiveLIF: adaptation must be at least 0 and finite, got inf"),
        ({"adaptation_decay": 1.0}, "AdaptiveLIF: adaptation_decay must lie in [0, 1), got 1"),
        ({"decay": 2.0}, "AdaptiveLIF: decay must lie in [0, 1), got 2"),
        ({"threshold": 0.0}, "AdaptiveLIF: threshold must be above 0, got 0"),
        ({"learn": ["rho"]}, f"AdaptiveLIF: learn must list some of {', '.join(NAMES)}, got ['rho']"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AdaptiveLIF(**arguments)
