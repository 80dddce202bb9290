"""Bytes that networks move, and the energy of it, against formulas worked out by hand."""

import pytest
import torch
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, SparseConv2d, SparseLinear
from neuropil.measure import (
    DRAM_JOULES_PER_BYTE,
    MULTIPLY_ACCUMULATE_JOULES,
    SRAM_JOULES_PER_BYTE,
    Cost,
    MemoryTraffic,
    memory_traffic,
)
from neuropil.models import spiking_ensemble_net
from neuropil.randomness import stream


def wired(pattern, kernel="auto", dtype=None):
    return SparseLinear(pattern.wire(12, 8, generator=stream(0)), kernel=kernel, generator=stream(1), dtype=dtype)


@pytest.mark.parametrize("batch", [1, 5])
def test_dense_network(batch):
    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))
    found = memory_traffic(net, torch.zeros(batch, 6))
    weights, activations = 4 * (6 * 4 + 4 + 4 * 3), 4 * (6 + 4 + 4 + 3)
    assert found == MemoryTraffic(batch, weights, 0, 4 * 10 * batch, 4 * 7 * batch)
    assert found.bytes_per_sample == weights / batch + activations
    assert found.energy_joules == pytest.approx((weights / batch + activations) * 1.3e-9 / 8)
    assert found.on_chip_energy_joules == pytest.approx((weights / batch + activations) * 12.5e-12)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.float64, 8)])
def test_single_synapses_by_kernel(dtype, size):
    pattern, x = ErdosRenyi(0.25, exact=True), torch.zeros(3, 12, dtype=dtype)
    found = memory_traffic(wired(pattern, "synapses", dtype), x)
    assert found.weight_bytes == size * (24 + 8)
    assert found.index_bytes == 24 * 4 + 9 * 8  # sources; where the connections of each target begin, and the end
    masked = memory_traffic(wired(pattern, "masked", dtype), x)
    assert masked.weight_bytes == size * (96 + 8)
    assert masked.index_bytes == size * 96
    assert (masked.input_bytes, masked.output_bytes) == (3 * 12 * size, 3 * 8 * size)


def test_blocks_have_indices_only_where_neurons_are_not_in_order():
    alone = memory_traffic(wired(Ensembles(n_groups=4, p_inter=0.0, block=("group", 1))), torch.zeros(1, 12))
    assert (alone.weight_bytes, alone.index_bytes) == (4 * (24 + 8), 0)
    # a block of 2 targets and 1 source: 24 connections are 12 columns; targets lie where they are
    drawn = memory_traffic(wired(ErdosRenyi(0.25, exact=True, block=(2, 1))), torch.zeros(1, 12))
    assert (drawn.weight_bytes, drawn.index_bytes) == (4 * (24 + 8), 8 * 12)
    mixed = Ensembles(n_groups=4, p_inter=0.0, grouping="interleaved", block=("group", 1))
    assert memory_traffic(wired(mixed), torch.zeros(1, 12)).index_bytes == 8 * (12 + 8)


def test_silence_has_a_number_a_block():
    layer = wired(ErdosRenyi(0.25, exact=True, block=(2, 1)))
    before = layer.index_bytes
    layer.set_silent(torch.arange(12) < 3)
    assert layer.index_bytes == before + 4 * 12


def test_convolutions():
    found = memory_traffic(nn.Conv2d(2, 4, 3, padding=1), torch.zeros(5, 2, 6, 6))
    assert found == MemoryTraffic(5, 4 * (2 * 4 * 9 + 4), 0, 4 * 5 * 2 * 36, 4 * 5 * 4 * 36)
    taps = ErdosRenyi(0.5, exact=True).wire(2 * 9, 4, generator=stream(0))
    layer = SparseConv2d(taps, 2, 3, padding=1, kernel="masked")
    sparse = memory_traffic(layer, torch.zeros(5, 2, 6, 6))
    assert sparse == MemoryTraffic(5, found.weight_bytes, 4 * 72, found.input_bytes, found.output_bytes)


def test_an_input_that_is_the_same_at_all_times_lies_in_memory_once():
    layer = wired(ErdosRenyi(0.25, exact=True), "synapses")
    still = torch.ones(1, 2, 12).expand(10, 2, 12)
    found = memory_traffic(layer, still)
    assert (found.input_bytes, found.output_bytes) == (4 * 2 * 12, 4 * 2 * 8)
    moving = memory_traffic(layer, still.clone())
    assert (moving.input_bytes, moving.output_bytes) == (10 * found.input_bytes, 10 * found.output_bytes)


def test_spiking_networks_move_every_time_step():
    net = spiking_ensemble_net((1, 4, 4), 3, hidden=[8], pattern=Dense(), encoding="current", steps=5)
    found = memory_traffic(net, torch.rand(2, 1, 4, 4, generator=stream(0)))
    # the image is the same at all steps; hidden spikes, read by the read-out, are not
    assert found.batch_size == 2
    assert found.input_bytes == 4 * 2 * (16 + 5 * 8)
    assert found.output_bytes == 4 * 2 * (8 + 5 * 3)


def test_a_layer_called_twice_is_read_twice_and_an_idle_one_never():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.idle = nn.Linear(3, 3, bias=False), nn.Linear(9, 9)

        def forward(self, x):
            return self.layer(self.layer(input=x))

    assert memory_traffic(Net(), torch.zeros(1, 3)) == MemoryTraffic(1, 2 * 36, 0, 24, 24)


def test_constants_are_those_of_the_source():
    assert pytest.approx(162.5e-12) == DRAM_JOULES_PER_BYTE
    assert pytest.approx(12.5e-12) == SRAM_JOULES_PER_BYTE
    assert (
        Cost(1, 2, 3, 1000).energy_joules == pytest.approx(1000 * MULTIPLY_ACCUMULATE_JOULES) == pytest.approx(4.6e-9)
    )
