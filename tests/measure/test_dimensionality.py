"""The participation ratio where it is known, and against eigenvalues of the whole covariance."""

import math

import numpy as np
import pytest
import torch

from neuropil.measure import participation_ratio
from neuropil.randomness import stream


def gaussian(*shape, name=""):
    return torch.randn(*shape, generator=stream(0, "activity", name, *shape), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_isotropic_activity_has_as_many_dimensions_as_units(n):
    # the columns of an orthonormal basis that are orthogonal to 1: a covariance of exactly c I
    basis, _ = torch.linalg.qr(torch.cat([torch.ones(40, 1, dtype=torch.float64), gaussian(40, n)], dim=1))
    assert participation_ratio(basis[:, 1:] + 5.0) == pytest.approx(n)


def test_activity_along_one_direction_has_one_dimension():
    assert participation_ratio(gaussian(20, 1) * gaussian(1, 50) + gaussian(1, 50)) == pytest.approx(1.0)


@pytest.mark.parametrize(("s", "n"), [(2, 3), (5, 5), (10, 200), (200, 10), (3, 1)])
def test_against_eigenvalues(s, n):
    activity = gaussian(s, n) * torch.arange(1, n + 1)
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(activity.numpy().T)))
    found = participation_ratio(activity)
    assert found == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 1 - 1e-9 <= found <= min(n, s - 1) + 1e-9


def test_what_few_samples_of_isotropic_noise_give():
    assert participation_ratio(gaussian(200, 300)) == pytest.approx(300 * 200 / 500, rel=0.02)


def test_rotation_scale_and_shift_do_not_count():
    activity = gaussian(30, 8) * torch.arange(1, 9)
    rotation, _ = torch.linalg.qr(gaussian(8, 8, name="rotation"))
    found = participation_ratio(activity)
    order = torch.randperm(8, generator=stream(0))
    for same in (activity @ rotation, activity[:, order], -activity, activity * 1e-200, activity * 1e200, activity + 9):
        assert participation_ratio(same) == pytest.approx(found)
    assert participation_ratio(activity) == found


def test_constant_units_do_not_count():
    activity = gaussian(30, 4)
    with_constant = torch.cat([activity, torch.full((30, 3), 0.1, dtype=torch.float64)], dim=1)
    assert participation_ratio(with_constant) == pytest.approx(participation_ratio(activity))
    assert math.isnan(participation_ratio(torch.full((30, 3), 0.1)))


@pytest.mark.parametrize(
    ("activity", "message"),
    [
        (torch.ones(1, 3), "participation_ratio: activations must have at least 2 samples and 1 unit, got 1 and 3"),
        (torch.ones(3, 2, 2), r"must be \[samples, units\], got a shape of \[3, 2, 2\]; try x.flatten"),
        (torch.tensor([[1.0], [math.nan]]), "activity must be finite"),
    ],
)
def test_wrong_inputs(activity, message):
    with pytest.raises(ValueError, match=message):
        participation_ratio(activity)
