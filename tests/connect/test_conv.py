"""Sparse convolutions against PyTorch's own of the same weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import (
    Ensembles,
    ErdosRenyi,
    SparseConv2d,
    SparseLinear,
    Wiring,
    densify,
    filters,
    sparsify,
)
from neuropil.measure import count_parameters, network_cost
from neuropil.randomness import stream
from neuropil.rewire import Gradient, Hebbian, Magnitude, Rewirer, Schedule
from neuropil.testing import assert_kernels_agree, assert_module


def random(*shape, seed=0):
    return torch.randn(shape, generator=stream(seed, "random"), dtype=torch.float64)


def build(in_channels=6, out_channels=8, kernel_size=3, *, block=("group", 1), **settings):
    wiring = Ensembles(n_groups=2, p_inter=0.3, block=block).wire(
        in_channels, out_channels, generator=stream(0, "wiring")
    )
    return SparseConv2d(
        wiring, in_channels, kernel_size, generator=stream(0, "weights"), dtype=torch.float64, **settings
    )


def assert_convolves(layer, x):
    """The same as a dense convolution with the layer's weights: output, and gradients of input, weights and bias."""
    weight = layer.dense_weight().detach().requires_grad_()
    bias = layer.synapses.bias.detach().clone().requires_grad_()
    found, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    settings = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
    expected = F.conv2d(plain, weight, bias, **settings)
    y = layer(found)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    incoming = random(*y.shape, seed=1)
    y.backward(incoming)
    expected.backward(incoming)
    torch.testing.assert_close(found.grad, plain.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(layer.synapses.bias.grad, bias.grad, rtol=0, atol=1e-10)
    taken = copy.deepcopy(layer)
    with torch.no_grad():
        taken.synapses.weight.copy_(layer.synapses.weight.grad)
    mask = layer.wiring.mask().view_as(weight)
    torch.testing.assert_close(taken.dense_weight(), weight.grad * mask, rtol=0, atol=1e-10)


@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 2), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2),
    st.sampled_from([(1, 1), ("group", 1), (2, 3)]), st.integers(0, 3),
)  # fmt: skip
def test_any_size(height, width, stride, other_stride, padding, dilation, block, batch):
    layer = build(kernel_size=(height, width), stride=(stride, other_stride), padding=padding, dilation=dilation,
                  block=block)  # fmt: skip
    assert_convolves(layer, random(batch, 6, 9, 8))


@pytest.mark.parametrize("block", [("group", 1), (2, 3), ("group", "group")])
@pytest.mark.parametrize("grouping", ["index", "random"])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_blocks_of_filters_without_a_matrix_of_patches(block, grouping, kernel_size, monkeypatch):
    wiring = Ensembles(n_groups=2, p_inter=0.3, block=block, grouping=grouping).wire(
        6, 8, generator=stream(0, "wiring")
    )
    layer = SparseConv2d(wiring, 6, kernel_size, kernel="blocks", padding=1, stride=2, dtype=torch.float64)
    layer.synapses.set_silent(torch.arange(wiring.n_blocks) % 3 == 0)
    x = random(2, 6, 7, 7)
    watched = layer.synapses.register_forward_hook(lambda *_: None)
    expected = layer(x)
    watched.remove()
    monkeypatch.setattr(F, "unfold", None)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
    layer.synapses.set_silent(None)
    assert_convolves(layer, x)


@pytest.mark.parametrize("kernel", ["synapses", "events", "masked"])
def test_unstructured_taps(kernel):
    wiring = ErdosRenyi(0.2).wire(6 * 9, 8, generator=stream(0, "wiring"))
    layer = SparseConv2d(wiring, 6, 3, kernel=kernel, dtype=torch.float64)
    assert layer.wiring is wiring
    assert_convolves(layer, random(2, 6, 7, 7))


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (1, "group"), (2, 3), ("group", "group")])
def test_filters(block):
    """A connection between channels is all taps of a filter, whatever the order of neurons and the size of groups."""
    pattern = Ensembles(n_groups=3, p_inter=0.3, block=block, grouping="random", uneven=True)
    channels = pattern.wire(7, 8, generator=stream(0, "wiring"))
    wiring = filters(channels, (2, 3))
    assert torch.equal(wiring.mask(), channels.mask().repeat_interleave(6, dim=1))
    assert (wiring.n_blocks, wiring.n_connections) == (channels.n_blocks, 6 * channels.n_connections)
    assert torch.equal(torch.tensor(wiring.in_groups), torch.tensor(channels.in_groups).repeat_interleave(6))
    assert_kernels_agree(wiring)


def test_chooses_a_kernel():
    wide = Ensembles(n_groups=2, block=("group", 1)).wire(64, 64)
    assert SparseConv2d(wide, 64, 3).synapses.kernel == "blocks"
    assert SparseConv2d(ErdosRenyi(0.1).wire(576, 128), 64, 3).synapses.kernel == "masked"
    assert SparseConv2d(ErdosRenyi(0.1).wire(576, 128), 64, 3, kernel="synapses").synapses.kernel == "synapses"


