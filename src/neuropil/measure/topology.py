"""Single figures of a wiring's shape: reciprocity, rich club, spectral gap, connectivity."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.connect import Wiring
from neuropil.measure.graphs import check_square, counting, edges, ends, symmetric
from neuropil.measure.random_twins import swapped

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Product = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_DENSE_BELOW = 64  # nodes for which all eigenvalues are computed


def reciprocity(wiring: Wiring) -> float:
    """Return the share of a square wiring's connections whose reverse exists, those of a neuron with itself left out.

    r = |{(i, o) : i → o and o → i, i ≠ o}| / |{(i, o) : i → o, i ≠ o}|, in [0, 1], about the density where connections
    are independent; NaN where there are none between two neurons. Costs a sort of the connections.

    Raises:
        ValueError: the wiring is not square.

    Example:
        >>> reciprocity(Wiring(3, 3, [0, 1, 2, 2], [1, 0, 0, 2]))
        0.6666666666666666
    """
    check_square("reciprocity", wiring)
    targets, sources = ends(wiring)
    n_between = int((targets != sources).sum())
    if n_between == 0:
        return math.nan
    return 2 * (n_between - len(edges(wiring)[0])) / n_between


def rich_club(wiring: Wiring) -> Tensor:
    """Return how densely the neurons of more than k neighbours are joined among themselves, for each k.

    φ(k) = 2 E_k / (N_k (N_k − 1)), with E_k edges among the N_k neurons of a degree above k; directions and
    self-connections are left out. In [0, 1]; NaN where fewer than two neurons are left. It rises with k in random
    graphs too: see :func:`normalized_rich_club`. Costs a pass over the connections.

    Args:
        wiring: square.

    Returns:
        float64 ``[largest degree]``, for k = 0, 1, ….

    Raises:
        ValueError: the wiring is not square.

    Reference:
        V. Colizza et al., Detecting rich-club ordering in complex networks, Nature Physics 2, 110 (2006).

    Example:
        >>> rich_club(Wiring(4, 4, [0, 0, 1, 0], [1, 2, 2, 3])).tolist()
        [0.6666666666666666, 1.0, nan]
    """
    check_square("rich_club", wiring)
    return torch.from_numpy(_rich_club(*edges(wiring), wiring.in_features))


def normalized_rich_club(wiring: Wiring, *, generator: torch.Generator, n_twins: int = 20) -> Tensor:
    """Return the rich club over its mean in random graphs of the same degrees: above 1, hubs seek each other.

    ρ(k) = φ(k) / φ_random(k); NaN where no hubs of twins are joined or fewer than two neurons are left.
    Costs ``n_twins`` randomizations.

    Args:
        wiring: square.
        generator: draws the twins.
        n_twins: number of twins, at least 1.

    Raises:
        ValueError: the wiring is not square, or n_twins is below 1.

    Example:
        >>> from neuropil.connect import ErdosRenyi
        >>> generator = torch.Generator().manual_seed(0)
        >>> wiring = ErdosRenyi(density=0.1).wire(100, 100, generator=generator)
        >>> bool((normalized_rich_club(wiring, generator=generator)[:10] - 1).abs().max() < 0.1)
        True
    """
    check_square("normalized_rich_club", wiring)
    if n_twins < 1:
        raise ValueError(f"normalized_rich_club: n_twins must be at least 1, got {n_twins}")
    pairs, n = edges(wiring), wiring.in_features
    own = _rich_club(*pairs, n)
    total = np.zeros(len(own))
    for _ in range(n_twins):
        total += _rich_club(*swapped(pairs, n, generator=generator, apart=True, undirected=True), n)
    mean = total / n_twins
    return torch.from_numpy(np.divide(own, mean, out=np.full(len(own), np.nan), where=mean > 0))


def hub_density(wiring: Wiring, *, richness: float = 2.0) -> float:
    """Return how densely a layer's hubs are connected: a rich club between two sides, for ``compare_with_twins``.

    Connections from sources whose fan-out, to targets whose fan-in, is above ``richness`` times the mean of their side,
    over the possible ones. In [0, 1]; NaN where a side has no hub. Costs a pass over the connections.

    Args:
        wiring: any.
        richness: at least 0.

    Raises:
        ValueError: richness is negative.

    Example:
        >>> hub_density(Wiring(3, 3, [0, 0, 0, 1], [0, 1, 2, 0]), richness=1.4)
        1.0
    """
    if not richness >= 0:
        raise ValueError(f"hub_density: richness must be at least 0, got {richness}")
    fan_in, fan_out = wiring.fan_in().numpy(), wiring.fan_out().numpy()
    rich_targets, rich_sources = fan_in > richness * fan_in.mean(), fan_out > richness * fan_out.mean()
    possible = int(rich_targets.sum()) * int(rich_sources.sum())
    targets, sources = ends(wiring)
    return int((rich_targets[targets] & rich_sources[sources]).sum()) / possible if possible else math.nan


def spectral_gap(wiring: Wiring) -> float:
    """Return 1 − σ₂, with σ₂ the second singular value of the normalized wiring D_out^(−1/2) W D_in^(−1/2).

    In [0, 1]: 0 where the wiring falls apart, 1 where it is all to all; about 1 − (1/√fan_in + 1/√fan_out) at random
    and equal degrees, which is nearly the best that sparse wirings reach. The wider the gap, the more connections lead
    out of any set of neurons (expansion; Cheeger's inequality) and the sooner activity mixes. Neurons without a
    connection are left out. Costs some tens of passes over the connections, by Lanczos iterations; more the smaller
    the gap.

    Reference:
        S. Hoory, N. Linial and A. Wigderson, Expander graphs and their applications, Bull. AMS 43, 439 (2006).

    Example:
        >>> from neuropil.connect import Ensembles
        >>> round(spectral_gap(Ensembles(n_groups=4, p_inter=0.0).wire(64, 64)), 6)
        0.0
    """
    from scipy.sparse import diags_array
    from scipy.sparse.csgraph import connected_components

    matrix = counting(wiring).astype(np.float64)
    matrix = matrix[matrix.sum(axis=1) > 0][:, matrix.sum(axis=0) > 0]
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T.tocsr()
    rows, columns = matrix.sum(axis=1), matrix.sum(axis=0)
    if connected_components(_joined(matrix), directed=False)[0] > 1:
        return 0.0
    scaled = (diags_array(rows**-0.5) @ matrix @ diags_array(columns**-0.5)).tocsr()
    # the first singular value is 1, and its vectors are known: without it, one that equals it cannot be overlooked
    first, back = np.sqrt(columns / columns.sum()), scaled.T.tocsr()
    square = _largest(lambda x: back @ (scaled @ x) - first * (first @ x), len(first))
    return 1 - math.sqrt(max(square, 0.0))


def algebraic_connectivity(wiring: Wiring, *, recurrent: bool = False) -> float:
    """Return the second smallest eigenvalue of the graph Laplacian D − A, directions left out.

    At least 0, and 0 only where the graph falls apart (a neuron without a connection is a part); at most the number of
    nodes, where all are joined. A layer is a graph of sources and targets. Costs Lanczos iterations as
    :func:`spectral_gap` does, many for graphs that hang by a thread.

    Args:
        wiring: any.
        recurrent: whether the wiring is a layer's with itself: then self-connections are left out.

    Raises:
        ValueError: recurrent, but not square.

    Reference:
        M. Fiedler, Algebraic connectivity of graphs, Czechoslovak Mathematical Journal 23, 298 (1973).

    Example:
        >>> from neuropil.connect import Dense
        >>> round(algebraic_connectivity(Dense().wire(5, 5), recurrent=True), 6)
        5.0
    """
    from scipy.sparse.csgraph import connected_components

    if recurrent:
        check_square("algebraic_connectivity", wiring)
    graph = symmetric(edges(wiring), wiring.in_features) if recurrent else _joined(counting(wiring))
    if graph.shape[0] < 2 or connected_components(graph, directed=False)[0] > 1:
        return 0.0
    graph = graph.astype(np.float64)
    degree = graph.sum(axis=1)
    top = 2 * float(degree.max())  # no eigenvalue is larger

    def turned(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(top − L) x, without its first eigenvector, which is constant."""
        without: NDArray[np.float64] = x * (top - degree) + graph @ x - top * x.mean()
        return without

    return max(top - _largest(turned, len(degree), scale=top), 0.0)


def _rich_club(u: NDArray[np.int64], v: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    degree = np.bincount(u, minlength=n) + np.bincount(v, minlength=n)
    largest = int(degree.max(initial=0))
    if largest == 0:
        return np.zeros(0)
    # an edge is in the club of k while both ends have a degree above k
    until = np.bincount(np.minimum(degree[u], degree[v]), minlength=largest + 1)
    inside = until[::-1].cumsum()[::-1][1:].astype(np.float64)
    members = np.bincount(degree, minlength=largest + 1)[::-1].cumsum()[::-1][1:].astype(np.float64)
    possible = members * (members - 1) / 2
    density: NDArray[np.float64] = np.divide(inside, possible, out=np.full(largest, np.nan), where=possible > 0)
    return density


def _joined(matrix: "csr_array") -> "csr_array":
    """Return a layer as the symmetric graph of its targets, then its sources."""
    entries = matrix.tocoo()
    n_targets, n_sources = matrix.shape
    return symmetric((entries.row.astype(np.int64), entries.col.astype(np.int64) + n_targets), n_targets + n_sources)


def _largest(product: Product, n: int, scale: float = 1.0) -> float:
    """Return the largest eigenvalue of a symmetric matrix of no eigenvalue below 0, given by its products."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    if n < _DENSE_BELOW:
        return float(np.linalg.eigvalsh(np.stack([product(row) for row in np.eye(n)])).max())
    # a start that is the same every time, and symmetric in nothing; a shift, as Lanczos gets stuck on a matrix of zeros
    start = np.cos(np.arange(n) * 1.6180339887) + 0.1
    operator = LinearOperator((n, n), matvec=lambda x: product(x) + scale * x, dtype=np.float64)
    value = eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False, maxiter=max(1000, 20 * n))[0]
    return float(value) - scale
