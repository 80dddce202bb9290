"""Units other than LIF in NIR graphs and files: what comes back, Euler steps of NIR's equations, and snnTorch."""

from itertools import pairwise

import nir
import numpy as np
import pytest
import snntorch
import torch
from snntorch.export_nir import export_to_nir
from snntorch.import_nir import import_from_nir
from torch import nn

from neuropil.models import SpikingSequential, from_nir, read_nir, to_nir, write_nir
from neuropil.units import IF, LIF, CurrentLIF, FastSigmoid, LeakyIntegrator

SIZES = (30, 40, 24, 10)
RESETS = [(reset, delay) for reset in ("zero", "subtract", "none") for delay in (True, False)]


@pytest.fixture
def x(generator):
    """Bernoulli spikes over 50 steps."""
    return (torch.rand(50, 16, SIZES[0], generator=generator) < 0.3).float()


def layer(n_in, n_out, generator, dtype=torch.float32):
    """A layer whose weights are odd multiples of 1/128, none of them 0, so that sums are exact in any order."""
    linear = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=dtype)
    with torch.no_grad():
        linear.weight.normal_(0.03, 0.2, generator=generator).mul_(64).floor_().add_(0.5).div_(64)
        linear.bias.zero_()
    return linear


def network(generator, *units, **options):
    sizes = pairwise(SIZES[: len(units) + 1])
    return SpikingSequential(
        *(
            module
            for size, unit in zip(sizes, units, strict=True)
            for module in (layer(*size, generator, **options), unit)
        )
    )


def outputs_of(net, x):
    with torch.no_grad():
        outputs, _ = net(x)
    assert float(outputs.abs().mean()) > 0.005
    assert float((outputs == 1).float().mean()) < 0.9
    return outputs


def comes_back(net, x, path):
    write_nir(net, path)
    for again in (from_nir(to_nir(net)), read_nir(path)):
        assert torch.equal(outputs_of(again, x), outputs_of(net, x))
        assert repr(again) == repr(net)
        assert [name for name, _ in again.named_parameters()] == [name for name, _ in net.named_parameters()]
        state, before = again.state_dict(), net.state_dict()
        assert state.keys() == before.keys()
        for name, value in before.items():
            assert torch.equal(state[name], value)


# Our own way there and back


@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_currents_and_a_read_out_come_back_the_same(reset, delay, generator, x, tmp_path):
    settings = {"reset": reset, "reset_delay": delay, "detach_reset": False, "surrogate": FastSigmoid(7.0)}
    decays = torch.rand(2, SIZES[2], generator=generator)
    net = network(
        generator,
        CurrentLIF(0.85, 1.2, synaptic_decay=0.6, learn=["synaptic_decay", "threshold"], **settings),
        CurrentLIF(decays[0], synaptic_decay=decays[1], learn=["decay"], **settings),
        LeakyIntegrator(0.95, learn=["decay"]),
    )
    comes_back(net, x, tmp_path / "net.nir")


@pytest.mark.parametrize(("reset", "delay"), [case for case in RESETS if case[0] != "none"])
def test_neurons_that_do_not_leak_come_back_the_same(reset, delay, generator, x, tmp_path):
    settings = {"reset": reset, "reset_delay": delay, "surrogate": FastSigmoid(7.0)}
    thresholds = 1 + torch.rand(SIZES[2], generator=generator)
    net = network(generator, IF(1.5, learn=["threshold"], **settings), IF(thresholds, **settings), LIF(0.5, **settings))
    comes_back(net, x, tmp_path / "net.nir")


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.3])
def test_numbers_come_back_to_the_last_bit(dt, generator):
    first, second = torch.rand(2, 2000, generator=generator)
    before = [nn.Linear(1, 2000), CurrentLIF(first, 0.01 + first, synaptic_decay=second), LeakyIntegrator(second)]
    before += [IF(0.01 + second)]
    for unit, again in zip(before[1:], from_nir(to_nir(before, dt=dt)).units, strict=True):
        for name, value in unit.state_dict().items():
            assert torch.equal(getattr(again, name), value)


