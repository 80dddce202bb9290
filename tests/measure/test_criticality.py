"""Branching ratios of simulated branching processes whose m is known, seen whole and in part."""

import math

import pytest
import torch
from scipy import stats

from neuropil.measure import branching_ratio
from neuropil.randomness import stream


def branching_process(m, *, drive, steps, samples, units):
    """Spikes [t, b, n] of a process with Poisson offspring, each spike in a unit drawn uniformly.

    Units' counts are then independent Poisson numbers, and a part of the units is a part of the spikes drawn at random.
    """
    generator = stream(0, "branching", str(m))
    drive = torch.as_tensor(drive, dtype=torch.float64).expand(samples)  # a number, or one a sample
    total = (drive / (1 - m)).round()
    counts = []
    for step in range(steps + 200):  # it has settled after 200
        rates = ((m * total + drive) / units)[:, None].expand(samples, units)
        spikes = torch.poisson(rates, generator=generator)
        total = spikes.sum(1)
        if step >= 200:
            counts.append(spikes)
    return torch.stack(counts)


@pytest.mark.parametrize("m", [0.5, 0.9, 0.97])
def test_both_estimators_find_m_of_a_process_seen_whole(m):
    found = branching_ratio(branching_process(m, drive=10 * (1 - m), steps=2000, samples=20, units=10))
    assert found.conventional == pytest.approx(m, abs=0.01)
    assert found.ratio == pytest.approx(m, abs=0.02)
    assert found.amplitude == pytest.approx(1.0, abs=0.03)
    assert found.fit > 0.99
    assert found.distance == abs(1 - found.ratio)


@pytest.mark.parametrize("m", [0.9, 0.97])
@pytest.mark.parametrize("seen", [2, 5])
def test_multistep_regression_finds_m_of_a_part_and_the_conventional_estimator_does_not(m, seen):
    activity = branching_process(m, drive=10 * (1 - m), steps=4000, samples=20, units=20)[..., :seen]
    found = branching_ratio(activity, k_max=30)
    assert found.ratio == pytest.approx(m, abs=0.015)
    # of Poisson offspring, the mean over the variance of the whole is 1 − m²
    part = seen / 20
    bias = part / (part + (1 - part) * (1 - m**2))
    assert found.amplitude == pytest.approx(bias, abs=0.05)
    assert found.conventional == pytest.approx(bias * m, abs=0.03)
    assert found.conventional < m - 0.05
    assert found.distance < found.conventional_distance


def test_samples_of_different_drive_need_means_of_their_own():
    activity = branching_process(0.5, drive=[5.0, 50.0, 500.0] * 10, steps=4000, samples=30, units=2)
    assert branching_ratio(activity, k_max=5, common_mean=False).ratio == pytest.approx(0.5, abs=0.03)
    assert branching_ratio(activity, k_max=5).conventional > 0.99


def test_short_samples_with_means_of_their_own_give_too_small_a_slope():
    m, steps = 0.8, 40
    activity = branching_process(m, drive=2.0, steps=steps, samples=4000, units=1)
    short = branching_ratio(activity, common_mean=False)
    assert short.conventional == pytest.approx(m - (1 + m) / steps, abs=0.01)
    assert branching_ratio(activity).conventional == pytest.approx(m, abs=0.01)


def test_activity_without_memory():
    found = branching_ratio(torch.poisson(torch.full((2000, 10, 4), 3.0), generator=stream(0, "memoryless")))
    assert all(abs(slope) < 0.05 for slope in found.slopes)


@pytest.mark.parametrize("m", [0.3, 0.999, 1.0, 1.2, 2.0])
@pytest.mark.parametrize("k_max", [2, 5, 20])
def test_geometric_activity_is_found_exactly(m, k_max):
    activity = (m ** torch.arange(60, dtype=torch.float64)).view(60, 1, 1)
    if m == 1.0:
        activity = activity.cumsum(0)  # A(t + 1) = A(t) + 1
    found = branching_ratio(activity, k_max=k_max)
    assert (found.ratio, found.conventional) == pytest.approx((m, m), abs=1e-6)
    assert found.amplitude == pytest.approx(1.0, abs=1e-4)
    if m < 1:
        assert found.timescale == pytest.approx(-1 / math.log(m), rel=1e-3)


def test_slopes_are_those_of_scipy_and_nothing_is_drawn():
    activity = torch.rand(30, 4, 3, generator=stream(0, "scipy"))
    found = branching_ratio(activity, k_max=6)
    total = activity.double().sum(-1)
    for k, slope in enumerate(found.slopes, start=1):
        expected = stats.linregress(total[:-k].flatten().numpy(), total[k:].flatten().numpy()).slope
        assert slope == pytest.approx(expected)
    assert branching_ratio(activity, k_max=6) == found


def test_the_fit_is_that_of_scipy():
    from scipy.optimize import curve_fit

    activity = branching_process(0.9, drive=1.0, steps=1000, samples=5, units=10)[..., :3]
    found = branching_ratio(activity, k_max=20)
    (b, m), _ = curve_fit(lambda k, b, m: b * m**k, torch.arange(1, 21.0).numpy(), found.slopes, p0=(0.5, 0.8))
    assert (found.amplitude, found.ratio) == pytest.approx((b, m), abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
@pytest.mark.parametrize("common_mean", [True, False])
def test_activity_that_does_not_vary_is_nan(value, common_mean):
    found = branching_ratio(torch.full((10, 2, 3), value), common_mean=common_mean)
    assert all(math.isnan(number) for number in (found.ratio, found.conventional, found.distance))


def test_slopes_that_no_positive_series_explains_are_nan():
    found = branching_ratio(torch.arange(40).remainder(2).double().view(40, 1, 1), k_max=3)
    assert found.slopes == pytest.approx((-1.0, 1.0, -1.0))  # −1 + m − m² is below 0 at any m
    assert math.isnan(found.ratio)


@pytest.mark.parametrize(
    ("shape", "k_max", "message"),
    [
        ((9, 2), None, r"must be \[t, b, n\] with at least 4 time steps, got a shape of \[9, 2\]"),
        ((3, 2, 2), None, r"at least 4 time steps, got a shape of \[3, 2, 2\]"),
        ((9, 2, 2), 8, "k_max must be from 2 to t − 2 = 7, got 8"),
        ((9, 2, 2), 1, "k_max must be from 2 to t − 2 = 7, got 1"),
    ],
)
def test_wrong_inputs(shape, k_max, message):
    with pytest.raises(ValueError, match=message):
        branching_ratio(torch.ones(shape), k_max=k_max)
