"""The network of ensembles against a naive forward pass, and where its numbers come from."""

import copy

import pytest
import torch
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, SparseLinear
from neuropil.models import EnsembleNet, PatchEncoder, ensemble_net, mixer
from neuropil.randomness import stream
from neuropil.testing import assert_module

PATTERNS = {
    "published": Ensembles(n_groups=4),
    "mixer": mixer(2, n_groups=4, p_inter=0.1),
    "projections": Ensembles(n_groups=4, block=("group", 1)),
    "random": ErdosRenyi(0.3),
    "mixed": [Dense(), Ensembles(n_groups=2, block=(2, 2), grouping="random")],
    "dense": Dense(),
}


def naive_forward(net, images):
    """Neuron by neuron, each summing over the sources that its mask names; features must be those of the encoder."""
    x = net.encoder(images).double()
    for layer in (*net.hidden[::2], net.readout):
        if isinstance(layer, SparseLinear):
            weight, mask = layer.dense_weight(), layer.wiring.mask()
        else:
            weight, mask = layer.weight, torch.ones(layer.weight.shape, dtype=torch.bool)
        y = torch.zeros(len(x), len(weight), dtype=torch.float64)
        for target in range(len(weight)):
            sources = mask[target].nonzero().flatten().tolist()
            y[:, target] = layer.bias[target] + sum(weight[target, s].double() * x[:, s] for s in sources)
        x = y if layer is net.readout else y.clamp(min=0)
    return x


@pytest.mark.parametrize("patches", [None, 2])
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_a_naive_forward_pass(name, patches, generator):
    net = ensemble_net((2, 4, 4), 3, hidden=[16, 12], pattern=PATTERNS[name], patches=patches, patch_channels=4, seed=1)
    images = torch.randn(2, 2, 4, 4, generator=generator)
    with torch.no_grad():
        found, expected = net(images), naive_forward(net, images)
    assert found.shape == (2, 3)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PATTERNS)
def test_keeps_the_contract_of_a_layer(name, generator):
    net = ensemble_net((1, 4, 4), 3, hidden=[16, 12], pattern=PATTERNS[name], patches=2, patch_channels=4)
    assert_module(net, torch.randn(5, 1, 4, 4, generator=generator), compiled=name == "mixed")


def test_parts():
    net = ensemble_net((3, 8, 8), 7, hidden=[16, 32, 64], pattern=[Dense(), Ensembles(n_groups=4), ErdosRenyi(0.2)])
    assert isinstance(net, EnsembleNet)
    assert isinstance(net.encoder, nn.Flatten)
    assert [type(layer) for layer in net.hidden] == [nn.Linear, nn.ReLU, SparseLinear, nn.ReLU, SparseLinear, nn.ReLU]
    assert net.sparse_layers() == [net.hidden[2], net.hidden[4]]
    assert (net.hidden[0].in_features, net.readout.in_features, net.readout.out_features) == (192, 64, 7)
    encoded = ensemble_net((3, 8, 8), 7, hidden=[16], patches=4, patch_channels=2)
    assert isinstance(encoded.encoder, PatchEncoder)
    assert encoded.hidden[0].in_features == 32


def test_defaults_are_the_published_network():
    net = ensemble_net((3, 32, 32), 10, patches=4)
    layers = net.sparse_layers()
    assert [layer.wiring.shape for layer in layers] == [(1024, 512), (1024, 1024), (1024, 1024)]
    for layer in layers:
        assert layer.wiring.n_groups == 8
        assert layer.wiring.block == (1, 1)
        assert layer.wiring.density == pytest.approx(0.25625, abs=0.003)
        assert layer.wiring.group_densities().diagonal().tolist() == [1.0] * 8


def test_pixels_go_in_by_channel_row_and_column():
    net = ensemble_net((2, 2, 2), 1, hidden=[8], pattern=Dense())
    images = torch.arange(8.0).view(1, 2, 2, 2)
    assert net.encoder(images).tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]


def test_mixer_groups_by_index_and_interleaved_in_turn():
    patterns = mixer(4, n_groups=2, p_inter=0.0)
    assert [pattern.grouping for pattern in patterns] == ["index", "interleaved", "index", "interleaved"]
    assert all(pattern.n_groups == 2 and pattern.p_inter == 0.0 for pattern in patterns)
    net = ensemble_net((1, 2, 2), 2, hidden=[4, 4], pattern=mixer(2, n_groups=2, p_inter=0.0))
    first, second = (layer.wiring.mask().int().tolist() for layer in net.sparse_layers())
    assert first == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert second == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    # after two layers every neuron has heard of every pixel, which no single grouping gives
    assert (torch.tensor(second) @ torch.tensor(first) > 0).all()


# Where its numbers come from


def test_same_seed_same_network():
    nets = [ensemble_net((1, 8, 8), 10, hidden=[32, 32], patches=4, seed=seed) for seed in (5, 5, 6)]
    first, same, other = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], same[name]) for name in first)
    for name in first:
        if not name.endswith(("shape", "order", "groups")):
            assert first[name].shape != other[name].shape or not torch.equal(first[name], other[name]), name