def test_numbers_worked_out_by_hand():
    linear = nn.Linear(2, 2)
    unit = CurrentLIF(0.75, 2.0, synaptic_decay=0.5)
    graph = to_nir([linear, unit, linear, IF(3.0), linear, LeakyIntegrator(0.5)], dt=1e-3)
    assert list(graph.nodes) == [
        "input", "affine", "cubalif", "affine_1", "if", "affine_2", "li", "output"
    ]  # fmt: skip
    expected = {
        "cubalif": {"tau_mem": 4e-3, "r": 4.0, "tau_syn": 2e-3, "w_in": 2.0, "v_leak": 0, "v_reset": 0, "v_threshold": 2},
        "if": {"r": 1000.0, "v_threshold": 3.0, "v_reset": 0.0},
        "li": {"tau": 2e-3, "r": 2.0, "v_leak": 0.0},
    }  # fmt: skip
    for name, numbers in expected.items():
        for number, value in numbers.items():
            assert getattr(graph.nodes[name], number).tolist() == pytest.approx([value] * 2)


# NIR's own equations


def euler(node, currents, dt, from_old=False):
    """Explicit Euler steps of the equations in NIR's docstrings, from 0; CubaLIF from the old or the new current."""
    state = synaptic = np.zeros(currents.shape[1:])
    outputs = []
    for now in currents:
        drive = now
        if isinstance(node, nir.CubaLIF):
            old, synaptic = synaptic, synaptic + dt / node.tau_syn * (-synaptic + node.w_in * now)
            drive = old if from_old else synaptic
        if isinstance(node, nir.IF):
            state = state + dt * node.r * drive
        else:
            tau = node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau
            state = state + dt / tau * ((node.v_leak - state) + node.r * drive)
        if isinstance(node, nir.LI):
            outputs.append(state)
        else:
            outputs.append((state > node.v_threshold).astype(float))
            state = np.where(state > node.v_threshold, node.v_reset, state)
    return np.stack(outputs)


def drawn(n, generator):
    """Positive numbers, one a neuron."""
    return torch.rand(n, generator=generator).double().numpy() + 0.1


