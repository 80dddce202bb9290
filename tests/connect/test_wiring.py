"""The value Wiring: what it says of its connections, against the mask laid out by a naive loop."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from neuropil.connect.wiring import Wiring


def naive_mask(wiring: Wiring) -> torch.Tensor:
    """Lay the mask out block by block, position by position."""
    mask = torch.zeros(wiring.out_features, wiring.in_features, dtype=torch.bool)
    rows, columns = wiring.block
    for block_row, block_column in zip(wiring.block_rows, wiring.block_columns, strict=True):
        for r in range(rows):
            for c in range(columns):
                target = wiring.out_order[block_row * rows + r]
                source = wiring.in_order[block_column * columns + c]
                if target >= 0 and source >= 0:
                    mask[target, source] = True
    return mask


def example() -> Wiring:
    """Three targets and five sources in 2 × 2 blocks, orders shuffled, the last places empty."""
    return Wiring(
        5,
        3,
        [1, 0, 0],
        [2, 0, 1],
        block=(2, 2),
        out_order=[2, 0, 1, -1],
        in_order=[4, 3, 1, 0, 2, -1],
        out_groups=[0, 1, 0],
        in_groups=[1, 0, 0, 1, 0],
    )


@st.composite
def wirings(draw: st.DrawFn) -> Wiring:
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    out_features, in_features = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    grid = (-(-out_features // rows), -(-in_features // columns))
    cells = draw(st.sets(st.integers(0, grid[0] * grid[1] - 1), min_size=1))
    orders = {}
    for name, n, side in (("out_order", out_features, rows), ("in_order", in_features, columns)):
        orders[name] = draw(st.permutations([*range(n), *[-1] * (-n % side)]))
    cell = np.array(sorted(cells))
    return Wiring(in_features, out_features, cell // grid[1], cell % grid[1], block=(rows, columns), **orders)


@settings(deadline=None, max_examples=60)
@given(wirings())
def test_agrees_with_its_mask(wiring: Wiring) -> None:
    mask = naive_mask(wiring)
    assert torch.equal(wiring.mask(), mask)
    assert torch.equal(torch.stack(wiring.connections(), dim=1), mask.nonzero())
    assert torch.equal(wiring.fan_in(), mask.sum(dim=1))
    assert torch.equal(wiring.fan_out(), mask.sum(dim=0))
    assert wiring.n_connections == int(mask.sum())
    assert wiring.density == pytest.approx(float(mask.double().mean()))
    assert np.array_equal(wiring.to_scipy().toarray(), mask.numpy())


@settings(deadline=None, max_examples=60)
@given(wirings())
def test_survives_every_way_of_copying(wiring: Wiring) -> None:
    for twin in (
        copy.deepcopy(wiring),
        pickle.loads(pickle.dumps(wiring)),
        Wiring.from_tensors(wiring.to_tensors()),
        wiring.rewired(wiring.block_rows[::-1], wiring.block_columns[::-1]),
        Wiring.from_mask(wiring.mask(), block=wiring.block, out_order=wiring.out_order, in_order=wiring.in_order),
    ):
        assert twin == wiring
        assert hash(twin) == hash(wiring)
        assert twin.block == wiring.block


@settings(deadline=None, max_examples=40)
@given(wirings(), st.randoms(use_true_random=False))
def test_order_of_blocks_and_of_positions_inside_a_block_plays_no_part(wiring: Wiring, random) -> None:
    shuffled = list(zip(wiring.block_rows, wiring.block_columns, strict=True))
    random.shuffle(shuffled)
    order = wiring.out_order.reshape(-1, wiring.block[0])[:, ::-1].ravel()
    twin = Wiring(
        wiring.in_features,
        wiring.out_features,
        [row for row, _ in shuffled],
        [column for _, column in shuffled],
        block=wiring.block,
        out_order=order,
        in_order=wiring.in_order,
    )
    assert twin == wiring
    assert hash(twin) == hash(wiring)


def test_golden_example() -> None:
    wiring = example()
    # block (0, 0): targets 2, 0 × sources 4, 3; (0, 1): 2, 0 × 1, 0; (1, 2): target 1 × source 2
    assert wiring.mask().int().tolist() == [[1, 1, 0, 1, 1], [0, 0, 1, 0, 0], [1, 1, 0, 1, 1]]
    assert wiring.fan_in().tolist() == [4, 1, 4]
    assert wiring.fan_out().tolist() == [2, 2, 1, 2, 2]
    assert wiring.n_connections == 9
    assert wiring.density == 0.6
    assert wiring.grid == (2, 3)
    assert wiring.n_blocks == 3
    assert wiring.shape == (3, 5)
    assert wiring.is_padded
    assert wiring.block_rows.tolist() == [0, 0, 1]
    assert wiring.block_columns.tolist() == [0, 1, 2]
    assert repr(wiring) == "Wiring(5 → 3, block=(2, 2), n_groups=2, density=0.6, n_connections=9)"
    # targets 0, 2 (group 0) read 2 of sources 1, 2, 4 (group 0) and all of 0, 3; target 1 reads 1 of 3
    assert torch.allclose(wiring.group_densities(), torch.tensor([[4 / 6, 1.0], [1 / 3, 0.0]]).double())


def test_repr_names_neurons_that_are_left_out() -> None:
    assert repr(Wiring(3, 2, [0], [1])).endswith("1 targets without input, 2 sources without target)")


def test_wirings_differ_by_block_shape_connections_and_sizes() -> None:
    square = Wiring(2, 2, [0], [0], block=(2, 2))
    singles = Wiring(2, 2, [0, 0, 1, 1], [0, 1, 0, 1])
    assert torch.equal(square.mask(), singles.mask())
    assert square != singles
    assert singles != Wiring(2, 2, [0, 0, 1], [0, 1, 0])
    assert Wiring(2, 2, [0], [0]) != Wiring(2, 2, [1], [0])
    assert Wiring(2, 2, [0], [0]) != Wiring(3, 2, [0], [0])
    assert Wiring(2, 2, [0], [0]) != "a wiring"
    assert len({singles, copy.copy(singles), square}) == 2


def test_group_labels_play_no_part_in_equality_but_survive_a_copy() -> None:
    wiring = example()
    bare = Wiring.from_mask(wiring.mask(), block=(2, 2), out_order=wiring.out_order, in_order=wiring.in_order)
    assert bare == wiring
    assert bare.n_groups == 0
    assert pickle.loads(pickle.dumps(wiring)).in_groups.tolist() == [1, 0, 0, 1, 0]


def test_nothing_can_be_changed() -> None:
    wiring = example()
    wiring.block_rows, wiring.n_connections  # noqa: B018  (what is cached is frozen too)
    for name in ("in_features", "block", "indices", "out_order", "block_rows", "n_connections"):
        with pytest.raises(AttributeError):
            setattr(wiring, name, None)
    with pytest.raises(AttributeError, match=r"Wiring: indices cannot be removed, a wiring is a value"):
        del wiring.indices
    with pytest.raises(AttributeError, match=r"Wiring: in_order cannot be changed, a wiring is a value"):
        wiring.in_order = wiring.in_order
    for name in ("indices", "indptr", "out_order", "in_order", "block_rows", "out_groups", "in_groups"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(wiring, name)[0] = 1


def test_arguments_are_not_shared_with_the_caller() -> None:
    order, groups = np.array([1, 0]), np.array([0, 1])
    rows = np.array([0, 1])
    wiring = Wiring(2, 2, rows, [0, 1], out_order=order, out_groups=groups, in_groups=groups)
    mask = wiring.mask()
    order[:], groups[:], rows[:] = 0, 0, 0
    assert torch.equal(wiring.mask(), mask)
    assert wiring.n_groups == 2
    wiring.to_tensors()["indices"].zero_()
    wiring.mask().zero_()
    assert torch.equal(wiring.mask(), mask)


def test_save_and_load(tmp_path) -> None:
    path = tmp_path / "wiring.safetensors"
    example().save(path)
    loaded = Wiring.load(path)
    assert loaded == example()
    assert np.array_equal(loaded.out_groups, example().out_groups)
    assert torch.equal(loaded.group_densities(), example().group_densities())


def test_load_rejects_what_is_no_wiring(tmp_path) -> None:
    path = tmp_path / "wiring.safetensors"
    with pytest.raises(ValueError, match=r"Wiring\.load: path must name a file, got .*which is none"):
        Wiring.load(path)
    example().save(path)
    content = path.read_bytes()
    for damaged in (b"", b"no tensors at all", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"Wiring\.load: .* does not hold a wiring: "):
            Wiring.load(path)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"does not hold a wiring: .*in_order, indices, .* must be given, got none"):
        Wiring.load(path)


def test_from_tensors_rejects_tensors_that_do_not_fit_each_other() -> None:
    for name, wrong in (
        ("shape", torch.tensor([3, 5])),
        ("indptr", torch.tensor([0, 2, 1])),
        ("indptr", torch.tensor([[0, 2, 3]])),
        ("indptr", torch.empty(0, dtype=torch.int64)),
        ("indptr", torch.tensor([0, 2])),
        ("indptr", torch.tensor([0.0, 2.0, 3.0])),
        ("indices", torch.tensor([0.0, 1.0, 2.0])),
        ("indptr", torch.tensor([1, 2, 3])),
        ("indptr", torch.tensor([0, 1, 2, 3])),
        ("indices", torch.tensor([0, 1, 9])),
        ("indices", torch.tensor([0, 0, 2])),
        ("out_order", torch.tensor([0, 0, 1, -1])),
    ):
        with pytest.raises(ValueError, match="Wiring"):
            Wiring.from_tensors({**example().to_tensors(), name: wrong})


def test_from_mask_reads_whatever_has_numbers() -> None:
    expected = Wiring(3, 2, [0, 1], [1, 2])
    mask = [[0, 1, 0], [0, 0, 1]]
    weights = torch.tensor(mask, dtype=torch.float32).mul(-0.5).requires_grad_()
    read_only = np.broadcast_to(np.array(mask), (2, 3))
    backwards = np.array([row[::-1] for row in mask])[:, ::-1]
    arrays = (np.array(mask, dtype=bool), read_only, backwards, list(np.array(mask)))
    for given_ in (mask, *arrays, torch.tensor(mask), weights, weights.bfloat16()):
        assert Wiring.from_mask(given_) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 0}, "Wiring: in_features must be at least 1, got 0"),
        ({"out_features": -1}, "Wiring: out_features must be at least 1, got -1"),
        ({"block": (0, 1)}, "Wiring: block must be two positive integers (rows, columns), got (0, 1)"),
        ({"block": (1,)}, "Wiring: block must be two positive integers (rows, columns), got (1,)"),
        (
            {"block_rows": [], "block_columns": []},
            "Wiring: a layer must have at least one connection, got none",
        ),
        (
            {"block_columns": [0]},
            "Wiring: block_rows and block_columns must be two lists of equal length, got ",
        ),
        (
            {"block_columns": [0, 4]},
            "Wiring: blocks must lie on the grid of 2 × 4 blocks, got rows 0 to 1 and ",
        ),
        (
            {"block_rows": [0, -1]},
            "Wiring: blocks must lie on the grid of 2 × 4 blocks, got rows -1 to 0 and ",
        ),
        (
            {"block_rows": [0, 0], "block_columns": [1, 1]},
            "Wiring: each block must be named once, got one twice",
        ),
        ({"out_order": [0, 0]}, "Wiring: out_order must hold each of the 2 neurons once, and otherwise −1"),
        (
            {"out_order": [0, 1, -1, -5], "block": (2, 1)},
            "Wiring: out_order must hold each of the 2 neurons once",
        ),
        ({"in_order": [0, 1, 2]}, "Wiring: in_order must hold each of the 4 neurons once, and otherwise −1"),
        (
            {"out_groups": [0, 1]},
            "Wiring: groups must be given for both sides or for neither, got one side only",
        ),
        (
            {"out_groups": [0, 1], "in_groups": [0, 1]},
            "Wiring: in_groups must be 4 group numbers from 0 up, got shape (2,)",
        ),
        (
            {"out_groups": [0, -1], "in_groups": [0, 0, 0, 0]},
            "Wiring: out_groups must be 2 group numbers from 0 up, got ",
        ),
    ],
)
def test_errors_say_what_is_wrong(arguments, message: str) -> None:
    valid = {"in_features": 4, "out_features": 2, "block_rows": [0, 1], "block_columns": [0, 1]}
    with pytest.raises(ValueError, match=re.escape(message)):
        Wiring(**{**valid, **arguments})


def test_errors_of_from_mask_and_group_densities() -> None:
    with pytest.raises(ValueError, match=r"Wiring\.from_mask: mask must be a matrix \[out, in\], got shape \(3,\)"):
        Wiring.from_mask(torch.ones(3))
    with pytest.raises(ValueError, match=r"each block \(2, 1\) .* got 1 that .* block row 0, block column 1; try"):
        Wiring.from_mask([[1, 1], [1, 0]], block=(2, 1))
    with pytest.raises(ValueError, match="at least one connection, got none between 2 and 2 neurons; try a higher"):
        Wiring.from_mask(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="must carry group labels, this wiring has none"):
        Wiring.from_mask(torch.ones(2, 2)).group_densities()
    with pytest.raises(ValueError, match=r"Wiring: block must be two positive integers .*, got \(2,\)"):
        Wiring.from_mask([[1, 1]], block=(2,))
    with pytest.raises(ValueError, match=r"Wiring\.from_tensors: shape must hold integers, got torch\.float32"):
        Wiring.from_tensors({**example().to_tensors(), "shape": torch.ones(4)})
