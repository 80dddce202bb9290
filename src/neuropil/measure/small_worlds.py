"""Clustering and path lengths, and whether both together make a small world."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect import Wiring
from neuropil.measure.graphs import check_square, counting, edges, project, row_slices, symmetric
from neuropil.measure.random_twins import random_twin, swapped

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Side = Literal["recurrent", "targets", "sources"]
_SOURCES_AT_ONCE = 2**22  # distances that are held at a time


@dataclass(frozen=True)
class SmallWorldness:
    """Clustering and path lengths beside those of random twins.

    Attributes:
        clustering: mean local clustering C, in [0, 1].
        path_length: mean shortest path L between neurons that are joined, at least 1.
        random_clustering, random_path_length: means over the twins.
        lattice_clustering: C of a ring lattice of the same number of neurons and the nearest even mean degree.
        sigma: (C / C_random) / (L / L_random); above 1 for a small world; NaN where the twins have no triangle.
        omega: L_random / L − C / C_lattice: near −1 for a lattice, 0 for a small world, 1 for a random graph; NaN where
            the lattice has no triangle.
    """

    clustering: float
    path_length: float
    random_clustering: float
    random_path_length: float
    lattice_clustering: float
    sigma: float
    omega: float


def clustering(wiring: Wiring) -> float:
    """Return the mean local clustering of a square wiring, directions and self-connections left out.

    C = (1/n) Σ_v 2 T_v / (k_v (k_v − 1)), with T_v triangles through neuron v and k_v neighbours; 0 for a neuron with
    fewer than two. In [0, 1]. Costs Σ_v k_v² operations, a few million entries at a time.

    Raises:
        ValueError: the wiring is not square.

    Reference:
        D. J. Watts and S. H. Strogatz, Collective dynamics of 'small-world' networks, Nature 393, 440 (1998).

    Example:
        >>> from neuropil.connect import SmallWorld
        >>> clustering(SmallWorld(density=5 / 64, p_rewire=0.0).wire(64, 64))
        0.5
    """
    check_square("clustering", wiring)
    return _clustering(symmetric(edges(wiring), wiring.in_features))


def bipartite_clustering(wiring: Wiring) -> float:
    """Return the share of paths of three connections whose ends are connected too.

    C = 4 C_4 / L_3, with C_4 cycles of four connections and L_3 = Σ (k_o − 1)(k_i − 1) paths of three, over the
    connections i → o with degrees k. In [0, 1]: 1 where groups are connected all to all and nothing between, about
    the density in a large random wiring; 0 where no path is that long. Costs Σ_i fan_out² operations, a few million
    entries at a time.

    Reference:
        G. Robins and M. Alexander, Small worlds among interlocking directors, Computational & Mathematical Organization
        Theory 10, 69 (2004).

    Example:
        >>> from neuropil.connect import Ensembles
        >>> bipartite_clustering(Ensembles(n_groups=4, p_inter=0.0).wire(64, 64))
        1.0
    """
    matrix = counting(wiring)
    transposed = matrix.T.tocsr()
    closed = 0
    for rows in row_slices(matrix, transposed):
        shared = (matrix[rows] @ transposed).tocoo()
        other = shared.row + rows.start != shared.col
        pairs = shared.data[other]
        closed += int((pairs * (pairs - 1)).sum())  # four for each cycle: its targets and its sources, either way round
    fan_in, fan_out = wiring.fan_in().numpy() - 1, wiring.fan_out().numpy() - 1
    targets, sources = (side.numpy() for side in wiring.connections())
    paths = int(fan_in[targets] @ fan_out[sources])
    return closed / paths if paths else 0.0


def path_length(wiring: Wiring, *, n_sources: int | None = None, generator: torch.Generator | None = None) -> float:
    """Return the mean shortest path of a square wiring over the pairs that are joined, directions left out.

    At least 1; NaN where no two neurons are joined. Costs neurons × connections, a few million distances at a time:
    give ``n_sources`` for more than some ten thousand neurons.

    Args:
        wiring: square.
        n_sources: from how many neurons, drawn at random, to look; default: from all.
        generator: draws them.

    Raises:
        ValueError: the wiring is not square, or neurons are to be drawn without a generator.

    Example:
        >>> from neuropil.connect import SmallWorld
        >>> path_length(SmallWorld(density=3 / 9, p_rewire=0.0).wire(9, 9))
        2.5
    """
    check_square("path_length", wiring)
    _check_draw("path_length", n_sources, generator)
    return _path_length(symmetric(edges(wiring), wiring.in_features), n_sources, generator)


def small_world(
    wiring: Wiring,
    *,
    generator: torch.Generator,
    side: Side = "recurrent",
    n_twins: int = 10,
    n_sources: int | None = None,
) -> SmallWorldness:
    """Compare clustering and path lengths with those of random twins and of a ring lattice.

    A square wiring is read without its directions and self-connections, and its twins keep the number of neighbours of
    each neuron. A layer is read as the graph of its targets, two of which are joined where they share a source, or of
    its sources; the twins are then those of the layer, as sharing alone makes triangles. This graph is nearly
    complete, and all figures near those of its twins, unless fan_in · fan_out is far below the number of neurons.
    Costs ``n_twins + 1`` times :func:`clustering` and :func:`path_length`.

    Args:
        wiring: square for ``recurrent``.
        generator: draws the twins, and the neurons that paths start from.
        side: ``recurrent``, ``targets`` or ``sources``.
        n_twins: number of twins, at least 1.
        n_sources: see :func:`path_length`.

    Raises:
        ValueError: side is unknown, the wiring is not square, or n_twins is below 1.

    Reference:
        M. D. Humphries and K. Gurney, Network 'small-world-ness', PLoS ONE 3, e0002051 (2008), for sigma;
        Q. K. Telesford et al., The ubiquity of small-world networks, arXiv 1109.5454, for omega, whose lattice keeps
        every degree, while ours is regular: for uneven degrees omega is only alike.

    Example:
        >>> from neuropil.connect import SmallWorld
        >>> generator = torch.Generator().manual_seed(0)
        >>> wiring = SmallWorld(density=0.05, p_rewire=0.1).wire(200, 200, generator=generator)
        >>> small_world(wiring, generator=generator, n_twins=3).sigma > 3
        True
    """
    if side not in ("recurrent", "targets", "sources"):
        raise ValueError(f"small_world: side must be recurrent, targets or sources, got {side!r}")
    if n_twins < 1:
        raise ValueError(f"small_world: n_twins must be at least 1, got {n_twins}")
    _check_draw("small_world", n_sources, generator)
    if side == "recurrent":
        check_square("small_world", wiring)
    graph, *twins = _graphs(wiring, side, n_twins, generator)
    own = _clustering(graph), _path_length(graph, n_sources, generator)
    others = [(_clustering(twin), _path_length(twin, n_sources, generator)) for twin in twins]
    random_c, random_l = (float(np.mean(values)) for values in zip(*others, strict=True))
    lattice = _lattice_clustering(graph.shape[0], round(graph.nnz / graph.shape[0] / 2))
    sigma = own[0] / random_c / (own[1] / random_l) if random_c else math.nan
    omega = random_l / own[1] - own[0] / lattice if lattice else math.nan
    return SmallWorldness(*own, random_c, random_l, lattice, sigma, omega)


def _graphs(wiring: Wiring, side: Side, n_twins: int, generator: torch.Generator) -> Iterator["csr_array"]:
    """Yield the graph of a wiring, then those of its twins."""
    if side != "recurrent":
        yield project(wiring, side)
        for _ in range(n_twins):
            yield project(random_twin(wiring, generator=generator), side)
        return
    n, pairs = wiring.in_features, edges(wiring)
    yield symmetric(pairs, n)
    for _ in range(n_twins):
        yield symmetric(swapped(pairs, n, generator=generator, apart=True, undirected=True), n)


def _clustering(graph: "csr_array") -> float:
    degree = np.diff(graph.indptr).astype(np.int64)
    twice = np.zeros(len(degree), dtype=np.int64)
    for rows in row_slices(graph, graph):
        twice[rows] = (graph[rows] @ graph).multiply(graph[rows]).sum(axis=1)
    possible = degree * (degree - 1)
    return float((twice / np.maximum(possible, 1)).mean())


def _path_length(graph: "csr_array", n_sources: int | None, generator: torch.Generator | None) -> float:
    from scipy.sparse.csgraph import dijkstra

    n = graph.shape[0]
    start = np.arange(n)
    if n_sources is not None and n_sources < n:
        start = torch.randperm(n, generator=generator, device="cpu")[:n_sources].numpy()
    total, joined = 0.0, 0
    for part in np.array_split(start, -(-len(start) * n // _SOURCES_AT_ONCE)):
        distance: NDArray[np.float64] = dijkstra(graph, unweighted=True, indices=part)
        real = np.isfinite(distance)
        total += float(distance[real].sum())
        joined += int(real.sum()) - len(part)
    return total / joined if joined else math.nan


def _lattice_clustering(n: int, half: int) -> float:
    """Return the clustering of a ring of n nodes, each joined to ``half`` on either side."""
    half = min(half, (n - 1) // 2)
    if half < 1:
        return 0.0
    near = np.zeros(n, dtype=np.int64)
    near[[*range(1, half + 1), *range(-half, 0)]] = 1
    triangles = sum(int(near @ np.roll(near, offset)) for offset in range(1, half + 1))
    return triangles / (half * (2 * half - 1))


def _check_draw(name: str, n_sources: int | None, generator: torch.Generator | None) -> None:
    if n_sources is None:
        return
    if n_sources < 1:
        raise ValueError(f"{name}: n_sources must be at least 1, got {n_sources}")
    if generator is None:
        raise ValueError(f"{name}: generator must be given to draw {n_sources} neurons, got none")
