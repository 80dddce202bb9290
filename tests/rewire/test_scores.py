"""Scores of single synapses against loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.rewire import scores

SIZES = [(0, 2, 3), (1, 1, 1), (1, 4, 2), (5, 3, 4), (8, 1, 6)]  # samples, targets, sources


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a, b, *, centered=False):
    """C_H of two neurons."""
    if centered:
        a, b = ([value - sum(side) / len(side) for value in side] for side in (a, b))
    lengths = [math.sqrt(sum(value * value for value in side)) + 1e-8 for side in (a, b)]
    return sum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(("n", "n_out", "n_in"), SIZES[1:])
def test_hebbian_correlation(n, n_out, n_in, centered):
    pre, post = numbers(n, n_in), numbers(n, n_out, seed=1) + 0.5
    expected = [[cosine(post[:, o].tolist(), pre[:, i].tolist(), centered=centered) for i in range(n_in)]
                for o in range(n_out)]  # fmt: skip
    got = scores.hebbian_correlation(pre, post, centered=centered)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_hebbian_correlation_by_hand():
    pre, post = torch.tensor([[3.0, 0.0], [4.0, 0.0]]), torch.tensor([[4.0, 1.0], [3.0, 1.0]])
    expected = torch.tensor([[24 / 25, 0.0], [7 / (5 * math.sqrt(2)), 0.0]])  # a silent source: 0
    torch.testing.assert_close(scores.hebbian_correlation(pre, post), expected)
    expected = torch.tensor([[-1.0, 0.0], [0.0, 0.0]])  # a constant target: 0
    torch.testing.assert_close(scores.hebbian_correlation(pre, post, centered=True), expected)


def test_correlation_ignores_scale():
    pre, post = numbers(6, 3), numbers(6, 2, seed=1)
    factors = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(
        scores.hebbian_correlation(pre * factors, post), scores.hebbian_correlation(pre, post), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(("n", "n_out", "n_in"), SIZES)
def test_dense_gradient(n, n_out, n_in):
    pre, gradient = numbers(n, n_in), numbers(n, n_out, seed=1)
    expected = torch.zeros(n_out, n_in, dtype=torch.float64)
    for s in range(n):
        for o in range(n_out):
            for i in range(n_in):
                expected[o, i] += gradient[s, o] * pre[s, i]
    torch.testing.assert_close(scores.dense_gradient(pre, gradient), expected)


def test_dense_gradient_is_that_of_the_product():
    """With respect to weight · mask, for every pair: not zero where the mask is."""
    weight, mask, x = numbers(3, 4), numbers(3, 4, seed=1) > 0, numbers(5, 4, seed=2)
    product = (weight * mask).requires_grad_()
    y = torch.nn.functional.linear(x, product)
    y.retain_grad()
    y.tanh().sum().backward()
    torch.testing.assert_close(scores.dense_gradient(x, y.grad), product.grad)
    assert (product.grad[~mask] != 0).all()


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 4), (5, 2, 3)])
def test_scores_of_weights(shape):
    weight, gradient = numbers(*shape), numbers(*shape, seed=1)
    for o, (w, g) in enumerate(zip(weight.ravel().tolist(), gradient.ravel().tolist(), strict=True)):
        assert float(scores.magnitude(weight).ravel()[o]) == abs(w)
        assert float(scores.sensitivity(weight, gradient).ravel()[o]) == pytest.approx(abs(w * g))
        both = scores.magnitude_and_gradient(weight, gradient, coefficient=0.5)
        assert float(both.ravel()[o]) == pytest.approx(abs(w) + 0.5 * abs(g))
    torch.testing.assert_close(
        scores.magnitude_and_gradient(weight, gradient), weight.abs() + 0.01 * gradient.abs()
    )  # MEST's coefficient is the default
    assert scores.magnitude(weight).shape == weight.shape


def naive_common_neighbours(mask, order):
    """k(r, c) of the card, one pair of nodes after the other."""
    n, m = len(mask), len(mask[0])
    k = [[0.0] * n for _ in range(n)]
    for r in range(n):
        for c in range(n):
            shared = sum(mask[r][j] and mask[c][j] for j in range(m))
            if shared:
                external = max(sum(mask[c]) - shared, 1) - 1
                k[r][c] = (1 if order == 3 else shared + 1) / (external + 1)
    return k


def naive_cannistraci_hebb(mask, order):
    """Score = k A + (k′ Aᵀ)ᵀ of the card."""
    n_out, n_in = len(mask), len(mask[0])
    columns = [list(column) for column in zip(*mask, strict=True)]
    targets, sources = naive_common_neighbours(mask, order), naive_common_neighbours(columns, order)
    score = [[0.0] * n_in for _ in range(n_out)]
    for o in range(n_out):
        for i in range(n_in):
            score[o][i] += sum(targets[o][c] * mask[c][i] for c in range(n_out))
            score[o][i] += sum(sources[i][c] * mask[o][c] for c in range(n_in))
    return score


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([2, 3]), st.data())
def test_cannistraci_hebb(n_out, n_in, order, data):
    mask = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=n_in, max_size=n_in), min_size=n_out,
                              max_size=n_out))  # fmt: skip
    dense = torch.tensor(mask, dtype=torch.float64)
    expected = torch.tensor(naive_cannistraci_hebb(mask, order), dtype=torch.float64)
    torch.testing.assert_close(scores.cannistraci_hebb(dense, order=order), expected)
    part = scores.common_neighbours(dense, slice(1, 3), order=order)
    expected = torch.tensor(naive_common_neighbours(mask, order), dtype=torch.float64)[1:3]
    torch.testing.assert_close(part, expected.reshape(part.shape))


def test_cannistraci_hebb_by_hand():
    """A path of three links, o0 – i0 – o1 – i1: one path of length 3 joins its ends."""
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # k(o0, o1): they share i0, and o1 has one link elsewhere, so e = max(2 − 1, 1) − 1 = 0; likewise k(i1, i0)
    assert float(scores.cannistraci_hebb(mask)[0, 1]) == 1 + 1
    assert float(scores.cannistraci_hebb(mask, order=2)[0, 1]) == 2 + 2
    # o1 with two links elsewhere: e = 1
    mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert float(scores.cannistraci_hebb(mask)[0, 1]) == 1 / 2 + 1
    assert float(scores.cannistraci_hebb(mask, order=2)[0, 1]) == 2 / 2 + 2