def test_by_hand():
    layer = SparseConv2d(Wiring(2, 1, [0], [1]), 2, 2, bias=False)
    with torch.no_grad():
        layer.synapses.copy_dense_weight(torch.tensor([[9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 4.0]]))
    image = torch.stack([torch.full((2, 2), 100.0), torch.tensor([[1.0, 10.0], [100.0, 1000.0]])])[None]
    assert layer(image).tolist() == [[[[4321.0]]]]


def test_contract():
    assert_module(build(padding=1), random(2, 6, 5, 5))


@pytest.mark.parametrize("grow", [Gradient(), Hebbian()])
@pytest.mark.parametrize("kernel", ["masked", "blocks"])
def test_rewires_whole_filters(grow, kernel):
    layer = build(block=(1, 1), padding=1, kernel=kernel)
    layer(random(4, 6, 5, 5))
    net = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, 3).double())
    optimizer = torch.optim.Adam(net.parameters())
    before = layer.wiring
    rewirer = Rewirer(net, optimizer, prune=Magnitude(), grow=grow, schedule=Schedule(every=1, fraction=0.3))
    F.cross_entropy(net(random(4, 6, 5, 5)), torch.arange(4) % 3).backward()
    optimizer.step()
    (event,) = rewirer.step()
    assert event.layer == "0.synapses"
    assert event.went == event.came > 0
    assert layer.wiring.n_connections == before.n_connections
    taps = layer.wiring.mask().view(8, 6, 9)
    assert torch.equal(taps.any(2), taps.all(2))
    net.zero_grad()
    assert_convolves(layer, random(4, 6, 5, 5))


def test_checkpoints_and_costs():
    layer, other = build(), build()
    with torch.no_grad():
        other.synapses.weight.zero_()
    other.load_state_dict(layer.state_dict())
    x = random(2, 6, 5, 5)
    assert torch.equal(layer(x), other(x))
    cost = network_cost(layer, x)
    assert cost.multiply_accumulates == layer.wiring.n_connections * 9
    assert cost.parameters == count_parameters(layer) == layer.wiring.n_connections + 8


@pytest.mark.parametrize("padding", [0, (1, 2), "same", "valid"])
def test_sparsify_and_densify(padding):
    model = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=padding, bias=False), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=2), nn.Flatten(1),
        nn.LazyLinear(4),
    ).double()  # fmt: skip
    x = random(2, 8, 6, 6)
    model(x)
    pattern = Ensembles(n_groups=4, block=("group", 1))
    sparse = sparsify(model, pattern, skip=("4",), keep_weights=True, generator=stream(0, "sparsify"))
    assert [type(layer) for layer in sparse] == [SparseConv2d, nn.ReLU, nn.Conv2d, nn.Flatten, nn.Linear]
    assert sparse[0].wiring.block == (4, 9)
    mask = sparse[0].wiring.mask().view(16, 8, 3, 3)
    assert torch.equal(sparse[0].dense_weight(), model[0].weight * mask)
    assert sparse[0](x).shape == model[0](x).shape
    dense = densify(sparse)
    assert [type(layer) for layer in dense] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.Flatten, nn.Linear]
    torch.testing.assert_close(dense(x), sparse(x), rtol=0, atol=1e-10)
    assert isinstance(densify(sparse[0]), nn.Conv2d)


def test_sparsify_by_name():
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 2, padding="same"), nn.Conv2d(16, 16, 1, groups=2))
    taps = ErdosRenyi(0.1).wire(72, 16)
    assert sparsify(model, {"0": taps})[0].wiring is taps
    assert isinstance(sparsify(model, {"0": taps})[0].synapses, SparseLinear)
    with pytest.raises(ValueError, match="layer '0': its wiring must be from 8 channels or 72 taps to 16, got Wiring"):
        sparsify(model, {"0": ErdosRenyi(0.1).wire(9, 16)})
    for name in ("1", "2"):  # padded unevenly, and with groups
        with pytest.raises(ValueError, match="an nn.Conv2d without groups, padded with zeros"):
            sparsify(model, {name: ErdosRenyi(0.1)})
    assert [type(layer) for layer in sparsify(model, ErdosRenyi(0.5))] == [SparseConv2d, nn.Conv2d, nn.Conv2d]


def test_says_what_is_wrong():
    wiring = Wiring(3, 2, [0], [0])
    with pytest.raises(ValueError, match="the wiring must be from 4 channels or from 36 taps, got Wiring"):
        SparseConv2d(wiring, 4, 3)
    for name in ("kernel_size", "stride", "dilation"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, or two of them, got 0"):
            SparseConv2d(wiring, 3, **{"kernel_size": 3, name: 0})
    with pytest.raises(ValueError, match="padding must be a whole number of at least 0, or two of them"):
        SparseConv2d(wiring, 3, 3, padding=(1, 2, 3))
    layer = SparseConv2d(wiring, 3, 3)
    with pytest.raises(ValueError, match=r"shape \[b, 3, height, width\], got \[2, 4, 5, 5\]"):
        layer(torch.zeros(2, 4, 5, 5))
    with pytest.raises(ValueError, match="at least as large as the kernel"):
        layer(torch.zeros(2, 3, 2, 5))


def test_torch_compile():
    torch._dynamo.reset()
    layer = build(padding=1)
    x = random(2, 6, 5, 5)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
