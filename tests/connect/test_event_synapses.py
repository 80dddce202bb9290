"""Events on single synapses without a dense matrix, against PyTorch's dense product."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from neuropil.connect import SparseLinear, Wiring
from neuropil.connect.kernels import event_synapses
from neuropil.connect.kernels.event_synapses import BY_ROWS_FROM, event_synapse_linear
from neuropil.connect.kernels.events import DENSE_FROM
from neuropil.connect.synapses import Synapses
from neuropil.randomness import stream

ACTIVITIES = (0.0, 0.01, 0.07, 0.09, 1.0)


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=stream(seed, "random"), dtype=dtype)


def active(shape, activity, *, dtype=torch.float64, seed=0):
    """Numbers of which this share is not zero."""
    chosen = torch.rand(shape, generator=stream(seed, "x")) < activity
    return torch.where(chosen, random(*shape, dtype=dtype, seed=seed).abs() + 0.1, 0.0).to(dtype)


def wired(n_in, n_out, n_connections, seed=0):
    cells = torch.randperm(n_in * n_out, generator=stream(seed, "wiring"))[:n_connections]
    return Wiring(n_in, n_out, cells // n_in, cells % n_in)


def assert_like_dense(wiring, x, *, has_bias=True, needs_x=True):
    dtype = x.dtype
    weight = random(wiring.n_connections, dtype=dtype, seed=2)
    bias = random(wiring.out_features, dtype=dtype, seed=3) if has_bias else None
    found = []
    for is_dense in (False, True):
        given = x.clone().requires_grad_(needs_x), weight.clone().requires_grad_()
        b = None if bias is None else bias.clone().requires_grad_()
        if is_dense:
            dense = torch.zeros(wiring.shape, dtype=dtype).index_put(tuple(wiring.connections()), given[1])
            y = F.linear(given[0], dense, b)
        else:
            y = event_synapse_linear(given[0], given[1], b, Synapses(wiring))
        y.backward(random(*y.shape, dtype=dtype, seed=1))
        found.append(
            [y.detach(), given[1].grad, *([given[0].grad] if needs_x else []), *([b.grad] if has_bias else [])]
        )
    for a, b in zip(*found, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=scale * (1e-5 if dtype == torch.float32 else 1e-12))


@given(
    st.integers(0, 20), st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.sampled_from(ACTIVITIES),
    st.integers(0, 99), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_size(rows, n_in, n_out, density, activity, seed, single, has_bias, needs_x):
    dtype = torch.float32 if single else torch.float64
    wiring = wired(n_in, n_out, max(1, round(density * n_in * n_out)), seed)
    assert_like_dense(
        wiring, active((rows, n_in), activity, dtype=dtype, seed=seed), has_bias=has_bias, needs_x=needs_x
    )


@pytest.mark.parametrize("activity", ACTIVITIES)
@pytest.mark.parametrize("rows", [1, 300])
def test_few_and_many_visits(rows, activity):
    """Weights are read where they are, or put in order first, as that pays."""
    assert_like_dense(wired(50, 40, 200), active((rows, 50), activity))


@pytest.mark.parametrize("rows", [1, 100])
def test_whole_rows_where_connections_are_many(rows, monkeypatch):
    calls = []
    by_rows = event_synapses.forward_by_rows
    monkeypatch.setattr(event_synapses, "forward_by_rows", lambda *a: calls.append(1) or by_rows(*a))
    x = active((rows, 50), 0.1)
    assert 0 < int((x != 0).sum()) <= 0.12 * x.numel()
    assert_like_dense(wired(50, 40, round(BY_ROWS_FROM * 2000)), x)
    assert len(calls) == (rows == 100)  # few events are not worth a matrix
    assert_like_dense(wired(50, 40, round(BY_ROWS_FROM * 2000) - 1), x)
    assert len(calls) == (rows == 100)


def test_events_are_followed_up_to_a_share(monkeypatch):
    calls = []
    sums = event_synapses.weighted_sums
    monkeypatch.setattr(event_synapses, "weighted_sums", lambda *a: calls.append(1) or sums(*a))
    layer = SparseLinear(wired(50, 40, 200), kernel="events", dtype=torch.float64)
    for n_active, n_calls in ((0, 0), (40, 0), (41, 1), (500, 1)):
        calls.clear()
        x = torch.zeros(500, dtype=torch.float64)
        x[:n_active] = 1
        layer(x.view(10, 50))
        assert len(calls) == n_calls, n_active


def test_storage_follows_from_the_density():
    few, many, most = (
        SparseLinear(wired(20, 20, round(400 * density)), kernel="events")
        for density in (BY_ROWS_FROM - 0.01, BY_ROWS_FROM, DENSE_FROM)
    )
    assert [layer.stores_dense for layer in (few, many, most)] == [False, False, True]
    assert "product: connections of active sources; all connections where more than 8 %" in few.explain()
    assert "product: rows of a matrix, made anew each time, of active sources; all connections where" in many.explain()
    assert f"for events, a matrix from a density of {DENSE_FROM:g}" in few.explain()
    assert "events times rows of the dense matrix; dense where more than 15 %" in most.explain()
    assert "dense, zeros included: the compiled loops know float32" in few.half().explain()
    assert SparseLinear(many.wiring, kernel="events", input_gradient="bfloat16").stores_dense
    with pytest.raises(ValueError, match="'bfloat16' must go with dense products, got single synapses so few"):
        SparseLinear(few.wiring, kernel="events", input_gradient="bfloat16")


def test_silence_passes_nothing():
    layer = SparseLinear(wired(20, 20, 30), kernel="events")
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
    assert torch.equal(layer(torch.zeros(2, 20)), layer.bias.expand(2, 20))


def test_second_derivatives_are_refused():
    layer = SparseLinear(wired(20, 20, 30), kernel="events")
    x = active((5, 20), 0.05, dtype=torch.float32).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
