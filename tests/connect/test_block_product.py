"""Products of blocks, from copied columns and from events, against the masked dense product."""

import copy
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, Wiring
from neuropil.connect.kernels import block_product, blocks, dense_product
from neuropil.connect.kernels.block_layout import layout_of
from neuropil.connect.kernels.blocks import traceable_product
from neuropil.randomness import stream
from neuropil.testing import assert_kernels_agree, assert_module

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
BLOCKS = (("group", 1), (1, "group"), (2, 3), (3, 1), ("group", "group"))
KERNELS = ("blocks", "events")


@pytest.fixture(autouse=True)
def _small_layers_too(monkeypatch):
    """What is small is computed by PyTorch's own operations, but not here."""
    monkeypatch.setattr(blocks, "_FEWEST_PRODUCTS", 0)


def wire(block, grouping="index", *, sizes=(26, 18), p_inter=0.2, n_groups=4, seed=0):
    pattern = Ensembles(n_groups=n_groups, p_inter=p_inter, grouping=grouping, block=block, uneven=True)
    return pattern.wire(*sizes, generator=stream(seed, "wiring"))


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=stream(seed, "random"), dtype=dtype)


def active(rows, n, share, *, dtype=torch.float64, seed=0):
    chosen = torch.rand(rows, n, generator=stream(seed, "active")) < share
    return random(rows, n, dtype=dtype, seed=seed) * chosen


def outcome(wiring, kernel, x, *, incoming=None, product=None, **settings):
    """Output and gradients of a layer whose weights depend on the wiring only."""
    layer = SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"), dtype=x.dtype, **settings)
    x = x.detach().requires_grad_()
    y = layer(x) if product is None else product(layer, x)
    y.backward(random(*y.shape, dtype=y.dtype, seed=1) if incoming is None else incoming)
    dense = torch.zeros(wiring.shape, dtype=x.dtype)
    taken = copy.deepcopy(layer)
    taken.weight.data.copy_(layer.weight.grad)
    dense.copy_(taken.dense_weight().detach())
    return [y.detach(), x.grad, dense, layer.bias.grad]


def reference(wiring, x, **settings):
    layer = SparseLinear(wiring, kernel="blocks", generator=stream(0, "weights"), dtype=x.dtype)
    dense = layer.dense_weight().detach().requires_grad_()
    bias = layer.bias.detach().requires_grad_()
    x = x.detach().requires_grad_()
    y = x @ dense.t() + bias
    y.backward(random(*y.shape, dtype=y.dtype, seed=1))
    return [y.detach(), x.grad, dense.grad * wiring.mask(), bias.grad]


def assert_same(found, expected, tolerance=None):
    for a, b in zip(found, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=scale * (tolerance or TOLERANCE[a.dtype]))


