"""Centred kernel alignment against the formulas as they stand, invariances, and independent representations."""

import math

import numpy as np
import pytest
import torch

from neuropil.measure import LinearAlignment, hsic, linear_cka, minibatch_cka, rbf_cka
from neuropil.randomness import stream


def gaussian(*shape, name=""):
    return torch.randn(*shape, generator=stream(0, "representation", name, *shape), dtype=torch.float64)


def biased_hsic(k, other):
    s = len(k)
    h = np.eye(s) - 1 / s
    return np.trace(k @ h @ other @ h) / (s - 1) ** 2


def unbiased_hsic(k, other):
    """Song et al.'s sum, kernels' diagonals at 0."""
    s, ones = len(k), np.ones(len(k))
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    total = np.trace(k @ other) + (ones @ k @ ones) * (ones @ other @ ones) / ((s - 1) * (s - 2))
    return (total - 2 / (s - 2) * (ones @ k @ other @ ones)) / (s * (s - 3))


def gaussian_kernel(x, bandwidth):
    distances = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
    pairs = sorted(distances[np.triu_indices(len(x), 1)])
    sigma = bandwidth * pairs[(len(pairs) - 1) // 2]
    return np.exp(-(distances**2) / (2 * sigma**2))


def alignment(k, other, estimate):
    return estimate(k, other) / math.sqrt(estimate(k, k) * estimate(other, other))


SIZES = [(4, 2, 3), (5, 1, 1), (12, 3, 40), (12, 40, 30), (30, 4, 7), (300, 200, 140), (300, 290, 5)]
BOTH = pytest.mark.parametrize("unbiased", [False, True])


@BOTH
@pytest.mark.parametrize(("s", "n", "m"), SIZES)
def test_against_the_formulas(s, n, m, unbiased):
    estimate = unbiased_hsic if unbiased else biased_hsic
    x, y = gaussian(s, n, name="x") + 2.0, gaussian(s, m, name="y")
    y[:, 0] += x[:, 0]
    k, other = (x @ x.T).numpy(), (y @ y.T).numpy()
    assert hsic(x @ x.T, y @ y.T, unbiased=unbiased) == pytest.approx(estimate(k, other))
    assert linear_cka(x, y, unbiased=unbiased) == pytest.approx(alignment(k, other, estimate))
    for bandwidth in (0.4, 1.0):
        k, other = (gaussian_kernel(z.numpy(), bandwidth) for z in (x, y))
        found = rbf_cka(x, y, bandwidth=bandwidth, unbiased=unbiased)
        assert found == pytest.approx(alignment(k, other, estimate))


@pytest.mark.parametrize(("s", "n", "m"), SIZES)
def test_one_representation_with_many(s, n, m):
    x, y = gaussian(s, n, name="x") + 2.0, gaussian(s, m, name="y")
    with_x = LinearAlignment(x.float())
    for other in (x.float(), y, 1e100 * y + x[:, :1], torch.ones(s, m)):
        assert with_x(other) == pytest.approx(linear_cka(x.float(), other), abs=0, nan_ok=True)
    with pytest.raises(
        ValueError, match=rf"^LinearAlignment: y must hold activations for the {s} samples of x, got 3 "
    ):
        with_x(y[:3])


def test_by_hand():
    # X = (1, 0, −1, 0), Y = (1, 1, −1, −1): (Yᵀ X)² = 4, Xᵀ X = 2, Yᵀ Y = 4
    x, y = torch.tensor([[1.0], [0.0], [-1.0], [0.0]]), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert linear_cka(x, y) == pytest.approx(0.5)


CKA = pytest.mark.parametrize("cka", [linear_cka, rbf_cka])


@CKA
@BOTH
@pytest.mark.parametrize("n", [5, 50])
def test_rotation_permutation_scale_and_shift_do_not_count(cka, unbiased, n):
    x, y = gaussian(20, n), gaussian(20, 6, name="y") + gaussian(20, n)[:, :1]
    found = cka(x, y, unbiased=unbiased)
    rotation, _ = torch.linalg.qr(gaussian(n, n, name="rotation"))
    order = torch.randperm(n, generator=stream(0, "order"))
    for same in (x @ rotation, x[:, order], -3 * x, x * 1e-200, x * 1e150, x + gaussian(1, n)):
        assert cka(same, y, unbiased=unbiased) == pytest.approx(found)
        assert cka(x, same, unbiased=unbiased) == pytest.approx(1.0)
    together = torch.randperm(20, generator=stream(0, "samples"))
    assert cka(x[together], y[together], unbiased=unbiased) == pytest.approx(found)
    assert cka(y, x, unbiased=unbiased) == pytest.approx(found)
    assert cka(x, y, unbiased=unbiased) == found


@CKA
@BOTH
def test_other_linear_maps_count(cka, unbiased):
    x = gaussian(50, 6)
    stretched = x * torch.tensor([10.0, 1.0, 1.0, 1.0, 1.0, 0.1])
    assert cka(x, stretched, unbiased=unbiased) < 0.9


@CKA
def test_independent_representations_are_near_0_only_without_bias(cka):
    x, y = gaussian(100, 300, name="x"), gaussian(100, 300, name="y")
    assert abs(cka(x, y, unbiased=True)) < 0.05
    assert cka(x, y) > 0.6


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_unbiased_hsic_is_0_on_average(kernel):
    def of(x):
        return x @ x.T if kernel == "linear" else torch.from_numpy(gaussian_kernel(x.numpy(), 1.0))

    pairs = [[of(gaussian(8, 20, name=f"{side}{i}")) for side in "xy"] for i in range(300)]
    unbiased = torch.tensor([hsic(k, other) for k, other in pairs])
    standard_error = float(unbiased.std() / math.sqrt(len(pairs)))
    assert abs(float(unbiased.mean())) < 3 * standard_error
    biased = torch.tensor([hsic(k, other, unbiased=False) for k, other in pairs])
    assert float(biased.mean()) > 20 * standard_error


def test_minibatches():
    x = gaussian(640, 10)
    y = torch.cat([x[:, :5], gaussian(640, 20, name="noise")], dim=1)
    batches = list(zip(x.split(64), y.split(64), strict=True))
    found = minibatch_cka(batches)
    estimates = [sum(hsic(a @ a.T, b @ b.T) for a, b in pairs) for pairs in (batches, zip(x.split(64), x.split(64), strict=True), zip(y.split(64), y.split(64), strict=True))]  # fmt: skip
    assert found == pytest.approx(estimates[0] / math.sqrt(estimates[1] * estimates[2]))
    assert found == pytest.approx(linear_cka(x, y, unbiased=True), abs=0.02)
    assert minibatch_cka([(x, y)]) == pytest.approx(linear_cka(x, y, unbiased=True))
    assert minibatch_cka((batch, 2 * batch.flip(1)) for batch in x.split(64)) == pytest.approx(1.0)


@BOTH
def test_representations_that_do_not_vary_are_nan(unbiased):
    x, constant = gaussian(6, 3), torch.full((6, 2), 0.1)
    assert math.isnan(linear_cka(x, constant, unbiased=unbiased))
    assert math.isnan(rbf_cka(constant, x, unbiased=unbiased))
    assert math.isnan(minibatch_cka([(x, constant)]))


def test_equidistant_samples_have_no_structure_without_their_diagonal():
    assert math.isnan(linear_cka(torch.eye(7), gaussian(7, 3), unbiased=True))
    assert math.isnan(rbf_cka(torch.eye(7), gaussian(7, 3), unbiased=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: linear_cka(x, x[:5]),
            "linear_cka: both must hold activations for the same samples, got 6 and 5 samples",
        ),
        (lambda x: rbf_cka(x, x[:5]), "rbf_cka: both must hold activations for the same samples, got 6 and 5 samples"),
        (lambda x: minibatch_cka([(x, x[:5])]), "minibatch_cka: both must hold activations for the same samples"),
        (lambda x: linear_cka(x[:1], x[:1]), "linear_cka: activations must have at least 2 samples and 1 unit, got 1"),
        (lambda x: linear_cka(x[:3], x[:3], unbiased=True), "at least 4 samples and 1 unit, got 3"),
        (lambda x: rbf_cka(x[:2], x[:2]), "at least 3 samples and 1 unit, got 2"),
        (lambda x: rbf_cka(x[:3], x[:3], unbiased=True), "at least 4 samples and 1 unit, got 3"),
        (lambda x: minibatch_cka([(x[:3], x[:3])]), "at least 4 samples and 1 unit, got 3"),
        (lambda x: minibatch_cka([]), "minibatch_cka: there must be at least one batch, got none"),
        (lambda x: rbf_cka(x, x, bandwidth=0.0), "rbf_cka: bandwidth must be above 0, got 0.0"),
        (lambda x: linear_cka(x, x[:, None]), r"must be \[samples, units\], got a shape of \[6, 1, 2\]"),
        (lambda x: hsic(x, x), r"hsic: both kernels must be \[s, s\] over the same s ≥ 4 samples, got \[6, 2\]"),
        (lambda x: hsic(torch.eye(3), torch.eye(3)), r"the same s ≥ 4 samples, got \[3, 3\]"),
        (lambda x: linear_cka(x, x * math.nan), "linear_cka: activity must be finite"),
    ],
)
def test_wrong_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call(gaussian(6, 2))
