"""Leaky integrate-and-fire neurons: by hand, step against sequence, against finite differences, against snnTorch."""

import itertools
import re
import warnings
from dataclasses import dataclass

import pytest
import torch

from neuropil.testing import assert_unit
from neuropil.units import LIF, ATan, Boxcar, FastSigmoid, LIFState, Sigmoid, Triangle
from neuropil.units.scans.lif import Dynamics, scan

RESETS = ["subtract", "zero", "none"]
DELAYS = [True, False]
SURROGATES = [ATan(), FastSigmoid(slope=2.0), Sigmoid(slope=4.0), Triangle(width=1.5), Boxcar(width=1.0)]
KERNELS = ["torch", "numba"]
CURRENT = [1.5, 0.5, 0.25, 1.0, 2.0]

# with decay 0.5 and threshold 1: spikes, and the potential after each step
GOLDEN = {
    ("subtract", True): ([1, 0, 0, 1, 1], [1.5, 0.25, 0.375, 1.1875, 1.59375]),
    ("zero", True): ([1, 0, 0, 1, 1], [1.5, 0.5, 0.5, 1.25, 2.0]),
    ("none", True): ([1, 1, 0, 1, 1], [1.5, 1.25, 0.875, 1.4375, 2.71875]),
    ("subtract", False): ([1, 0, 0, 1, 1], [0.5, 0.75, 0.625, 0.3125, 1.15625]),
    ("zero", False): ([1, 0, 0, 1, 1], [0.0, 0.5, 0.5, 0.0, 0.0]),
    ("none", False): ([1, 1, 0, 1, 1], [1.5, 1.25, 0.875, 1.4375, 2.71875]),
}


def step_by_step(unit, current, state=None):
    """Potentials after each step, by the unit's own kernel."""
    spikes, potentials = [], []
    for now in current:
        fired, state = unit(now.unsqueeze(0), state)
        spikes.append(fired[0])
        potentials.append(state.potential)
    return torch.stack(spikes), torch.stack(potentials)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("reset", "delay"), GOLDEN)
def test_by_hand(reset, delay, kernel):
    unit = LIF(decay=0.5, reset=reset, reset_delay=delay, kernel=kernel)
    current = torch.tensor(CURRENT).reshape(5, 1, 1)
    expected, potentials = GOLDEN[reset, delay]
    spikes, state = unit(current)
    assert spikes.flatten().tolist() == expected
    assert isinstance(state, LIFState)
    assert state.potential.item() == potentials[-1]
    assert step_by_step(unit, current)[1].flatten().tolist() == potentials


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_by_hand(kernel):
    # U_1 = 1.5 fires; U_2 = 0.5 · 1.5 + 0.5 − 1 = 0.25 does not; a triangle of width 2 has slopes 0.375 and 0.3125
    unit = LIF(decay=0.5, learn=["decay", "threshold"], surrogate=Triangle(width=2.0), kernel=kernel)
    current = torch.tensor([1.5, 0.5]).reshape(2, 1, 1).requires_grad_()
    unit(current)[0].sum().backward()
    assert current.grad.flatten().tolist() == [0.375 + 0.5 * 0.3125, 0.3125]
    assert unit.decay.grad.item() == 1.5 * 0.3125
    assert unit.threshold.grad.item() == -0.375 - 2 * 0.3125  # at the reset it counts a second time


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("delay", DELAYS)
def test_a_current_at_the_threshold_makes_no_spike(kernel, delay):
    unit = LIF(decay=0.0, threshold=1.0, reset_delay=delay, kernel=kernel)
    spikes, _ = unit(torch.tensor([1.0, 1.0, torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))]).reshape(3, 1, 1))
    assert spikes.flatten().tolist() == [0, 0, 1]


def numbers(learned, n, generator):
    """Decay and threshold, one a layer or one a neuron, and which of them learn."""
    if learned == "per neuron":
        decay = 0.9 * torch.rand(n, generator=generator, dtype=torch.float64)
        return {"decay": decay, "threshold": 0.5 + torch.rand(n, generator=generator), "learn": ["decay", "threshold"]}
    return {"decay": 0.8, "threshold": 0.9, "learn": ["decay", "threshold"] if learned else []}


