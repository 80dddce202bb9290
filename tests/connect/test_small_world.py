"""SmallWorld: the ring, the rewiring, and their counts."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropil.connect.small_world import SmallWorld, _moved
from neuropil.connect.wiring import Wiring


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ring_distance(in_features: int, out_features: int) -> torch.Tensor:
    """Twice O · I times the distance of target and source on a ring of length 1: whole numbers."""
    target = (2 * torch.arange(out_features) + 1)[:, None] * in_features
    source = (2 * torch.arange(in_features) + 1)[None, :] * out_features
    away = (target - source).abs()
    return torch.minimum(away, 2 * in_features * out_features - away)


sizes = st.integers(1, 12)


@settings(deadline=None, max_examples=150)
@given(sizes, sizes, st.floats(0.05, 1.0))
def test_without_rewiring_every_target_reads_its_nearest_sources(n_in: int, n_out: int, density: float) -> None:
    n = round(density * n_in * n_out)
    if n == 0:
        return
    mask = SmallWorld(density, p_rewire=0.0).wire(n_in, n_out).mask()
    distance = ring_distance(n_in, n_out)
    for row, read in zip(distance, mask, strict=True):
        k = int(read.sum())
        assert k in (n // n_out, -(-n // n_out))
        assert sorted(row[read].tolist()) == sorted(row.tolist())[:k]


@settings(deadline=None, max_examples=150)
@given(sizes, sizes, st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.integers(0, 2**31))
def test_counts_are_exact_and_rewiring_keeps_fan_ins(n_in, n_out, density, p_rewire, seed) -> None:
    n = round(density * n_in * n_out)
    if n == 0:
        return
    pattern = SmallWorld(density, p_rewire)
    wiring = pattern.wire(n_in, n_out, generator=seeded(seed))
    assert wiring.n_connections == n
    assert wiring.density == pattern.expected_density(n_in, n_out)
    assert torch.equal(wiring.fan_in(), SmallWorld(density, 0.0).wire(n_in, n_out).fan_in())
    assert wiring.fan_in().max() - wiring.fan_in().min() <= 1
    assert wiring == pattern.wire(n_in, n_out, generator=seeded(seed))


def test_golden_rings() -> None:
    def rows(*arguments: int, density: float) -> list[list[int]]:
        return SmallWorld(density, 0.0).wire(*arguments).mask().int().tolist()

    assert rows(3, 3, density=1 / 3) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert rows(4, 4, density=0.5) == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]]
    assert rows(4, 2, density=0.5) == [[1, 1, 0, 0], [0, 0, 1, 1]]  # targets lie between two sources
    assert rows(2, 4, density=0.5) == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert rows(3, 2, density=0.5) == [
        [1, 0, 0],
        [0, 1, 1],
    ]  # three connections: the later target gets the second


def test_moved_follows_one_connection_after_another() -> None:
    """The vectorised rewiring, against a loop that keeps each target's list of unread sources."""
    n_in, fan_in, n_out = 7, 4, 200
    targets = np.repeat(np.arange(n_out), fan_in)
    start = np.arange(n_out) % n_in
    sources = (start[targets] + np.tile(np.arange(fan_in), n_out)) % n_in
    n_unread = np.full(len(targets), n_in - fan_in)
    moved = _moved(targets, sources, (start + fan_in)[targets], n_unread, n_in, seeded())

    place = (torch.rand(len(targets), dtype=torch.float64, generator=seeded()) * (n_in - fan_in)).long().tolist()
    unread = [[int(start[o] + fan_in + j) % n_in for j in range(n_in - fan_in)] for o in range(n_out)]
    for connection, target in enumerate(targets):
        taken = unread[target][place[connection]]
        unread[target][place[connection]] = int(sources[connection])
        assert moved[connection] == taken
        assert taken != sources[connection]


@pytest.mark.parametrize("p_rewire", [0.1, 0.5])
def test_share_of_connections_off_the_ring(p_rewire: float) -> None:
    n = 200
    ring = SmallWorld(0.05, 0.0).wire(n, n).mask()
    mask = SmallWorld(0.05, p_rewire).wire(n, n, generator=seeded()).mask()
    off = int((mask & ~ring).sum()) / int(ring.sum())
    # a connection comes to lie on the ring again where another has left it: at most fan_in p of n sources
    assert p_rewire * 0.95 - 4 * math.sqrt(0.25 / 2000) < off < p_rewire + 4 * math.sqrt(0.25 / 2000)


def test_rewired_connections_reach_every_source_alike() -> None:
    n_in, n_out, runs = 20, 10, 200
    ring = SmallWorld(0.25, 0.0).wire(n_in, n_out).mask()
    pattern = SmallWorld(0.25, 0.2)
    total = sum(pattern.wire(n_in, n_out, generator=seeded(s)).mask().double() for s in range(runs)) / runs
    outside = total[~ring]
    p = float(outside.mean())
    z = (outside - p) / math.sqrt(p * (1 - p) / runs)
    assert 0.7 < z.var() < 1.3


def test_it_is_a_small_world() -> None:
    """A few rewired connections make paths nearly as short as random ones, and leave clusters as they are."""

    def clusters_and_steps(p_rewire: float) -> tuple[float, float]:
        mask = SmallWorld(0.05, p_rewire).wire(120, 120, generator=seeded()).mask()
        shared = (mask.double() @ mask.double().T)[torch.arange(120), torch.arange(120).roll(-1)].mean().item()
        either_way = mask.int() | mask.int().T
        reached, n_steps = torch.eye(120, dtype=torch.int32), []
        while not reached.all():
            n_steps.append(float((reached == 0).double().mean()))
            reached = ((reached @ (either_way + torch.eye(120, dtype=torch.int32))) > 0).int()
        return shared, sum(n_steps)

    (ring_shared, ring_steps), (shared, steps), (random_shared, random_steps) = (
        clusters_and_steps(p) for p in (0.0, 0.1, 1.0)
    )
    assert shared > 0.6 * ring_shared > 3 * random_shared
    assert steps < 0.5 * ring_steps
    assert steps < 2 * random_steps


def test_nearly_full_layers_can_be_rewired_too() -> None:
    for density, p_rewire in ((0.99, 1.0), (1.0, 1.0), (0.995, 0.5)):
        wiring = SmallWorld(density, p_rewire).wire(40, 25, generator=seeded())
        assert wiring.n_connections == round(density * 1000)


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    first = SmallWorld(0.2).wire(30, 30, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(first, Wiring)
    assert first != SmallWorld(0.2).wire(30, 30, generator=seeded(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmallWorld(1.2), "SmallWorld: density must lie in [0, 1], got 1.2"),
        (lambda: SmallWorld(0.2, p_rewire=-0.1), "SmallWorld: p_rewire must lie in [0, 1], got -0.1"),
        (
            lambda: SmallWorld(0.01).wire(5, 5),
            "at least one connection, got none between 5 and 5 neurons; try",
        ),
    ],
)
def test_errors(make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
