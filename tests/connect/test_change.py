"""What comes and what goes between two wirings, against sets of cells and dense masks."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, Wiring
from neuropil.connect.change import Change


def cells_of(wiring):
    """The cells of a wiring's blocks, after a check that rows are stored as they should be."""
    cells = []
    for row in range(wiring.grid[0]):
        columns = wiring.indices[wiring.indptr[row] : wiring.indptr[row + 1]].tolist()
        assert columns == sorted(set(columns))
        assert all(0 <= column < wiring.grid[1] for column in columns)
        cells += [row * wiring.grid[1] + column for column in columns]
    assert len(cells) == wiring.n_blocks
    return cells


@st.composite
def wirings(draw):
    """Wirings of any block, order and evenness."""
    n_groups = draw(st.integers(1, 3))
    n_in, n_out = (draw(st.integers(n_groups, 12)) for _ in range(2))
    pattern = Ensembles(
        n_groups=n_groups,
        p_intra=draw(st.sampled_from([0.3, 1.0])),
        p_inter=draw(st.sampled_from([0.2, 1.0])),
        grouping=draw(st.sampled_from(["index", "interleaved", "random"])),
        block=draw(st.sampled_from([(1, 1), (2, 1), (2, 2), ("group", 1), (3, "group")])),
        uneven=True,
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    for _ in range(20):
        try:
            return pattern.wire(n_in, n_out, generator=generator)
        except ValueError:
            continue
    return Ensembles(n_groups=1, p_intra=1.0).wire(n_in, n_out)


@st.composite
def changes(draw):
    """A wiring, numbers of blocks that go, cells that come, in any order."""
    before = draw(wirings())
    n_cells = before.grid[0] * before.grid[1]
    went = draw(st.lists(st.integers(0, before.n_blocks - 1), unique=True))
    dead = sorted(set(range(n_cells)) - set(cells_of(before)))
    came = draw(st.lists(st.sampled_from(dead), unique=True)) if dead else []
    if len(went) == before.n_blocks and not came:
        went = went[1:]
    return before, went, came


def laid_out(layer, values):
    targets, sources = (side.expand(layer.weight.shape) for side in layer.weight_units())
    real = (targets >= 0) & (sources >= 0)
    dense = torch.zeros(layer.wiring.shape, dtype=values.dtype)
    dense[targets[real], sources[real]] = values.detach()[real]
    return dense


@given(changes(), st.sampled_from(["list", "array", "mask"]))
def test_change(change, kind):
    before, went, came = change
    old = cells_of(before)
    goes = np.zeros(before.n_blocks, dtype=bool)
    goes[went] = True
    given = {"list": went, "array": np.array(went, dtype=np.int64), "mask": goes}[kind]
    made = Change.of(before, went=given, came=came)
    assert made.before is before
    assert cells_of(made.after) == sorted((set(old) - {old[k] for k in went}) | set(came))
    assert made.went.tolist() == sorted(old[k] for k in went)
    assert made.came.tolist() == sorted(came)
    stays = [k for k in range(before.n_blocks) if k not in set(went)]
    numbers = {old[k]: k for k in stays}
    assert made.origin.tolist() == [numbers.get(cell, -1) for cell in cells_of(made.after)]
    for name in ("shape", "block", "grid"):
        assert getattr(made.after, name) == getattr(before, name)
    for name in ("out_order", "in_order", "out_groups", "in_groups"):
        assert np.array_equal(getattr(made.after, name), getattr(before, name))
    again = Change.between(before, made.after)
    for name in ("went", "came", "origin"):
        assert np.array_equal(getattr(again, name), getattr(made, name))


@given(changes())
def test_the_wiring_is_as_good_as_one_made_from_scratch(change):
    before, went, came = change
    after = Change.of(before, went=went, came=came).after
    cells = np.array(cells_of(after))
    scratch = before.rewired(cells // after.grid[1], cells % after.grid[1])
    assert after == scratch
    assert np.array_equal(after.indptr, scratch.indptr)
    assert np.array_equal(after.indices, scratch.indices)
    assert (after.indptr.dtype, after.indices.dtype) == (scratch.indptr.dtype, scratch.indices.dtype)
    assert torch.equal(after.mask(), scratch.mask())
    assert repr(after) == repr(scratch)
    for array in (after.indptr, after.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@given(changes())
def test_there_and_back(change):
    before, went, came = change
    there = Change.of(before, went=went, came=came)
    back = Change.between(there.after, before)
    assert np.array_equal(back.went, there.came)
    assert np.array_equal(back.came, there.went)
    assert back.after == before


@given(changes(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
def test_weights_gradients_and_whatever_else_follow(change, dtype):
    before, went, came = change
    generator = torch.Generator().manual_seed(0)
    layer = SparseLinear(before, generator=generator, dtype=dtype)
    layer.weight.grad = laid_out_like(layer, torch.randn(before.shape, generator=generator).to(dtype))
    state = laid_out_like(layer, torch.randn(before.shape, generator=generator).to(dtype))
    weight, gradient, other = (laid_out(layer, values) for values in (layer.weight, layer.weight.grad, state))
    parameter = layer.weight
    made = layer.rewire(Change.of(before, went=went, came=came))
    carried = made.carry(state)
    kept = before.mask() & made.after.mask()
    assert layer.wiring is made.after
    assert layer.weight is parameter
    for values, expected in ((layer.weight, weight), (layer.weight.grad, gradient), (carried, other)):
        assert values.shape == layer.weight.shape
        assert values.dtype == dtype
        assert torch.equal(laid_out(layer, values), expected * kept)
    dead = ~made.after.mask()
    assert (laid_out(layer, layer.weight)[dead] == 0).all()
    x = torch.randn(2, layer.in_features, generator=generator)
    layer = layer.float()
    torch.testing.assert_close(
        layer(x), torch.nn.functional.linear(x, laid_out(layer, layer.weight), layer.bias), rtol=1e-4, atol=1e-4
    )


def laid_out_like(layer, dense):
    """The entries of a dense matrix in the shape of a layer's weight, 0 where nothing is connected."""
    targets, sources = (side.expand(layer.weight.shape) for side in layer.weight_units())
    values = (dense * layer.wiring.mask())[targets.clamp(min=0), sources.clamp(min=0)]
    return values * ((targets >= 0) & (sources >= 0))


@given(changes())
def test_a_layer_takes_a_wiring_for_a_change(change):
    before, went, came = change
    layers = [SparseLinear(before, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    made = layers[0].rewire(Change.of(before, went=went, came=came))
    layers[1].rewire(made.after)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert layers[0].wiring == layers[1].wiring


@pytest.mark.parametrize("block", [(1, 1), (2, 1), (2, 2)])
def test_nothing_changes(block, generator):
    wiring = ErdosRenyi(0.5, exact=True, block=block).wire(8, 8, generator=generator)
    layer = SparseLinear(wiring, generator=generator)
    weight = layer.weight.detach().clone()
    change = layer.rewire(Change.of(wiring, went=[], came=[]))
    assert len(change.went) == len(change.came) == 0
    assert change.origin.tolist() == list(range(wiring.n_blocks))
    assert torch.equal(layer.weight, weight)
    assert layer.weight.grad is None


@pytest.mark.parametrize("block", [(1, 1), (2, 1)])
def test_training_goes_on_after_a_change_of_length(block, generator):
    """A gradient arrives in the parameter's new shape, while a graph of its old shape is still alive."""
    wiring = ErdosRenyi(0.5, exact=True, block=block).wire(8, 8, generator=generator)
    layer = SparseLinear(wiring, generator=generator)
    x = torch.randn(3, 8, generator=generator)
    kept = []
    for n in (4, 3, 2, 5):
        loss = layer(x).square().sum()
        loss.backward()
        kept.append(loss)
        dead = sorted(set(range(layer.wiring.grid[0] * layer.wiring.grid[1])) - set(cells_of(layer.wiring)))
        layer.rewire(Change.of(layer.wiring, went=range(n), came=dead[: 2 * n - 4] if n == 5 else []))
        assert layer.weight.is_leaf
        assert layer.weight.requires_grad
        layer.weight.grad = None
        layer(x).square().sum().backward()
        assert layer.weight.grad.shape == layer.weight.shape
        product = laid_out(layer, layer.weight).requires_grad_()
        torch.nn.functional.linear(x, product, layer.bias.detach()).square().sum().backward()
        expected = product.grad * layer.wiring.mask()
        torch.testing.assert_close(laid_out(layer, layer.weight.grad), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_large_changes(n_threads, generator):
    """So much that the work may be shared among threads."""
    before = ErdosRenyi(0.4, exact=True).wire(1000, 900, generator=generator)
    layer = SparseLinear(before, generator=generator)
    weight, mask = layer.weight.detach().clone(), before.mask()
    went = torch.randperm(before.n_blocks, generator=generator)[:100_000].numpy()
    dead = torch.nonzero(~mask.ravel()).ravel()
    came = dead[torch.randperm(len(dead), generator=generator)[:100_000]].numpy()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        change = layer.rewire(Change.of(before, went=went, came=came))
    finally:
        torch.set_num_threads(threads)
    mask.view(-1)[torch.from_numpy(before.cells()[went])] = False
    kept = mask.clone()
    mask.view(-1)[came] = True
    assert torch.equal(change.after.mask(), mask)
    assert torch.equal(layer.weight, weight * kept)
    assert torch.equal(layer.dense_weight(), weight * kept)
    np.testing.assert_array_equal(change.after.cells(), np.flatnonzero(mask.numpy()))


# The wording of errors


def test_errors(generator):
    wiring = ErdosRenyi(0.5, exact=True).wire(4, 3, generator=generator)
    live, dead = wiring.cells().tolist(), sorted(set(range(12)) - set(wiring.cells().tolist()))
    for came, text in (
        ([12], "Change: cells must be numbers from 0 to 11, got 12 to 12"),
        ([-1, dead[0]], f"Change: cells must be numbers from 0 to 11, got -1 to {dead[0]}"),
        ([live[0]], "Change: cells that come must be unconnected, each once, got 1 that are not"),
        ([live[-1], live[1]], "Change: cells that come must be unconnected, each once, got 2 that are not"),
        ([dead[0], dead[0]], "Change: cells that come must be unconnected, each once, got 1 that are not"),
        ([dead[-1]] * 3, "Change: cells that come must be unconnected, each once, got 2 that are not"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            Change.of(wiring, went=[], came=came)
    for went in ([6], [-1], [True, False], np.ones(7, dtype=bool)):
        with pytest.raises(
            ValueError, match="Change: blocks that go must be numbers from 0 to 5, or a bool for each of"
        ):
            Change.of(wiring, went=went, came=[])
    with pytest.raises(ValueError, match="a layer must have at least one connection, got none"):
        Change.of(wiring, went=range(6), came=[])


def test_a_block_that_goes_may_not_come(generator):
    """It has not left, so it belongs to neither."""
    wiring = ErdosRenyi(0.5, exact=True).wire(4, 3, generator=generator)
    with pytest.raises(ValueError, match="cells that come must be unconnected"):
        Change.of(wiring, went=[2], came=[int(wiring.cells()[2])])


@pytest.mark.parametrize(
    "after",
    [
        ErdosRenyi(1.0).wire(3, 4),
        ErdosRenyi(1.0, block=(2, 1)).wire(4, 4),
        Wiring(4, 4, [0, 1], [0, 1], out_order=[1, 0, 2, 3], block=(2, 2)),
        Wiring(4, 4, [0, 1], [0, 1], in_order=[1, 0, 2, 3], block=(2, 2)),
    ],
)
def test_wirings_of_other_neurons(after):
    before = ErdosRenyi(1.0, block=(2, 2) if after.block == (2, 2) else (1, 1)).wire(4, 4)
    with pytest.raises(
        ValueError, match=r"Change: both wirings must be of the same neurons, order and block, got Wiring"
    ):
        Change.between(before, after)


def test_a_change_of_another_layer(generator):
    wiring = ErdosRenyi(0.5, exact=True).wire(4, 4, generator=generator)
    twin = wiring.rewired(wiring.block_rows, wiring.block_columns)
    layer = SparseLinear(wiring, generator=generator)
    with pytest.raises(
        ValueError, match=r"SparseLinear\.rewire: the change must start from this layer's wiring, got anot"
    ):
        layer.rewire(Change.of(twin, went=[0], came=[]))
    change = Change.of(wiring, went=[0], came=[])
    layer.rewire(change)
    with pytest.raises(ValueError, match="the change must start from this layer's wiring"):
        layer.rewire(change)  # it has been made already
