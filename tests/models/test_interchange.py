"""NIR graphs and files: what comes back, and what snnTorch makes of them."""

from itertools import pairwise

import nir
import nirtorch
import numpy as np
import pytest
import snntorch
import torch
from snntorch.export_nir import export_to_nir
from snntorch.import_nir import import_from_nir
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, EventLinear, SparseLinear, Wiring
from neuropil.models import SpikingSequential, from_nir, read_nir, spiking_ensemble_net, to_nir, write_nir
from neuropil.units import LIF, ATan, Boxcar, FastSigmoid, Sigmoid, Surrogate, Triangle

SIZES = (30, 64, 48, 10)
PATTERNS = {
    "random": ErdosRenyi(0.3),
    "projections": Ensembles(n_groups=2, block=("group", 1), grouping="random"),
    "mixed": Ensembles(n_groups=2, p_inter=0.2, grouping="interleaved"),
    "dense": Dense(),
}
RESETS = [(reset, delay) for reset in ("zero", "subtract", "none") for delay in (True, False)]


def network(generator, pattern=PATTERNS["random"], bias=True, dtype=torch.float32, **settings):
    """Layers with weights as large as training makes them, each with its neurons.

    Weights are multiples of 1/64, so that sums are exact in any order, and spikes the same by any kernel.
    """
    modules = []
    for n_in, n_out in pairwise(SIZES):
        wiring = pattern.wire(n_in, n_out, generator=generator)
        layer = SparseLinear(wiring, bias=bias, generator=generator, dtype=dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(3 * 64).round_().div_(64)
        modules += [layer, LIF(**settings)]
    return SpikingSequential(*modules)


@pytest.fixture
def x(generator):
    """Bernoulli spikes over 50 steps."""
    return (torch.rand(50, 16, SIZES[0], generator=generator) < 0.3).float()


def spikes_of(net, x):
    with torch.no_grad():
        spikes, _ = net(x)
    assert 0.005 < spikes.mean() < 0.9
    return spikes


def in_snntorch(net, x):
    """Step by step, as GraphModules of snnTorch go."""
    with torch.no_grad():
        return torch.stack([net(now)[0] for now in x])


def without_notes(graph):
    graph.metadata = {}
    for node in graph.nodes.values():
        node.metadata = {}
    return graph


# Our own way there and back


@pytest.mark.parametrize("stored", [False, True], ids=["graph", "file"])
@pytest.mark.parametrize(("reset", "delay"), RESETS)
@pytest.mark.parametrize("name", PATTERNS)
def test_comes_back_the_same(name, reset, delay, stored, generator, x, tmp_path):
    net = network(generator, PATTERNS[name], decay=0.85, threshold=1.2, reset=reset, reset_delay=delay)
    if stored:
        write_nir(net, tmp_path / "net.nir")
        again = read_nir(tmp_path / "net.nir")
    else:
        again = from_nir(to_nir(net))
    assert torch.equal(spikes_of(again, x), spikes_of(net, x))
    assert repr(again) == repr(net)
    for layer, other in zip(net[::2], again[::2], strict=True):
        assert layer.wiring == other.wiring
        assert layer.wiring.block == other.wiring.block
        assert torch.equal(layer.weight, other.weight)
        assert torch.equal(layer.bias, other.bias)


def test_a_spiking_ensemble_net_without_its_encoder(generator, x, tmp_path):
    net = spiking_ensemble_net((1, 5, 6), 10, hidden=[32, 32], pattern=Ensembles(n_groups=2), steps=50)
    with torch.no_grad():
        for layer, _ in net.stages:
            layer.weight.mul_(4)
    write_nir(net, tmp_path / "net.nir")
    again = read_nir(tmp_path / "net.nir")
    net.features = nn.Identity()
    net.encoder = nn.Identity()
    with torch.no_grad():
        assert torch.equal(net.output_spikes(x), spikes_of(again, x))
    assert [type(module) for module in again] == [SparseLinear, LIF, SparseLinear, LIF, EventLinear, LIF]
    assert [layer.kernel for layer in (again[0], again[2])] == ["events", "events"]
    assert {name for name, _ in again[1].named_parameters()} == {"decay", "threshold"}


@pytest.mark.parametrize("surrogate", [ATan(1.5), Boxcar(0.3), FastSigmoid(10.0), Sigmoid(4.0), Triangle(0.7)], ids=str)
def test_what_nir_has_no_words_for_comes_back(surrogate, tmp_path):
    unit = LIF(torch.tensor([0.5, 0.5]), 0.7, learn=["threshold"], surrogate=surrogate, detach_reset=False)
    write_nir([nn.Linear(3, 2), unit], tmp_path / "net.nir")
    (again,) = read_nir(tmp_path / "net.nir").units
    assert (again.surrogate, again.detach_reset, again.reset, again.reset_delay) == (surrogate, False, "subtract", True)
    assert [name for name, _ in again.named_parameters()] == ["threshold"]
    assert torch.equal(again.decay, unit.decay)  # two numbers that are equal stay two
    assert torch.equal(again.threshold, unit.threshold)


def test_a_surrogate_of_a_users_own_is_not_noted():
    class Mine(ATan):
        pass

    (again,) = from_nir(to_nir([nn.Linear(3, 2), LIF(surrogate=Mine(3.0))])).units
    assert again.surrogate == ATan()
    assert isinstance(Mine(), Surrogate)


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.3])
def test_numbers_come_back_to_the_last_bit(dt, generator):
    decay = torch.cat([torch.rand(2000, generator=generator), torch.tensor([0.0, 1e-6, 0.5, 0.9, 1 - 2**-24])])
    threshold = torch.rand(len(decay), generator=generator) + 0.01
    (again,) = from_nir(to_nir([nn.Linear(1, len(decay)), LIF(decay, threshold)], dt=dt)).units
    assert torch.equal(again.decay, decay)
    assert torch.equal(again.threshold, threshold)


