"""Wirings as random as their degrees allow, and what a measure says beside them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect import Wiring
from neuropil.measure.graphs import Ends, check_square, ends


@dataclass(frozen=True)
class TwinComparison:
    """A measure of a wiring beside that of its random twins.

    Attributes:
        value: of the wiring.
        mean: over the twins.
        std: sample standard deviation over the twins, 0 for one twin.
        z: (value − mean) / std; NaN where the twins do not differ.
        ratio: value / mean; NaN where the mean is 0.
        twins: the value of each twin.
    """

    value: float
    mean: float
    std: float
    z: float
    ratio: float
    twins: tuple[float, ...]

    @classmethod
    def of(cls, value: float, twins: list[float]) -> "TwinComparison":
        """Compare a value with those of twins."""
        mean = float(np.mean(twins))
        std = float(np.std(twins, ddof=1)) if len(twins) > 1 else 0.0
        if std <= 1e-12 * max(1.0, abs(mean)):
            std = 0.0  # rounding only
        return cls(
            value,
            mean,
            std,
            (value - mean) / std if std else math.nan,
            value / mean if mean else math.nan,
            tuple(twins),
        )


def random_twin(
    wiring: Wiring,
    *,
    generator: torch.Generator,
    swaps: float = 10.0,
    recurrent: bool = False,
    blocks: bool = False,
) -> Wiring:
    """Draw a wiring in which every neuron has as many sources and as many targets as before, and all else is random.

    Two connections i → o and j → p, drawn at random, become j → o and i → p unless one of these exists already; many
    times. Such a walk visits every wiring of these degrees equally often in the end. The twin has single synapses
    and the same groups. It equals the wiring where its degrees leave no choice, as in a dense one. Costs a few
    memory accesses an attempt, about 64 bytes a connection, and never a dense matrix.

    Args:
        wiring: any, of any block.
        generator: gives one seed.
        swaps: attempts for each connection; the customary 10 lie well beyond where measures stop changing.
        recurrent: whether the wiring is a layer's with itself: then no connection of a neuron with itself is made, and
            those there are stay. The walk cannot turn a cycle of three neurons round, which matters only for tiny
            wirings.
        blocks: whether to swap whole blocks instead of single connections: what is left is the block's shape.

    Raises:
        ValueError: swaps is negative; recurrent, but not square; blocks of uneven size, whose swaps change degrees.

    Reference:
        S. Maslov and K. Sneppen, Specificity and stability in topology of protein networks, Science 296, 910 (2002);
        R. Milo et al., On the uniform generation of random graphs with prescribed degree sequences,
        arXiv cond-mat/0312028, whose number of attempts we take over in the order of magnitude.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> wiring = Ensembles(n_groups=4, p_inter=0.0).wire(64, 64)
        >>> twin = random_twin(wiring, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(twin.fan_in(), wiring.fan_in()), torch.equal(twin.fan_out(), wiring.fan_out())
        (True, True)
        >>> twin == wiring
        False
    """
    if not 0 <= swaps < math.inf:
        raise ValueError(f"random_twin: swaps must be at least 0, got {swaps}")
    if recurrent:
        check_square("random_twin", wiring)
    if blocks and wiring.is_padded:
        raise ValueError(
            f"random_twin: blocks must be of equal size to be swapped, got groups of uneven size in {wiring}; "
            "try blocks=False"
        )
    if blocks:
        rows, columns = swapped(
            (wiring.block_rows.astype(np.int64), wiring.block_columns.astype(np.int64)),
            wiring.grid[1],
            generator=generator,
            swaps=swaps,
        )
        return wiring.rewired(rows, columns)
    targets, sources = ends(wiring)
    stays = targets == sources if recurrent else np.zeros(len(targets), dtype=np.bool_)
    moved = swapped(
        (targets[~stays], sources[~stays]), wiring.in_features, generator=generator, swaps=swaps, apart=recurrent
    )
    return Wiring(
        wiring.in_features,
        wiring.out_features,
        np.concatenate([moved[0], targets[stays]]),
        np.concatenate([moved[1], sources[stays]]),
        out_groups=wiring.out_groups,
        in_groups=wiring.in_groups,
    )


def swapped(
    pairs: Ends,
    n: int,
    *,
    generator: torch.Generator,
    swaps: float = 10.0,
    apart: bool = False,
    undirected: bool = False,
) -> Ends:
    """Return edges of the same degrees, at random; see :func:`random_twin`.

    Args:
        pairs: both ends of each edge, none twice.
        n: number of nodes on the second side.
        generator: gives one seed.
        swaps: attempts for each edge.
        apart: whether no edge may join a node to itself.
        undirected: whether both directions are the same edge.
    """
    from neuropil.measure.swap_loops import swap_ends  # Numba takes a while to load

    u, v = (np.array(side, dtype=np.int64) for side in pairs)
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    if len(u) > 1:
        table: NDArray[np.int64] = np.full(1 << (2 * len(u) - 1).bit_length(), -1, dtype=np.int64)
        swap_ends(u, v, n, round(swaps * len(u)), seed, apart, undirected, table)
    return u, v


def compare_with_twins(
    measure: Callable[[Wiring], float],
    wiring: Wiring,
    *,
    n_twins: int = 20,
    generator: torch.Generator,
    recurrent: bool = False,
    blocks: bool = False,
) -> TwinComparison:
    """Measure a wiring, and twins of it that are random but for their degrees.

    What differs from the twins, in units of their standard deviation, is more than the degrees bring about by
    themselves. Costs ``n_twins`` times :func:`random_twin` and the measure.

    Args:
        measure: any function of a wiring; one that draws must bring a generator of its own.
        wiring: what is measured.
        n_twins: number of twins, at least 1.
        generator: draws the twins.
        recurrent, blocks: as for :func:`random_twin`.

    Raises:
        ValueError: n_twins is below 1; and what :func:`random_twin` and the measure raise.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> from neuropil.measure import modularity
        >>> wiring = Ensembles(n_groups=4, p_inter=0.0).wire(64, 64)
        >>> found = compare_with_twins(modularity, wiring, n_twins=5, generator=torch.Generator().manual_seed(0))
        >>> found.value, abs(found.mean) < 0.1, found.z > 10
        (0.75, True, True)
    """
    if n_twins < 1:
        raise ValueError(f"compare_with_twins: n_twins must be at least 1, got {n_twins}")
    value = float(measure(wiring))
    twins = [
        float(measure(random_twin(wiring, generator=generator, recurrent=recurrent, blocks=blocks)))
        for _ in range(n_twins)
    ]
    return TwinComparison.of(value, twins)