NODES = {
    "CubaLIF": lambda n, g: nir.CubaLIF(
        tau_syn=0.03 * drawn(n, g), tau_mem=0.05 * drawn(n, g), r=drawn(n, g), v_leak=np.zeros(n),
        v_threshold=0.03 * drawn(n, g), w_in=drawn(n, g) * np.sign(drawn(n, g) - 0.3),
    ),
    "IF": lambda n, g: nir.IF(r=10 * drawn(n, g), v_threshold=0.05 * drawn(n, g)),
    "LI": lambda n, g: nir.LI(tau=0.05 * drawn(n, g), r=drawn(n, g), v_leak=np.zeros(n)),
}  # fmt: skip
UNITS = {
    "CurrentLIF": lambda n, g: CurrentLIF(
        *torch.rand(2, n, generator=g, dtype=torch.float64), synaptic_decay=torch.rand(n, generator=g).double(), reset="zero"
    ),
    "IF": lambda n, g: IF(1 + torch.rand(n, generator=g, dtype=torch.float64), reset="zero", reset_delay=False),
    "LeakyIntegrator": lambda n, g: LeakyIntegrator(torch.rand(n, generator=g, dtype=torch.float64)),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_nodes_against_euler_steps(name, generator, x):
    """Whatever their resistances and input weights, which the layer before them takes over."""
    dt, node = 2e-3, NODES[name](SIZES[1], generator)
    weight = torch.randn(SIZES[1], SIZES[0], generator=generator).double().numpy()
    net = from_nir(nir.NIRGraph.from_list(nir.Linear(weight), node), dt=dt)
    expected = euler(node, x.double().numpy() @ weight.T, dt)
    np.testing.assert_allclose(outputs_of(net, x.double()).numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", UNITS)
def test_euler_steps_of_exported_nodes_are_the_units(name, generator, x):
    unit = UNITS[name](SIZES[1], generator)
    net = network(generator, unit, dtype=torch.float64)
    graph = to_nir(net, dt=1e-3)
    (node,) = [node for node in graph.nodes.values() if isinstance(node, (nir.CubaLIF, nir.IF, nir.LI))]
    expected = euler(node, net[0](x.double()).detach().numpy(), 1e-3)
    np.testing.assert_allclose(outputs_of(net, x.double()).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_potentials_driven_by_the_old_current_spike_a_step_later(generator, x):
    net = network(generator, UNITS["CurrentLIF"](SIZES[1], generator), dtype=torch.float64)
    node = to_nir(net, dt=1e-3).nodes["cubalif"]
    later = euler(node, net[0](x.double()).detach().numpy(), 1e-3, from_old=True)
    assert np.array_equal(later[1:], outputs_of(net, x.double()).numpy()[:-1])
    assert not later[0].any()


# snnTorch


def in_snntorch(net, x):
    """Step by step, as GraphModules of snnTorch go."""
    with torch.no_grad():
        return torch.stack([net(now)[0] for now in x])


@pytest.mark.parametrize("delay", [True, False])
def test_snntorch_gives_the_same_spikes(delay, generator, x, capsys):
    settings = {"reset": "zero", "reset_delay": delay}
    net = network(
        generator,
        CurrentLIF(0.8, 1.5, synaptic_decay=0.7, **settings),
        LIF(0.9, **settings),
        CurrentLIF(0.5, 0.75, synaptic_decay=0.9, **settings),
    )
    there = import_from_nir(to_nir(net))
    assert torch.equal(in_snntorch(there, x), outputs_of(net, x))
    assert "scaling weights" not in capsys.readouterr().out


def test_snntorch_with_decays_of_each_neuron(generator, x):
    decays = 0.95 * torch.rand(2, SIZES[1], generator=generator, dtype=torch.float64)
    net = network(generator, CurrentLIF(decays[0], 1.5, synaptic_decay=decays[1], reset="zero"), dtype=torch.float64)
    graph = to_nir(net)
    assert torch.equal(in_snntorch(import_from_nir(graph), x), outputs_of(net, x.double()))


@pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph:DeprecationWarning")
def test_a_graph_that_snntorch_has_exported(generator, x):
    alpha, beta, threshold = (torch.linspace(*ends, SIZES[1]) for ends in ((0.3, 0.9), (0.95, 0.5), (0.5, 1.5)))
    synaptic = snntorch.Synaptic(
        alpha, beta, threshold, init_hidden=True, reset_mechanism="zero", reset_delay=False
    )  # fmt: skip
    there = nn.Sequential(layer(*SIZES[:2], generator), synaptic)
    again = from_nir(export_to_nir(there, x[0, 0]))
    synaptic.reset_mem()
    with torch.no_grad():
        expected = torch.stack([there(now) for now in x])
    assert torch.equal(outputs_of(again, x), expected)


@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_neurons_that_have_learnt_not_to_leak_become_if(reset, delay, generator, x):
    net = network(
        generator, LIF(learn=["decay", "threshold"], reset=reset, reset_delay=delay, surrogate=FastSigmoid(7.0))
    )
    with torch.no_grad():
        net.units[0].decay.fill_(1.03)  # beyond 1: used as 1
    again = from_nir(to_nir(net))
    (unit,) = again.units
    assert type(unit) is IF
    assert (unit.reset, unit.reset_delay, unit.surrogate) == (reset, delay, FastSigmoid(7.0))
    assert [name for name, _ in unit.named_parameters()] == ["threshold"]
    assert torch.equal(outputs_of(again, x), outputs_of(net, x))
