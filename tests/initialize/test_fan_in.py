"""Each scheme against its formula, with fans counted in the mask, on wirings of every kind."""

import math

import pytest
import torch
from torch import nn

from neuropil import initialize
from neuropil.connect import Dense, ErdosRenyi, SparseConv2d, SparseLinear
from neuropil.initialize import kaiming_normal_, kaiming_uniform_, reset_, xavier_normal_, xavier_uniform_
from neuropil.initialize.fan_in import fans
from neuropil.randomness import stream

SQRT2 = math.sqrt(2.0)
# name → (scheme, variance of a weight between a target of fan-in i and a source of fan-out o, largest over deviation)
SCHEMES = {
    "kaiming_uniform": (kaiming_uniform_, lambda i, o: 2 / i, math.sqrt(3.0)),
    "kaiming_normal": (kaiming_normal_, lambda i, o: 2 / i, None),
    "kaiming_uniform fan_out": (lambda *a, **k: kaiming_uniform_(*a, mode="fan_out", **k), lambda i, o: 2 / o, 3**0.5),
    "kaiming_normal fan_out": (lambda *a, **k: kaiming_normal_(*a, mode="fan_out", **k), lambda i, o: 2 / o, None),
    "kaiming_normal tanh": (
        lambda *a, **k: kaiming_normal_(*a, nonlinearity="tanh", **k),
        lambda i, o: (5 / 3) ** 2 / i,
        None,
    ),
    "kaiming_uniform leaky": (
        lambda *a, **k: kaiming_uniform_(*a, a=0.5, nonlinearity="leaky_relu", **k),
        lambda i, o: 2 / 1.25 / i,
        3**0.5,
    ),
    "xavier_uniform": (xavier_uniform_, lambda i, o: 2 / (i + o), 3**0.5),
    "xavier_normal": (xavier_normal_, lambda i, o: 2 / (i + o), None),
    "xavier_normal gain": (lambda *a, **k: xavier_normal_(*a, gain=3.0, **k), lambda i, o: 18 / (i + o), None),
    "reset": (reset_, lambda i, o: 1 / (3 * i), 3**0.5),
}
N_DRAWS = 100


def deviations(mask, variance):
    """Standard deviation of each weight [out, in], by counting the mask; 1 where nothing connects."""
    fan_in, fan_out = mask.sum(1, keepdim=True), mask.sum(0, keepdim=True)
    expected = torch.ones(mask.shape, dtype=torch.float64)
    for target, source in mask.nonzero().tolist():
        expected[target, source] = variance(int(fan_in[target, 0]), int(fan_out[0, source])) ** 0.5
    return expected


def assert_spread(draws, mask, expected, largest):
    """Compare draws [n, out, in] with the deviations expected, neuron by neuron on either side."""
    standard = draws.double() / expected
    assert (standard[:, ~mask] == 0).all()
    if largest is not None:
        assert standard.abs().max() <= largest * (1 + 1e-5)
        assert standard.abs().max() > 0.97 * largest
    for side in (0, 1):
        count = mask.sum(1 - side)
        live = count > 0
        square = standard.square().sum(dim=(0, 2 - side))[live] / (N_DRAWS * count[live])
        mean = standard.sum(dim=(0, 2 - side))[live] / (N_DRAWS * count[live])
        # the mean square of n normal numbers deviates from 1 by √(2/n); five times that does not happen by chance
        assert ((square - 1).abs() < 5 * (2 / (N_DRAWS * count[live])).sqrt()).all()
        assert (mean.abs() < 5 * (1 / (N_DRAWS * count[live])).sqrt()).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_variance_of_each_neuron_in_a_sparse_layer(wiring, scheme):
    draw, variance, largest = SCHEMES[scheme]
    layer = SparseLinear(wiring, generator=stream(0))
    weights = stream(1, scheme)
    draws = []
    for _ in range(N_DRAWS):
        assert draw(layer, generator=weights) is layer.weight
        draws.append(layer.dense_weight().detach())
    mask = wiring.mask()
    assert_spread(torch.stack(draws), mask, deviations(mask, variance), largest)
    # entries that no connection uses are zero in storage too
    assert int((layer.weight != 0).sum()) <= wiring.n_connections


@pytest.mark.parametrize("scheme", SCHEMES)
def test_variance_in_dense_and_convolutional_layers(scheme):
    draw, variance, largest = SCHEMES[scheme]
    weights = stream(1, scheme)
    for layer, fan_in, fan_out in (
        (nn.Linear(20, 10), 20, 10),
        (nn.Conv2d(3, 8, (2, 3)), 18, 48),
        (nn.Conv2d(4, 8, 3, groups=2), 18, 36),
    ):
        draws = torch.stack([draw(layer, generator=weights).detach().flatten(1).clone() for _ in range(N_DRAWS)])
        everything = torch.ones(draws.shape[1:], dtype=torch.bool)
        expected = torch.full(draws.shape[1:], variance(fan_in, fan_out) ** 0.5, dtype=torch.float64)
        assert_spread(draws, everything, expected, largest)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (kaiming_uniform_, nn.init.kaiming_uniform_),
        (kaiming_normal_, nn.init.kaiming_normal_),
        (xavier_uniform_, nn.init.xavier_uniform_),
        (xavier_normal_, nn.init.xavier_normal_),
    ],
)
def test_dense_layers_start_like_pytorchs(ours, theirs):
    layer, twin = nn.Linear(300, 200), nn.Linear(300, 200)
    settings = {"nonlinearity": "relu"} if "kaiming" in ours.__name__ else {}
    ours(layer, generator=stream(0))
    theirs(twin.weight, **settings, generator=stream(0))
    a, b = layer.weight.detach(), twin.weight.detach()
    assert float(a.std()) == pytest.approx(float(b.std()), rel=0.02)
    assert float(a.abs().max() / a.std()) == pytest.approx(float(b.abs().max() / b.std()), rel=0.15)