@pytest.mark.parametrize("name", PATTERNS)
def test_float64_and_no_bias(name, generator, x):
    net = network(generator, PATTERNS[name], bias=False, dtype=torch.float64, decay=torch.tensor(0.9).double())
    again = from_nir(to_nir(net))
    assert torch.equal(spikes_of(again, x.double()), spikes_of(net, x.double()))
    assert all(layer.bias is None and layer.weight.dtype == torch.float64 for layer in again[::2])


def test_a_decay_is_exported_as_it_is_used():
    unit = LIF(decay=torch.tensor([0.5, 0.5]), learn=["decay"])
    with torch.no_grad():
        unit.decay[0] = -0.2
    assert to_nir([nn.Linear(3, 2), unit]).nodes["lif"].tau.tolist() == pytest.approx([1e-4, 2e-4])


def test_numbers_worked_out_by_hand():
    layer = SparseLinear(Wiring.from_mask([[1, 0], [1, 1]]), bias=False)
    layer.copy_dense_weight(torch.tensor([[2.0, 0.0], [3.0, 4.0]]))
    graph = to_nir([layer, LIF(decay=0.75, threshold=2.0)], dt=1e-3)
    assert graph.edges == [("input", "linear"), ("linear", "lif"), ("lif", "output")]
    assert graph.nodes["linear"].weight.tolist() == [[2.0, 0.0], [3.0, 4.0]]
    lif = graph.nodes["lif"]
    found = [getattr(lif, name).tolist() for name in ("tau", "r", "v_leak", "v_reset", "v_threshold")]
    assert found == [pytest.approx([value] * 2) for value in (4e-3, 4.0, 0.0, 0.0, 2.0)]
    assert graph.input_type["input"].tolist() == [2]


# Wirings


def test_a_live_weight_of_0_stays_live_and_a_silent_one_transmits_nothing():
    layer = SparseLinear(Wiring.from_mask([[1, 1, 0], [0, 1, 1]]), bias=False)
    layer.copy_dense_weight(torch.tensor([[0.0, 1.0, 0.0], [0.0, 2.0, 3.0]]))
    layer.set_silent(torch.tensor([False, False, True, False]))
    again = from_nir(to_nir([layer]))[0]
    assert again.wiring == layer.wiring
    assert again.dense_weight().tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 3.0]]


def test_a_wiring_noted_counts_no_more_when_weights_have_come(generator):
    wiring = Ensembles(n_groups=2, block=(2, 2), p_inter=0.0).wire(8, 8, generator=generator)
    graph = to_nir([SparseLinear(wiring, generator=generator, kernel="blocks")])
    graph.nodes["affine"].weight[0, 7] = 1.0
    again = from_nir(graph)[0]
    assert again.wiring.block == (1, 1)
    assert again.wiring.mask()[0, 7]
    assert again.wiring.n_connections == wiring.n_connections + 1
    assert torch.equal(again.dense_weight(), torch.from_numpy(graph.nodes["affine"].weight))


def test_without_notes_zeros_are_not_connected(generator, x):
    net = network(generator, reset="zero", decay=0.8)
    graph = without_notes(to_nir(net))
    again = from_nir(graph)
    for layer, other in zip(net[::2], again[::2], strict=True):
        assert torch.equal(other.wiring.mask(), layer.dense_weight() != 0)
    assert torch.equal(spikes_of(again, x), spikes_of(net, x))
    assert [(unit.reset, unit.reset_delay, list(unit.parameters())) for unit in again.units] == [
        ("zero", False, [])
    ] * 3
    dense = from_nir(graph, sparse=False)
    assert [type(layer) for layer in dense[::2]] == [nn.Linear] * 3
    assert torch.equal(dense[0].weight, net[0].dense_weight())
    assert {type(layer) for layer in from_nir(to_nir([nn.Linear(3, 2)]))} == {nn.Linear}


