"""Gradients of the input where they are needed only, and in bfloat16."""

import gc

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, EventLinear, SparseLinear
from neuropil.connect import needed as notes
from neuropil.connect.kernels import block_events, event_product, needed_gradient
from neuropil.connect.needed import needed_of
from neuropil.randomness import stream
from neuropil.units import LIF, ATan, Boxcar, Triangle

SURROGATES = (Boxcar(width=0.3), Triangle(width=0.5))


def layer(
    input_gradient="full", *, block=("group", 1), grouping="index", kernel="events", dtype=torch.float64, sizes=(26, 18)
):
    pattern = Ensembles(n_groups=4, p_inter=0.2, grouping=grouping, block=block, uneven=True)
    wiring = pattern.wire(*sizes, generator=stream(0, "wiring"))
    return SparseLinear(
        wiring, kernel=kernel, input_gradient=input_gradient, generator=stream(0, "weights"), dtype=dtype
    )


def current(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=stream(0, "current"), dtype=dtype).requires_grad_()


def gradients(
    input_gradient, surrogate, *, dtype=torch.float64, batch=7, block=("group", 1), grouping="index", **settings
):
    """Of everything in a network of two layers, with neurons that learn."""
    first = LIF(learn=("decay", "threshold"), surrogate=surrogate, **settings).to(dtype)
    second = LIF(learn=("decay", "threshold"), surrogate=surrogate).to(dtype)
    between = layer(input_gradient, block=block, grouping=grouping, dtype=dtype)
    given = current(20, batch, 26, dtype=dtype)
    spikes, _ = first(given)
    out, state = second(between(spikes))
    (out.sum(0).square().sum() + state.potential.square().sum()).backward()
    learned = [*first.parameters(), *between.parameters(), *second.parameters()]
    return [out.detach(), given.grad, *(p.grad for p in learned)]


