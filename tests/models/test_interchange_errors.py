"""Networks and graphs that are refused, each in one sentence."""

import subprocess
import sys
from itertools import pairwise

import nir
import numpy as np
import pytest
import torch
from torch import nn

from neuropil.models import from_nir, read_nir, to_nir
from neuropil.units import IF, LIF, AdaptiveLIF, CurrentLIF, Izhikevich, LeakyIntegrator, Unit

# Networks and graphs


class Other(Unit):
    def rest(self, current):
        return ()

    def step(self, current, state=None):
        return current, ()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: to_nir(LIF()), TypeError, "to_nir: model must be a SpikingEnsembleNet or modules in a row, got LIF"),
        (lambda: to_nir([]), ValueError, "to_nir: model must have at least one module, got none"),
        (
            lambda: to_nir([nn.Linear(2, 2)], dt=0.0),
            ValueError,
            "to_nir: dt must be finite and above 0, in seconds, got 0",
        ),
        (
            lambda: to_nir([nn.Linear(2, 2), Other()]),
            TypeError,
            "to_nir: module 1 (Other) must be a linear layer, CurrentLIF, IF, LIF or LeakyIntegrator, got another kind",
        ),
        *(
            (
                lambda unit=unit: to_nir([nn.Linear(2, 2), unit()]),
                TypeError,
                f"to_nir: module 1 ({unit.__name__}) must be a unit that NIR has a node for, and it has none for "
                f"{unit.__name__}; try CurrentLIF, IF, LIF or LeakyIntegrator",
            )
            for unit in (AdaptiveLIF, Izhikevich)
        ),
        (
            lambda: to_nir([LIF()]),
            ValueError,
            "to_nir: module 0 (LIF) must come after a linear layer, which says how many neurons there are",
        ),
        (
            lambda: to_nir([nn.Linear(2, 3), LIF(decay=torch.full((2,), 0.5))]),
            ValueError,
            "to_nir: module 1 (LIF) must have numbers for the 3 neurons before it, got 2",
        ),
        (
            lambda: to_nir([nn.Linear(2, 3), LIF(), nn.Linear(2, 3)]),
            ValueError,
            "to_nir: module 2 (Linear) must take the 3 neurons before it, got in_features=2",
        ),
        (
            lambda: to_nir([nn.Linear(2, 3), one_that_does_not_leak()]),
            ValueError,
            "to_nir: module 1 (LIF): decay must be below 1 for NIR's LIF, which leaks, got 1; try clamping it to 0.999",
        ),
        (
            lambda: to_nir([nn.Linear(2, 3), changed(LIF(learn=["threshold"]), "threshold", -0.5)]),
            ValueError,
            "to_nir: module 1 (LIF): threshold must be finite and above 0, got -0.5",
        ),
        (
            lambda: to_nir([nn.Linear(2, 3), changed(CurrentLIF(learn=["synaptic_decay"]), "synaptic_decay", 1.5)]),
            ValueError,
            "to_nir: module 1 (CurrentLIF): synaptic_decay must be below 1 for NIR's CubaLIF, which leaks, got 1; try clamping it to 0.999",
        ),
        (
            lambda: to_nir([nn.Linear(2, 3), changed(LeakyIntegrator(learn=["decay"]), "decay", 1.5)]),
            ValueError,
            "to_nir: module 1 (LeakyIntegrator): decay must be below 1 for NIR's LI, which leaks, got 1; try clamping it to 0.999",
        ),
        (
            lambda: to_nir([nn.Linear(2, 3), IF(torch.ones(2))]),
            ValueError,
            "to_nir: module 1 (IF) must have numbers for the 3 neurons before it, got 2",
        ),
        (
            lambda: to_nir([changed(nn.Linear(2, 3), "weight", torch.nan)]),
            ValueError,
            "to_nir: module 0 (Linear): weights must be finite, got some that are not",
        ),
    ],
)
def test_networks_that_cannot_be_exported(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == message


def changed(module, name, value):
    with torch.no_grad():
        getattr(module, name).fill_(value)
    return module


def one_that_does_not_leak():
    neurons = LIF(torch.tensor([0.5, 0.5, 0.5]), learn=["decay"])
    with torch.no_grad():
        neurons.decay[1] = 1.5
    return neurons


def graph_of(*nodes, edges=None, **more):
    named = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    named |= {f"n{i}": node for i, node in enumerate(nodes)} | more
    row = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    edges = list(pairwise(row)) if edges is None else edges
    return nir.NIRGraph(named, edges, type_check=False)


def linear(value=1.0, shape=(2, 2), **notes):
    return nir.Linear(np.full(shape, value), metadata={"neuropil": notes} if notes else {})


def lif(notes=None, n=2, **numbers):
    values = {"tau": 1e-3, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | numbers
    arrays = {name: np.full(n, value) for name, value in values.items()}
    return nir.LIF(**arrays, metadata={} if notes is None else {"neuropil": notes})


def cuba(n=2, **numbers):
    values = {
        "tau_syn": 1e-3,
        "w_in": 10.0,
        "tau_mem": 1e-3,
        "r": 10.0,
        "v_leak": 0.0,
        "v_threshold": 1.0,
        "v_reset": 0.0,
    }
    return nir.CubaLIF(**{name: np.full(n, value) for name, value in (values | numbers).items()})


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (graph_of(), "graph must have a node between Input and Output, got none"),
        (graph_of(linear(), more=nir.Input({"input": np.array([2])})), "graph must have one Input and one Output, got 2 and 1"),
        (graph_of(nir.Threshold(np.ones(2))), "n0 must be an Affine, Linear, CubaLIF, IF, LIF or LI node, the ones that can be built here, got Threshold"),
        (
            graph_of(linear(), edges=[("input", "n0"), ("n0", "n0"), ("n0", "output")]),
            "nodes must follow each other in a row, without branches or loops, got n0 before n0, output",
        ),
        (
            graph_of(linear(), edges=[("input", "n0"), ("n0", "n0")]),
            "nodes must follow each other in a row, without branches or loops, got n0 before n0",
        ),
        (
            graph_of(linear(), edges=[("input", "n0")]),
            "nodes must follow each other in a row, without branches or loops, got n0 before nothing",
        ),
        (
            graph_of(linear(), edges=[("input", "n0"), ("n0", "gone")]),
            "nodes must follow each other in a row, without branches or loops, got n0 before gone",
        ),
        (
            graph_of(linear(), linear(), edges=[("input", "n0"), ("n0", "output")]),
            "nodes must follow each other in a row, got n1 outside of it",
        ),
        (graph_of(linear(shape=(1, 2, 2))), "n0: weight must be a matrix of numbers, got float64 of shape [1, 2, 2]"),
        (graph_of(linear(value="a")), "n0: weight must be a matrix of numbers, got <U1 of shape [2, 2]"),
        (graph_of(nir.Affine(np.ones((2, 2)), np.ones(3))), "n0: bias must be 2 numbers, got float64 of shape [3]"),
        (graph_of(linear(), linear(shape=(2, 3))), "n1: weight must have 2 columns, as the node before it, got 3"),
        (graph_of(linear(np.inf)), "n0: weight and bias must be finite, got values that are not"),
        (graph_of(linear(0.0)), "n0: some weight must differ from 0, got none; try sparse=False"),
        (graph_of(linear(), lif(tau=1e-5)), "n1: tau must be at least dt=0.0001, got 1e-05; try a smaller dt"),
        (graph_of(linear(), lif(tau=np.inf)), "n1: tau must be finite, got inf"),
        (graph_of(linear(), lif(r=-1.0)), "n1: r must be above 0, got -1"),
        (graph_of(linear(), lif(v_leak=0.5)), "n1: v_leak must be 0, the only one that LIF has, got other values"),
        (graph_of(linear(), lif(v_reset=-1.0)), "n1: v_reset must be 0, the only one that LIF has, got other values"),
        (graph_of(linear(), lif(v_threshold=0.0)), "n1: LIF: threshold must be above 0, got 0"),
        (graph_of(linear(), lif(n=(2, 2))), "n1: r must be a number for each neuron, got float64 of shape [2, 2]"),
        (graph_of(linear(), lif(n=3)), "n1: decay must be one for each of 2 neurons, got 3"),
        (graph_of(linear(), lif(n=3, r=1.0)), "n0: the neurons after it must number 2, got 3"),
        (
            graph_of(lif(r=1.0), linear()),
            "n0: what its input is multiplied by must be 1 where no linear node before it could take that over, got "
            "0.1; try another dt than 0.0001",
        ),
        (
            graph_of(nir.IF(np.ones(2), np.ones(2)), linear()),
            "n0: what its input is multiplied by must be 1 where no linear node before it could take that over, got "
            "0.0001; try another dt than 0.0001",
        ),
        (graph_of(linear(), cuba(tau_syn=1e-5)), "n1: tau_syn must be at least dt=0.0001, got 1e-05; try a smaller dt"),
        (graph_of(linear(), cuba(tau_mem=1e-5)), "n1: tau_mem must be at least dt=0.0001, got 1e-05; try a smaller dt"),
        (graph_of(linear(), cuba(w_in=0.0)), "n1: w_in must differ from 0, got 0"),
        (graph_of(linear(), cuba(w_in=np.nan)), "n1: w_in must be finite, got nan"),
        (graph_of(linear(), cuba(v_reset=0.5)), "n1: v_reset must be 0, the only one that CurrentLIF has, got other values"),
        (graph_of(linear(), cuba(n=3)), "n1: decay must be one for each of 2 neurons, got 3"),
        (
            graph_of(linear(), nir.LI(*(np.full(2, value) for value in (1e-3, 10.0, 0.5)))),
            "n1: v_leak must be 0, the only one that LeakyIntegrator has, got other values",
        ),
        (graph_of(linear(), nir.IF(np.full(2, -1.0), np.ones(2))), "n1: r must be above 0, got -1"),
        (graph_of(linear(), nir.IF(np.full(2, 1e4), np.zeros(2))), "n1: IF: threshold must be above 0, got 0"),
        (graph_of(linear(), lif({"reset": "soft"})), "n1: LIF: reset must be one of none, subtract, zero, got 'soft'"),
        (graph_of(linear(), lif({"reset": np.ones(99)})), "n1: reset in our notes must be a word, got ndarray array([1., 1., 1., 1., 1., 1.,…"),
        (graph_of(linear(), lif({"reset_delay": 2})), "n1: reset_delay in our notes must be 0 or 1, got 2"),
        (graph_of(linear(), lif({"reset_delay": np.ones(2)})), "n1: reset_delay in our notes must be 0 or 1, got array([1., 1.])"),
        (
            graph_of(linear(), lif({"surrogate": {"kind": "Step"}})),
            "n1: the surrogate noted must be one of ATan, Boxcar, FastSigmoid, Sigmoid, Triangle, got 'Step'",
        ),
        (graph_of(linear(), lif({"surrogate": {"kind": "ATan"}})), "n1: alpha in our notes must be a number, got None"),
        (
            graph_of(linear(), lif({"surrogate": {"kind": "ATan", "alpha": -1.0}})),
            "n1: ATan: alpha must be a finite number above 0, got -1",
        ),
        (graph_of(linear(), lif("all")), "n1: metadata 'neuropil' must be a group of notes, got 'all'"),
        (graph_of(linear(wiring={"shape": 1.5})), "n0: the wiring noted must be arrays of integers, got {'shape': 1.5}"),
        (
            graph_of(linear(wiring={"shape": np.ones(4, np.int64)})),
            "n0: Wiring.from_tensors: in_order, indices, indptr, out_order must be given, got none",
        ),
    ],
)  # fmt: skip
def test_graphs_that_cannot_be_built(graph, message):
    with pytest.raises(ValueError, match="^from_nir: ") as raised:
        from_nir(graph)
    assert str(raised.value) == f"from_nir: {message}"


