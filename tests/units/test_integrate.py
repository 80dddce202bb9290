"""Integrate-and-fire neurons: by hand, and what is theirs rather than LIF's."""

import re

import pytest
import torch

from neuropil.units import IF, LIF, LIFState

KERNELS = ["torch", "numba"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("options", "spikes", "potential"),
    [
        ({}, [0, 1, 1, 0, 1, 1], 1.5),
        ({"reset_delay": False}, [0, 1, 1, 0, 1, 1], 0.5),
        ({"reset": "zero"}, [0, 1, 0, 1, 0, 1], 1.5),
        ({"reset": "zero", "reset_delay": False}, [0, 1, 0, 1, 0, 1], 0.0),
        ({"reset": "none"}, [0, 1, 1, 1, 1, 1], 4.5),
    ],
)
def test_by_hand(options, spikes, potential, kernel):
    found, state = IF(**options, kernel=kernel)(torch.full((6, 1, 1), 0.75))
    assert found.flatten().tolist() == spikes
    assert isinstance(state, LIFState)
    assert state.potential.item() == potential


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_compiled_is_the_loop_over_steps(reset, delay, agree, generator):
    unit = IF(torch.rand(4, generator=generator) + 0.5, learn=["threshold"], reset=reset, reset_delay=delay).double()
    current = torch.randn(8, 3, 4, generator=generator, dtype=torch.float64)
    agree(unit, current, [torch.randn(3, 4, generator=generator, dtype=torch.float64)])


def test_spikes_count_the_current():
    # a rectifier: T I / θ spikes, of which the last may still be on its way
    current = torch.linspace(-0.5, 0.95, 30)
    spikes, _ = IF()(current.expand(1000, 1, 30))
    assert bool(((spikes.sum(0) - 1000 * current.clamp(min=0)).abs() <= 1).all())


def test_neither_leaks_nor_learns_to():
    unit = IF(learn=["threshold"])
    assert isinstance(unit, LIF)
    assert unit.effective_decay().item() == 1
    assert [name for name, _ in unit.named_parameters()] == ["threshold"]
    assert repr(unit).startswith("IF(")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learn": ["decay"]}, "IF: learn must list some of threshold, got ['decay']"),
        ({"threshold": -1.0}, "IF: threshold must be above 0, got -1"),
        ({"reset": "soft"}, "IF: reset must be one of none, subtract, zero, got 'soft'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        IF(**arguments)