@pytest.mark.parametrize("constant", [False, True], ids=["varying", "constant"])
@pytest.mark.parametrize("learned", [False, True, "per neuron"], ids=["fixed", "learned", "per-neuron"])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: type(surrogate).__name__)
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "through"])
@pytest.mark.parametrize("delay", DELAYS, ids=["delayed", "at-once"])
@pytest.mark.parametrize("reset", RESETS)
def test_compiled_is_the_loop_over_steps(reset, delay, detach, surrogate, learned, constant, agree, generator):
    unit = LIF(
        **numbers(learned, 5, generator), reset=reset, reset_delay=delay, detach_reset=detach, surrogate=surrogate
    ).double()
    current = 1.2 * torch.randn(1 if constant else 8, 3, 5, generator=generator, dtype=torch.float64)
    start = [1.5 * torch.randn(3, 5, generator=generator, dtype=torch.float64)]  # some above the threshold
    assert 0 < float(agree(unit, current.expand(8, 3, 5), start).mean()) < 1


@pytest.mark.parametrize("size", list(itertools.product((1, 2, 7), (0, 1, 3), (0, 1, 33))), ids=str)
def test_sizes(size, agree, generator):
    current = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    unit = LIF(learn=["decay", "threshold"]).double()
    agree(unit, current)
    agree(unit, current[:1].expand(size), [torch.randn(size[1:], generator=generator, dtype=torch.float64)])


@pytest.mark.parametrize(("reset", "delay"), GOLDEN)
def test_single_precision(reset, delay, agree, generator):
    unit = LIF(learn=["decay", "threshold"], reset=reset, reset_delay=delay, detach_reset=False)
    agree(unit, torch.randn(40, 4, 50, generator=generator), [torch.randn(4, 50, generator=generator)])


def test_layout_of_the_current_does_not_matter(generator):
    current = torch.randn(6, 3, 4, generator=generator)
    spikes, state = LIF()(current)
    for other in (current.permute(1, 2, 0).contiguous().permute(2, 0, 1), torch.cat([current, current], 2)[..., :4]):
        assert not other.is_contiguous()
        found, end = LIF()(other)
        assert torch.equal(found, spikes)
        assert torch.equal(end.potential, state.potential)


@pytest.mark.parametrize(("reset", "delay"), GOLDEN)
def test_without_gradients_potentials_are_not_kept(reset, delay, generator, monkeypatch):
    from neuropil.units.scans import lif

    steps = []
    run = lif._run_forward
    monkeypatch.setattr(lif, "_run_forward", lambda *given: (steps.append(len(given[6])), run(*given)))
    current = torch.randn(9, 3, 5, generator=generator)
    unit = LIF(learn=["decay"], reset=reset, reset_delay=delay)
    spikes, end = unit(current)
    with torch.no_grad():
        found, state = unit(current)
    LIF()(current)
    assert steps == [9, 1, 1]
    assert torch.equal(found, spikes)
    assert torch.equal(state.potential, end.potential)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("reset", "delay"), GOLDEN)
def test_contract_of_every_reset(reset, delay, kernel, generator):
    # above all: in parts, the state handed on, is in one, there and back
    options = {"reset": reset, "reset_delay": delay, "detach_reset": False, "kernel": kernel}
    unit = LIF(learn=["decay", "threshold"], **options).double()
    assert assert_unit(unit, torch.randn(9, 2, 6, generator=generator, dtype=torch.float64)) == KERNELS


def test_gradient_through_a_state_that_is_handed_on(generator):
    first = torch.randn(3, 2, 4, generator=generator, requires_grad=True)
    unit = LIF(surrogate=ATan())
    _, state = unit(first)
    spikes, _ = unit(torch.randn(3, 2, 4, generator=generator), state)
    spikes.sum().backward()
    assert bool((first.grad != 0).all())


@dataclass(frozen=True)
class Smooth(Sigmoid):
    """A sigmoid that is one forward, too: its gradient is still what the surrogate says."""

    def spike(self, x):
        return torch.sigmoid(self.slope * x.detach()) + _Only.apply(x, self)


class _Only(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, surrogate):
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.surrogate.derivative(*ctx.saved_tensors), None


