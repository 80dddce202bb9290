"""Single synapses without a dense matrix, against PyTorch's dense product of the same weights."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, ScaleFree, SparseLinear, Wiring, densify
from neuropil.connect.kernels import choice, synapse_product
from neuropil.connect.kernels.synapse_product import synapse_linear
from neuropil.connect.synapses import Synapses
from neuropil.measure import network_cost
from neuropil.randomness import stream
from neuropil.testing import assert_kernels_agree, assert_module

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=stream(seed, "random"), dtype=dtype)


def wired(n_in, n_out, n_connections, seed=0):
    """A wiring of exactly this many single synapses."""
    cells = torch.randperm(n_in * n_out, generator=stream(seed, "wiring"))[:n_connections]
    return Wiring(n_in, n_out, cells // n_in, cells % n_in)


def outcomes(wiring, x, weight, bias, *, needs_x=True):
    """Output and gradients of the stored weights, and of the dense matrix that they make."""
    found = []
    for is_dense in (False, True):
        given = x.detach().clone().requires_grad_(needs_x), weight.detach().clone().requires_grad_()
        b = None if bias is None else bias.detach().clone().requires_grad_()
        if is_dense:
            dense = torch.zeros(wiring.shape, dtype=weight.dtype).index_put(tuple(wiring.connections()), given[1])
            y = F.linear(given[0], dense, b)
        else:
            y = synapse_linear(given[0], given[1], b, Synapses(wiring))
        y.backward(random(*y.shape, dtype=y.dtype, seed=1))
        found.append([y.detach(), given[0].grad, given[1].grad, None if b is None else b.grad])
    return found


def assert_same(found, expected, *, rtol=None):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
            torch.testing.assert_close(a, b, rtol=0, atol=scale * (rtol or TOLERANCE[a.dtype]))


@pytest.fixture
def threads():
    """Set the number of threads, and let even the smallest work be shared out."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# Values


@given(
    st.integers(0, 70), st.integers(1, 90), st.integers(1, 90), st.floats(0, 1), st.integers(0, 99), st.booleans(),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_size(rows, n_in, n_out, density, seed, single, has_bias, needs_x):
    dtype = torch.float32 if single else torch.float64
    wiring = wired(n_in, n_out, max(1, round(density * n_in * n_out)), seed)
    bias = random(n_out, dtype=dtype, seed=3) if has_bias else None
    arguments = random(rows, n_in, dtype=dtype), random(wiring.n_connections, dtype=dtype, seed=2), bias
    assert_same(*outcomes(wiring, *arguments, needs_x=needs_x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 64, 100, 129])
def test_every_tile(rows, dtype):
    """Batches on either side of each number of lanes, over several stretches of neurons."""
    wiring = wired(130, 150, 1500)
    arguments = random(rows, 130, dtype=dtype), random(1500, dtype=dtype, seed=2), random(150, dtype=dtype, seed=3)
    assert_same(*outcomes(wiring, *arguments))
    assert_same(*outcomes(wiring, *arguments, needs_x=False))


def test_tiles_that_are_kept_in_parts(monkeypatch):
    monkeypatch.setattr(synapse_product, "_TILES_BYTES", 1)
    arguments = random(101, 40), random(300, seed=2), random(30, seed=3)
    assert_same(*outcomes(wired(40, 30, 300), *arguments))
    assert_same(*outcomes(wired(40, 30, 300), *arguments, needs_x=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [31, 64, 100, 129])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_sections(rows, dtype, n_threads, monkeypatch, threads):
    """Neurons with many connections take them some at a time; some neurons have none in a section, or none at all."""
    for name, value in {"_WIDTH": 32, "_STRETCH": 24, "_FEWEST_IN_SECTION": 4, "_FEWEST": 1}.items():
        monkeypatch.setattr(synapse_product, name, value)
    wiring = wired(130, 150, 3900)
    few = Wiring(130, 151, *wiring.connections())
    threads(n_threads)
    for one in (wiring, few):
        n_out = one.out_features
        arguments = (
            random(rows, 130, dtype=dtype),
            random(3900, dtype=dtype, seed=2),
            random(n_out, dtype=dtype, seed=3),
        )
        found = outcomes(one, *arguments)
        assert_same(*found)
        assert_same(*outcomes(one, *arguments, needs_x=False))
        threads(1)
        assert all(torch.equal(a, b) for a, b in zip(found[0], outcomes(one, *arguments)[0], strict=True))
        threads(n_threads)


def test_by_hand():
    """Weights go by target, then source: 0 ← 1 (2), 1 ← 0 (3), 1 ← 2 (5)."""
    synapses = Synapses(Wiring(3, 2, [1, 0, 1], [2, 1, 0]))
    y = synapse_linear(torch.tensor([[1.0, 10.0, 100.0]]), torch.tensor([2.0, 3.0, 5.0]), None, synapses)
    assert y.tolist() == [[20.0, 503.0]]
    assert synapses.targets.tolist() == [1, 0, 1]
    assert synapses.positions.tolist() == [1, 0, 2]


def test_neurons_without_connections():
    wiring = Wiring(200, 200, [77], [150])
    assert_same(*outcomes(wiring, random(40, 200), random(1), random(200)))


def test_what_is_not_finite_goes_where_it_is_wired():
    layer = SparseLinear(Wiring(3, 2, [0, 1], [0, 1]), kernel="synapses", bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([float("inf"), 2.0]).view(2, 1, 1))
    y = layer(torch.ones(9, 3))
    assert y[:, 0].isinf().all()
    assert torch.equal(y[:, 1], torch.full((9,), 2.0))


def test_strided_inputs():
    layer = SparseLinear(wired(10, 14, 60), kernel="synapses", dtype=torch.float64)
    base = random(6, 8, 10)
    views = {
        "transposed": base.transpose(0, 1),
        "every other": base[::2, 1::3],
        "a column axis first": base.movedim(2, 0).movedim(0, 2),
        "expanded over the batch": base[:, :1].expand(6, 5, 10),
        "part of the features": torch.cat([base, base], dim=-1)[..., 4:14],
        "one sample": base[0, 0],
        "nothing": base[:0],
    }
    for x in views.values():
        assert_same([layer(x).detach()], [F.linear(x, layer.dense_weight(), layer.bias).detach()])
        assert torch.equal(layer(x), layer(x.contiguous()))
        assert layer(x).is_contiguous()


def test_a_gradient_may_be_strided():
    layer = SparseLinear(wired(10, 14, 60), kernel="synapses", dtype=torch.float64)
    found = []
    for whole in (random(14, 9).t(), random(14, 9).t().contiguous()):
        layer.zero_grad()
        layer(random(9, 10)).backward(whole)
        found.append([layer.weight.grad, layer.bias.grad])
    layer.zero_grad()
    layer(random(9, 10)).sum().backward()  # one number, expanded
    assert_same(found[0], found[1])
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]
)
def test_only_what_is_asked_for(needs):
    x, weight, bias = random(5, 10), random(60, seed=2), random(14, seed=3)
    given = [tensor.requires_grad_(need) for tensor, need in zip((x, weight, bias), needs, strict=True)]
    synapse_linear(*given, Synapses(wired(10, 14, 60))).sum().backward()
    assert tuple(tensor.grad is not None for tensor in given) == needs


