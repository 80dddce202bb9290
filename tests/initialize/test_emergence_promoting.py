"""The scaling, what it leaves as it was, and that it is a learning-rate profile."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.initialize import kaiming_normal_, promote_emergence_, weight_layers
from neuropil.randomness import stream


def dense(n_in, n_out, bias, *_):
    return nn.Linear(n_in, n_out, bias=bias, dtype=torch.float64)


def sparse(n_in, n_out, bias, kernel, block):
    wiring = ErdosRenyi(0.4, block=block).wire(n_in, n_out, generator=stream(0, "wiring"))
    return SparseLinear(wiring, bias=bias, kernel=kernel, dtype=torch.float64)


LAYERS = {
    "dense": (dense,),
    "masked": (sparse, "masked", (1, 1)),
    "synapses": (sparse, "synapses", (1, 1)),
    "blocks": (sparse, "blocks", (2, 4)),
}


def network(build=dense, *kind, n_layers=4, bias=False):
    sizes = [64, *[32] * (n_layers - 1), 10]
    parts = []
    for i in range(n_layers):
        layer = build(sizes[i], sizes[i + 1], bias, *kind)
        kaiming_normal_(layer, generator=stream(0, "weights", i))
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16 - 0.3)[:512], torch.tensor(y)[:512]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_a_layer_wise_learning_rate_profile(kind, momentum):
    x, y = digits()
    plain = network(*LAYERS[kind])
    scaled = copy.deepcopy(plain)
    profile = promote_emergence_(scaled, alpha=1.5)
    rates = {one.name: one.sgd_rate for one in profile.layers}
    groups = [{"params": [layer.weight], "lr": 0.003 * rates[name]} for name, layer in weight_layers(plain)]
    start = plain(x).detach()
    ours = torch.optim.SGD(scaled.parameters(), lr=0.003, momentum=momentum)
    theirs = torch.optim.SGD(groups, momentum=momentum)
    for _ in range(5):
        for model, optimizer in ((scaled, ours), (plain, theirs)):
            for i in range(0, len(x), 32):
                optimizer.zero_grad()
                F.cross_entropy(model(x[i : i + 32]), y[i : i + 32]).backward()
                optimizer.step()
    logits = plain(x).detach()
    assert (logits - start).abs().max() > 0.5  # it did learn
    assert (scaled(x).detach() - logits).abs().max() < 1e-10


def test_adams_profile_up_to_its_epsilon():
    x, y = digits()
    plain = network()
    scaled = copy.deepcopy(plain)
    profile = promote_emergence_(scaled, alpha=1.5)
    groups = [
        {"params": [layer.weight], "lr": 1e-3 * one.adam_rate}
        for (_, layer), one in zip(weight_layers(plain), profile.layers, strict=True)
    ]
    ours = torch.optim.Adam(scaled.parameters(), lr=1e-3, eps=1e-30)
    theirs = torch.optim.Adam(groups, eps=1e-30)
    for model, optimizer in ((scaled, ours), (plain, theirs)):
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert (scaled(x) - plain(x)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("n_layers", [2, 3, 4, 5])
@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.3])
def test_the_start_computes_the_same_function(kind, n_layers, alpha):
    model = network(*LAYERS[kind], n_layers=n_layers, bias=True)
    for _, layer in weight_layers(model):
        nn.init.zeros_(layer.bias)
    before = copy.deepcopy(model)
    profile = promote_emergence_(model, alpha=alpha)
    x = torch.randn(20, 64, generator=stream(1), dtype=torch.float64)
    assert torch.allclose(model(x), before(x), rtol=1e-12, atol=1e-14)
    assert profile.output_factor == pytest.approx(1.0, abs=1e-12)
    for (_, layer), (_, old), one in zip(weight_layers(model), weight_layers(before), profile.layers, strict=True):
        assert torch.allclose(layer.weight, old.weight * one.factor, rtol=1e-14)
        assert torch.equal(layer.weight == 0, old.weight == 0)
        assert one.factor == pytest.approx(alpha**one.exponent)
        assert (one.sgd_rate, one.adam_rate) == pytest.approx((alpha ** (-2 * one.exponent), alpha**-one.exponent))


@pytest.mark.parametrize(("n_layers", "exponents"), [(2, [-1, 1]), (3, [-1, 0, 1]), (4, [-2, -1, 1, 2])])
def test_exponents_count_from_the_middle(n_layers, exponents):
    assert [one.exponent for one in promote_emergence_(network(n_layers=n_layers), 1.1).layers] == exponents


def test_alpha_of_1_changes_no_weight():
    model = network(bias=True)
    before = copy.deepcopy(model)
    for _ in range(2):
        profile = promote_emergence_(model, alpha=1.0, zero_biases=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert {one.factor for one in profile.layers} == {1.0}
    promote_emergence_(model, alpha=1.0)
    assert not any(bool(layer.bias.any()) for _, layer in weight_layers(model))


def test_total_ratio():
    assert promote_emergence_(network(n_layers=5), total_ratio=16.0).alpha == pytest.approx(2.0)
    assert promote_emergence_(network(n_layers=4), total_ratio=0.125).alpha == pytest.approx(0.5)
    profile = promote_emergence_(network(n_layers=5), total_ratio=16.0)
    assert profile.layers[-1].factor / profile.layers[0].factor == pytest.approx(16.0)


@pytest.mark.parametrize(("alpha", "used"), [(2.0, 4**0.25), (0.5, 4**-0.25), (1.2, 1.2)])
def test_the_cap_lowers_the_whole_profile(alpha, used):
    profile = promote_emergence_(network(n_layers=8), alpha=alpha)
    assert profile.alpha == pytest.approx(used)
    assert profile.asked_alpha == alpha
    assert math.prod(one.factor for one in profile.layers) == pytest.approx(1.0)
    assert max(max(one.factor, 1 / one.factor) for one in profile.layers) <= 4 * (1 + 1e-12)
    assert ("capped" in str(profile)) == (alpha != 1.2)
    assert promote_emergence_(network(n_layers=8), alpha=alpha, largest=math.inf).alpha == alpha


def test_batch_normalization_takes_scales_out():
    layers = [nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8, eps=1e-30), nn.ReLU(), nn.Linear(8, 8, bias=False)]
    model = nn.Sequential(*layers, nn.BatchNorm1d(8, eps=1e-30), nn.ReLU(), nn.Linear(8, 3)).double()
    nn.init.zeros_(model[-1].bias)
    x = torch.randn(30, 8, generator=stream(0), dtype=torch.float64)
    before = model(x).detach()
    affine = [p.clone() for m in model if isinstance(m, nn.BatchNorm1d) for p in m.parameters()]
    for sample in (None, x):
        scaled = copy.deepcopy(model)
        profile = promote_emergence_(scaled, alpha=2.0, sample=sample)
        assert [one.normalization for one in profile.layers] == ["1", "4", None]
        assert profile.output_factor == 2.0
        assert torch.allclose(scaled(x), before * 2.0, rtol=1e-9)
        assert "scale drops out in 1" in str(profile)
        assert str(profile).endswith("output at the start x 2: factors before a normalization drop out")
        kept = [p for m in scaled if isinstance(m, nn.BatchNorm1d) for p in m.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(affine, kept, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of alpha and total_ratio must be given, got neither"),
        ({"alpha": 1.5, "total_ratio": 2.0}, "exactly one of alpha and total_ratio must be given, got both"),
        ({"alpha": 0.0}, "alpha must be positive and finite, got 0.0"),
        ({"alpha": -1.0}, "alpha must be positive and finite, got -1.0"),
        ({"alpha": math.nan}, "alpha must be positive and finite, got nan"),
        ({"total_ratio": math.inf}, "total_ratio must be positive and finite, got inf"),
        ({"alpha": 1.5, "largest": 0.5}, "largest must be at least 1, got 0.5"),
        ({"alpha": 1.5, "largest": math.nan}, "largest must be at least 1, got nan"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=f"^promote_emergence_: {message}$"):
        promote_emergence_(network(), **settings)


def test_one_layer_is_not_enough():
    with pytest.raises(ValueError, match="^promote_emergence_: the model must have at least 2 weight layers, got 1$"):
        promote_emergence_(nn.Linear(2, 2), alpha=1.5)


@pytest.mark.parametrize(
    ("alpha", "sentence"),
    [
        (1e200, "promote_emergence_: alpha must leave rates of α.4 within the range of numbers, got 1e.200; try a fin"),
        (1e-200, "promote_emergence_: alpha must leave rates of α.4 within the range of numbers, got 1e-200; try"),
        (
            1e30,
            "promote_emergence_: weights must be finite and stay so, got up to .*e.59 in layer '6' with alpha=1e.30",
        ),
    ],
)
def test_an_alpha_that_would_overflow_is_told_before_anything_changes(alpha, sentence):
    model = network().float()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=sentence):
        promote_emergence_(model, alpha=alpha, largest=math.inf)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_weights_that_are_not_finite_are_told():
    model = network()
    model[2].weight.data[0, 0] = math.nan
    with pytest.raises(
        ValueError, match="weights must be finite and stay so, got up to nan in layer '2' with alpha=1.5"
    ):
        promote_emergence_(model, alpha=1.5)
