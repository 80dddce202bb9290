"""Numba's loops over compressed rows against naive twins, and what becomes of whatever belongs to blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.connect import ErdosRenyi, SparseLinear, Wiring
from neuropil.connect import merge as loops
from neuropil.connect.change import Change


@st.composite
def grids(draw):
    """A random mask of any size with a connection, its compressed rows, and a NumPy generator."""
    shape = draw(st.integers(1, 9)), draw(st.one_of(st.integers(1, 12), st.just(500)))
    chance = np.random.default_rng(draw(st.integers(0, 2**20)))
    mask = chance.random(shape) < draw(st.sampled_from([0.0, 0.005, 0.1, 0.5, 0.9, 1.0]))
    mask[chance.integers(shape[0]), chance.integers(shape[1])] = True
    return mask, Wiring.from_mask(mask), chance


def some_of(chance, n):
    """Return a random share of the numbers below n, ascending."""
    return np.flatnonzero(chance.random(n) < chance.random() * chance.choice([0.01, 1.0]))


class TestLoops:
    @given(grids())
    def test_merging_rows_is_clearing_and_setting_a_mask(self, grid):
        mask, wiring, chance = grid
        went = some_of(chance, wiring.n_blocks)
        dead = np.flatnonzero(~mask)
        came = dead[some_of(chance, len(dead))]
        indptr, indices, gone, clashes = loops.merge_rows(wiring.indptr, wiring.indices, went, came, mask.shape[1])
        expected = mask.ravel().copy()
        expected[wiring.cells()[went]] = False
        expected[came] = True
        rows, columns = np.nonzero(expected.reshape(mask.shape))
        assert clashes == 0
        assert gone.tolist() == wiring.cells()[went].tolist()
        assert np.diff(indptr).tolist() == np.bincount(rows, minlength=mask.shape[0]).tolist()
        assert (indptr.dtype, indices.dtype) == (np.int64, np.int32)
        assert indices.tolist() == columns.tolist()

    @given(grids())
    def test_merging_counts_what_cannot_come(self, grid):
        mask, wiring, chance = grid
        cells = np.sort(chance.integers(mask.size, size=chance.integers(1, 8)))
        stays = mask.ravel()
        clashes = loops.merge_rows(wiring.indptr, wiring.indices, cells[:0], cells, mask.shape[1])[3]
        assert clashes == sum(stays[cell] or cell in cells[:n] for n, cell in enumerate(cells))

    @given(grids())
    def test_dead_cells_are_counted_row_by_row(self, grid):
        mask, wiring, chance = grid
        dead = np.flatnonzero(~mask)
        ordinals = some_of(chance, len(dead))
        cells = loops.nth_dead_cells(wiring.indptr, wiring.indices, mask.shape[1], ordinals)
        assert cells.tolist() == dead[ordinals].tolist()

    @given(grids(), st.sampled_from([np.int32, np.int64]))
    def test_those_allowed_come_once(self, grid, dtype):
        mask, wiring, chance = grid
        opened = wiring.cells()[some_of(chance, wiring.n_blocks)]
        closed = some_of(chance, mask.size)
        cells = np.sort(chance.integers(mask.size, size=chance.integers(0, 40))).astype(dtype)
        found = loops.those_allowed(wiring.indptr, wiring.indices, mask.shape[1], opened, closed, cells)
        pool = (set(np.flatnonzero(~mask)) | set(opened)) - set(closed)
        assert found.dtype == np.int64
        assert found.tolist() == sorted(pool & set(cells))

    @given(grids())
    def test_cells_of_blocks(self, grid):
        mask, wiring, chance = grid
        blocks = some_of(chance, wiring.n_blocks)
        cells = loops.cells_of(wiring.indptr, wiring.indices, mask.shape[1], blocks)
        assert cells.tolist() == np.flatnonzero(mask)[blocks].tolist()

    @given(grids(), st.sampled_from([np.float32, np.float64]))
    def test_live_entries(self, grid, dtype):
        mask, wiring, chance = grid
        dense = chance.random(mask.shape).astype(dtype)
        entries = loops.live_entries(wiring.indptr, wiring.indices, mask.shape[1], dense.ravel())
        assert entries.dtype == dtype
        assert entries.tolist() == dense[mask].tolist()

    @pytest.mark.parametrize("n", [1, 7, 10_000])
    def test_overwriting(self, n):
        chance = np.random.default_rng(n)
        dense = chance.integers(-9, 9, size=n).astype(np.int32)
        went, came = some_of(chance, n), some_of(chance, n)
        expected = dense.copy()
        expected[went] = 0
        expected[came] = 5
        loops.overwrite(dense, went, came, 5)
        assert dense.tolist() == expected.tolist()

    @given(st.integers(1, 30), st.sampled_from([1, 3, 300]), st.integers(0, 2**20))
    def test_moving_rows(self, n, n_columns, seed):
        chance = np.random.default_rng(seed)
        values = chance.integers(100, size=(n, n_columns))
        stays, is_new = some_of(chance, n), np.ones(n, dtype=bool)
        is_new[chance.permutation(n)[: len(stays)]] = False
        origin = np.full(n, -1, dtype=np.int32)
        origin[~is_new] = stays
        expected = np.where(is_new[:, None], 0, values[origin])
        loops.move_rows(values, origin)
        assert values.tolist() == expected.tolist()


@given(st.integers(0, 2**20), st.integers(0, 20))
def test_in_common(seed, n):
    chance = np.random.default_rng(seed)
    some, others = some_of(chance, n), some_of(chance, n)
    among, hit = loops.in_common(some, others)
    assert among.tolist() == [cell in others for cell in some]
    assert hit.tolist() == [cell in some for cell in others]


@given(grids())
def test_visiting_and_counting(grid):
    mask, wiring, chance = grid
    seen, cells = mask.ravel().copy(), some_of(chance, mask.size)
    n_new = int((~seen[cells]).sum())
    assert loops.visit(seen, cells) == n_new
    assert seen[cells].all()
    rows, columns = (chance.integers(-1, 3, size=n) for n in mask.shape)
    in_rows, in_columns = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    same = loops.count_by_label(wiring.cells(), rows, columns, in_rows, in_columns, -1)
    row, column = np.nonzero(mask)
    assert same == ((rows[row] == columns[column]) & (rows[row] >= 0)).sum()
    for counts, labels in ((in_rows, rows[row]), (in_columns, columns[column])):
        assert (-counts).tolist() == [(labels == label).sum() for label in range(3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("block", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("n_more", [-2, 0, 3])
def test_what_belongs_to_blocks_follows(block, dtype, n_more, generator):
    wiring = ErdosRenyi(0.4, exact=True, block=block).wire(24, 18, generator=generator)
    n_cells = wiring.grid[0] * wiring.grid[1]
    went = torch.randperm(wiring.n_blocks, generator=generator)[:6].numpy()
    dead = np.setdiff1d(np.arange(n_cells), wiring.cells())
    came = dead[torch.randperm(len(dead), generator=generator)[: 6 + n_more].numpy()]
    change = Change.of(wiring, went=went, came=came)
    assert change.went.tolist() == sorted(wiring.cells()[went])
    assert change.came.tolist() == sorted(came)

    layer = SparseLinear(wiring, generator=generator, dtype=dtype)
    layer.weight.grad = layer.weight.detach() * 2
    before = dict(zip(wiring.cells().tolist(), _by_block(layer, layer.weight), strict=True))
    layer.rewire(change)
    assert torch.equal(layer.dense_weight() != 0, layer.wiring.mask() & (layer.dense_weight() != 0))
    for cell, weight, gradient in zip(
        layer.wiring.cells().tolist(), _by_block(layer, layer.weight), _by_block(layer, layer.weight.grad), strict=True
    ):
        stayed = before[cell] if cell not in came else torch.zeros_like(weight)
        assert torch.equal(weight, stayed)
        assert torch.equal(gradient, stayed * 2)
    if block == (1, 1):
        assert torch.equal(layer._mask, layer.wiring.mask().to(dtype))
    between = Change.between(wiring, layer.wiring)
    for name in ("went", "came", "origin"):
        assert getattr(between, name).tolist() == getattr(change, name).tolist()


def _by_block(layer, values):
    values = values.detach().clone()
    if layer.wiring.block == (1, 1):
        return values.view(-1)[torch.from_numpy(layer.wiring.cells())]
    return values


def test_rows_that_are_not_contiguous_are_copied(generator):
    wiring = ErdosRenyi(0.4, exact=True, block=(2, 2)).wire(12, 12, generator=generator)
    dead = np.setdiff1d(np.arange(36), wiring.cells())
    change = Change.of(wiring, went=[0, 5], came=dead[:2])
    values = torch.randn(wiring.n_blocks, 2, 2, generator=generator)
    strided = values.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(change.carry(strided), change.carry(values.clone()))
    assert torch.equal(strided, values)  # left as it was


def test_errors_of_changes():
    wiring = Wiring.from_mask([[1, 1, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="cells must be numbers from 0 to 5, got 1 to 6"):
        Change.of(wiring, went=[], came=[6, 1])
    with pytest.raises(ValueError, match="must be unconnected, each once, got 1 that are not"):
        Change.of(wiring, went=[0], came=[1])
    with pytest.raises(ValueError, match="must be unconnected, each once, got 1 that are not"):
        Change.of(wiring, went=[], came=[2, 2])
    for went in ([3], [-1], [True, False]):
        with pytest.raises(ValueError, match="blocks that go must be numbers from 0 to 2, or a bool for each of them"):
            Change.of(wiring, went=went, came=[])
    with pytest.raises(ValueError, match="must be unconnected, got 2 that go in the same change"):
        Change.of(wiring, went=[2, 0, 2], came=[0, 5])
    assert Change.of(wiring, went=[True, False, False], came=[]).went.tolist() == [0]