def test_reset_is_the_layers_own_start(wiring):
    layer = SparseLinear(wiring, generator=stream(5))
    twin = SparseLinear(wiring, generator=stream(6))
    reset_(twin, generator=stream(5))
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)


def test_reset_draws_biases_of_dense_layers_too():
    layer = nn.Linear(25, 4000)
    reset_(layer, generator=stream(0))
    assert layer.bias.abs().max() <= 0.2
    assert float(layer.bias.detach().std()) == pytest.approx(0.2 / 3**0.5, rel=0.05)
    bare = nn.Linear(25, 4, bias=False)
    assert reset_(bare, generator=stream(0)) is bare.weight


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "reset"])
def test_biases_are_left_alone(wiring, scheme):
    for layer in (SparseLinear(wiring, generator=stream(0)), nn.Linear(4, 3)):
        before = layer.bias.clone()
        SCHEMES[scheme][0](layer, generator=stream(1))
        assert torch.equal(layer.bias, before)


@pytest.mark.parametrize(
    "name",
    ["kaiming_normal_", "kaiming_uniform_", "orthogonal_", "reset_", "xavier_normal_", "xavier_uniform_"],
)
def test_drawn_from_the_generator_alone(wiring, name):
    scheme = getattr(initialize, name)
    state = torch.get_rng_state()
    for build in (lambda: SparseLinear(wiring, generator=stream(0)), lambda: reset_linear(6, 4)):
        layers = [build() for _ in range(3)]
        first, same, other = (scheme(layer, generator=stream(s)) for layer, s in zip(layers, (1, 1, 2), strict=True))
        assert torch.equal(first, same)
        assert not torch.equal(first, other)
        assert first.requires_grad
        assert first.is_leaf
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_generator_the_global_one_is_used():
    layers = [reset_linear(6, 4), reset_linear(6, 4)]
    for layer in layers:
        torch.manual_seed(3)
        kaiming_normal_(layer)
    assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_type_is_kept(wiring, dtype):
    layer = SparseLinear(wiring, generator=stream(0), dtype=dtype)
    assert xavier_normal_(layer, generator=stream(0)).dtype == dtype


def test_activity_keeps_its_size_through_a_deep_sparse_network():
    """What it is for: at 10 % density a dense scheme would shrink activity by √0.1 a layer, to 1e-10 after 20."""
    from neuropil.connect import ErdosRenyi

    x = torch.randn(50, 200, generator=stream(0))
    for i in range(20):
        layer = SparseLinear(ErdosRenyi(0.1).wire(200, 200, generator=stream(0, "wiring", i)), bias=False)
        kaiming_normal_(layer, generator=stream(0, "weights", i))
        x = torch.relu(layer(x))
    assert 0.1 < float(x.detach().square().mean()) < 10


@pytest.mark.parametrize("scheme", [kaiming_uniform_, kaiming_normal_])
def test_unknown_names_are_told(scheme):
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="^initialize: mode must be fan_in or fan_out, got 'fan_avg'$"):
        scheme(layer, mode="fan_avg")
    with pytest.raises(ValueError, match="^initialize: nonlinearity must be one that PyTorch knows, got 'step'$"):
        scheme(layer, nonlinearity="step")


def reset_linear(in_features, out_features):
    layer = nn.utils.skip_init(nn.Linear, in_features, out_features)
    reset_(layer, generator=stream(0))
    return layer


@pytest.mark.parametrize("n_sources", [4, 24])
@pytest.mark.parametrize("block", [(1, 1), (3, 1)])
def test_a_sparse_convolution_has_the_fans_of_a_dense_one_with_its_mask(n_sources, block):
    wiring = ErdosRenyi(0.4, block=block).wire(n_sources, 6, generator=stream(0))
    synapses = SparseConv2d(wiring, 4, (3, 2)).synapses
    live = synapses.wiring.mask().view(6, 4, 6)
    targets, sources = synapses.weight_units()
    fan_in, fan_out = fans(synapses)
    assert torch.equal(fan_in, live.sum((1, 2))[targets].clamp(min=1).double())
    assert torch.equal(fan_out, live.sum((0, 2))[sources // 6].clamp(min=1).double())
    full = SparseConv2d(Dense().wire(4, 6), 4, (3, 2)).synapses
    assert [float(fan.unique()) for fan in fans(full)] == [float(fan) for fan in fans(nn.Conv2d(4, 6, (3, 2)))]
