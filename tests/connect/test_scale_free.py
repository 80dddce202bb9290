"""ScaleFree: counts, hubs, and the law by which pairs are drawn."""

import math
import re
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropil.connect.scale_free import ScaleFree


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 15), st.integers(1, 15), st.floats(0.05, 1.0), st.floats(2.01, 9.0), st.integers(0, 2**31))
def test_counts_are_exact(n_in: int, n_out: int, density: float, exponent: float, seed: int) -> None:
    n = round(density * n_in * n_out)
    if n == 0:
        return
    pattern = ScaleFree(density, exponent)
    wiring = pattern.wire(n_in, n_out, generator=seeded(seed))
    assert wiring.n_connections == n
    assert wiring.density == pattern.expected_density(n_in, n_out)
    assert wiring == pattern.wire(n_in, n_out, generator=seeded(seed))


def test_pairs_are_drawn_one_after_another_by_fitness() -> None:
    """Sets of two pairs of a 1 × 3 layer: the probability of each is a sum over both orders of drawing."""
    exponent, n = 2.5, 6000
    weights = [(i + 1) ** (-1 / (exponent - 1)) for i in range(3)]
    expected = {}
    for a, b in permutations(range(3), 2):
        p = weights[a] / sum(weights) * weights[b] / (sum(weights) - weights[a])
        expected[frozenset((a, b))] = expected.get(frozenset((a, b)), 0.0) + p
    counts = dict.fromkeys(expected, 0)
    generator = seeded()
    for _ in range(n):
        state = generator.get_state()
        torch.randperm(1, generator=generator)
        order = torch.randperm(3, generator=generator)  # which weight each source gets
        generator.set_state(state)
        wiring = ScaleFree(2 / 3, exponent).wire(3, 1, generator=generator)
        counts[frozenset(order[wiring.connections()[1]].tolist())] += 1
    chi_square = sum((counts[s] - n * p) ** 2 / (n * p) for s, p in expected.items())
    assert chi_square < 2 + 4 * math.sqrt(4)


@pytest.mark.parametrize("side", ["fan_in", "fan_out"])
def test_connections_follow_a_power_law(side: str) -> None:
    """Neuron of rank i has about i^(−1/(γ−1)) of the connections: the slope of log degree over log rank."""
    exponent = 3.0
    wiring = ScaleFree(0.004, exponent).wire(2000, 1500, generator=seeded())
    degree = getattr(wiring, side)().double().sort(descending=True).values[5:300]
    rank = torch.arange(6, 301).double().log()
    slope = ((rank - rank.mean()) * degree.log()).sum() / ((rank - rank.mean()) ** 2).sum()
    assert abs(slope + 1 / (exponent - 1)) < 0.08


def test_small_exponents_make_strong_hubs() -> None:
    largest = [
        ScaleFree(0.05, exponent).wire(200, 200, generator=seeded()).fan_out().max()
        for exponent in (2.1, 3.0, 5.0, math.inf)
    ]
    assert largest == sorted(largest, reverse=True)
    assert largest[0] > 5 * 10
    assert largest[-1] < 3 * 10


def test_hubs_lie_anywhere() -> None:
    hubs = {int(ScaleFree(0.1, 2.2).wire(50, 50, generator=seeded(s)).fan_in().argmax()) for s in range(10)}
    assert len(hubs) > 5


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    ScaleFree(0.2).wire(30, 30, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleFree(-1), "ScaleFree: density must lie in [0, 1], got -1"),
        (lambda: ScaleFree(0.1, exponent=2), "ScaleFree: exponent must be above 2, got 2; try 3"),
        (lambda: ScaleFree(0.1, exponent=math.nan), "ScaleFree: exponent must be above 2, got nan; try 3"),
        (lambda: ScaleFree(0.0).wire(5, 5), "at least one connection, got none between 5 and 5 neurons; try"),
    ],
)
def test_errors(make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
