"""Sparseness of activity worked out by hand, against loops, and what does not change it."""

import math

import pytest
import torch

from neuropil.measure import hoyer_sparseness, lifetime_sparseness, population_sparseness, treves_rolls
from neuropil.randomness import stream


@pytest.mark.parametrize("n", [2, 3, 10])
def test_one_active_is_1_all_equal_is_0(n):
    one, all_equal = torch.zeros(n), torch.full((n,), 0.3)
    one[n // 2] = 0.3
    both = torch.stack([one, all_equal])
    torch.testing.assert_close(treves_rolls(both), torch.tensor([1 / n, 1.0], dtype=torch.float64))
    expected = torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(population_sparseness(both), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(lifetime_sparseness(both.T), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(hoyer_sparseness(both), expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(hoyer_sparseness(-both.T, dim=0), expected, atol=1e-7, rtol=0)


def test_by_hand():
    # rates 1 and 3: mean 2, mean square 5; a = 4/5, S = (1/5) / (1/2); Hoyer (√2 − 4/√10) / (√2 − 1)
    rates = torch.tensor([[1.0, 3.0]])
    assert treves_rolls(rates).item() == pytest.approx(0.8)
    assert population_sparseness(rates).item() == pytest.approx(0.4)
    assert hoyer_sparseness(rates).item() == pytest.approx((math.sqrt(2) - 4 / math.sqrt(10)) / (math.sqrt(2) - 1))


@pytest.mark.parametrize(("s", "n"), [(2, 2), (5, 3), (3, 17)])
def test_against_loops(s, n):
    rates = torch.rand(s, n, generator=stream(0, "rates", s, n), dtype=torch.float64)
    for values, found in ((rates.T, lifetime_sparseness(rates)), (rates, population_sparseness(rates))):
        for row, value in zip(values.tolist(), found.tolist(), strict=True):
            k = len(row)
            assert value == pytest.approx((1 - (sum(row) / k) ** 2 / (sum(r * r for r in row) / k)) / (1 - 1 / k))


@pytest.mark.parametrize("measure", [treves_rolls, population_sparseness, hoyer_sparseness, lifetime_sparseness])
def test_scale_and_order_do_not_count(measure):
    generator = stream(0, "invariance")
    rates = torch.rand(6, 6, generator=generator, dtype=torch.float64)
    found = measure(rates)
    for factor in (3.0, 1e-300, 1e300):
        torch.testing.assert_close(measure(rates * factor), found)
    order = torch.randperm(6, generator=generator)
    permuted = rates[order] if measure is lifetime_sparseness else rates[:, order]
    torch.testing.assert_close(measure(permuted), found)
    assert torch.equal(measure(rates), found)


def test_silence_is_nan():
    rates = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert lifetime_sparseness(rates).isnan().tolist() == [True, False]
    assert population_sparseness(rates.T).isnan().tolist() == [True, False]
    assert hoyer_sparseness(torch.zeros(3)).isnan()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: treves_rolls(torch.tensor([1.0, -2.0])), "treves_rolls: activity must not be negative, got -2"),
        (lambda: lifetime_sparseness(-torch.ones(2, 2)), "lifetime_sparseness: activity must not be negative, got -1"),
        (lambda: treves_rolls(torch.ones(2), dim=1), "treves_rolls: dim must be an axis with entries, got 1"),
        (lambda: hoyer_sparseness(torch.ones(4, 1)), "hoyer_sparseness: there must be at least 2 entries"),
        (lambda: hoyer_sparseness(torch.tensor([1.0, math.inf])), "hoyer_sparseness: activity must be finite"),
        (
            lambda: lifetime_sparseness(torch.ones(1, 3)),
            "lifetime_sparseness: activations must have at least 2 samples",
        ),
        (lambda: population_sparseness(torch.ones(3, 1)), "population_sparseness: there must be at least 2 entries"),
    ],
)
def test_wrong_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_hoyer_stays_within_0_and_1_whatever_rounding():
    assert min(float(hoyer_sparseness(torch.full((n,), 0.1))) for n in range(2, 60)) == 0.0