@pytest.mark.parametrize("rows", [1, 5])
def test_derivatives(rows):
    synapses = Synapses(wired(6, 5, 12))
    given = [tensor.requires_grad_() for tensor in (random(rows, 6), random(12, seed=2), random(5, seed=3))]

    def product(x, weight, bias):
        return synapse_linear(x, weight, bias, synapses).tanh()

    assert torch.autograd.gradcheck(product, given)
    assert torch.autograd.gradgradcheck(product, given)
    assert torch.autograd.gradcheck(lambda *t: torch.ops.neuropil.synapses(*t, *synapses.tensors()), given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pattern", [ErdosRenyi(1.0), ScaleFree(0.2), Ensembles(n_groups=4, p_inter=0.1)])
def test_kernels_agree(pattern, dtype, generator):
    wiring = pattern.wire(64, 48, generator=generator)
    for batch in (0, 1, 40):
        assert "synapses" in assert_kernels_agree(wiring, batch=batch, dtype=dtype, generator=generator)


@pytest.mark.parametrize("kernel", ["synapses", "events"])
def test_number_of_threads_changes_nothing(kernel, threads, monkeypatch):
    monkeypatch.setattr(synapse_product, "_FEWEST", 1)
    wiring = ScaleFree(0.1).wire(300, 280, generator=stream(0, "wiring"))
    x = random(45, 300, dtype=torch.float32)
    x = x * (random(45, 300, seed=5).abs() > 1.7) if kernel == "events" else x
    layer = SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"))
    assert not layer.stores_dense
    found = []
    for rows in (45, 1):
        for n_threads in (1, 2, 3, 1):
            threads(n_threads)
            layer.zero_grad()
            source = x[:rows].clone().requires_grad_()
            y = layer(source)
            y.backward(random(*y.shape, dtype=torch.float32, seed=1))
            found.append([y.detach(), source.grad, layer.weight.grad.clone()])
        assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
        found.clear()


# As a layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contract(dtype, generator):
    torch._dynamo.reset()
    layer = SparseLinear(wired(32, 16, 100), kernel="synapses", generator=generator, dtype=dtype)
    assert_module(layer, torch.randn(5, 32, generator=generator, dtype=dtype))


def test_torch_compile():
    """A whole network, forward and backward, in one graph."""
    torch._dynamo.reset()
    model = nn.Sequential(
        SparseLinear(wired(20, 30, 90), kernel="synapses"), nn.ReLU(), SparseLinear(wired(30, 10, 50), kernel="events")
    )
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for case in ("as built", "silent", "rewired"):
        if case == "silent":
            model[0].set_silent(torch.arange(90) % 3 == 0)
        elif case == "rewired":
            model[0].rewire(wired(20, 30, 110, seed=1))
        found = []
        for network in (model, compiled):
            model.zero_grad()
            x = random(7, 20, dtype=torch.float32).requires_grad_()
            y = network(x)
            y.square().sum().backward()
            found.append([y.detach(), x.grad, *(parameter.grad for parameter in model.parameters())])
        assert_same(*found)


def test_operators_are_registered_right():
    synapses = Synapses(wired(6, 5, 12))
    x, weight, bias = random(4, 6).requires_grad_(), random(12, seed=2).requires_grad_(), random(5).requires_grad_()
    torch.library.opcheck(torch.ops.neuropil.synapses, (x, weight, bias, *synapses.tensors()))
    torch.library.opcheck(torch.ops.neuropil.synapses, (x, weight, None, *synapses.tensors()))
    for needs in ((True, True), (False, True), (True, False)):
        torch.library.opcheck(
            torch.ops.neuropil.synapses_backward, (random(4, 5), x, weight, *synapses.tensors(), *needs)
        )


def test_stores_live_weights_only(generator):
    layer = SparseLinear(wired(40, 50, 77), kernel="synapses", generator=generator)
    assert layer.weight.shape == (77, 1, 1)
    assert sum(buffer.numel() for buffer in layer.buffers()) == 0
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.randn(2, 40)).sum().backward()
    optimizer.step()
    assert optimizer.state[layer.weight]["exp_avg"].numel() == 77