def test_a_neuron_node_may_come_first_and_say_one_number_for_all():
    again = from_nir(graph_of(lif(), linear(0.6), lif(n=()), linear()))
    assert [type(module) for module in again] == [LIF, nn.Linear, LIF, nn.Linear]
    assert again[0].decay.shape == (2,)
    assert again[2].decay.shape == ()
    assert again(torch.ones(5, 3, 2, dtype=torch.float64))[0].shape == (5, 3, 2)
    with pytest.raises(ValueError, match=r"^from_nir: n1: weight must have 2 columns, as the node before it, got 3$"):
        from_nir(graph_of(lif(), linear(shape=(2, 3))))


def test_steps_that_make_no_sense():
    with pytest.raises(ValueError, match=r"^from_nir: dt must be finite and above 0, in seconds, got -1$"):
        from_nir(graph_of(linear()), dt=-1)
    graph = to_nir([nn.Linear(2, 2)])
    graph.metadata = {"neuropil": {"dt": "fast"}}
    with pytest.raises(ValueError, match=r"^from_nir: the graph: dt in our notes must be a number, got 'fast'$"):
        from_nir(graph)
    with pytest.raises(TypeError, match=r"^from_nir: graph must be a nir.NIRGraph, got str; for a file, try read_nir$"):
        from_nir("net.nir")


# The package


@pytest.mark.parametrize(
    "call", [lambda: to_nir([nn.Linear(2, 2)]), lambda: from_nir(None), lambda: read_nir("net.nir")]
)
def test_without_the_package(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"^\w+ needs the package nir; install neuropil\[neuro\]$"):
        call()


def test_models_does_not_load_it():
    code = "import sys, neuropil.models; print('nir' in sys.modules, 'h5py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
