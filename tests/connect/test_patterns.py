"""Dense, ErdosRenyi and Ensembles: which blocks may be drawn, how often, and how many."""

import math
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropil.connect.ensembles import Ensembles
from neuropil.connect.erdos_renyi import ErdosRenyi
from neuropil.connect.pattern import Dense, Pattern, nearest_multiple
from neuropil.connect.wiring import Wiring

BLOCKS = [(1, 1), ("group", 1), (1, "group"), (2, 2), (2, "group"), ("group", "group")]
GROUPINGS = ["index", "interleaved", "random"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive_groups(n: int, n_groups: int, grouping: str) -> list[int]:
    if grouping == "interleaved":
        return [i % n_groups for i in range(n)]
    labels: list[int] = []
    for group in range(n_groups):
        labels += [group] * (n // n_groups + (group < n % n_groups))
    return labels


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize(("n_in", "n_out", "uneven"), [(16, 24, False), (17, 22, True), (4, 5, True)])
def test_ensembles_are_blocks_of_groups(n_in, n_out, uneven, grouping, block) -> None:
    if not uneven and block == (2, 2) and (n_in // 4) % 2:
        pytest.skip("blocks that do not divide a group are uneven")
    pattern = Ensembles(4, p_intra=1.0, p_inter=0.3, grouping=grouping, block=block, uneven=uneven)
    wiring = pattern.wire(n_in, n_out, generator=seeded())
    for labels, n in ((wiring.in_groups, n_in), (wiring.out_groups, n_out)):
        assert sorted(labels) == sorted(naive_groups(n, 4, grouping))
        if grouping != "random":
            assert labels.tolist() == naive_groups(n, 4, grouping)
    same = torch.from_numpy(wiring.out_groups[:, None] == wiring.in_groups[None, :])
    mask = wiring.mask()
    assert mask[same].all()
    assert not mask[~same].all()
    # a block is connected wholly or not at all, and lies inside one group on either side
    rows, columns = wiring.block
    for order, labels, side in (
        (wiring.out_order, wiring.out_groups, rows),
        (wiring.in_order, wiring.in_groups, columns),
    ):
        for places in order.reshape(-1, side):
            assert len(set(labels[places[places >= 0]])) == 1
    for targets in wiring.out_order.reshape(-1, rows):
        for sources in wiring.in_order.reshape(-1, columns):
            cell = mask[targets[targets >= 0]][:, sources[sources >= 0]]
            assert cell.all() or not cell.any()


def test_group_in_a_block_means_the_size_of_a_group() -> None:
    assert Ensembles(4, block=("group", 1)).wire(8, 24).block == (6, 1)
    assert Ensembles(4, block=("group", "group")).wire(8, 24).block == (6, 2)
    assert Ensembles(4, block=("group", 1), uneven=True).wire(8, 22).block == (6, 1)  # groups of 6, 6, 5, 5


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_exact_ensembles_have_the_same_count_for_every_seed(grouping: str, block) -> None:
    pattern = Ensembles(4, p_intra=0.75, p_inter=0.25, grouping=grouping, block=block, exact=True)
    for seed in range(3):
        wiring = pattern.wire(64, 32, generator=seeded(seed))
        cells = wiring.grid[0] * wiring.grid[1]
        assert wiring.n_blocks == round(0.75 * cells / 4) + round(0.25 * cells * 3 / 4)


@pytest.mark.parametrize(
    ("n_groups", "p_intra", "p_inter", "density"),
    [
        (8, 1.0, 0.15, 0.25625),
        (8, 1.0, 0.0, 0.125),
        (4, 0.5, 0.1, 0.2),
        (1, 0.3, 0.9, 0.3),
        (2, 1.0, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_density_is_that_of_the_formula(n_groups, p_intra, p_inter, density, grouping: str) -> None:
    pattern = Ensembles(n_groups, p_intra=p_intra, p_inter=p_inter, grouping=grouping)
    assert pattern.expected_density(512, 256) == pytest.approx(density)
    wiring = pattern.wire(512, 256, generator=seeded())
    assert abs(wiring.density - density) < 4 * math.sqrt(0.25 / (512 * 256))
    cell = 512 * 256 / n_groups**2
    for out_group, row in enumerate(wiring.group_densities().tolist()):
        for in_group, measured in enumerate(row):
            p = p_intra if out_group == in_group else p_inter
            assert abs(measured - p) <= 4.5 * math.sqrt(p * (1 - p) / cell)


def test_expected_density_of_uneven_groups() -> None:
    # sizes 2, 1, 1 and 3, 2, 2: of 28 pairs 6 + 2 + 2 lie inside groups
    pattern = Ensembles(3, p_intra=0.9, p_inter=0.2, uneven=True)
    assert pattern.expected_density(4, 7) == pytest.approx(10 / 28 * 0.9 + 18 / 28 * 0.2)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    grouping=st.sampled_from(GROUPINGS),
    block=st.sampled_from(BLOCKS),
    p_intra=st.floats(0.3, 1.0),
    p_inter=st.floats(0.0, 1.0),
    exact=st.booleans(),
    n_in=st.integers(12, 40),
    n_out=st.integers(12, 40),
)
def test_ensembles_same_seed_same_wiring(seed, grouping, block, p_intra, p_inter, exact, n_in, n_out) -> None:
    pattern = Ensembles(3, p_intra, p_inter, grouping, block, exact=exact, uneven=True)
    try:
        wiring = pattern.wire(n_in, n_out, generator=seeded(seed))
    except ValueError as error:  # a few large blocks may all stay away
        assert "at least one connection" in str(error)
        return
    assert wiring == pattern.wire(n_in, n_out, generator=seeded(seed))
    assert wiring.shape == (n_out, n_in)
    assert 0.0 <= pattern.expected_density(n_in, n_out) <= 1.0


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), p_inter=st.floats(0.0, 1.0))
def test_random_grouping_only_permutes(seed: int, p_inter: float) -> None:
    """Sorted by group, a random grouping is one by index: all it does is permute."""
    wiring = Ensembles(4, 1.0, p_inter, "random", exact=True).wire(16, 24, generator=seeded(seed))
    out_order, in_order = (np.argsort(side, kind="stable") for side in (wiring.out_groups, wiring.in_groups))
    labels = {"out_groups": np.sort(wiring.out_groups), "in_groups": np.sort(wiring.in_groups)}
    ordered = Wiring.from_mask(wiring.mask()[out_order][:, in_order], **labels)
    assert labels["in_groups"].tolist() == naive_groups(16, 4, "index")
    assert torch.equal(ordered.group_densities(), wiring.group_densities())
    assert wiring.n_connections == Ensembles(4, 1.0, p_inter, exact=True).wire(16, 24).n_connections


def test_random_grouping_labels_either_side_anew() -> None:
    wiring = Ensembles(4, grouping="random").wire(64, 64, generator=seeded())
    assert wiring.in_groups.tolist() != wiring.out_groups.tolist()


def test_golden_ensembles_without_a_draw() -> None:
    index = Ensembles(2, p_inter=0.0).wire(4, 2)
    assert index.mask().int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    interleaved = Ensembles(2, p_inter=0.0, grouping="interleaved").wire(4, 2)
    assert interleaved.mask().int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    between = Ensembles(2, p_intra=0.0, p_inter=1.0).wire(4, 2)
    assert between.mask().int().tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    uneven = Ensembles(2, p_inter=0.0, uneven=True, block=("group", 2)).wire(3, 3)
    assert uneven.mask().int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3), st.floats(0.2, 1.0))
def test_exact_erdos_renyi_has_the_rounded_number_of_blocks(grid_out, grid_in, rows, columns, density) -> None:
    n_blocks = round(density * grid_out * grid_in)
    pattern = ErdosRenyi(density, exact=True, block=(rows, columns))
    if n_blocks:
        wiring = pattern.wire(grid_in * columns, grid_out * rows, generator=seeded())
        assert wiring.n_blocks == n_blocks
        assert wiring.n_connections == n_blocks * rows * columns
        assert wiring == pattern.wire(grid_in * columns, grid_out * rows, generator=seeded())


@pytest.mark.parametrize("density", [0.02, 0.5])
def test_erdos_renyi_draws_every_cell_alike(density: float) -> None:
    total = sum(ErdosRenyi(density).wire(40, 30, generator=seeded(s)).mask().double() for s in range(200))
    z = (total / 200 - density) / math.sqrt(density * (1 - density) / 200)
    assert abs(z.mean()) < 4 / math.sqrt(1200)
    assert 0.85 < z.var() < 1.15
    assert ErdosRenyi(density).expected_density(40, 30) == density


def test_dense_connects_everything() -> None:
    assert Dense().wire(3, 2).mask().all()
    assert Dense().expected_density(3, 2) == 1.0


ALL = [
    Dense(),
    ErdosRenyi(0.3),
    ErdosRenyi(0.3, exact=True, block=(2, 2)),
    Ensembles(4),
    Ensembles(4, grouping="random", exact=True, block=("group", 1)),
]


@pytest.mark.parametrize("pattern", ALL, ids=repr)
def test_patterns_are_values_and_leave_the_global_random_state_alone(pattern: Pattern) -> None:
    before = torch.get_rng_state()
    wiring = pattern.wire(16, 16, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)
    assert wiring == pattern.wire(16, 16, generator=seeded())
    assert eval(repr(pattern)) == pattern
    assert hash(eval(repr(pattern))) == hash(pattern)
    with pytest.raises(FrozenInstanceError):
        pattern.density = 0.5


@pytest.mark.parametrize("pattern", ALL[1:], ids=repr)
def test_another_seed_is_another_wiring(pattern: Pattern) -> None:
    assert pattern.wire(16, 16, generator=seeded(0)) != pattern.wire(16, 16, generator=seeded(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ErdosRenyi(1.5), "ErdosRenyi: density must lie in [0, 1], got 1.5"),
        (lambda: ErdosRenyi(math.nan), "ErdosRenyi: density must lie in [0, 1], got nan"),
        (
            lambda: ErdosRenyi(0.5, block=(1, 4)).wire(30, 8),
            "ErdosRenyi: in_features must be divisible by the block's 4, got 30; try 32",
        ),
        (
            lambda: ErdosRenyi(0.5, block=(4, 1)).wire(8, 1),
            "ErdosRenyi: out_features must be divisible by the block's 4, got 1; try 4",
        ),
        (lambda: ErdosRenyi(0.0).wire(3, 4), "at least one connection, got none between 3 and 4 neurons"),
        (
            lambda: ErdosRenyi(0.5, block=(0, 1)),
            "ErdosRenyi: block must be two positive integers (rows, columns), got (0, 1)",
        ),
        (lambda: ErdosRenyi(0.5, block=(2,)), "ErdosRenyi: block must be two positive integers"),
        (lambda: Ensembles(0), "Ensembles: n_groups must be an integer of at least 1, got 0"),
        (lambda: Ensembles("8"), "Ensembles: n_groups must be an integer of at least 1, got '8'"),
        (
            lambda: Ensembles(block=1),
            "Ensembles: block must be two positive integers or 'group' (rows, columns), got 1",
        ),
        (lambda: Ensembles(p_intra="a"), "Ensembles: p_intra must lie in [0, 1], got 'a'"),
        (lambda: Ensembles(p_intra=-0.5), "Ensembles: p_intra must lie in [0, 1], got -0.5"),
        (lambda: Ensembles(p_inter=2), "Ensembles: p_inter must lie in [0, 1], got 2"),
        (
            lambda: Ensembles(grouping="alphabetical"),
            "Ensembles: grouping must be one of index, interleaved, random, got 'alphabetical'",
        ),
        (
            lambda: Ensembles(block=("layer", 1)),
            "Ensembles: block must be two positive integers or 'group' (rows, columns), got ('layer', 1)",
        ),
        (lambda: Ensembles(block=(1, 0)), "Ensembles: block must be two positive integers or 'group'"),
        (lambda: Ensembles(block=(1,)), "Ensembles: block must be two positive integers or 'group'"),
        (
            lambda: Ensembles(8).wire(30, 64),
            "Ensembles: in_features must be divisible by n_groups, got 30 and 8; try 32, n_groups=6, or uneven=True",
        ),
        (
            lambda: Ensembles(8).wire(64, 30),
            "Ensembles: out_features must be divisible by n_groups, got 30 and 8; try 32, n_groups=6, or uneven=True",
        ),
        (
            lambda: Ensembles(8, uneven=True).wire(64, 7),
            "Ensembles: out_features must be at least n_groups, got 7 and 8",
        ),
        (
            lambda: Ensembles(4, block=(4, 1)).wire(8, 24),
            "Ensembles: a group of 6 neurons (out_features / n_groups) must be divisible by the block's 4; "
            "try a block of 3, or uneven=True",
        ),
        (
            lambda: Ensembles(p_intra=0.0, p_inter=0.0).wire(8, 8),
            "must have at least one connection, got none",
        ),
    ],
)
def test_errors_say_what_to_try(make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_nearest_multiple() -> None:
    assert [nearest_multiple(n, 8) for n in (1, 11, 13, 30, 32)] == [8, 8, 16, 32, 32]