def calls_of(monkeypatch):
    """Return a list of whether each gradient was computed where it is needed only."""
    calls, before = [], needed_gradient.needed_gradient

    def counting(*arguments):
        found = before(*arguments)
        calls.append(found is not None)
        return found

    for module in (block_events, event_product):
        monkeypatch.setattr(module, "needed_gradient", counting)
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [{}, {"detach_reset": False}, {"reset": "zero"}, {"reset_delay": False}])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_all_other_gradients_are_the_same(surrogate, settings, dtype, monkeypatch):
    calls = calls_of(monkeypatch)
    monkeypatch.setattr(needed_gradient, "_MOST_NEEDED", 1.0)
    full, needed = (gradients(name, surrogate, dtype=dtype, **settings) for name in ("full", "needed"))
    assert calls == [True]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for a, b in zip(needed, full, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("batch", [0, 1, 40])
def test_of_a_dense_layer(batch, monkeypatch):
    calls, found = calls_of(monkeypatch), []
    for name in ("full", "needed"):
        given = current(20, batch, 26)
        spikes, _ = LIF(surrogate=SURROGATES[1])(given)
        dense(name, torch.float64)(spikes).square().sum().backward()
        found.append(given.grad)
    assert calls == [True]
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch", [0, 1, 40])
@pytest.mark.parametrize("grouping", ["index", "random"])
@pytest.mark.parametrize("block", [("group", 1), (2, 2), (1, "group")])
def test_any_block(block, grouping, batch):
    found = [gradients(name, SURROGATES[0], block=block, grouping=grouping, batch=batch) for name in ("full", "needed")]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_what_is_not_needed_is_zero_in_the_gradient_of_the_spikes():
    spikes, _ = LIF(surrogate=SURROGATES[0])(current(20, 7, 26))
    spikes.retain_grad()
    layer("needed")(spikes).square().sum().backward(retain_graph=True)
    found, potentials = spikes.grad, needed_of(spikes).potentials
    near = (potentials - 1.0).abs() <= 0.3
    assert not found[~near].any()
    spikes.grad = None
    layer()(spikes).square().sum().backward()
    torch.testing.assert_close(found[near], spikes.grad[near], rtol=1e-10, atol=1e-10)
    assert spikes.grad[~near].any()


def test_the_whole_gradient_where_most_of_it_is_needed(monkeypatch):
    calls = calls_of(monkeypatch)
    found = [gradients(name, Boxcar(width=100.0)) for name in ("full", "needed")]
    assert calls == [False]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_the_whole_gradient_where_nobody_says_what_is_needed(monkeypatch):
    """Other surrogates, other inputs, spikes that were changed: the gradient is that of any other layer."""
    calls, sparse = calls_of(monkeypatch), layer("needed")

    def outcome(spikes):
        spikes.retain_grad()
        sparse(spikes).square().sum().backward()
        return spikes.grad

    expected = outcome(LIF(surrogate=ATan())(current(20, 7, 26))[0])
    assert expected.all()
    spikes, _ = LIF(surrogate=SURROGATES[0])(current(20, 7, 26))
    outcome(spikes * 1.0)
    other, _ = LIF(surrogate=SURROGATES[0])(current(20, 7, 26))
    assert needed_of(other) is not None
    other.mul_(2.0)  # in place: another tensor, for all that neurons know
    assert needed_of(other) is None
    outcome(other)
    assert calls == []


def test_spikes_without_gradient_tell_nothing():
    neurons = LIF(surrogate=SURROGATES[0])
    with torch.no_grad():
        assert needed_of(neurons(current(20, 7, 26))[0]) is None
    assert needed_of(neurons(current(20, 7, 26).detach())[0]) is None
    assert needed_of(LIF(surrogate=SURROGATES[0], kernel="torch")(current(20, 7, 26))[0]) is None


def test_notes_go_with_the_spikes():
    gc.collect()
    before = len(notes._KNOWN)
    spikes, _ = LIF(surrogate=SURROGATES[0])(current(20, 7, 26))
    assert len(notes._KNOWN) == before + 1
    del spikes
    gc.collect()
    assert len(notes._KNOWN) == before


def test_number_of_threads_changes_nothing():
    found, before = [], torch.get_num_threads()
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            spikes, _ = LIF(surrogate=SURROGATES[0])(current(20, 37, 26, dtype=torch.float32))
            spikes.retain_grad()
            layer("needed", dtype=torch.float32)(spikes).backward(torch.ones(20, 37, 18))
            found.append(spikes.grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


# bfloat16


def dense(input_gradient, dtype):
    torch.manual_seed(0)
    return EventLinear(26, 18, input_gradient=input_gradient, dtype=dtype)


def single(input_gradient, dtype):
    return layer(input_gradient, block=(1, 1), dtype=dtype)


def blocks(input_gradient, dtype):
    return layer(input_gradient, dtype=dtype)


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("make", [dense, single, blocks])
def test_bfloat16_keeps_its_bound(make, share):
    """|error| ≤ 2⁻⁷ Σ |g w| for each sum: two factors and, for each row of blocks, the sum, rounded to 8 bits."""
    x = current(9, 26, dtype=torch.float32).detach()
    x = (x * (torch.rand(9, 26, generator=stream(0, "active")) < share)).requires_grad_()
    incoming = torch.randn(9, 18, generator=stream(1, "incoming"))
    found = {}
    for name in ("full", "bfloat16"):
        x.grad = None
        made = make(name, torch.float32)
        y = made(x)
        y.backward(incoming)
        found[name] = [x.grad, y.detach(), made.weight.grad, made.bias.grad]
    weight = made.weight if isinstance(made, EventLinear) else made.dense_weight()
    bound = 2**-7 * incoming.abs() @ weight.detach().abs()
    error = (found["full"][0] - found["bfloat16"][0]).abs()
    assert error.any()
    assert bool((error <= bound).all())
    for a, b in zip(found["full"][1:], found["bfloat16"][1:], strict=True):
        assert torch.equal(a, b)  # all else is as it was


@pytest.mark.parametrize("make", [dense, single, blocks])
def test_bfloat16_leaves_float64_alone(make):
    found = []
    for name in ("full", "bfloat16"):
        x = current(9, 26)
        make(name, torch.float64)(x).square().sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)


# Words


def test_names_in_repr():
    assert "input_gradient=needed" in repr(layer("needed"))
    assert "input_gradient" not in repr(layer())
    assert repr(EventLinear(3, 2, input_gradient="bfloat16")) == (
        "EventLinear(in_features=3, out_features=2, bias=True, input_gradient=bfloat16)"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_gradient": "half"}, "SparseLinear: input_gradient must be one of full, needed, bfloat16, got 'half'"),
        (
            {"input_gradient": "needed", "kernel": "masked"},
            "SparseLinear: input_gradient 'needed' must go with kernel 'events', got 'masked'; try kernel='events'",
        ),
        (
            {"input_gradient": "needed", "block": (1, 1)},
            "SparseLinear: input_gradient 'needed' must go with blocks larger than one synapse, got block=(1, 1); try "
            "block=('group', 1)",
        ),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole sentence is compared)
        layer(**settings)
    assert str(caught.value) == message


def test_error_of_the_dense_layer():
    with pytest.raises(ValueError, match=r"^EventLinear: input_gradient must be one of full, needed, bfloat16, got 8$"):
        EventLinear(3, 2, input_gradient=8)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("input_gradient", ["full", "needed", "bfloat16"])
def test_torch_compile(input_gradient):
    """The same values; all that is needed is then the whole gradient, in PyTorch's own operations."""
    net = nn.ModuleList(
        [LIF(surrogate=SURROGATES[0]), layer(input_gradient, dtype=torch.float32), LIF(surrogate=SURROGATES[0])]
    )

    def call(x):
        return net[2](net[1](net[0](x)[0]))[0].sum()

    x = current(5, 7, 26, dtype=torch.float32)
    found = []
    for function in (call, torch.compile(call, backend="aot_eager", fullgraph=True)):
        net.zero_grad()
        x.grad = None
        y = function(x)
        y.backward()
        found.append([y.detach(), x.grad, net[1].weight.grad])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(
            a,
            b,
            rtol=0.02 if input_gradient == "bfloat16" else 1e-4,
            atol=1e-2 if input_gradient == "bfloat16" else 1e-5,
        )
