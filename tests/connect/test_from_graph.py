"""FromGraph: matrices and networkx graphs of every kind become the same connections."""

import copy
import pickle
import re
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropil.connect.from_graph import FromGraph
from neuropil.connect.wiring import Wiring

MASK = [[1, 0, 1], [0, 1, 0]]  # two targets, three sources


@pytest.mark.parametrize(
    "read",
    [
        np.array,
        torch.tensor,
        lambda mask: torch.tensor(mask).to_sparse(),
        lambda mask: np.array(mask) * -0.5,
        lambda mask: np.array(mask, dtype=bool),
        sp.csr_array,
        sp.csc_matrix,
        sp.coo_array,
        sp.lil_matrix,
        sp.dok_array,
    ],
)
def test_matrices_are_targets_by_sources(read) -> None:
    pattern = FromGraph(read(MASK))
    assert pattern.wire(3, 2) == Wiring.from_mask(MASK)
    assert pattern.expected_density(3, 2) == 0.5


def test_stored_zeros_are_no_connections_and_repeated_entries_are_one() -> None:
    entries = sp.coo_array(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    assert FromGraph(entries).wire(2, 2).mask().int().tolist() == [[0, 1], [0, 0]]
    assert entries.nnz == 3  # the caller's matrix is as it was


def test_directed_graphs_lead_from_source_to_target() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "c")])
    assert FromGraph(graph).wire(3, 3).mask().int().tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_undirected_graphs_connect_both_ways() -> None:
    graph = nx.Graph([(0, 1), (1, 2)])
    assert FromGraph(graph).wire(3, 3).mask().int().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_order_of_nodes_is_that_of_the_graph() -> None:
    graph = nx.DiGraph()
    graph.add_nodes_from(["z", "a", "m"])
    graph.add_edge("a", "z")
    assert FromGraph(graph).wire(3, 3).mask().nonzero().tolist() == [[0, 1]]


def test_parallel_edges_and_weights_play_no_part() -> None:
    graph = nx.MultiDiGraph([(0, 1), (0, 1), (1, 0)])
    graph.add_edge(0, 0, weight=0.0)
    assert FromGraph(graph).wire(2, 2).mask().int().tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph])
def test_bipartite_graphs(kind) -> None:
    graph = kind()
    graph.add_node("t0", bipartite=1)
    graph.add_nodes_from(["s0", "s1", "s2"], bipartite=0)
    graph.add_node("t1", bipartite=1)
    graph.add_edges_from([("s0", "t0"), ("s2", "t0"), ("s1", "t1")])
    assert FromGraph(graph).wire(3, 2) == Wiring.from_mask(MASK)


def test_undirected_edges_of_a_bipartite_graph_may_be_written_either_way() -> None:
    graph = nx.Graph()
    graph.add_nodes_from([0, 1], bipartite=0)
    graph.add_nodes_from([2], bipartite=1)
    graph.add_edges_from([(2, 0), (1, 2)])
    assert FromGraph(graph).wire(2, 1).mask().all()


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(0, 2**16))
def test_agrees_with_networkx_adjacency(n: int, seed: int) -> None:
    for directed in (True, False):
        graph = nx.gnp_random_graph(n, 0.5, seed=seed, directed=directed)
        if graph.number_of_edges():
            adjacency = nx.to_numpy_array(graph)  # rows: where an edge starts
            assert FromGraph(graph).wire(n, n) == Wiring.from_mask(adjacency.T)
            assert FromGraph(adjacency.T) == FromGraph(graph)


def test_generators_of_networkx_fit() -> None:
    graph = nx.bipartite.random_graph(8, 6, 0.5, seed=0)
    assert FromGraph(graph).wire(8, 6).n_connections == graph.number_of_edges()
    ring = nx.watts_strogatz_graph(20, 4, 0.1, seed=0)
    assert FromGraph(ring).wire(20, 20).n_connections == 80


def test_patterns_are_values() -> None:
    pattern = FromGraph(np.array(MASK))
    assert pattern == FromGraph(sp.csr_array(MASK))
    assert hash(pattern) == hash(FromGraph(sp.csr_array(MASK)))
    assert pattern != FromGraph(np.array(MASK).T)
    assert pickle.loads(pickle.dumps(pattern)) == pattern
    assert copy.deepcopy(pattern) == pattern
    assert pattern.wire(3, 2) is pattern.wiring
    assert repr(pattern).startswith("FromGraph(wiring=Wiring(3 → 2, ")


def test_later_changes_of_the_graph_do_not_reach_the_pattern() -> None:
    mask = np.array(MASK)
    pattern = FromGraph(mask)
    mask[:] = 1
    assert pattern.wire(3, 2).n_connections == 3


def test_networkx_is_not_imported() -> None:
    code = (
        "import sys, torch; before = 'networkx' in sys.modules; "  # PyTorch may import it by itself
        "from neuropil.connect.from_graph import FromGraph; FromGraph(torch.eye(2)); "
        "sys.exit(('networkx' in sys.modules) != before)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def partly_bipartite() -> nx.Graph:
    graph = nx.Graph([(0, 1)])
    graph.nodes[0]["bipartite"] = 0
    return graph


def bipartite(edge: tuple[str, str], kind=nx.Graph) -> nx.Graph:
    graph = kind()
    graph.add_nodes_from(["s", "s2"], bipartite=0)
    graph.add_node("t", bipartite=1)
    graph.add_edge(*edge)
    return graph


def three_sides() -> nx.Graph:
    graph = nx.Graph([(0, 1)])
    nx.set_node_attributes(graph, {0: 0, 1: 2}, "bipartite")
    return graph


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: FromGraph(np.array(MASK)).wire(2, 3),
            "FromGraph: in_features and out_features must be the graph's 3 sources and 2 targets, got 2 and 3",
        ),
        (lambda: FromGraph(np.array(MASK)).expected_density(4, 2), "3 sources and 2 targets, got 4 and 2"),
        (lambda: FromGraph(np.ones(3)), "FromGraph: graph must be a matrix [out, in], got shape (3,)"),
        (
            lambda: FromGraph(sp.csr_array((2, 3))),
            "FromGraph: graph must have at least one connection, got none between 3 sources and 2 targets",
        ),
        (
            lambda: FromGraph(nx.empty_graph(4)),
            "FromGraph: graph must have at least one connection, got none between 4 sources and 4 targets",
        ),
        (
            lambda: FromGraph(partly_bipartite()),
            "FromGraph: bipartite must be 0 (source) or 1 (target) at every node or be given at none, "
            "got [0] at 1 of 2 nodes",
        ),
        (lambda: FromGraph(three_sides()), "at every node or be given at none, got [0, 2] at 2 of 2 nodes"),
        (
            lambda: FromGraph(bipartite(("s", "s2"))),
            "FromGraph: an edge of a bipartite graph must lead from a source (bipartite=0) to a target "
            "(bipartite=1), got 's' → 's2'",
        ),
        (lambda: FromGraph(bipartite(("t", "s"), nx.DiGraph)), "got 't' → 's'"),
    ],
)
def test_errors(make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_other_objects_are_rejected_by_type() -> None:
    for graph in ("edges.csv", [[1, 0], [0, 1]], None):
        with pytest.raises(TypeError, match=r"FromGraph: graph must be a SciPy sparse matrix, a NumPy array, a tens"):
            FromGraph(graph)
