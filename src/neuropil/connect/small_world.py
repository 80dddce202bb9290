"""Small-world wiring: neighbours on a ring, and a few random long-range connections."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect.pattern import Pattern, check_probability
from neuropil.connect.sampling import sample_cells
from neuropil.connect.wiring import Wiring

IntArray = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class SmallWorld(Pattern):
    """Every target reads its nearest sources on a ring; then a few of these connections move at random.

    Both layers lie on one ring, evenly spread, so that neuron o of O sits at (o + 1/2) / O of the way round.
    The round(density · I · O) connections are dealt out such that fan-ins differ by at most one, and each
    target reads the sources nearest to it (at a tie the one further round). Then each connection in turn
    moves, with probability p_rewire, to a source that its target does not read at that moment, each such
    source equally likely. Fan-ins stay as they are.

    Args:
        density: connections over possible connections, in [0, 1]; their number is exact.
        p_rewire: probability that a connection is rewired, in [0, 1]. 0: a ring lattice, highly clustered; 1:
            near to a random wiring of equal fan-ins.

    Raises:
        ValueError: an argument lies outside [0, 1]; at ``wire``: no connection is left by the density.

    Reference:
        D. J. Watts and S. H. Strogatz, Collective dynamics of 'small-world' networks (1998), who move one end
        of an edge within a single graph; between two layers we always move the source. Sparse training starts
        from such a bipartite small world (BSW) in arXiv 2501.19107: output neurons are joined to the nearest
        inputs, and a share of these links is moved anywhere on the input layer. Exact counts at any density,
        equal fan-ins for layers of any two sizes, and one independent draw a connection are ours.

    Example:
        >>> SmallWorld(density=0.5, p_rewire=0.0).wire(6, 6).mask().int()[:2].tolist()
        [[1, 1, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0]]
        >>> generator = torch.Generator().manual_seed(0)
        >>> SmallWorld(density=0.25).wire(16, 8, generator=generator)
        Wiring(16 → 8, block=(1, 1), density=0.25, n_connections=32)
    """

    density: float
    p_rewire: float = 0.1

    def __post_init__(self) -> None:
        check_probability("SmallWorld", "density", self.density)
        check_probability("SmallWorld", "p_rewire", self.p_rewire)

    def wire(self, in_features: int, out_features: int, *, generator: torch.Generator | None = None) -> Wiring:
        """Draw a wiring; see :meth:`Pattern.wire`. Time and memory grow with the number of connections."""
        n = round(self.density * in_features * out_features)
        ends = np.arange(out_features + 1, dtype=np.int64) * n // out_features
        fan_in = np.diff(ends)
        # the nearest sources are a window of the ring; in whole numbers, as rounding could shift it
        middle = (2 * np.arange(out_features, dtype=np.int64) + 1) * in_features
        start = (middle - fan_in * out_features + out_features) // (2 * out_features)

        targets = np.repeat(np.arange(out_features, dtype=np.int64), fan_in)
        sources = (start[targets] + np.arange(n) - ends[targets]) % in_features
        moving = np.sort(sample_cells(n, self.p_rewire, generator=generator).numpy())
        moving = moving[fan_in[targets[moving]] < in_features]  # who reads everything has nothing to turn to
        sources[moving] = _moved(
            targets[moving], sources[moving], (start + fan_in)[targets[moving]],
            (in_features - fan_in)[targets[moving]], in_features, generator,
        )  # fmt: skip
        return Wiring(in_features, out_features, targets, sources)

    def expected_density(self, in_features: int, out_features: int) -> float:
        """Return the density, rounded to whole connections."""
        return round(self.density * in_features * out_features) / (in_features * out_features)


def _moved(
    targets: IntArray,
    sources: IntArray,
    first_unread: IntArray,
    n_unread: IntArray,
    in_features: int,
    generator: torch.Generator | None,
) -> IntArray:
    """Return the new source of each connection, as if the connections moved one after the other.

    The sources that a target does not read are a list of constant length: a connection that moves takes the
    source at a random place of the list and leaves its old one there. So the first to draw a place gets the
    source that has been there from the start, and each later one gets what the one before it has left.
    """
    uniform = torch.rand(len(targets), dtype=torch.float64, generator=generator, device="cpu").numpy()
    place = (uniform * n_unread).astype(np.int64)
    moved = (first_unread + place) % in_features
    key = targets * in_features + place
    order = np.argsort(key, kind="stable")
    again = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    moved[order[again + 1]] = sources[order[again]]
    return moved
