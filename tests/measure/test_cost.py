"""What networks cost, against formulas worked out by hand."""

import pytest
import torch
from torch import nn

from neuropil import models
from neuropil.connect import Dense, Ensembles, ErdosRenyi, SparseConv2d, SparseLinear
from neuropil.measure import (
    Cost,
    count_parameters,
    forward_seconds,
    layer_activity,
    memory_traffic,
    network_cost,
    synaptic_work,
)
from neuropil.units.encode import RateEncoder


def sparse(in_features, out_features, n_connections, *, block=(1, 1), bias=True):
    density = n_connections / (in_features * out_features)
    generator = torch.Generator().manual_seed(0)
    wiring = ErdosRenyi(density, exact=True, block=block).wire(in_features, out_features, generator=generator)
    assert wiring.n_connections == n_connections
    return SparseLinear(wiring, bias=bias, generator=generator)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("in_features", "out_features"), [(1, 1), (5, 3), (3, 5)])
def test_linear(in_features, out_features, bias, batch):
    layer = nn.Linear(in_features, out_features, bias=bias)
    product = in_features * out_features
    cost = network_cost(layer, torch.zeros(batch, in_features))
    assert cost == Cost(product + bias * out_features, product, product, product)
    assert cost.density == 1.0


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (2, 2), (8, 4)])
def test_sparse_layer_counts_live_connections(block):
    layer = sparse(12, 8, 32, block=block)
    cost = network_cost(layer, torch.zeros(2, 12))
    assert cost == Cost(parameters=32 + 8, connections=32, possible_connections=96, multiply_accumulates=32)
    assert cost.density == pytest.approx(1 / 3)
    assert count_parameters(layer) == 40


def test_padded_blocks_are_not_counted():
    wiring = Ensembles(n_groups=3, p_inter=0.0, block=("group", "group"), uneven=True).wire(7, 8)
    layer = SparseLinear(wiring, bias=False)
    live = 3 * 3 + 3 * 2 + 2 * 2  # group sizes 3, 3, 2 and 3, 2, 2
    assert layer.weight.numel() > live
    assert count_parameters(layer) == network_cost(layer, torch.zeros(1, 7)).connections == live


def test_silent_connections_are_parameters_but_cost_nothing():
    for wiring in (
        Ensembles(n_groups=3, p_inter=0.0, block=("group", "group"), uneven=True).wire(7, 8),
        Ensembles(n_groups=3, p_inter=0.0, uneven=True).wire(7, 8),
    ):
        layer = SparseLinear(wiring, bias=False)
        layer.set_silent(torch.from_numpy(wiring.block_rows == wiring.block_rows.max()))
        silent = 2 * 2 if wiring.block != (1, 1) else 2
        cost = network_cost(layer, torch.zeros(2, 7))
        assert cost == Cost(parameters=19, connections=19 - silent, possible_connections=56,
                            multiply_accumulates=19 - silent)  # fmt: skip
        layer.set_silent(torch.ones(wiring.n_blocks, dtype=torch.bool))
        assert network_cost(layer, torch.zeros(2, 7)).density == 0


def test_patch_encoder_by_hand():
    # 3 × 8 × 8 patches, 32 features each, 16 patches; then 512 → 10
    net = nn.Sequential(models.PatchEncoder((3, 32, 32)), nn.Linear(512, 10))
    cost = network_cost(net, torch.zeros(2, 3, 32, 32))
    assert cost.multiply_accumulates == 3 * 8 * 8 * 32 * 16 + 5120
    assert cost.parameters == (3 * 8 * 8 + 1) * 32 + 5120 + 10
    # connections are those of the linear layers only
    assert cost.connections == cost.possible_connections == 5120


def test_grouped_convolution():
    # each of 6 output channels reads 2 of 4 input channels in a 3 × 3 field, at 8 × 8 positions
    cost = network_cost(nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), torch.zeros(1, 4, 8, 8))
    assert cost.multiply_accumulates == 2 * 9 * 6 * 64
    assert cost.parameters == 2 * 9 * 6
    assert cost.density == 1.0