# Values


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("grouping", ["index", "interleaved", "random"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_dense_product(kernel, block, grouping, share):
    wiring = wire(block, grouping)
    for rows in (0, 1, 9):
        x = active(rows, 26, share)
        assert_same(outcome(wiring, kernel, x), reference(wiring, x))


@given(
    st.integers(1, 5),
    st.integers(11, 40),
    st.integers(11, 40),
    st.sampled_from([*BLOCKS, (4, 4), (1, 2)]),
    st.sampled_from(["index", "interleaved", "random"]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.floats(0, 1),
    st.integers(0, 20),
    st.integers(0, 99),
)
def test_any_wiring(n_groups, n_in, n_out, block, grouping, p_inter, share, rows, seed):
    wiring = wire(block, grouping, sizes=(n_in, n_out), p_inter=p_inter, n_groups=n_groups, seed=seed)
    x = active(rows, n_in, share, seed=seed)
    expected = reference(wiring, x)
    for kernel in KERNELS:
        assert_same(outcome(wiring, kernel, x), expected)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("grouping", ["index", "random"])
def test_in_parts(block, grouping, monkeypatch):
    """A few rows of the input and a few rows of blocks at a time."""
    wiring = wire(block, grouping)
    monkeypatch.setattr(block_product, "_MOST_ROWS", 4)
    monkeypatch.setattr(block_product, "_MOST_NUMBERS", 40)
    for kernel, share in (("blocks", 1.0), ("events", 1.0), ("events", 0.1)):
        x = active(11, 26, share)
        assert_same(outcome(wiring, kernel, x), reference(wiring, x))


@pytest.mark.parametrize("grouping", ["index", "random"])
@pytest.mark.parametrize("block", BLOCKS)
def test_events_of_several_tiles(block, grouping):
    wiring = wire(block, grouping)
    for dtype in (torch.float32, torch.float64):
        x = active(300, 26, 0.1, dtype=dtype)
        assert_same(outcome(wiring, "events", x), reference(wiring, x))


def test_rows_of_blocks_that_read_nobody():
    wiring = Wiring(6, 6, [0, 2], [1, 0], block=(2, 2))
    for kernel in KERNELS:
        for share in (0.1, 1.0):
            x = active(5, 6, share)
            assert_same(outcome(wiring, kernel, x), reference(wiring, x))


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_of_blocks_that_read_the_same_neighbours(kernel):
    """Everyone reads everything where it lies: gradients of the input add up."""
    wiring = wire(("group", 1), p_inter=1.0)
    assert layout_of(wiring).runs == [0] * 4
    x = active(5, 26, 1.0)
    assert_same(outcome(wiring, kernel, x), reference(wiring, x))


def test_own_groups_are_read_where_they_lie(monkeypatch):
    """Nothing is copied where each group reads its own neurons only, whose numbers are neighbours."""
    wiring = wire(("group", 1), p_inter=0.0, sizes=(24, 16))
    layout = layout_of(wiring)
    assert layout.runs == [0, 6, 12, 18]
    assert layout.is_partition
    monkeypatch.setattr(block_product, "_room", None)
    x = active(5, 24, 1.0)
    assert_same(outcome(wiring, "blocks", x), reference(wiring, x))


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("by_onednn", [False, True])
def test_groups_that_are_alike_are_one_batch(rows, by_onednn, monkeypatch):
    monkeypatch.setattr(dense_product, "prefers_onednn", lambda x: False)
    monkeypatch.setattr(block_product, "prefers_onednn", lambda x: by_onednn)
    products, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *a, **k: products.append(1) or bmm(*a, **k))
    for sizes, is_batch in (((24, 16), True), ((26, 16), False), ((24, 18), False)):
        wiring = wire(("group", 1), p_inter=0.0, sizes=sizes)
        assert layout_of(wiring).is_batch == is_batch
        x = random(rows, sizes[0])
        products.clear()
        assert_same(outcome(wiring, "blocks", x), reference(wiring, x))
        assert len(products) == (3 if is_batch and not by_onednn else 0)
    for other in (wire(("group", 1), p_inter=0.2, sizes=(24, 16)), wire(("group", 1), "random", p_inter=0.0)):
        assert not layout_of(other).is_batch


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("kernel", KERNELS)
def test_strided_inputs_and_gradients(kernel, share):
    wiring = wire(("group", 1), "random")
    base = active(20, 52, share)
    for x in (base[:, ::2], base[::2, 26:], base.t().contiguous().t()[:, :26], base[:1, :26].expand(7, 26)):
        incoming = random(18, len(x), seed=1).t()
        assert_same(
            outcome(wiring, kernel, x, incoming=incoming),
            outcome(wiring, kernel, x.contiguous(), incoming=incoming.contiguous()),
        )


@pytest.mark.parametrize("block", [("group", 1), (3, 1)])
def test_by_onednn(block, monkeypatch):
    """As on processors with AVX-512, where it is the faster library."""
    wiring = wire(block)
    monkeypatch.setattr(dense_product, "prefers_onednn", lambda x: x.dtype == torch.float32 and x.numel() > 0)
    for p_inter in (0.2, 0.0):
        wiring = wire(block, p_inter=p_inter)
        x = active(9, 26, 1.0, dtype=torch.float32)
        assert_same(outcome(wiring, "blocks", x), reference(wiring, x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kernel", KERNELS)
def test_types_without_compiled_loops(kernel, dtype):
    wiring = wire(("group", 1))
    x = active(5, 26, 1.0, dtype=dtype)
    for a, b in zip(outcome(wiring, kernel, x), outcome(wiring, kernel, x, product=traceable_product), strict=True):
        assert torch.equal(a, b)


def test_small_layers_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(blocks, "_FEWEST_PRODUCTS", 9 * wire(("group", 1)).n_blocks * 5)
    calls, before = [], blocks.traceable_product
    monkeypatch.setattr(blocks, "traceable_product", lambda *t: calls.append(1) or before(*t))
    wiring = wire(("group", 1))
    for rows, expected in ((8, 1), (9, 0)):
        calls.clear()
        x = active(rows, 26, 1.0)
        assert_same(outcome(wiring, "blocks", x), reference(wiring, x))
        assert len(calls) == expected


# Gradients


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_those_of_finite_differences(kernel, share):
    layer = SparseLinear(wire((3, 1), "random"), kernel=kernel, generator=stream(0, "weights"), dtype=torch.float64)
    x = active(5, 26, share).requires_grad_()

    def call(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,)).tanh()

    assert torch.autograd.gradcheck(call, (x, layer.weight, layer.bias))


def test_blocks_can_be_differentiated_twice():
    layer = SparseLinear(wire((3, 2), "random"), kernel="blocks", generator=stream(0, "weights"), dtype=torch.float64)
    x = active(3, 26, 1.0).requires_grad_()

    def call(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,)).tanh()

    assert torch.autograd.gradgradcheck(call, (x, layer.weight, layer.bias))


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 0)])
def test_only_gradients_that_are_wanted(kernel, wanted, share):
    wiring = wire(("group", 1))
    layer = SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"), dtype=torch.float64)
    x = active(5, 26, share)
    expected = outcome(wiring, kernel, x)
    tensors = x, layer.weight, layer.bias
    for tensor, is_wanted in zip(tensors, wanted, strict=True):
        tensor.requires_grad_(bool(is_wanted))
    y = layer(x)
    y.backward(random(*y.shape, seed=1))
    assert_same([y.detach()], expected[:1])
    for tensor, is_wanted in zip(tensors, wanted, strict=True):
        assert (tensor.grad is not None) == bool(is_wanted)
    if wanted[0]:
        assert_same([x.grad], expected[1:2])