def test_no_stream_is_used_twice():
    net = ensemble_net((1, 8, 8), 10, hidden=[64, 64, 64], pattern=ErdosRenyi(0.5), seed=0)
    wirings = [layer.wiring for layer in net.sparse_layers()]
    assert wirings[0] != wirings[1] != wirings[2]
    assert not torch.equal(net.hidden[2].bias, net.hidden[4].bias)


def test_wiring_and_weights_come_from_different_streams():
    """A mask drawn from the numbers that become the weights keeps, for example, only the most negative ones."""
    for seed in range(3):
        net = ensemble_net((1, 8, 8), 10, hidden=[64, 64], pattern=ErdosRenyi(0.2), seed=seed)
        for layer in net.sparse_layers():
            mask = layer.wiring.mask()
            # in units of each weight's own bound, uniform in [−1, 1]
            live = (layer.weight.detach() * layer.wiring.fan_in().sqrt()[:, None])[mask]
            assert abs(float(live.mean())) < 5 * (1 / 3 / len(live)) ** 0.5
            assert float(live.square().mean()) == pytest.approx(1 / 3, rel=0.15)


def test_another_wiring_changes_neither_encoder_nor_readout_nor_other_layers():
    settings = {"hidden": [32, 32], "patches": 4, "seed": 3}
    plain = ensemble_net((1, 8, 8), 10, pattern=[Ensembles(), Ensembles()], **settings)
    other = ensemble_net((1, 8, 8), 10, pattern=[ErdosRenyi(0.1), Ensembles()], **settings)
    for part in ("encoder", "readout"):
        for a, b in zip(getattr(plain, part).parameters(), getattr(other, part).parameters(), strict=True):
            assert torch.equal(a, b)
    assert plain.hidden[2].wiring == other.hidden[2].wiring
    assert torch.equal(plain.hidden[2].weight, other.hidden[2].weight)


def test_streams_are_those_that_are_named():
    net = ensemble_net((1, 4, 4), 10, hidden=[16, 16], pattern=Ensembles(n_groups=2), seed=9)
    for i, layer in enumerate(net.sparse_layers()):
        wiring = Ensembles(n_groups=2).wire(16, 16, generator=stream(9, "wiring", i))
        assert layer.wiring == wiring
        assert torch.equal(layer.weight, SparseLinear(wiring, generator=stream(9, "weights", i)).weight)


def test_global_random_state_is_left_alone():
    state = torch.get_rng_state()
    ensemble_net((1, 8, 8), 10, hidden=[16, 16], pattern=[Dense(), Ensembles()], patches=2)
    assert torch.equal(torch.get_rng_state(), state)


# Storing and copying


def test_state_dict_round_trip_takes_the_wiring_along(generator):
    source, target = (ensemble_net((1, 8, 8), 10, hidden=[32, 32], seed=seed) for seed in (0, 1))
    images = torch.randn(3, 1, 8, 8, generator=generator)
    assert not torch.equal(source(images), target(images))
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(images), target(images))
    for a, b in zip(source.sparse_layers(), target.sparse_layers(), strict=True):
        assert a.wiring == b.wiring


def test_copy_is_independent(generator):
    net = ensemble_net((1, 8, 8), 10, hidden=[32], pattern=Ensembles(block=("group", 1)))
    twin = copy.deepcopy(net)
    images = torch.randn(3, 1, 8, 8, generator=generator)
    before = net(images)
    assert torch.equal(twin(images), before)
    with torch.no_grad():
        twin.hidden[0].weight.zero_()
    assert torch.equal(net(images), before)
    assert twin.arguments == net.arguments


def test_arguments_build_the_same_network():
    net = ensemble_net([1, 8, 8], 10, hidden=[32, 16], pattern=mixer(2), patches=4, patch_channels=8, seed=4)
    twin = ensemble_net(**net.arguments)
    assert twin.arguments == net.arguments
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True))


# Wrong arguments


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden": []}, "ensemble_net: hidden must hold at least one width, got none"),
        (
            {"hidden": [16, 16], "pattern": mixer(3)},
            "ensemble_net: pattern must be one, or one for each of the 2 hidden layers, got 3",
        ),
        (
            {"hidden": [16, 30]},
            "ensemble_net: hidden layer 2: Ensembles: out_features must be divisible by n_groups, got 30 and 8; try 32, "
            "n_groups=6, or uneven=True",
        ),
        (
            {"hidden": [16], "kernel": "magic"},
            "SparseLinear: kernel must be auto or one of blocks, events, masked, synapses, got 'magic'",
        ),
        (
            {"hidden": [16], "patches": 3},
            "PatchEncoder: patches must divide the image's height and width, got 3 and 8 × 8",
        ),
    ],
)
def test_wrong_arguments_are_told(settings, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole sentence is compared)
        ensemble_net((1, 8, 8), 10, **settings)
    assert str(caught.value) == sentence