def test_network_by_hand():
    net = models.ensemble_net((1, 8, 8), 10, hidden=[32, 16], pattern=ErdosRenyi(0.25, exact=True))
    live = 64 * 32 // 4 + 32 * 16 // 4
    cost = network_cost(net, torch.zeros(5, 1, 8, 8))
    assert cost.connections == cost.multiply_accumulates == live + 160
    assert cost.parameters == live + 32 + 16 + 160 + 10
    assert cost.density == (live + 160) / (64 * 32 + 32 * 16 + 160)


def test_a_layer_called_twice_works_twice_and_is_counted_once():
    layer = sparse(6, 6, 12)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(self.layer(x))

    assert network_cost(Twice(), torch.zeros(1, 6)) == Cost(18, 12, 36, 24)


def test_a_layer_applied_at_each_of_seven_places():
    assert network_cost(nn.Linear(3, 2), torch.zeros(4, 7, 3)).multiply_accumulates == 6 * 7


def test_shared_parameters_count_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert count_parameters(nn.Sequential(first, second)) == 16 + 4 + 4
    first, second = sparse(4, 4, 5, bias=False), sparse(4, 4, 5, bias=False)
    second.weight = first.weight
    assert count_parameters(nn.Sequential(first, second)) == 5


def test_a_layer_that_is_not_called_is_stored_but_does_no_work():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 3)

        def forward(self, x):
            return self.used(x)

    assert network_cost(Idle(), torch.zeros(1, 2)) == Cost(6 + 9, 4, 4, 4)


def test_other_layers_have_parameters_only():
    cost = network_cost(nn.BatchNorm1d(5), torch.zeros(2, 5))
    assert cost == Cost(10, 0, 0, 0)
    assert cost.density == 1.0


def test_dense_pattern_costs_what_a_dense_layer_costs():
    layer = SparseLinear(Dense().wire(5, 4))
    assert network_cost(layer, torch.zeros(1, 5)) == network_cost(nn.Linear(5, 4), torch.zeros(1, 5))


def test_model_is_left_as_it_was():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Dropout())
    net[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for _ in range(2):
        network_cost(net, torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(RuntimeError):
        network_cost(net, torch.zeros(3, 5))
    assert [module.training for module in net.modules()] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_convolutions_of_any_number_of_axes(n_axes):
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n_axes - 1](2, 4, 3)
    x = torch.zeros(5, 2, *[6] * n_axes)
    assert network_cost(layer, x).multiply_accumulates == 2 * 4 * 3**n_axes * 4**n_axes


def test_sparse_convolutions_are_no_linear_layers():
    layer = SparseConv2d(ErdosRenyi(0.5, exact=True).wire(18, 4, generator=torch.Generator().manual_seed(0)), 2, 3)
    cost = network_cost(nn.Sequential(layer, nn.Flatten(), nn.Linear(64, 3)), torch.zeros(5, 2, 6, 6))
    assert cost == Cost(36 + 4 + 64 * 3 + 3, 64 * 3, 64 * 3, 36 * 16 + 64 * 3)


MEASURES = [network_cost, synaptic_work, memory_traffic, layer_activity]


@pytest.mark.parametrize("measure", MEASURES)
def test_an_empty_batch_is_told(measure):
    with pytest.raises(
        ValueError, match=rf"^{measure.__name__}: batch must have at least one sample, got shape \(0, 3"
    ):
        measure(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.zeros(0, 3))


@pytest.mark.parametrize("measure", [*MEASURES, forward_seconds])
def test_models_that_draw_go_on_drawing_as_if_nothing_had_been_measured(measure):
    own = torch.Generator().manual_seed(0)
    for generator in (own, None):
        net = nn.Sequential(RateEncoder(5, generator=generator), nn.Linear(3, 2), nn.ReLU())
        before = own.get_state(), torch.get_rng_state()
        measure(net, torch.full((4, 3), 0.5))
        assert torch.equal(own.get_state(), before[0])
        assert torch.equal(torch.get_rng_state(), before[1])
