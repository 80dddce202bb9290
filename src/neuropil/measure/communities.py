"""How far connections keep to groups: those that are given, and those that are found."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from neuropil.connect import Wiring
from neuropil.measure.graphs import check_square, ends
from neuropil.rewire.groups import Groups, Modularity


@dataclass(frozen=True)
class Communities:
    """Groups that were found in a wiring.

    Attributes:
        out_groups: community of each target neuron, int64 ``[out_features]``.
        in_groups: community of each source neuron, int64 ``[in_features]``; the same where recurrent.
        n_communities: how many have a connection.
        modularity: of these groups.
    """

    out_groups: Tensor
    in_groups: Tensor
    n_communities: int
    modularity: float


def modularity(wiring: Wiring, *, out_groups: ArrayLike | None = None, in_groups: ArrayLike | None = None) -> float:
    """Return how many more connections lie within groups than degrees alone would put there.

    Q = Σ_g [L_g / m − K_g D_g / m²], with m connections, L_g of them within group g, and K_g of them that end, D_g that
    start in it: in [−1/2, 1), 0 where groups do not matter, 1 − 1/k for k equal groups with nothing between them. For a
    layer it is Barber's bipartite modularity; for a square wiring whose neurons have one group each, the same sum is
    Newman's for directed graphs. Connections count, whatever the block. Costs one pass over them.

    Args:
        wiring: any.
        out_groups: group of each target neuron, at least 0, −1 for none; default: those of the wiring.
        in_groups: group of each source neuron; both or neither.

    Raises:
        ValueError: there are no groups, or they do not fit.

    Reference:
        M. J. Barber, Modularity and community detection in bipartite networks, Phys. Rev. E 76, 066102 (2007);
        E. A. Leicht and M. E. J. Newman, Community structure in directed networks, arXiv 0709.4500.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> modularity(Ensembles(n_groups=4, p_inter=0.0).wire(64, 64))
        0.75
    """
    if (out_groups is None) != (in_groups is None):
        raise ValueError("modularity: groups must be given for both sides or for neither, got one side only")
    rows = _labels("out_groups", wiring.out_groups if out_groups is None else out_groups, wiring.out_features)
    columns = _labels("in_groups", wiring.in_groups if in_groups is None else in_groups, wiring.in_features)
    targets, sources = ends(wiring)
    return Modularity(Groups(rows, columns), targets * wiring.in_features + sources).value


def find_communities(
    wiring: Wiring, *, generator: torch.Generator, recurrent: bool = False, resolution: float = 1.0
) -> Communities:
    """Look for the groups of highest modularity, by Louvain's heuristic.

    Sources and targets of a layer are put into common groups; a source is another node than the target of the same
    number, unless ``recurrent``. What is maximized is :func:`modularity`: Barber's sum is Newman's for the directed
    graph from sources to targets. Random wirings have communities too, of a modularity well above 0: compare with
    :func:`random_twin`; and where no grouping is better than none, as in a dense wiring, each neuron may be
    left by itself. The heuristic depends on the order of the neurons and on the seed, and may miss the maximum.
    Costs about 10 to 30 µs a connection, in Python, with some 500 bytes each: a million take half a minute.

    Args:
        wiring: any.
        generator: gives the seed.
        recurrent: whether the wiring is a layer's with itself: then a neuron has one group.
        resolution: above 1 for more and smaller communities, below 1 for fewer.

    Raises:
        ValueError: recurrent, but not square; or the resolution is out of range.

    Reference:
        V. D. Blondel et al., Fast unfolding of communities in large networks, arXiv 0803.0476; N. Dugué and A. Perez,
        Directed Louvain: maximizing modularity in directed networks (2015).

    Example:
        >>> from neuropil.connect import Ensembles
        >>> wiring = Ensembles(n_groups=4, p_inter=0.0).wire(64, 64)
        >>> found = find_communities(wiring, generator=torch.Generator().manual_seed(0))
        >>> found.n_communities, found.modularity
        (4, 0.75)
    """
    import networkx as nx

    if not 0 < resolution < math.inf:
        raise ValueError(f"find_communities: resolution must be finite and above 0, got {resolution}; try 1.0")
    if recurrent:
        check_square("find_communities", wiring)
    shift = 0 if recurrent else wiring.in_features
    targets, sources = ends(wiring)
    graph = nx.DiGraph()
    n_nodes = wiring.in_features if recurrent else wiring.in_features + wiring.out_features
    graph.add_nodes_from(range(n_nodes))
    graph.add_edges_from(zip(sources.tolist(), (targets + shift).tolist(), strict=True))
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device="cpu"))
    found = nx.community.louvain_communities(graph, resolution=resolution, seed=seed)
    groups = np.empty(n_nodes, dtype=np.int64)
    for label, nodes in enumerate(sorted(found, key=min)):
        groups[list(nodes)] = label
    in_groups, out_groups = groups[: wiring.in_features], groups[shift:]
    n_communities = len(np.unique(np.concatenate([in_groups[sources], out_groups[targets]])))
    value = modularity(wiring, out_groups=out_groups, in_groups=in_groups)
    return Communities(torch.from_numpy(out_groups), torch.from_numpy(in_groups), n_communities, value)


def _labels(name: str, groups: ArrayLike | None, n: int) -> NDArray[np.int64]:
    if groups is None:
        raise ValueError(
            f"modularity: {name} must be given where neurons carry no group labels, got none; try find_communities"
        )
    labels = np.asarray(groups)
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or labels.min() < -1:
        raise ValueError(
            f"modularity: {name} must be {n} integers of at least −1, got {labels.dtype} of shape {labels.shape}"
        )
    return labels.astype(np.int64)