def test_a_layer_too_large_to_be_dense(generator):
    """Four billion possible connections: whatever made a matrix of them would fail."""
    n = 1 << 16
    wiring = ErdosRenyi(1e-6, exact=True).wire(n, n, generator=generator)
    layer = SparseLinear(wiring, generator=generator)
    assert layer.kernel == "synapses"
    x = torch.randn(3, n, generator=generator, requires_grad=True)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(x).square().sum().backward()
    optimizer.step()
    assert int((x.grad != 0).any(0).sum()) == int((wiring.fan_out() > 0).sum())
    assert network_cost(layer, x.detach()).connections == wiring.n_connections
    assert "density=1e-06" in repr(layer)
    layer.load_state_dict(layer.state_dict())
    layer.set_silent(torch.arange(wiring.n_blocks) % 2 == 0)
    assert layer.n_transmitting == wiring.n_connections // 2
    layer.rewire(ErdosRenyi(1e-6, exact=True).wire(n, n, generator=generator))
    assert copy.deepcopy(layer)(x).shape == (3, n)


def test_autocast_and_types():
    layer = SparseLinear(wired(10, 14, 60), kernel="synapses")
    x = random(3, 10, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer(x.clone()))
        y = layer(x.bfloat16())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, layer(x), rtol=0.02, atol=0.02)
    with pytest.raises(TypeError, match=r"the input must be of the weights' type, torch\.float32, got torch\.float64$"):
        layer(x.double())


def test_other_places_and_types_are_dense():
    layer = SparseLinear(wired(10, 14, 60), kernel="synapses").bfloat16()
    x = random(3, 10).bfloat16()
    assert torch.equal(layer(x), F.linear(x, layer.dense_weight(), layer.bias))
    assert "product: dense, with a matrix made from the live weights each time" in layer.explain()
    assert "the weights are torch.bfloat16 on cpu" in layer.explain()
    elsewhere = SparseLinear(wired(10, 14, 60), kernel="synapses", device="meta")
    assert elsewhere(torch.empty(3, 10, device="meta")).shape == (3, 14)
    assert SparseLinear(wired(600, 600, 600), device="meta").kernel == "masked"


# Either storage


def pair(wiring, **settings):
    """The same layer, stored as a matrix and not."""
    layers = [
        SparseLinear(wiring, kernel=kernel, generator=stream(0, "w"), **settings) for kernel in ("masked", "synapses")
    ]
    assert [layer.stores_dense for layer in layers] == [True, False]
    return layers