def test_per_sample_gradients():
    """Transforms of functions get PyTorch's own operations."""
    layer = SparseLinear(wire(("group", 1)), kernel="blocks", generator=stream(0, "weights"), dtype=torch.float64)
    weights = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(layer, weights, (x,)).square().sum()

    x = active(4, 26, 1.0)
    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x[:, None])
    for k in range(4):
        layer.zero_grad()
        layer(x[k : k + 1]).square().sum().backward()
        assert_same([found["weight"][k]], [layer.weight.grad])


# The same every time


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("block", [("group", 1), (2, 2), (1, "group")])
def test_number_of_threads_changes_nothing(block, share, monkeypatch):
    """Compiled loops give the same bits on any number of threads; products are PyTorch's, and may differ."""
    monkeypatch.setattr(block_product, "_FEWEST_NUMBERS", 1)
    wiring = wire(block, "random", sizes=(130, 75))
    x = active(300, 130, share, dtype=torch.float32)
    found, before = [], torch.get_num_threads()
    try:
        for n_threads in (1, 2, 3, 2):
            torch.set_num_threads(n_threads)
            found.append(outcome(wiring, "events", x))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        if share < 0.2:
            assert torch.equal(found[0][0], others[0])
            assert torch.equal(found[0][2], others[2])
        assert_same(others, found[0])
    for a, b in zip(found[1], found[3], strict=True):
        assert torch.equal(a, b)


# The contract


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("block", [("group", 1), (2, 2)])
def test_contract(block, kernel, share):
    wiring = Ensembles(n_groups=4, grouping="interleaved", block=block).wire(32, 16, generator=stream(0, "wiring"))
    layer = SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"))
    assert_module(layer, active(6, 32, share, dtype=torch.float32))


@pytest.mark.parametrize("kernel", KERNELS)
def test_layout_follows_rewiring(kernel):
    first, second = wire((3, 1)), wire((3, 1))
    second = second.rewired(second.block_rows[:-3], second.block_columns[:-3])
    layer = SparseLinear(first, kernel=kernel, generator=stream(0, "weights"), dtype=torch.float64)
    x = active(5, 26, 0.1)
    layer(x)
    layer.rewire(second)
    assert_same([layer(x).detach()], [x @ layer.dense_weight().detach().t() + layer.bias.detach()])


def test_layouts_go_with_their_wirings():
    from neuropil.connect.kernels import block_layout

    wiring = wire((3, 1))
    before = len(block_layout._KNOWN)
    assert layout_of(wiring) is layout_of(wiring)
    assert len(block_layout._KNOWN) == before + 1
    del wiring
    assert len(block_layout._KNOWN) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_larger_layers(dtype):
    for block in (("group", 1), (32, 32), (64, 1)):
        pattern = (
            Ensembles(n_groups=2, p_inter=0.15, block=block) if "group" in block else ErdosRenyi(0.25, block=block)
        )
        assert_kernels_agree(
            pattern.wire(256, 192, generator=stream(0, "wiring")), batch=40, dtype=dtype, generator=stream(0, "x")
        )


# Compiled


def compiled_and_not(wiring, kernel, x, **settings):
    layer = SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"), dtype=x.dtype)
    found = []
    for function in (layer, torch.compile(layer, fullgraph=True, **settings)):
        layer.zero_grad()
        given = x.detach().clone().requires_grad_()
        y = function(given)
        y.backward(random(*y.shape, dtype=y.dtype, seed=1))
        found.append([y.detach(), given.grad, layer.weight.grad, layer.bias.grad])
    return found


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("block", [("group", 1), (2, 3)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_torch_compile(kernel, block, share):
    for p_inter in (0.0, 0.2):
        wiring = wire(block, "interleaved", p_inter=p_inter)
        assert_same(*compiled_and_not(wiring, kernel, active(9, 26, share, dtype=torch.float32), backend="aot_eager"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_torch_compile_to_machine_code():
    wiring = wire(("group", 1), "interleaved")
    assert_same(*compiled_and_not(wiring, "events", active(9, 26, 0.1, dtype=torch.float32)))
