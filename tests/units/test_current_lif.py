"""Current-based neurons: by hand, step against sequence, against snnTorch's Synaptic."""

import re
import warnings

import pytest
import torch

from neuropil.units import LIF, ATan, CurrentLIF, CurrentLIFState, FastSigmoid, LeakyIntegrator

KERNELS = ["torch", "numba"]
NAMES = ["decay", "threshold", "synaptic_decay"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("reset", "delay", "spikes", "potential"),
    [
        # i = 2, 1, 0.5, 0.25
        ("subtract", True, [1, 1, 0, 0], 0.34375),
        ("zero", True, [1, 1, 0, 0], 0.5),
        ("none", True, [1, 1, 1, 1], 1.0),
        ("subtract", False, [1, 1, 0, 0], 0.671875),
        ("zero", False, [1, 1, 0, 0], 0.5),
    ],
)
def test_by_hand(reset, delay, spikes, potential, kernel):
    unit = CurrentLIF(0.5, 0.875, synaptic_decay=0.5, reset=reset, reset_delay=delay, kernel=kernel)
    found, state = unit(torch.tensor([2.0, 0.0, 0.0, 0.0]).reshape(4, 1, 1))
    assert isinstance(state, CurrentLIFState)
    assert (found.flatten().tolist(), state.current.item(), state.potential.item()) == (spikes, 0.25, potential)


@pytest.mark.parametrize("learn", [[], ["synaptic_decay"], NAMES], ids=["fixed", "one learned", "learned"])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_compiled_is_the_loop_over_steps(reset, delay, detach, learn, agree, generator):
    current = torch.randn(8, 3, 4, generator=generator, dtype=torch.float64)
    start = [torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    for synaptic_decay in (0.7, torch.rand(4, generator=generator)):
        unit = CurrentLIF(
            learn=learn, synaptic_decay=synaptic_decay, reset=reset, reset_delay=delay, detach_reset=detach
        ).double()
        assert 0 < float(agree(unit, current, start).mean()) < 1
        agree(unit, current[:1].expand(8, 3, 4), start)


def test_single_precision(agree, generator):
    agree(CurrentLIF(learn=NAMES), 0.4 * torch.randn(40, 4, 50, generator=generator))


def test_it_is_a_leaky_integrator_before_a_lif(generator):
    current = torch.randn(20, 3, 4, generator=generator)
    spikes, state = CurrentLIF(0.8, 1.2, synaptic_decay=0.6)(current)
    filtered, end = LeakyIntegrator(0.6)(current)
    expected, last = LIF(0.8, 1.2)(filtered)
    assert torch.equal(spikes, expected)
    assert torch.equal(state.current, end.potential)
    assert torch.equal(state.potential, last.potential)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_synaptic_memory_it_is_a_lif(kernel, generator):
    current = torch.randn(20, 3, 4, generator=generator)
    assert torch.equal(CurrentLIF(synaptic_decay=0.0, kernel=kernel)(current)[0], LIF(kernel=kernel)(current)[0])


@pytest.mark.parametrize(
    ("reset", "delay"), [("subtract", True), ("none", True), ("subtract", False), ("zero", False)], ids=str
)
@pytest.mark.parametrize("name", ["atan", "fast_sigmoid"])
def test_trajectories_are_snntorchs(name, reset, delay, generator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snntorch = pytest.importorskip("snntorch")
        theirs = snntorch.Synaptic(
            alpha=0.8, beta=0.9, spike_grad=getattr(snntorch.surrogate, name)(), reset_mechanism=reset,
            reset_delay=delay, learn_alpha=True, learn_beta=True, learn_threshold=True,
        )  # fmt: skip
    # snnTorch lets the gradient through an immediate reset, but not through a delayed one
    ours = CurrentLIF(
        0.9, synaptic_decay=0.8, learn=NAMES, reset=reset, reset_delay=delay, detach_reset=delay,
        surrogate={"atan": ATan(), "fast_sigmoid": FastSigmoid()}[name],
    )  # fmt: skip
    current = 0.05 + 0.1 * torch.randn(50, 4, 10, generator=generator)
    weights = torch.randn(50, 4, 10, generator=generator)
    x, y = current.clone().requires_grad_(), current.clone().requires_grad_()
    spikes, state = ours(x)
    synaptic = potential = torch.zeros(4, 10)
    expected = []
    for now in y.unbind(0):
        fired, synaptic, potential = theirs(now, synaptic, potential)
        expected.append(fired)
    expected = torch.stack(expected)
    assert 0.02 < float(spikes.detach().mean()) < 0.9
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(state.current, synaptic, rtol=0, atol=1e-5)
    torch.testing.assert_close(state.potential, potential, rtol=0, atol=1e-5)
    (spikes * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    for mine, other in (("decay", "beta"), ("threshold", "threshold"), ("synaptic_decay", "alpha")):
        torch.testing.assert_close(getattr(ours, mine).grad, getattr(theirs, other).grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_learned_synaptic_decay_is_clamped(kernel):
    unit = CurrentLIF(learn=["synaptic_decay"], kernel=kernel)
    with torch.no_grad():
        unit.synaptic_decay.fill_(2.0)
    _, state = unit(torch.full((3, 1, 1), 0.25))
    assert state.current.item() == 0.75


def test_what_learns_is_a_parameter():
    assert [name for name, _ in CurrentLIF(learn=NAMES).named_parameters()] == NAMES
    assert repr(CurrentLIF(learn=["synaptic_decay"])).startswith("CurrentLIF(synaptic_decay=0.8 (learned), decay=0.9,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"synaptic_decay": 1.0}, "CurrentLIF: synaptic_decay must lie in [0, 1), got 1"),
        ({"decay": -1.0}, "CurrentLIF: decay must lie in [0, 1), got -1"),
        ({"threshold": 0.0}, "CurrentLIF: threshold must be above 0, got 0"),
        ({"learn": ["alpha"]}, "CurrentLIF: learn must list some of decay, threshold, synaptic_decay, got ['alpha']"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CurrentLIF(**arguments)


def test_a_state_of_another_kind():
    message = (
        "CurrentLIF: state must be what an earlier call of such neurons has returned, a CurrentLIFState, got LIFState"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        CurrentLIF()(torch.zeros(4, 2, 3), LIF()(torch.zeros(4, 2, 3))[1])
