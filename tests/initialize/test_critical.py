"""Gains against known values and against quadrature by another rule; activity in deep networks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.initialize import critical_gain, critical_normal_
from neuropil.initialize.critical import moments
from neuropil.randomness import stream


@pytest.mark.parametrize(
    ("activation", "gain"),
    [
        ("relu", math.sqrt(2)),
        ("linear", 1.0),
        ("tanh", 1.0),
        ("leaky_relu", math.sqrt(2 / (1 + 0.01**2))),
        (lambda x: F.leaky_relu(x, 0.3), math.sqrt(2 / (1 + 0.3**2))),
        (lambda x: 3 * x, 1 / 3),
        (torch.sin, 1.0),
        (torch.erf, math.sqrt(math.pi) / 2),
        ("gelu", 2.0),
        ("silu", 2.0),
        (nn.Tanh(), 1.0),
    ],
)
def test_known_values_without_biases(activation, gain):
    assert critical_gain(activation) == pytest.approx(gain, abs=1e-5)


@pytest.mark.parametrize(
    ("function", "q", "gain_squared", "bias_variance"),
    # critical points with a variance above 0: Roberts, Yaida and Hanin, The Principles of Deep Learning Theory, 5.3.4
    [(F.gelu, (3 + math.sqrt(17)) / 2, 1.98305, 0.17292), (F.silu, 14.32017, 1.98800, 0.55514)],
)
def test_moments_at_published_critical_points(function, q, gain_squared, bias_variance):
    square, slope = moments(function, q)
    assert 1 / slope == pytest.approx(gain_squared, abs=2e-5)
    assert q - square / slope == pytest.approx(bias_variance, abs=2e-4)


def expected(function, q):
    """E[φ(√q z)] by Gauss–Hermite."""
    z, weight = np.polynomial.hermite_e.hermegauss(150)
    return float((function(math.sqrt(q) * z) * weight).sum() / math.sqrt(2 * math.pi))


@pytest.mark.parametrize("q", [1e-6, 0.1, 0.7])
def test_moments_agree_with_gauss_hermite(q):
    square, slope = moments(torch.tanh, q)
    assert square == pytest.approx(expected(lambda x: np.tanh(x) ** 2, q), rel=1e-9)
    assert slope == pytest.approx(expected(lambda x: np.cosh(x) ** -4.0, q), rel=1e-9)


@pytest.mark.parametrize("bias_std", [0.01, 0.1, 0.3, 1.0])
def test_tanh_with_biases_is_critical_at_its_fixed_point(bias_std):
    """Iterate the map of variances, by the other rule, until it stands; then look at χ."""
    gain, q = critical_gain("tanh", bias_std), 1.0
    for _ in range(1000):
        q = gain**2 * expected(lambda x: np.tanh(x) ** 2, q) + bias_std**2
    assert gain > 1
    assert gain**2 * expected(lambda x: np.cosh(x) ** -4.0, q) == pytest.approx(1.0, abs=2e-3 if bias_std < 1 else 0.01)


def test_gain_grows_with_biases():
    gains = [critical_gain("tanh", bias_std) for bias_std in (0.0, 0.05, 0.2, 0.5, 1.0)]
    assert gains == sorted(gains)
    assert critical_gain("sigmoid") > 3.9


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("bias_std", [1e-3, 0.1, 2.0])
def test_no_critical_point_with_biases(activation, bias_std):
    message = rf"got none for '{activation}' with bias_std={bias_std}; try a smaller bias_std$"
    with pytest.raises(ValueError, match=message):
        critical_gain(activation, bias_std)


def test_weights_have_each_neurons_variance(wiring):
    layer = SparseLinear(wiring, generator=stream(0))
    gain, weights, draws, biases = critical_gain("tanh", 0.3), stream(1), [], []
    for _ in range(200):
        assert critical_normal_(layer, "tanh", bias_std=0.3, generator=weights) is layer.weight
        draws.append(layer.dense_weight().detach())
        biases.append(layer.bias.detach().clone())
    draws, mask = torch.stack(draws), wiring.mask()
    assert (draws[:, ~mask] == 0).all()
    for row in wiring.fan_in().nonzero().flatten().tolist():
        n = 200 * int(wiring.fan_in()[row])
        size = float(draws[:, row].square().sum()) / 200
        assert size == pytest.approx(gain**2, rel=5 * (2 / n) ** 0.5)
    assert float(torch.stack(biases).std()) == pytest.approx(0.3, rel=0.1)


def test_dense_convolutional_and_without_biases():
    layer = nn.Conv2d(8, 64, 3)
    critical_normal_(layer, "relu", generator=stream(0))
    assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / 72), rel=0.05)
    assert not layer.bias.any()
    bare = nn.Linear(3, 3, bias=False)
    critical_normal_(bare, "tanh", generator=stream(0))
    with pytest.raises(ValueError, match="^critical_normal_: bias_std must be 0 for a layer without a bias, got 0.1$"):
        critical_normal_(bare, "tanh", bias_std=0.1)


@pytest.mark.parametrize(("factor", "least", "most"), [(0.8, 0, 0.1), (1.0, 0.2, 5.0), (1.5, 10, math.inf)])
def test_differences_stay_in_a_deep_sparse_network(factor, least, most):
    """Below the critical gain two near inputs become one, above they part."""
    x = 0.7 * torch.randn(1, 400, generator=stream(0), dtype=torch.float64)
    x = torch.cat([x, x + 1e-6 * torch.randn(1, 400, generator=stream(1), dtype=torch.float64)])
    for i in range(40):
        wiring = ErdosRenyi(0.25).wire(400, 400, generator=stream(0, "wiring", i))
        layer = SparseLinear(wiring, dtype=torch.float64, kernel="masked")
        critical_normal_(layer, "tanh", bias_std=0.3, generator=stream(0, "weights", i))
        with torch.no_grad():
            x = torch.tanh(factor * (layer(x) - layer.bias) + layer.bias)
        if i == 9:
            before = float((x[0] - x[1]).norm())
    assert least < float((x[0] - x[1]).norm()) / before < most


def test_errors():
    with pytest.raises(ValueError, match="^critical_gain: bias_std must be at least 0 and finite, got -0.1$"):
        critical_gain("tanh", -0.1)
    with pytest.raises(ValueError, match="got none for 'softplus' with bias_std=0.0; try another activation$"):
        critical_gain("softplus")
    with pytest.raises(ValueError, match="got none for 'relu' with bias_std=0.1; try a smaller bias_std$"):
        critical_gain("relu", 0.1)
    with pytest.raises(ValueError, match="^critical_gain: there must be a variance .* got none for <function"):
        critical_gain(lambda x: (x > 0).double())
    with pytest.raises(
        ValueError, match="^critical_gain: activation must be a function or one of elu, .*, got 'step'$"
    ):
        critical_gain("step")
