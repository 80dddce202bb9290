"""The event-driven product against PyTorch's dense one, forward and backward, on either side of the threshold."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, EventLinear, ScaleFree, SmallWorld, SparseLinear, Wiring
from neuropil.connect.kernels import KERNELS, block_events, event_product
from neuropil.connect.kernels.dense_product import dense_product
from neuropil.connect.kernels.event_product import event_linear, find_events
from neuropil.connect.storage import as_stored
from neuropil.randomness import stream
from neuropil.testing import assert_kernels_agree, assert_module

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
ACTIVITIES = (0.0, 0.01, 0.1, 0.14, 0.16, 1.0)
PATTERNS = {
    "dense": Dense(),
    "erdos-renyi": ErdosRenyi(0.3),
    "small-world": SmallWorld(0.3),
    "scale-free": ScaleFree(0.3),
    **{
        f"{grouping} {block}": Ensembles(n_groups=4, p_inter=0.2, grouping=grouping, block=block, uneven=True)
        for grouping in ("index", "interleaved", "random")
        for block in ((1, 1), ("group", 1), (1, "group"), (2, 3), ("group", "group"))
    },
}


def active(shape, activity, *, dtype=torch.float64, seed=0, spikes=False):
    """Numbers of either sign (or ones), of which exactly this share is not zero."""
    generator = stream(seed, "x")
    n = torch.Size(shape).numel()
    values = torch.randn(n, generator=generator, dtype=dtype)
    values = torch.where(values.abs() < 1e-3, 1.0, values)
    chosen = torch.randperm(n, generator=generator)[: round(activity * n)]
    x = torch.zeros(n, dtype=dtype)
    x[chosen] = 1.0 if spikes else values[chosen]
    return x.reshape(shape)


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=stream(seed, "random"), dtype=dtype)


def outcome(function, x, weight, bias):
    """Output and gradients of copies of the arguments, for a gradient that is the same for every function."""
    given = [None if t is None else t.detach().clone().requires_grad_() for t in (x, weight, bias)]
    y = function(*given)
    y.backward(random(*y.shape, dtype=y.dtype, seed=1))
    return [y.detach(), *(None if t is None else t.grad for t in given)]


def assert_same(found, expected, *, rtol=None):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
            torch.testing.assert_close(a, b, rtol=0, atol=scale * (rtol or TOLERANCE[a.dtype]))


def products(monkeypatch):
    """Return a list to which every search for events adds the shape of what was searched."""
    shapes = []

    def counting(x, **settings):
        shapes.append(tuple(x.shape))
        return find_events(x, **settings)

    for module in (event_product, block_events):
        monkeypatch.setattr(module, "find_events", counting)
    return shapes


# Values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activity", ACTIVITIES)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_dense_layer(activity, dtype, bias):
    x, weight = active((40, 50), activity, dtype=dtype), random(70, 50, dtype=dtype)
    arguments = x, weight, random(70, dtype=dtype, seed=2) if bias else None
    assert_same(outcome(event_linear, *arguments), outcome(F.linear, *arguments))


def test_equals_a_loop():
    x, weight, bias = active((6, 9), 0.2), random(4, 9), random(4, seed=2)
    expected = [
        [float(bias[o]) + sum(float(x[r, i]) * float(weight[o, i]) for i in range(9)) for o in range(4)]
        for r in range(6)
    ]
    assert_same([event_linear(x, weight, bias)], [torch.tensor(expected, dtype=torch.float64)])


@pytest.mark.parametrize("activity", ACTIVITIES)
@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (7, 1), (1, 1), (5,), (3, 4, 5), (2, 0, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("n_out", [1, 6])
def test_any_shape(shape, activity, n_out):
    arguments = active(shape, activity), random(n_out, shape[-1]), random(n_out, seed=2)
    assert_same(outcome(event_linear, *arguments), outcome(F.linear, *arguments))


def test_no_features_and_no_targets():
    for n_in, n_out in ((0, 3), (3, 0)):
        x, weight, bias = torch.zeros(2, n_in), torch.zeros(n_out, n_in), torch.ones(n_out)
        assert torch.equal(event_linear(x, weight, bias), F.linear(x, weight, bias))


@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 150), st.floats(0, 1), st.integers(0, 99), st.booleans())
def test_any_size(rows, n_in, n_out, activity, seed, single):
    dtype = torch.float32 if single else torch.float64
    x = active((rows, n_in), activity, dtype=dtype, seed=seed)
    arguments = x, random(n_out, n_in, dtype=dtype, seed=seed), random(n_out, dtype=dtype, seed=seed + 1)
    assert_same(outcome(event_linear, *arguments), outcome(F.linear, *arguments))


@pytest.mark.parametrize("activity", [0.1, 0.5])
def test_strided_inputs(activity):
    base = active((6, 8, 10), activity)
    weight, bias = random(10, 7).t(), random(14, seed=2)[::2]
    views = {
        "transposed": base.transpose(0, 1),
        "every other": base[::2, 1::3],
        "a column axis first": base.movedim(2, 0).movedim(0, 2),
        "expanded over the batch": base[:, :1].expand(6, 5, 10),
        "part of the features": torch.cat([base, base], dim=-1)[..., 4:14],
    }
    assert not weight.is_contiguous()
    for name, x in views.items():
        assert x.shape[-1] == 10, name
        assert_same([event_linear(x, weight, bias)], [F.linear(x, weight, bias)])
        assert_same([event_linear(x, weight, bias)], [event_linear(x.contiguous(), weight, bias)])


def test_dense_above_a_share(monkeypatch):
    """At a share of exactly 15 % events are followed, above it they are not."""
    calls = []
    monkeypatch.setattr(event_product, "dense_product", lambda *t, **s: calls.append(1) or dense_product(*t, **s))
    weight = random(3, 10)
    for n_active, n_calls in ((0, 0), (14, 0), (15, 0), (16, 1), (100, 1)):
        calls.clear()
        event_linear(active((10, 10), n_active / 100), weight)
        assert len(calls) == n_calls, n_active


@given(st.integers(0, 8), st.integers(1, 30), st.floats(0, 1), st.integers(0, 99))
def test_events_are_what_is_not_zero(rows, n_in, activity, seed):
    x = active((rows, n_in), activity, seed=seed, dtype=torch.float32)
    if x.numel():
        x.view(-1)[0] = -0.0
    events = find_events(x)
    at = x.nonzero()
    assert events.pointers.tolist() == [0, *(x != 0).sum(1).cumsum(0).tolist()]
    assert events.sources.tolist() == at[:, 1].tolist()
    assert events.values.tolist() == x[x != 0].tolist()
    n_active = len(at)
    if n_active:
        assert find_events(x, most=(n_active - 0.5) / x.numel()) is None
    assert find_events(x, most=(n_active + 0.5) / max(1, x.numel())) is not None


# What is not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_input_that_is_not_finite_spreads_as_in_a_dense_layer(value):
    """NaN reaches every target of its row, infinity every one but NaN where its weight is 0."""
    x, weight, bias = active((10, 30), 0.1), random(5, 30), random(5, seed=2)
    weight[2, 7] = 0.0
    x[3, 7] = value
    found, expected = (outcome(function, x, weight, bias) for function in (event_linear, F.linear))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
    assert found[0][3].isnan().tolist() == ([True] * 5 if value != value else [o == 2 for o in range(5)])
    assert found[0][[r for r in range(10) if r != 3]].isfinite().all()


def test_zeros_pass_nothing_not_even_infinity():
    """Where a dense product makes NaN of 0 · ∞, nothing happens: what is silent is skipped, whatever its weight."""
    x, weight = active((10, 30), 0.1), random(5, 30)
    silent = int((x == 0).all(0).nonzero()[0])
    weight[:, silent] = float("inf")
    assert F.linear(x, weight).isnan().all()
    others = weight.clone()
    others[:, silent] = 0.0
    assert_same([event_linear(x, weight)], [F.linear(x, others)])
    # likewise the gradient of the weights: only sources that were active learn that it is not finite
    weight.requires_grad_()
    y = event_linear(x, weight)
    y.backward(torch.full_like(y, float("nan")))
    assert torch.equal(weight.grad.isnan(), (x != 0).any(0).expand(5, -1))


# Gradients


def test_gradients_are_those_of_finite_differences():
    x, weight, bias = active((8, 12), 0.1).requires_grad_(), random(5, 12).requires_grad_(), random(5).requires_grad_()
    for scale in (1.0, 0.0):  # with one entry moved, x stays below the threshold
        assert torch.autograd.gradcheck(lambda x, w, b: event_linear(x, w, b).tanh(), (x * scale, weight, bias))


@pytest.mark.parametrize("activity", [0.1, 0.5])
@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (0, 0, 0)])
def test_only_gradients_that_are_wanted(wanted, activity):
    arguments = [active((8, 12), activity), random(5, 12), random(5, seed=2)]
    for tensor, is_wanted in zip(arguments, wanted, strict=True):
        tensor.requires_grad_(bool(is_wanted))
    expected = outcome(F.linear, *arguments)
    y = event_linear(*arguments)
    assert y.requires_grad == any(wanted)
    assert_same([y.detach()], expected[:1])
    if any(wanted):
        y.backward(random(*y.shape, seed=1))
    for tensor, gradient, is_wanted in zip(arguments, expected[1:], wanted, strict=True):
        assert_same([tensor.grad], [gradient if is_wanted else None])


@pytest.mark.parametrize("activity", [0.1, 0.5])
def test_without_gradients(activity):
    x, weight = active((8, 12), activity), random(5, 12).requires_grad_()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            y = event_linear(x, weight)
        assert not y.requires_grad
        assert_same([y.clone()], [F.linear(x, weight).detach()])


@pytest.mark.parametrize("activity", [0.1, 0.5])
def test_backward_may_be_called_again_but_not_differentiated(activity):
    x, weight = active((8, 12), activity), random(5, 12).requires_grad_()
    y = event_linear(x, weight).square().sum()
    first, second = (torch.autograd.grad(y, weight, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    (gradient,) = torch.autograd.grad(y, weight, create_graph=True)
    assert torch.equal(gradient.detach(), first)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_input_may_change_after_the_call():
    """Events are kept, not the input: what is written into it later does not reach the gradient."""
    x, weight = active((8, 12), 0.1), random(5, 12).requires_grad_()
    expected = outcome(F.linear, x, weight, None)[2]
    y = event_linear(x, weight)
    x.fill_(7.0)
    y.backward(random(*y.shape, seed=1))
    assert_same([weight.grad], [expected])


# Where all products are dense


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_types_without_compiled_loops(dtype):
    arguments = active((8, 12), 0.1, dtype=dtype), random(5, 12, dtype=dtype), random(5, dtype=dtype, seed=2)
    for a, b in zip(outcome(event_linear, *arguments), outcome(F.linear, *arguments), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rows", [0, 8])
@pytest.mark.parametrize("activity", [0.0, 0.1, 0.5])
def test_autocast(rows, activity):
    """Always in the input's type: from events as without autocast, dense products from rounded factors."""
    arguments = (
        active((rows, 12), activity, dtype=torch.float32),
        *(random(*s, dtype=torch.float32) for s in ((5, 12), (5,))),
    )
    plain = outcome(event_linear, *arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = outcome(event_linear, *arguments)
    assert [t.dtype for t in found] == [torch.float32] * 4
    assert_same(found, plain, rtol=2**-7)
    is_dense = activity > 0.2 and rows > 0
    assert torch.equal(found[0], plain[0]) != is_dense
    assert torch.equal(found[2], plain[2]) != is_dense
    assert torch.equal(found[1], plain[1]) == (rows == 0)  # the gradient of the input is dense


def test_autocast_leaves_float64_alone():
    arguments = active((8, 12), 0.5), random(5, 12), random(5, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(outcome(event_linear, *arguments), outcome(F.linear, *arguments))


@pytest.mark.parametrize("has_onednn", [True, False])
def test_autocast_to_another_type_is_none(has_onednn, monkeypatch):
    monkeypatch.setattr("neuropil.connect.kernels.dense_product.prefers_onednn", lambda x: has_onednn)
    arguments = active((8, 12), 0.5, dtype=torch.float32), random(5, 12, dtype=torch.float32), None
    plain = outcome(event_linear, *arguments)
    with torch.autocast("cpu", torch.float16):
        found = outcome(event_linear, *arguments)
    assert_same(found, plain)


@pytest.mark.parametrize("activity", [0.1, 0.5])
def test_torch_compile(activity):
    torch._dynamo.reset()
    x = active((3, 8, 12), activity, dtype=torch.float32)
    wiring = Ensembles(n_groups=4).wire(12, 8, generator=stream(0, "wiring"))
    for layer in (EventLinear(12, 5), SparseLinear(wiring, kernel="events")):
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        for spikes in (x, x[:1].expand(3, 8, 12)):
            assert_same([compiled(spikes).detach()], [layer(spikes).detach()])


def test_no_device():
    layer = EventLinear(12, 5, device="meta")
    assert layer(torch.empty(3, 12, device="meta")).shape == (3, 5)


# Threads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_out", [1, 127, 128, 131, 200])
def test_number_of_threads_changes_nothing(n_out, dtype):
    x, weight, bias = active((37, 50), 0.15, dtype=dtype), random(n_out, 50, dtype=dtype), random(n_out, dtype=dtype)
    found, before = [], torch.get_num_threads()
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            y, _, of_weight, of_bias = outcome(event_linear, x, weight, bias)  # of_x is dense, and PyTorch's
            found.append((y, of_weight, of_bias))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


# Layers


@pytest.mark.parametrize("activity", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_event_linear_keeps_the_contract_of_a_layer(activity, dtype):
    layer = EventLinear(12, 5, dtype=dtype)
    assert_module(layer, active((8, 12), activity, dtype=dtype), compiled=dtype == torch.float32)
    assert isinstance(copy.deepcopy(layer), EventLinear)


def test_event_linear_is_nn_linear():
    torch.manual_seed(0)
    plain = nn.Linear(12, 5)
    torch.manual_seed(0)
    layer = EventLinear(12, 5)
    x = active((2, 8, 12), 0.1, dtype=torch.float32)
    assert torch.equal(layer.weight, plain.weight)
    layer.load_state_dict(plain.state_dict())
    assert_same([layer(x).detach()], [plain(x).detach()])
    assert repr(layer) == "EventLinear(in_features=12, out_features=5, bias=True)"


def test_other_numbers_of_features_are_refused():
    """Compiled loops would read past the weights, or leave some out without a word."""
    layer = EventLinear(4, 2)
    for shape in ((3, 6), (3, 3), (2, 3, 1)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole sentence is compared)
            layer(torch.zeros(shape))
        assert str(caught.value) == f"event_linear: the input's last dimension must be in_features=4, got shape {shape}"


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_agree_for_every_pattern(name, dtype, generator):
    wiring = PATTERNS[name].wire(26, 18, generator=generator)
    for batch in (0, 1, 9):
        names = assert_kernels_agree(wiring, batch=batch, dtype=dtype, generator=generator)
        assert {"events", "masked"} <= set(names)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("name", PATTERNS)
def test_silent_connections(name, share, generator):
    wiring = PATTERNS[name].wire(26, 18, generator=generator)
    silent = torch.rand(wiring.n_blocks, generator=generator) < share
    found = []
    first = SparseLinear(wiring, kernel="masked", generator=stream(0, "weights"), dtype=torch.float64)
    first.set_silent(silent)
    for kernel in ("masked", "events"):
        layer = SparseLinear(wiring, kernel=kernel, dtype=torch.float64)
        layer.load_state_dict(first.state_dict())
        x = active((9, 26), 0.1).requires_grad_()
        y = layer(x)
        y.backward(random(*y.shape, seed=1))
        of_weight = as_stored(layer.weight.grad, wiring, dense=first.stores_dense)
        found.append([y.detach(), x.grad, of_weight, layer.bias.grad])
    assert_same(*found)
    assert found[0][2].any()  # who is silent learns all the same


def layers_of_every_kernel():
    wiring = Ensembles(n_groups=4, grouping="interleaved", block=("group", 1)).wire(
        12, 8, generator=stream(0, "wiring")
    )
    layers = {
        name: SparseLinear(wiring, kernel=name, generator=stream(0, "weights"), dtype=torch.float64)
        for name, kernel in KERNELS.items()
        if not kernel.obstacle(wiring)
    }
    return {**layers, "dense": EventLinear(12, 8, dtype=torch.float64)}


@pytest.mark.parametrize("activity", [0.1, 0.5])
@pytest.mark.parametrize("kernel", layers_of_every_kernel())
def test_input_that_stays_the_same_over_time(kernel, activity, monkeypatch):
    """Expanded over time: values and gradients of the same numbers written out, from one step's product."""
    layer = layers_of_every_kernel()[kernel]
    shapes = products(monkeypatch)
    incoming = random(6, 5, 8, seed=1)
    found = []
    for write_out in (False, True):
        layer.zero_grad()
        x = active((5, 12), activity).requires_grad_()
        over_time = x.expand(6, 5, 12)
        y = layer(over_time.clone() if write_out else over_time)
        y.backward(incoming)
        found.append([y.detach().clone(), x.grad, layer.weight.grad, layer.bias.grad])
    assert_same(*found)
    if kernel in ("events", "dense"):
        assert shapes == [(5, 12), (30, 12)]


def test_one_step_or_one_sample_is_no_repetition(monkeypatch):
    layer, shapes = EventLinear(12, 8), products(monkeypatch)
    x = active((5, 12), 0.1, dtype=torch.float32)
    assert layer(x.expand(1, 5, 12)).shape == (1, 5, 8)
    assert layer(x[:1].expand(7, 12)).shape == (7, 8)  # samples that are alike: no time here
    assert shapes == [(5, 12), (7, 12)]


def test_layer_without_input_events_gives_its_bias():
    layer = SparseLinear(Wiring.from_mask([[1, 0], [1, 1]]), kernel="events")
    assert torch.equal(layer(torch.zeros(3, 2)), layer.bias.expand(3, 2))


def test_moments_follow_as_with_any_kernel(generator):
    """Ten steps of Adam with weight decay end in the same weights as those of the masked kernel."""
    wiring = ErdosRenyi(0.3).wire(30, 20, generator=generator)
    layers = [SparseLinear(wiring, kernel=kernel, dtype=torch.float64) for kernel in ("masked", "events", "synapses")]
    state = copy.deepcopy(layers[0].state_dict())
    for layer in layers:
        layer.load_state_dict(state)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05, weight_decay=0.1)
        for step in range(10):
            optimizer.zero_grad()
            layer(active((8, 30), 0.15, seed=step, spikes=True)).square().sum().backward()
            optimizer.step()
    for layer in layers[1:]:
        assert_same([layer.dense_weight().detach()], [layers[0].weight.detach()], rtol=1e-9)
        assert not layer.dense_weight()[~wiring.mask()].any()


# The dense product


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(7, 9, 5), (1, 9, 5), (7, 1, 5), (7, 9, 1), (1, 1, 1), (0, 9, 5), (64, 130, 66)])
def test_dense_product_of_any_strides(sizes, dtype, monkeypatch):
    rows, n_in, n_out = sizes
    x, weight, bias = (random(*s, dtype=dtype, seed=k) for k, s in enumerate([(rows, n_in), (n_out, n_in), (n_out,)]))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for view in (lambda t: t, lambda t: t.t().contiguous().t(), lambda t: torch.cat([t, t], dim=1)[:, : t.shape[1]]):
        for b in (None, bias):
            expected = view(x) @ view(weight).t() + (0 if b is None else b)
            for prefers in (lambda x: x.dtype == torch.float32 and x.numel() > 0, lambda x: False):
                with monkeypatch.context() as patch:
                    patch.setattr("neuropil.connect.kernels.dense_product.prefers_onednn", prefers)
                    found = dense_product(view(x), view(weight), b)
                torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * max(1, n_in) ** 0.5)
    torch.testing.assert_close(dense_product(x, x), x @ x.t(), rtol=tolerance, atol=tolerance * max(1, n_in) ** 0.5)
