"""Cutting what joins groups, against the masked product, and putting it back to the bit."""

import pytest
import torch
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, SparseLinear, Wiring
from neuropil.connect.kernels import KERNELS
from neuropil.measure import intra_only
from neuropil.models import ensemble_net, mixer
from neuropil.rewire import set_

BLOCKS = [(1, 1), ("group", 1), (1, "group"), (2, 2), ("group", "group")]


def same_group(wiring):
    """Look at each pair of neurons by itself."""
    return torch.tensor([[bool(target == source) for source in wiring.in_groups] for target in wiring.out_groups])


def bits(tensor):
    return tensor.detach().view(torch.int64 if tensor.dtype == torch.float64 else torch.int32).clone()


def check(layer, generator):
    """Compare a float64 layer with its dense weights, before, within and after."""
    x = torch.randn(5, layer.in_features, generator=generator, dtype=torch.float64)
    dense, before = layer.dense_weight().detach(), bits(layer.weight)
    silent, y = layer.silent, layer(x)
    with intra_only(layer) as same:
        assert same is layer
        expected = nn.functional.linear(x, dense * same_group(layer.wiring), layer.bias)
        torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)
        assert torch.equal(layer.dense_weight(), dense * same_group(layer.wiring))
    assert torch.equal(bits(layer.weight), before)
    assert (layer.silent is None) if silent is None else torch.equal(layer.silent, silent)
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("grouping", ["index", "interleaved", "random"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_only_connections_within_a_group_transmit(kernel, block, grouping, silent, generator):
    pattern = Ensembles(n_groups=3, p_intra=0.7, p_inter=0.6, grouping=grouping, block=block)
    wiring = pattern.wire(12, 24, generator=generator)
    if KERNELS[kernel].obstacle(wiring):
        pytest.skip("the kernel cannot compute it")
    layer = SparseLinear(wiring, kernel=kernel, generator=generator, dtype=torch.float64)
    if silent:
        layer.set_silent(torch.rand(wiring.n_blocks, generator=generator) < 0.5)
    check(layer, generator)


@pytest.mark.parametrize("block", BLOCKS)
def test_groups_of_uneven_size(block, generator):
    pattern = Ensembles(n_groups=3, p_inter=0.5, grouping="random", block=block, uneven=True)
    check(SparseLinear(pattern.wire(13, 11, generator=generator), generator=generator, dtype=torch.float64), generator)


def test_a_block_that_joins_several_groups_is_cut_in_part(generator):
    groups = [0, 1, 1, 0, 2, 2]
    wiring = Wiring(6, 6, [0, 0, 1, 2, 2], [0, 1, 1, 0, 2], block=(2, 2), out_groups=groups, in_groups=groups[::-1])
    assert 0 < int((wiring.mask() & same_group(wiring)).sum()) < wiring.n_connections
    check(SparseLinear(wiring, generator=generator, dtype=torch.float64), generator)


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
def test_a_layer_that_was_rewired(block, generator):
    net = ensemble_net((1, 4, 4), 4, hidden=[32], pattern=Ensembles(n_groups=4, block=block)).double()
    optimizer = torch.optim.Adam(net.parameters())
    rewirer = set_(every=1, fraction=0.4).attach(net, optimizer, generator=generator)
    (layer,) = net.sparse_layers()
    start = layer.wiring
    rewirer.set_length(epochs=1, steps_per_epoch=4)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(8, 1, 4, 4, generator=generator, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        rewirer.step()
    assert layer.wiring != start
    check(layer, generator)


def test_every_layer_of_a_network_and_what_has_no_groups(generator):
    patterns = [ErdosRenyi(0.5), *mixer(2, n_groups=4, p_inter=0.5), Dense()]
    net = ensemble_net((1, 4, 4), 10, hidden=[16] * 4, pattern=patterns, readout=ErdosRenyi(0.5))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(3, 1, 4, 4, generator=generator)
    whole = net(x)
    random, *grouped, last = net.sparse_layers()
    with intra_only(net):
        for layer in grouped:
            within = int((layer.wiring.mask() & same_group(layer.wiring)).sum())
            assert int((layer.dense_weight() != 0).sum()) == within < layer.wiring.n_connections
        for layer in (random, last):
            assert int((layer.dense_weight() != 0).sum()) == layer.wiring.n_connections
        assert not torch.equal(net(x), whole)
    assert torch.equal(net(x), whole)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("pattern", [Ensembles(n_groups=1), Ensembles(n_groups=4, p_inter=0.0)])
def test_nothing_is_cut_where_nothing_joins_groups(pattern, generator):
    layer = SparseLinear(pattern.wire(8, 8, generator=generator), generator=generator)
    x = torch.randn(2, 8, generator=generator)
    whole = layer(x)
    with intra_only(layer):
        assert torch.equal(layer(x), whole)


def test_odd_numbers_come_back_too(generator):
    layer = SparseLinear(Ensembles(n_groups=2, p_inter=1.0).wire(4, 4), generator=generator)
    odd = torch.tensor([-0.0, float("nan"), float("inf"), 1e-42])
    with torch.no_grad():
        layer.weight[:] = odd
    before = bits(layer.weight)
    with intra_only(layer):
        assert layer.weight[0, 2:].tolist() == layer.weight[3, :2].tolist() == [0.0, 0.0]
    assert torch.equal(bits(layer.weight), before)


def test_weights_come_back_after_an_error_and_from_a_block_in_a_block(generator):
    net = ensemble_net((1, 4, 4), 4, hidden=[16], pattern=Ensembles(n_groups=4, p_inter=0.5))
    (layer,) = net.sparse_layers()
    before = bits(layer.weight)

    with pytest.raises(KeyError), intra_only(net), intra_only(net):
        raise KeyError
    assert torch.equal(bits(layer.weight), before)


def test_a_weight_that_two_layers_share(generator):
    pattern = Ensembles(n_groups=2, p_inter=1.0)
    one, other = (SparseLinear(pattern.wire(4, 4), bias=False, generator=generator) for _ in range(2))
    other.weight = one.weight
    before = bits(one.weight)
    with intra_only(nn.Sequential(one, other)):
        assert int((one.dense_weight() != 0).sum()) == 8
    assert torch.equal(bits(one.weight), before)


def test_training_goes_on_as_if_nothing_had_been(generator):
    def trained(look):
        net = ensemble_net((1, 4, 4), 4, hidden=[16, 16], pattern=Ensembles(n_groups=4, p_inter=0.5))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        x = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
            if look:
                with intra_only(net), torch.no_grad():
                    net(x)
        return net.state_dict()

    for one, other in zip(trained(False).values(), trained(True).values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("model", [nn.Linear(4, 4), nn.Sequential(SparseLinear(ErdosRenyi(1.0).wire(4, 4)))])
def test_a_model_without_groups_is_named(model):
    sentence = (
        f"intra_only: the model must have a sparse layer whose neurons belong to groups, got a {type(model).__name__}"
    )
    with pytest.raises(ValueError, match=sentence), intra_only(model):
        pass
