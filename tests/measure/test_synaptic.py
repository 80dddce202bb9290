"""What passes the synapses, against a count one by one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil import rewire
from neuropil.connect import Dense, Ensembles, ErdosRenyi, EventLinear, SparseConv2d, SparseLinear, Wiring
from neuropil.measure import ACCUMULATE_JOULES, MULTIPLY_ACCUMULATE_JOULES, SynapticWork, network_cost, synaptic_work
from neuropil.models import ensemble_net, spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.units.encode import CurrentEncoder


def naive(x, mask):
    """Spikes and numbers that pass each connection of a mask, for inputs ``[..., i]``, one by one."""
    spikes = numbers = 0
    for row in x.reshape(-1, x.shape[-1]).tolist():
        for i, value in enumerate(row):
            targets = sum(bool(mask[o, i]) for o in range(len(mask)))
            spikes += targets if value == 1 else 0
            numbers += targets if value not in (0, 1) else 0
    return spikes, numbers


def of_mask(layer):
    """Which connections of a layer transmit: the mask less its silent blocks, one by one."""
    if not isinstance(layer, SparseLinear):
        return torch.ones(layer.weight.shape, dtype=torch.bool)
    wiring, mask = layer.wiring, layer.wiring.mask()
    rows, columns = wiring.block
    for k in range(wiring.n_blocks) if layer.silent is not None else ():
        for o in wiring.out_order[wiring.block_rows[k] * rows :][:rows]:
            for i in wiring.in_order[wiring.block_columns[k] * columns :][:columns]:
                if o >= 0 and i >= 0 and layer.silent[k]:
                    mask[o, i] = False
    return mask


def mixed(*shape, seed=0):
    """Zeros, ones and other numbers, a third each."""
    kind = torch.randint(3, shape, generator=stream(seed, "kind"))
    values = torch.rand(shape, generator=stream(seed, "values")) * 2 - 1
    return torch.where(kind == 0, 0.0, torch.where(kind == 1, 1.0, values))


@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 7),
    st.sampled_from([(1, 1), (2, 1), (2, 3)]),
    st.integers(0, 99),
)
def test_equals_a_count_one_by_one(n_samples, n_in, n_out, block, seed):
    wiring = Ensembles(n_groups=1, p_intra=0.6, block=block, uneven=True)
    try:
        layer = SparseLinear(wiring.wire(n_in, n_out, generator=stream(seed, "wiring")))
    except ValueError:  # nothing connects
        layer = EventLinear(n_in, n_out)
    x = mixed(n_samples, n_in, seed=seed)
    spikes, numbers = naive(x, of_mask(layer))
    assert synaptic_work(layer, x) == SynapticWork(spikes / n_samples, numbers / n_samples)


def test_layers_and_time_steps_add_up():
    net = spiking_ensemble_net((1, 4, 4), 3, hidden=[12, 8], pattern=[Dense(), ErdosRenyi(0.4)], steps=20)
    images = torch.rand(5, 1, 4, 4, generator=stream(0, "images"))
    seen = []
    for layer, _ in net.stages:
        layer.register_forward_hook(lambda layer, inputs, _: seen.append((inputs[0], of_mask(layer))))
    work = synaptic_work(net, images)
    counts = [naive(*call) for call in seen]
    assert work == SynapticWork(sum(spikes for spikes, _ in counts) / 5, 0.0)
    assert all(spikes > 0 for spikes, _ in counts)


def test_rate_networks_have_numbers():
    net = ensemble_net((1, 4, 4), 3, hidden=[12], pattern=ErdosRenyi(0.4), seed=1)
    images = torch.rand(5, 1, 4, 4, generator=stream(0, "images")) + 0.1
    work = synaptic_work(net, images)
    assert work.synaptic_operations == 0
    hidden = net.hidden(net.encoder(images))
    assert work.multiply_accumulates == net.hidden[0].wiring.n_connections + 3 * int((hidden != 0).sum()) / 5
    # what is zero is skipped here, and only here
    assert work.multiply_accumulates < network_cost(net, images).multiply_accumulates


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 3)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_silent_connections_pass_nothing(block, share, generator):
    wiring = Ensembles(n_groups=2, p_inter=0.5, block=block, uneven=True).wire(9, 7, generator=generator)
    layer, x = SparseLinear(wiring), mixed(4, 9)
    layer.set_silent(torch.rand(wiring.n_blocks, generator=generator) < share)
    spikes, numbers = naive(x, of_mask(layer))
    assert synaptic_work(layer, x) == SynapticWork(spikes / 4, numbers / 4)
    assert (spikes == 0) == (share == 1.0)


def test_a_connection_of_weight_zero_transmits():
    """As one that has just come: it counts, whether others are silent or not."""
    layer = SparseLinear(Wiring.from_mask([[1, 1], [1, 1]]))
    layer.copy_dense_weight(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert synaptic_work(layer, torch.ones(1, 2)).synaptic_operations == 4
    layer.set_silent(torch.tensor([False, True, False, False]))
    assert synaptic_work(layer, torch.ones(1, 2)).synaptic_operations == 3 == layer.n_transmitting


def test_rewired_layers_count_by_their_new_wiring():
    net = spiking_ensemble_net((1, 4, 4), 3, hidden=[12], pattern=ErdosRenyi(0.3, exact=True), encoding="latency")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rewirer = rewire.set_(every=1).attach(net, optimizer)
    images = torch.rand(5, 1, 4, 4, generator=stream(0, "images"))
    (layer,) = net.sparse_layers()
    found = []
    for _ in range(2):
        first = naive(net.encoder(net.features(images)), layer.wiring.mask())[0]
        spikes, _ = net.hidden[1](layer(net.encoder(net.features(images))))
        assert synaptic_work(net, images).synaptic_operations == pytest.approx((first + 3 * int(spikes.sum())) / 5)
        found.append(layer.wiring)
        rewirer.step()
    assert found[0] != found[1]


def test_an_input_that_stays_the_same_over_time_counts_once():
    layer, x = EventLinear(9, 7), mixed(4, 9)
    for steps in (1, 2, 50):
        net = nn.Sequential(CurrentEncoder(steps), layer)
        spikes, numbers = naive(x, of_mask(layer))
        assert synaptic_work(net, x) == SynapticWork(spikes / 4, numbers / 4)
    written_out = synaptic_work(nn.Sequential(CurrentEncoder(3), Contiguous(), layer), x)
    assert written_out == SynapticWork(3 * spikes / 4, 3 * numbers / 4)


class Contiguous(nn.Module):
    def forward(self, x):
        return x.contiguous()


def test_inputs_may_be_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x):
            return self.layer(input=x)

    assert synaptic_work(Net(), torch.ones(4, 2)) == SynapticWork(6.0, 0.0)


def test_energy():
    """0.9 pJ an addition; 3.7 pJ + 0.9 pJ a multiplication and an addition."""
    assert (ACCUMULATE_JOULES, MULTIPLY_ACCUMULATE_JOULES) == (0.9e-12, 4.6e-12)
    assert SynapticWork(0.0, 0.0).energy_joules == 0.0
    assert SynapticWork(1000.0, 0.0).energy_joules == pytest.approx(0.9e-9)
    assert SynapticWork(0.0, 1000.0).energy_joules == pytest.approx(4.6e-9)
    assert SynapticWork(200.0, 10.0).energy_joules == pytest.approx(200 * 0.9e-12 + 10 * 4.6e-12)


def test_model_is_left_as_it_was():
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 3), nn.Dropout())
    x = torch.ones(6, 4, requires_grad=True)
    assert synaptic_work(net, x) == SynapticWork(12.0, 0.0)  # without dropout
    with pytest.raises(RuntimeError):
        synaptic_work(net, torch.ones(6, 5))
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    assert x.grad is None


def test_convolutions_are_left_out_sparse_ones_too():
    layer = SparseConv2d(ErdosRenyi(0.5).wire(18, 4, generator=stream(0)), 2, 3)
    for convolution in (nn.Conv2d(2, 4, 3), layer):
        assert synaptic_work(convolution, torch.ones(2, 2, 6, 6)) == SynapticWork(0.0, 0.0)
