"""Dissimilarity matrices against SciPy, their comparison, and shared neighbours against loops and chance."""

import math

import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from neuropil.measure import dissimilarity_matrix, representational_similarity, shared_neighbors
from neuropil.randomness import stream

METRICS = ["correlation", "cosine", "euclidean"]
ALL = pytest.mark.parametrize("metric", METRICS)


def gaussian(*shape, name=""):
    return torch.randn(*shape, generator=stream(0, "samples", name, *shape), dtype=torch.float64)


@ALL
@pytest.mark.parametrize(("s", "n"), [(2, 2), (7, 3), (40, 60)])
def test_matrices_are_those_of_scipy(metric, s, n):
    x = gaussian(s, n) + 1.0
    found = dissimilarity_matrix(x, metric)
    torch.testing.assert_close(found, torch.from_numpy(squareform(pdist(x.numpy(), metric))), atol=1e-12, rtol=1e-9)
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), torch.zeros(s, dtype=torch.float64))


def test_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    cosine = [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    assert dissimilarity_matrix(x, "cosine").tolist() == cosine
    # between two units, only which one is more active is left
    correlation = torch.tensor([[0.0, 2.0, 2.0], [2.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(dissimilarity_matrix(x), correlation)


@ALL
@pytest.mark.parametrize("comparison", ["spearman", "kendall"])
def test_comparisons_are_those_of_scipy(metric, comparison):
    x, y = gaussian(12, 5, name="x"), gaussian(12, 9, name="y")
    y[:, :5] += x
    y[3] = y[4]  # ties
    compare = stats.spearmanr if comparison == "spearman" else stats.kendalltau
    expected = compare(pdist(x.numpy(), metric), pdist(y.numpy(), metric)).statistic
    found = representational_similarity(x, y, metric=metric, comparison=comparison)
    assert found == pytest.approx(expected)
    assert representational_similarity(y, x, metric=metric, comparison=comparison) == pytest.approx(found)
    assert representational_similarity(x, y, metric=metric, comparison=comparison) == found
    assert representational_similarity(x, x, metric=metric, comparison=comparison) == pytest.approx(1.0)


@ALL
def test_permuted_units_do_not_count(metric):
    x, y = gaussian(30, 8, name="x"), gaussian(30, 8, name="y")
    order = torch.randperm(8, generator=stream(0, "order"))
    assert representational_similarity(x, 2 * x[:, order], metric=metric) == pytest.approx(1.0)
    assert shared_neighbors(x, 2 * x[:, order], k=4, metric=metric) == 1.0
    found = shared_neighbors(x, y, k=4, metric=metric)
    assert shared_neighbors(x[:, order], y, k=4, metric=metric) == found
    together = torch.randperm(30, generator=stream(0, "samples"))
    assert shared_neighbors(x[together], y[together], k=4, metric=metric) == found
    assert shared_neighbors(y, x, k=4, metric=metric) == found


@ALL
@pytest.mark.parametrize("comparison", ["spearman", "kendall"])
def test_permuted_units_do_not_count_where_dissimilarities_are_equal_but_for_rounding(metric, comparison):
    x = 0.1 * (torch.rand(40, 12, generator=stream(0, "active")) < 0.3).double()
    x[:, 0], x[:, 1] = 0.1, 0.0
    other = x[:, torch.randperm(12, generator=stream(0, "order"))]
    found = representational_similarity(x, other, metric=metric, comparison=comparison)
    assert found == pytest.approx(1.0, abs=1e-12)
    assert shared_neighbors(x, other, k=5, metric=metric) == 1.0


def test_independent_representations():
    x, y = gaussian(200, 30, name="x"), gaussian(200, 30, name="y")
    assert abs(representational_similarity(x, y)) < 0.05
    for k in (5, 20, 100):
        assert shared_neighbors(x, y, k=k) == pytest.approx(k / 199, rel=0.25)
    assert shared_neighbors(x, y, k=199) == 1.0


@ALL
@pytest.mark.parametrize("k", [1, 3, 11])
def test_neighbours_against_loops(metric, k):
    x, y = gaussian(12, 4, name="x"), gaussian(12, 6, name="y")
    y[:, :4] += x

    def nearest(z):
        distances = squareform(pdist(z.numpy(), metric))
        return [set(sorted(set(range(12)) - {i}, key=lambda j: distances[i, j])[:k]) for i in range(12)]

    shares = [len(a & b) / k for a, b in zip(nearest(x), nearest(y), strict=True)]
    assert shared_neighbors(x, y, k=k, metric=metric) == pytest.approx(sum(shares) / 12)


def test_equally_near_samples_count_in_their_order():
    x = torch.zeros(6, 1)
    assert shared_neighbors(x, x, k=2, metric="euclidean") == 1.0


def test_dissimilarities_all_equal_are_nan():
    x = torch.eye(4)
    assert math.isnan(representational_similarity(x, gaussian(4, 3), metric="euclidean"))
    for metric in METRICS:
        assert math.isnan(representational_similarity(0.3 * torch.eye(7) + 0.1, gaussian(7, 5), metric=metric))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: dissimilarity_matrix(x, "manhattan"),
            "metric must be one of correlation, cosine, euclidean, got 'manhattan'",
        ),
        (
            lambda x: dissimilarity_matrix(torch.ones(3, 2)),
            "for correlation, every sample must differ between units, got 3 of 3",
        ),
        (
            lambda x: dissimilarity_matrix(x * 0, "cosine"),
            "for cosine, every sample must have a unit that is not 0, got 6 of 6",
        ),
        (lambda x: dissimilarity_matrix(x[:1]), "dissimilarity_matrix: activations must have at least 2 samples"),
        (
            lambda x: representational_similarity(x, x[:5]),
            "representational_similarity: both must hold .* got 6 and 5 samples",
        ),
        (lambda x: representational_similarity(x[:2], x[:2]), "at least 3 samples and 1 unit, got 2"),
        (
            lambda x: representational_similarity(x, x, comparison="pearson"),
            "must be spearman or kendall, got 'pearson'",
        ),
        (lambda x: shared_neighbors(x, x[:5]), "shared_neighbors: both must hold .* got 6 and 5 samples"),
        (
            lambda x: shared_neighbors(x, x, k=6),
            "k must be at least 1 and below the number of samples, got 6 of 6; try 1",
        ),
        (lambda x: shared_neighbors(x, x, k=0), "k must be at least 1 and below the number of samples, got 0 of 6"),
    ],
)
def test_wrong_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call(gaussian(6, 2))
