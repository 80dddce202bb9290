"""Wiring read from a graph: a connectome, or whatever a graph library generates."""

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.connect.pattern import Pattern
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    import networkx as nx
    from scipy.sparse import sparray, spmatrix

Pairs = tuple[NDArray[Any], NDArray[Any], tuple[int, int]]


@dataclass(frozen=True)
class FromGraph(Pattern):
    """The connections of a given graph, for layers of just its size; nothing is drawn.

    A matrix is read as ``[out, in]``, targets × sources, and a non-zero entry as a connection. The nodes of a
    networkx graph are both layers, in the graph's own order: a directed edge leads from source to target, an
    undirected one both ways. Where the nodes carry the attribute ``bipartite``, those with 0 are the sources,
    those with 1 the targets, and each edge joins a source to a target. Weights of edges, and edges between
    the same two nodes beyond the first, play no part.

    Args:
        graph: a SciPy sparse matrix or array, a NumPy array or a tensor, ``[out, in]``, or a networkx graph.

    Attributes:
        wiring: what :meth:`wire` returns.

    Raises:
        TypeError: the graph is none of these.
        ValueError: the graph has no connection, is not a matrix, or is bipartite only in part; at ``wire``:
            the layers' sizes are not the graph's.

    Example:
        >>> from scipy.sparse import eye_array
        >>> FromGraph(eye_array(4, 6)).wire(6, 4)
        Wiring(6 → 4, block=(1, 1), density=0.1667, n_connections=4, 2 sources without target)
    """

    graph: InitVar["NDArray[Any] | Tensor | sparray | spmatrix | nx.Graph"]
    wiring: Wiring = field(init=False)

    def __post_init__(self, graph: Any) -> None:
        targets, sources, (out_features, in_features) = _pairs(graph)
        if len(targets) == 0:
            raise ValueError(
                f"FromGraph: graph must have at least one connection, got none between {in_features} "
                f"sources and {out_features} targets"
            )
        keys = np.unique(targets.astype(np.int64) * in_features + sources)
        wiring = Wiring(in_features, out_features, keys // in_features, keys % in_features)
        object.__setattr__(self, "wiring", wiring)

    def wire(self, in_features: int, out_features: int, *, generator: torch.Generator | None = None) -> Wiring:
        """Return the wiring; see :meth:`Pattern.wire`. The generator is not used."""
        self._check_sizes(in_features, out_features)
        return self.wiring

    def expected_density(self, in_features: int, out_features: int) -> float:
        """Return the density of the graph."""
        self._check_sizes(in_features, out_features)
        return self.wiring.density

    def _check_sizes(self, in_features: int, out_features: int) -> None:
        if (out_features, in_features) != self.wiring.shape:
            raise ValueError(
                f"FromGraph: in_features and out_features must be the graph's {self.wiring.in_features} "
                f"sources and {self.wiring.out_features} targets, got {in_features} and {out_features}"
            )


def _pairs(graph: Any) -> Pairs:
    """Return target and source of each connection, some perhaps twice, and the shape (targets, sources)."""
    if hasattr(graph, "nodes") and hasattr(graph, "is_directed"):
        return _of_nodes(graph)
    if isinstance(graph, Tensor):
        graph = (graph.to_dense() if graph.layout != torch.strided else graph).detach().cpu().numpy()
    if not hasattr(graph, "tocoo") and not isinstance(graph, np.ndarray):
        raise TypeError(
            "FromGraph: graph must be a SciPy sparse matrix, a NumPy array, a tensor or a networkx graph, "
            f"got {type(graph).__name__}"
        )
    if graph.ndim != 2:
        raise ValueError(f"FromGraph: graph must be a matrix [out, in], got shape {tuple(graph.shape)}")
    if isinstance(graph, np.ndarray):
        targets, sources = np.nonzero(graph)
    else:
        entries = graph.tocoo()
        live = entries.data != 0
        targets, sources = entries.row[live], entries.col[live]
    return targets, sources, graph.shape


def _of_nodes(graph: Any) -> Pairs:
    """Read a networkx graph."""
    side = {node: value for node, value in graph.nodes(data="bipartite") if value is not None}
    if side and (len(side) < len(graph) or not set(side.values()) <= {0, 1}):
        raise ValueError(
            "FromGraph: bipartite must be 0 (source) or 1 (target) at every node or be given at none, got "
            f"{sorted(set(side.values()), key=str)} at {len(side)} of {len(graph)} nodes"
        )
    edges = list(graph.edges())  # called, as a multigraph otherwise adds a key to each pair
    if not graph.is_directed():
        edges += [(v, u) for u, v in edges]
    if side and graph.is_directed():
        backward = next((edge for edge in edges if (side[edge[0]], side[edge[1]]) != (0, 1)), None)
    else:
        backward = next((edge for edge in edges if side and side[edge[0]] == side[edge[1]]), None)
    if backward:
        raise ValueError(
            "FromGraph: an edge of a bipartite graph must lead from a source (bipartite=0) to a target "
            f"(bipartite=1), got {backward[0]!r} → {backward[1]!r}"
        )
    source_index = {node: i for i, node in enumerate(n for n in graph.nodes if side.get(n, 0) == 0)}
    target_index = {node: o for o, node in enumerate(n for n in graph.nodes if side.get(n, 1) == 1)}
    pairs = [(target_index[v], source_index[u]) for u, v in edges if u in source_index and v in target_index]
    targets, sources = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return targets, sources, (len(target_index), len(source_index))