def test_a_kernel_by_name(generator, x):
    net = network(generator)
    again = from_nir(to_nir(net), kernel="events")
    assert [layer.kernel for layer in again[::2]] == ["events"] * 3
    assert type(from_nir(to_nir([nn.Linear(3, 2)]), kernel="events")[0]) is EventLinear
    assert torch.equal(spikes_of(again, x), spikes_of(net, x))
    with pytest.raises(
        ValueError,
        match=r"^from_nir: affine: kernel must be auto or one of blocks, events, masked, synapses, got 'fast'$",
    ):
        from_nir(to_nir(net), kernel="fast")
    with pytest.raises(
        ValueError, match=r"^from_nir: affine: SparseLinear: kernel 'blocks' .*; try events or masked or synapses$"
    ):
        from_nir(without_notes(to_nir(net)), kernel="blocks")


# What others make of it


@pytest.mark.parametrize("delay", [True, False])
def test_snntorch_gives_the_same_spikes(delay, generator, x, capsys):
    decay = torch.linspace(0.0, 0.97, SIZES[1])
    net = network(generator, reset="zero", reset_delay=delay, decay=0.9, threshold=0.8)
    net[1] = LIF(decay=decay, reset="zero", reset_delay=delay)
    there = import_from_nir(to_nir(net))
    assert torch.equal(in_snntorch(there, x), spikes_of(net, x))
    assert "scaling weights" not in capsys.readouterr().out


@pytest.mark.parametrize("reset", ["subtract", "none"])
def test_snntorch_units_with_the_reset_that_nir_cannot_name(reset, generator, x):
    net = network(generator, reset=reset, decay=0.9, threshold=1.5)

    def leaky(node):
        threshold = float(node.v_threshold[0])
        return snntorch.Leaky(1 - 1e-4 / node.tau, threshold, reset_mechanism=reset, init_hidden=True)

    def linear(node):
        layer = nn.utils.skip_init(nn.Linear, node.weight.shape[1], node.weight.shape[0])
        layer.load_state_dict({"weight": torch.from_numpy(node.weight), "bias": torch.from_numpy(node.bias)})
        return layer

    there = nirtorch.nir_to_torch(to_nir(net), {nir.LIF: leaky, nir.Affine: linear})
    assert torch.equal(in_snntorch(there, x), spikes_of(net, x))


@pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph:DeprecationWarning")
def test_a_graph_that_snntorch_has_exported(generator, x):
    layer = nn.utils.skip_init(nn.Linear, SIZES[0], 8)
    with torch.no_grad():
        layer.weight.normal_(std=25, generator=generator).round_().div_(64)
        layer.bias.zero_()
    beta, threshold = torch.linspace(0.5, 0.95, 8), torch.linspace(0.5, 1.5, 8)
    there = nn.Sequential(layer, snntorch.Leaky(beta, threshold, init_hidden=True, reset_mechanism="zero"))
    again = from_nir(export_to_nir(there, x[0, 0]))
    there[1].reset_mem()
    with torch.no_grad():
        expected = torch.stack([there(now) for now in x])
    assert torch.equal(spikes_of(again, x), expected)


def test_other_resistances_against_euler_steps(generator, x):
    """NIR's own equations, neuron by neuron, in steps of another dt: v += dt/τ (v_leak − v + R I), then the reset."""
    n, dt = 12, 2e-3
    weight = torch.randn(n, SIZES[0], generator=generator).double().numpy()
    bias = torch.rand(n, generator=generator).double().numpy()
    tau, r, threshold = (torch.rand(n, generator=generator).double().numpy() + 0.1 for _ in range(3))
    tau = tau * 0.05
    lif = nir.LIF(tau=tau, r=r, v_leak=np.zeros(n), v_threshold=0.1 * threshold, v_reset=np.zeros(n))
    again = from_nir(nir.NIRGraph.from_list(nir.Affine(weight, bias), lif), dt=dt)

    potential = np.zeros((x.shape[1], n))
    expected = []
    for now in x.double().numpy():
        current = now @ weight.T + bias
        potential = potential + dt / tau * (-potential + r * current)
        expected.append(potential > 0.1 * threshold)
        potential = np.where(expected[-1], 0.0, potential)
    assert np.array_equal(spikes_of(again, x.double()).numpy().astype(bool), np.stack(expected))