@pytest.mark.parametrize(("reset", "delay"), GOLDEN)
def test_with_a_smooth_forward_the_gradient_is_that_of_finite_differences(reset, delay, generator):
    unit = LIF(
        decay=0.8, learn=["decay", "threshold"], reset=reset, reset_delay=delay, detach_reset=False,
        surrogate=Smooth(slope=3.0), kernel="torch",
    ).double()  # fmt: skip
    current = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    start = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def of(current, start, decay, threshold):
        outputs, end = torch.func.functional_call(
            unit, {"decay": decay, "threshold": threshold}, (current, LIFState(start))
        )
        return outputs, end.potential

    given = (current, start, *(p.detach().clone().requires_grad_() for p in (unit.decay, unit.threshold)))
    assert torch.autograd.gradcheck(of, given, eps=1e-6, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(("reset", "delay"), GOLDEN)
def test_between_spikes_the_compiled_gradient_is_that_of_finite_differences(reset, delay, detach, generator):
    # a surrogate this narrow is 0 at every potential: what is left is the exact derivative of the last potential
    dynamics = Dynamics(reset, delay, detach, Triangle(width=1e-5))
    current = torch.randn(7, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    start = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    decay = torch.rand(3, generator=generator, dtype=torch.float64, requires_grad=True)
    threshold = (0.5 + torch.rand(3, generator=generator, dtype=torch.float64)).requires_grad_()
    spikes, _ = scan(current, start, decay, threshold, dynamics)
    assert float(spikes.detach().sum()) > 0
    unit = LIF(decay.detach(), threshold.detach(), reset=reset, reset_delay=delay)
    potentials = step_by_step(unit, current.detach(), LIFState(start.detach()))[1]
    if not delay:  # those before a reset
        potentials = unit.decay * torch.cat([start.detach().unsqueeze(0), potentials[:-1]]) + current.detach()
    assert float((potentials - unit.threshold).abs().min()) > 1e-3

    def last(*given):
        return scan(*given, dynamics)[1]

    assert torch.autograd.gradcheck(last, (current, start, decay, threshold), eps=1e-6, atol=1e-7)


# snnTorch

G2GNET = {
    "earlier": ({"decay": 0.95, "surrogate": FastSigmoid(slope=25.0)}, {"beta": 0.95}, ("fast_sigmoid", {"slope": 25})),
    "later": (
        {"decay": 0.9, "learn": ["decay", "threshold"], "surrogate": ATan(alpha=2.0)},
        {"beta": 0.9, "learn_beta": True, "learn_threshold": True},
        ("atan", {"alpha": 2.0}),
    ),
}


def leaky(surrogate, options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snntorch = pytest.importorskip("snntorch")
        name, settings = surrogate
        return snntorch.Leaky(spike_grad=getattr(snntorch.surrogate, name)(**settings), **options)


def trajectory(theirs, current):
    potential = torch.zeros_like(current[0])
    spikes, potentials = [], []
    for now in current.unbind(0):
        fired, potential = theirs(now, potential)
        spikes.append(fired)
        potentials.append(potential)
    return torch.stack(spikes), torch.stack(potentials)


def assert_same_trajectories(ours, theirs, current, weights):
    x, y = current.clone().requires_grad_(), current.clone().requires_grad_()
    spikes, state = ours(x)
    expected, potentials = trajectory(theirs, y)
    assert 0.02 < float(spikes.detach().mean()) < 0.9
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(step_by_step(ours, current)[1], potentials, rtol=0, atol=1e-5)
    torch.testing.assert_close(state.potential, potentials[-1], rtol=0, atol=1e-5)
    (spikes * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    for mine, other in (("decay", "beta"), ("threshold", "threshold")):
        if mine in dict(ours.named_parameters()):
            gradient = getattr(theirs, other).grad
            torch.testing.assert_close(getattr(ours, mine).grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", G2GNET)
def test_trajectories_are_snntorchs(name, reset, generator):
    options, others, surrogate = G2GNET[name]
    current = 0.15 + 0.4 * torch.randn(50, 8, 20, generator=generator)
    weights = torch.randn(50, 8, 20, generator=generator)
    theirs = leaky(surrogate, {**others, "reset_mechanism": reset})
    assert_same_trajectories(LIF(**options, reset=reset), theirs, current, weights)


@pytest.mark.parametrize("reset", RESETS)
def test_trajectories_with_an_immediate_reset_are_snntorchs(reset, generator):
    # snnTorch lets the gradient through this reset; above twice the threshold it resets once more, a step later
    current = 0.2 + 0.2 * torch.randn(50, 8, 20, generator=generator)
    weights = torch.randn(50, 8, 20, generator=generator)
    options, others, surrogate = G2GNET["later"]
    theirs = leaky(surrogate, {**others, "reset_mechanism": reset, "reset_delay": False})
    ours = LIF(**options, reset=reset, reset_delay=False, detach_reset=False)
    if reset == "subtract":
        assert float(step_by_step(ours, current)[1].detach().max()) < 1
    assert_same_trajectories(ours, theirs, current, weights)


# numbers, and the wording of errors


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_learned_decay_is_clamped(kernel):
    unit = LIF(decay=0.5, learn=["decay"], kernel=kernel)
    for value, used in ((1.5, 1.0), (-0.5, 0.0)):
        with torch.no_grad():
            unit.decay.fill_(value)
        _, state = unit(torch.full((2, 1, 1), 0.25))
        assert state.potential.item() == 0.25 * used + 0.25
        assert unit.effective_decay().item() == used


def test_what_learns_is_a_parameter():
    assert [name for name, _ in LIF(learn=["decay", "threshold"]).named_parameters()] == ["decay", "threshold"]
    assert not list(LIF().parameters())
    assert set(LIF().state_dict()) == {"decay", "threshold"}


def test_a_given_tensor_is_copied():
    decay = torch.full((3,), 0.5)
    unit = LIF(decay=decay, learn=["decay"])
    with torch.no_grad():
        unit.decay.zero_()
    assert decay.tolist() == [0.5] * 3


def test_repr():
    assert repr(LIF(learn=["decay"])) == (
        "LIF(decay=0.9 (learned), threshold=1, reset=subtract a step later, surrogate=ATan(alpha=2.0), kernel=auto)"
    )
    assert "decay=[3], threshold=1, reset=zero, surrogate" in repr(LIF(torch.rand(3), reset="zero", reset_delay=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, "LIF: decay must lie in [0, 1), got 1"),
        ({"decay": -0.1}, "LIF: decay must lie in [0, 1), got -0.1"),
        ({"decay": float("nan")}, "LIF: decay must lie in [0, 1), got nan"),
        ({"decay": torch.tensor([0.5, 1.5])}, "LIF: decay must lie in [0, 1), got 1.5"),
        ({"decay": torch.zeros(2, 2)}, "LIF: decay must be one number, or one for each neuron, got shape [2, 2]"),
        ({"threshold": 0.0}, "LIF: threshold must be above 0, got 0"),
        ({"threshold": torch.tensor([1.0, -2.0])}, "LIF: threshold must be above 0, got -2"),
        ({"reset": "hard"}, "LIF: reset must be one of none, subtract, zero, got 'hard'"),
        ({"learn": ["beta"]}, "LIF: learn must list some of decay, threshold, got ['beta']"),
        ({"learn": "decay"}, "LIF: learn must list some of decay, threshold, got 'decay'"),
        ({"kernel": "cuda"}, "LIF: kernel must be one of auto, numba, torch, triton, got 'cuda'"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        LIF(**arguments)


@pytest.mark.parametrize(
    ("unit", "current", "state", "message"),
    [
        (LIF(), torch.zeros(0, 2, 3), None, "LIF: current must have the shape [t, b, n] with at least one time step, got [0, 2, 3]"),
        (LIF(), torch.zeros(2, 3), None, "LIF: current must have the shape [t, b, n] with at least one time step, got [2, 3]"),
        (LIF(), torch.zeros(4, 2, 3), (torch.zeros(3, 3),), "LIF: state must hold 1 tensor of shape [2, 3], like a step of the current, got [3, 3]"),
        (LIF(), torch.zeros(4, 2, 3), (), "LIF: state must hold 1 tensor of shape [2, 3], like a step of the current, got none"),
        (LIF(torch.rand(4)), torch.zeros(4, 2, 3), None, "LIF: the current must have 4 neurons, each with its own numbers, got 3"),
        (LIF(kernel="numba"), torch.zeros(4, 2, 3, dtype=torch.bfloat16), None, "LIF: kernel 'numba' cannot compute torch.bfloat16 on cpu; try 'auto'"),
        (LIF(kernel="triton"), torch.zeros(4, 2, 3), None, "LIF: kernel 'triton' cannot compute torch.float32 on cpu; try 'auto'"),
    ],
)  # fmt: skip
def test_bad_calls(unit, current, state, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        unit(current, state)


def test_a_current_of_integers():
    with pytest.raises(
        TypeError, match=r"^LIF: current must be a floating-point tensor, got torch.int64; try .float()"
    ):
        LIF()(torch.ones(4, 2, 3, dtype=torch.int64))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("delayed", [True, False])
def test_neurons_of_few_samples_are_shared_out(batch, delayed):
    """Any number of threads gives the same spikes, potentials and state."""
    neurons = LIF(decay=0.9, threshold=1.0, reset_delay=delayed)
    current = torch.rand(20, batch, 1001, generator=torch.Generator().manual_seed(0)).requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            spikes, state = neurons(current)
            (gradient,) = torch.autograd.grad(spikes.square().sum() + state[0].sum(), current)
            found.append([spikes, *state, gradient])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    assert 0 < found[0][0].mean() < 1