def test_initial_weights_do_not_depend_on_the_storage():
    dense, stored = pair(wired(30, 20, 100))
    assert torch.equal(dense.dense_weight(), stored.dense_weight())
    assert torch.equal(dense.bias, stored.bias)


@pytest.mark.parametrize("silent", [False, True])
def test_states_go_from_one_storage_to_the_other(silent):
    layers = pair(wired(30, 20, 100))
    for first, second in (layers, layers[::-1]):
        with torch.no_grad():
            first.weight.mul_(1.5)
        first.set_silent(torch.arange(100) % 2 == 0 if silent else None)
        state = first.state_dict()
        kept = {key: value.clone() for key, value in state.items()}
        other = SparseLinear(wired(30, 20, 90, seed=1), kernel=second.kernel)  # of another number of connections
        other.load_state_dict(state)
        assert torch.equal(other.dense_weight(), first.dense_weight())
        assert other.stores_dense == second.stores_dense
        assert silent == (other.silent is not None)
        assert all(torch.equal(state[key], kept[key]) for key in kept)


def test_rewiring_is_the_same(generator):
    dense, stored = pair(wired(30, 20, 100))
    for seed in range(1, 4):
        wiring = wired(30, 20, 100 + 10 * seed, seed)
        for layer in (dense, stored):
            layer(torch.ones(2, 30)).sum().backward()
            layer.rewire(wiring)
        assert torch.equal(dense.dense_weight(), stored.dense_weight())
        x = random(4, 30, dtype=torch.float32)
        assert_same([stored(x).detach()], [dense(x).detach()])


def test_copying_and_pickling():
    _, layer = pair(wired(30, 20, 100))
    x = random(4, 30, dtype=torch.float32)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
    assert copy.deepcopy(layer).synapses is layer.synapses
    assert torch.allclose(densify(layer)(x), layer(x), atol=1e-6)


def test_an_order_of_single_synapses_is_only_another_way_to_name_them():
    wiring = Wiring(3, 4, [0, 1, 2], [1, 1, 0], out_order=[2, 1, 0, -1, 3], in_order=[1, 2, 0])
    assert wiring.out_order.tolist() == [0, 1, 2, 3]
    assert wiring.mask().int().tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    for layer in pair(wiring):
        layer.set_silent(torch.tensor([True, False, False]))
        assert layer.dense_weight()[0, 1] == 0
        assert int((layer.dense_weight() != 0).sum()) == 2


# What is said of it


def test_the_choice_is_told(monkeypatch):
    monkeypatch.setattr(choice, "_FEWEST_CELLS", 100)
    layer = SparseLinear(wired(20, 10, 20))
    assert layer.explain() == (
        f"kernel: synapses, chosen by auto: single synapses at a density below {choice._DENSE_FROM:g}, here 0.1, in a "
        "layer of at least 100 possible ones, here 200\n"
        "storage: the live weights alone, [20, 1, 1]\n"
        "product: compiled loops over live connections\n"
        "others that can: events, masked\n"
        "others that cannot: blocks (needs blocks larger than one synapse, got block=(1, 1))"
    )
    assert (
        SparseLinear(wired(20, 10, 190))
        .explain()
        .startswith(
            f"kernel: masked, chosen by auto: single synapses at a density of at least {choice._DENSE_FROM:g}, here 0.95\n"
            "storage: the dense matrix [10, 20], of which 190 entries are live (0.95)\nproduct: dense, with a mask\n"
        )
    )
    small = SparseLinear(wired(9, 10, 20))
    assert (
        "masked, chosen by auto: single synapses in a layer of fewer than 100 possible ones, here 90" in small.explain()
    )
    layer.rewire(ErdosRenyi(1.0).wire(20, 10))
    assert "synapses, chosen by auto when it was built; built now it would be masked: single" in layer.explain()
    assert SparseLinear(wired(9, 10, 20), kernel="events").explain().startswith("kernel: events, forced by name\n")
    block = Ensembles(n_groups=2, block=("group", 1)).wire(8, 80, generator=stream(0, "wiring"))
    assert "blocks, chosen by auto: blocks of at least 32 rows, here 40" in SparseLinear(block).explain()
    assert "others that cannot: synapses (needs single synapses, got block=(40, 1))" in SparseLinear(block).explain()


def test_a_kernel_that_cannot_says_so():
    with pytest.raises(
        ValueError,
        match=r"kernel 'synapses' needs single synapses, got block=\(2, 1\); try blocks or events or masked$",
    ):
        SparseLinear(ErdosRenyi(1.0, block=(2, 1)).wire(4, 4), kernel="synapses")
