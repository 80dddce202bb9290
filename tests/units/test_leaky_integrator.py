"""Leaky integrators: by hand, against a closed form, step against sequence, against snnTorch."""

import itertools
import re
import warnings

import pytest
import torch

from neuropil.units import LeakyIntegrator, LeakyIntegratorState
from neuropil.units.scans.leaky import scan

KERNELS = ["torch", "numba"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_by_hand(kernel):
    unit = LeakyIntegrator(decay=0.5, learn=["decay"], kernel=kernel)
    current = torch.tensor([1.0, -2.0, 4.0]).reshape(3, 1, 1).requires_grad_()
    potentials, state = unit(current, LeakyIntegratorState(torch.full((1, 1), 2.0)))
    assert potentials.flatten().tolist() == [2.0, -1.0, 3.5]
    assert isinstance(state, LeakyIntegratorState)
    assert state.potential.item() == 3.5
    potentials.sum().backward()
    assert current.grad.flatten().tolist() == [1.75, 1.5, 1.0]
    assert unit.decay.grad.item() == 1.75 * 2.0 + 1.5 * 2.0 + 1.0 * -1.0


def test_every_step_is_a_weighted_sum_of_what_came_before(generator):
    current = torch.randn(9, 3, 4, generator=generator, dtype=torch.float64)
    decay = torch.rand(4, generator=generator, dtype=torch.float64)
    potentials, _ = LeakyIntegrator(decay)(current)
    for t in range(9):
        expected = sum(decay ** (t - s) * current[s] for s in range(t + 1))
        torch.testing.assert_close(potentials[t], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("constant", [False, True], ids=["varying", "constant"])
@pytest.mark.parametrize("learn", [[], ["decay"]], ids=["fixed", "learned"])
@pytest.mark.parametrize("size", list(itertools.product((1, 2, 7), (0, 1, 3), (0, 1, 33))), ids=str)
def test_compiled_is_the_loop_over_steps(size, learn, constant, agree, generator):
    current = torch.randn(size, generator=generator, dtype=torch.float64)
    start = [torch.randn(size[1:], generator=generator, dtype=torch.float64)]
    for decay in (0.8, torch.rand(size[2], generator=generator)):
        unit = LeakyIntegrator(decay, learn=learn).double()
        agree(unit, current[:1].expand(size) if constant else current, start)


def test_single_precision(agree, generator):
    agree(LeakyIntegrator(learn=["decay"]), torch.randn(50, 4, 60, generator=generator))


def test_only_the_end_is_needed(generator):
    # the compiled loop is then given no gradient of the outputs
    current = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    _, state = LeakyIntegrator(0.5)(current)
    state.potential.sum().backward()
    expected = torch.tensor([0.5**4, 0.5**3, 0.25, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(current.grad, expected.reshape(5, 1, 1).expand(5, 2, 3))


@pytest.mark.parametrize("constant", [False, True], ids=["varying", "constant"])
def test_gradient_is_that_of_finite_differences(constant, generator):
    current, start, decay = (
        torch.rand(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((1 if constant else 5, 2, 3), (2, 3), (3,))
    )
    assert torch.autograd.gradcheck(lambda i, u, beta: scan(i.expand(5, 2, 3), u, beta), (current, start, decay))


def test_nothing_is_kept_unless_the_decay_learns(generator):
    current = torch.randn(50, 2, 3, generator=generator, requires_grad=True)
    for learn, most in (([], 3), (["decay"], 50 * 6 + 6 + 3 + 1)):
        kept = []

        def keep(tensor, kept=kept):
            kept.append(tensor)
            return tensor

        unit = LeakyIntegrator(learn=learn)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            unit(current)
        assert sum(tensor.numel() for tensor in kept) <= most


def test_potentials_are_those_of_snntorchs_neurons_without_reset(generator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snntorch = pytest.importorskip("snntorch")
        theirs = snntorch.Leaky(beta=0.9, reset_mechanism="none", learn_beta=True)
    current = torch.randn(50, 4, 10, generator=generator)
    x, y = current.clone().requires_grad_(), current.clone().requires_grad_()
    unit = LeakyIntegrator(0.9, learn=["decay"])
    potentials, _ = unit(x)
    potential, expected = torch.zeros(4, 10), []
    for now in y.unbind(0):
        _, potential = theirs(now, potential)
        expected.append(potential)
    expected = torch.stack(expected)
    torch.testing.assert_close(potentials, expected, rtol=0, atol=1e-5)
    weights = torch.randn(50, 4, 10, generator=generator)
    (potentials * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(unit.decay.grad, theirs.beta.grad, rtol=1e-4, atol=1e-5)


def test_repr():
    assert repr(LeakyIntegrator(learn=["decay"])) == "LeakyIntegrator(decay=0.9 (learned), kernel=auto)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, "LeakyIntegrator: decay must lie in [0, 1), got 1"),
        ({"learn": ["threshold"]}, "LeakyIntegrator: learn must list some of decay, got ['threshold']"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LeakyIntegrator(**arguments)
