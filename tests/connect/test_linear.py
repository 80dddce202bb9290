import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, SmallWorld, SparseLinear, Wiring, densify
from neuropil.connect.kernels import KERNELS
from neuropil.randomness import stream
from neuropil.testing import assert_kernels_agree, assert_module


@st.composite
def wirings(draw):
    """Wirings of any size, block, grouping and evenness that have a connection."""
    n_groups = draw(st.integers(1, 5))
    in_features, out_features = (draw(st.integers(n_groups, 24)) for _ in range(2))
    block = tuple(draw(st.sampled_from([1, 2, 3, "group"])) for _ in range(2))
    pattern = Ensembles(
        n_groups=n_groups,
        p_intra=draw(st.sampled_from([0.5, 1.0])),
        p_inter=draw(st.sampled_from([0.0, 0.15, 1.0])),
        grouping=draw(st.sampled_from(["index", "interleaved", "random"])),
        block=block,
        uneven=True,
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    for _ in range(50):
        try:
            return pattern.wire(in_features, out_features, generator=generator)
        except ValueError as error:
            assert "at least one connection" in str(error)
    return Dense().wire(in_features, out_features)


@given(wirings(), st.integers(0, 4), st.sampled_from([torch.float64, torch.float32]))
def test_kernels_agree(wiring, batch, dtype):
    names = assert_kernels_agree(wiring, batch=batch, dtype=dtype, generator=stream(0, "test"))
    assert names == (["events", "masked", "synapses"] if wiring.block == (1, 1) else ["blocks", "events", "masked"])


@pytest.mark.parametrize("batch", [0, 1, 17])
@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (1, "group"), (8, 8), ("group", "group"), (4, 2)])
@pytest.mark.parametrize("grouping", ["index", "interleaved", "random"])
def test_kernels_agree_on_published_shapes(batch, block, grouping, generator):
    wiring = Ensembles(n_groups=8, grouping=grouping, block=block).wire(128, 64, generator=generator)
    assert_kernels_agree(wiring, batch=batch, generator=generator)


def naive(layer, x):
    """The layer as a loop over its stored weights."""
    y = torch.zeros(*x.shape[:-1], layer.out_features, dtype=x.dtype)
    targets, sources = (side.expand(layer.weight.shape) for side in layer.weight_units())
    live = layer.wiring.mask()
    for o, i, w in zip(targets.ravel().tolist(), sources.ravel().tolist(), layer.weight.ravel().tolist(), strict=True):
        if o >= 0 and i >= 0 and live[o, i]:
            y[..., o] += w * x[..., i]
    return y + (layer.bias if layer.bias is not None else 0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5), (0, 5), (2, 0, 5)])
@pytest.mark.parametrize("block", [(1, 1), (2, 1), (2, 2)])
def test_forward_equals_a_loop(bias, shape, block, generator):
    wiring = Ensembles(n_groups=2, p_inter=0.5, block=block, uneven=True).wire(5, 7, generator=generator)
    layer = SparseLinear(wiring, bias=bias, generator=generator, dtype=torch.float64)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(layer(x), naive(layer, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (4, 4)])
def test_contract(block, dtype, generator):
    wiring = Ensembles(n_groups=4, grouping="interleaved", block=block).wire(32, 16, generator=generator)
    layer = SparseLinear(wiring, generator=generator, dtype=dtype)
    assert_module(layer, torch.randn(5, 32, generator=generator, dtype=dtype))


def test_input_may_be_strided(generator):
    wiring = Ensembles(n_groups=4, block=("group", 1)).wire(32, 16, generator=generator)
    layer = SparseLinear(wiring, kernel="blocks", generator=generator)
    x = torch.randn(32, 6, generator=generator)
    assert torch.allclose(layer(x.t()), layer(x.t().contiguous()))
    assert layer(x.t()).is_contiguous()


def test_second_derivatives(generator):
    wiring = Ensembles(n_groups=2, block=("group", 1), grouping="random").wire(6, 4, generator=generator)
    layer = SparseLinear(wiring, kernel="blocks", generator=generator, dtype=torch.float64)
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    parameters = dict(layer.named_parameters())

    def call(x, weight):
        return torch.func.functional_call(layer, {**parameters, "weight": weight}, (x,)).tanh()

    assert torch.autograd.gradcheck(call, (x, layer.weight))
    assert torch.autograd.gradgradcheck(call, (x, layer.weight))


def test_blocks_store_live_weights_only(generator):
    wiring = Ensembles(n_groups=8, block=("group", 1)).wire(64, 64, generator=generator)
    layer = SparseLinear(wiring, generator=generator)
    assert layer.weight.numel() == wiring.n_connections
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.randn(2, 64)).sum().backward()
    optimizer.step()
    assert optimizer.state[layer.weight]["exp_avg"].numel() == wiring.n_connections


@pytest.mark.parametrize("block", [(1, 1), (3, 2)])
def test_dead_entries_stay_zero_under_adam_with_weight_decay(block, generator):
    wiring = Ensembles(n_groups=3, p_inter=0.2, block=block, uneven=True).wire(10, 11, generator=generator)
    layer = SparseLinear(wiring, generator=generator)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 10, generator=generator)).square().sum().backward()
        optimizer.step()
    dead = layer.weight.numel() - wiring.n_connections
    assert dead > 0
    assert int((layer.weight == 0).sum()) == dead
    assert torch.equal(layer.dense_weight() != 0, wiring.mask())


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
def test_initial_weights_follow_each_neurons_fan_in(block, generator):
    wiring = Ensembles(n_groups=4, block=block).wire(400, 200, generator=generator)
    layer = SparseLinear(wiring, generator=generator)
    bound = wiring.fan_in().double().rsqrt()
    size = layer.dense_weight().detach().abs().double() / bound[:, None]
    assert size.max() <= 1 + 1e-6
    assert size.max() > 0.99
    assert abs(float(size[wiring.mask()].mean()) - 0.5) < 0.01
    assert layer.bias.abs().max() <= 1 / math.sqrt(wiring.fan_in().double().mean())


def test_dense_wiring_starts_like_pytorch():
    layer = SparseLinear(Dense().wire(300, 200), generator=stream(0, "weights"))
    reference = nn.Linear(300, 200)
    assert abs(float((layer.weight.std() / reference.weight.std()).detach()) - 1) < 0.02


def test_same_generator_same_layer(generator):
    wiring = ErdosRenyi(0.3).wire(20, 10, generator=generator)
    state = torch.get_rng_state()
    first, second = (SparseLinear(wiring, generator=stream(1, "w")) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert torch.equal(torch.get_rng_state(), state)


def test_silent_targets_get_their_bias(generator):
    layer = SparseLinear(Wiring(3, 3, [0], [1]), generator=generator)
    assert torch.equal(layer(torch.randn(4, 3))[:, 1:], layer.bias[1:].expand(4, 2))


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
def test_state_carries_the_wiring(block, generator):
    pattern = Ensembles(n_groups=4, p_inter=0.3, block=block, exact=True)
    first, second = (SparseLinear(pattern.wire(16, 8, generator=generator), generator=generator) for _ in range(2))
    assert first.wiring != second.wiring
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 16)
    assert second.wiring == first.wiring
    assert torch.equal(first(x), second(x))


def test_state_of_another_number_of_blocks_is_taken_over(generator):
    first = SparseLinear(Ensembles(n_groups=4, block=("group", 1), p_inter=0.0).wire(16, 8, generator=generator))
    second = SparseLinear(Ensembles(n_groups=4, block=("group", 1), p_inter=1.0).wire(16, 8, generator=generator))
    weight = second.weight
    second.load_state_dict(first.state_dict())
    assert second.weight is weight
    assert second.wiring == first.wiring
    assert torch.equal(second.dense_weight(), first.dense_weight())


def test_state_of_another_size_is_refused(generator):
    first = SparseLinear(Ensembles(n_groups=4, block=(1, 1)).wire(16, 8, generator=generator))
    second = SparseLinear(Ensembles(n_groups=4, block=(2, 1)).wire(16, 8, generator=generator))
    with pytest.raises(RuntimeError, match="build the layer from the stored wiring first"):
        second.load_state_dict(first.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*wiring\.indices"):
        second.load_state_dict({"weight": second.weight, "bias": second.bias})


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
def test_moves_between_types_and_devices(block, generator):
    wiring = Ensembles(n_groups=4, grouping="interleaved", block=block).wire(16, 8, generator=generator)
    layer = SparseLinear(wiring, generator=generator).double()
    assert layer(torch.randn(2, 16, dtype=torch.float64)).dtype == torch.float64
    assert SparseLinear(wiring, device="meta").to("meta")(torch.empty(2, 16, device="meta")).shape == (2, 8)


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
def test_bfloat16_autocast_is_near(block, generator):
    wiring = Ensembles(n_groups=4, block=block).wire(64, 32, generator=generator)
    layer = SparseLinear(wiring, generator=generator)
    x = torch.randn(8, 64, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.02, atol=0.02)


def test_copying_a_dense_matrix(generator):
    for block in ((1, 1), (2, 1), (2, 2)):
        wiring = Ensembles(n_groups=2, block=block, uneven=True, grouping="random").wire(5, 7, generator=generator)
        layer = SparseLinear(wiring, generator=generator)
        dense = torch.randn(7, 5, generator=generator)
        layer.copy_dense_weight(dense)
        assert torch.equal(layer.dense_weight(), dense * wiring.mask())


def test_choice_of_the_kernel_is_shown(generator):
    fine = SmallWorld(0.5).wire(32, 32, generator=generator)
    coarse = Ensembles(n_groups=2, block=("group", 1)).wire(64, 64, generator=generator)
    assert "kernel=masked" in repr(SparseLinear(fine))
    assert "kernel=blocks" in repr(SparseLinear(coarse))
    assert SparseLinear(coarse, kernel="masked").kernel == "masked"


def test_errors():
    wiring = ErdosRenyi(1.0).wire(4, 3)
    layer = SparseLinear(wiring)
    with pytest.raises(
        ValueError, match="kernel 'blocks' needs blocks larger than one synapse.*; try events or masked or synapses"
    ):
        SparseLinear(wiring, kernel="blocks")
    with pytest.raises(ValueError, match="kernel must be auto or one of blocks, events, masked, synapses, got 'fast'"):
        SparseLinear(wiring, kernel="fast")
    with pytest.raises(ValueError, match=r"last dimension must be in_features=4, got shape \(2, 3\)"):
        layer(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="both wirings must be of the same neurons, order and block"):
        layer.rewire(ErdosRenyi(1.0).wire(3, 4))
    with pytest.raises(ValueError, match=r"dense must have shape \(3, 4\), got \(4, 3\)"):
        layer.copy_dense_weight(torch.zeros(4, 3))


def test_layers_can_be_built_under_another_default_device(generator):
    with torch.device("meta"):
        wiring = Ensembles(n_groups=4, block=("group", 1)).wire(16, 8, generator=generator)
        layer = SparseLinear(wiring, generator=generator)
    assert layer.weight.device.type == "meta"
    real = SparseLinear(wiring, generator=generator)
    layer.load_state_dict(real.state_dict(), assign=True)
    x = torch.randn(3, 16)
    assert torch.equal(layer(x), real(x))


def with_silence(wiring, *, share=0.5, dtype=torch.float64, kernel="auto", seed=0):
    """A layer with about this share of silent blocks."""
    layer = SparseLinear(wiring, generator=stream(seed, "weights"), dtype=dtype, kernel=kernel)
    layer.set_silent(torch.rand(wiring.n_blocks, generator=stream(seed, "silent")) < share)
    return layer


def heard(layer):
    """Which connections transmit, bool ``[out, in]``: a loop over blocks."""
    wiring = layer.wiring
    mask, silent = torch.zeros(wiring.shape, dtype=torch.bool), layer.silent
    rows, columns = wiring.block
    for k in range(wiring.n_blocks):
        if silent is None or not silent[k]:
            for o in wiring.out_order[wiring.block_rows[k] * rows :][:rows]:
                for i in wiring.in_order[wiring.block_columns[k] * columns :][:columns]:
                    if o >= 0 and i >= 0:
                        mask[o, i] = True
    return mask


@given(wirings(), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0]))
def test_silent_blocks_learn_but_transmit_nothing(wiring, batch, share):
    for name in [name for name, kernel in KERNELS.items() if not kernel.obstacle(wiring)]:
        layer = with_silence(wiring, share=share, kernel=name)
        sends = heard(layer)
        assert layer.n_transmitting == int(sends.sum())
        x = torch.randn(batch, wiring.in_features, generator=stream(0, "x"), dtype=torch.float64, requires_grad=True)
        incoming = torch.randn(batch, wiring.out_features, generator=stream(0, "g"), dtype=torch.float64)
        y = layer(x)
        y.backward(incoming)
        # the dense twin: A in the forward pass, B for the gradient of the weights
        other = copy.deepcopy(layer)
        other.set_silent(None)
        assert torch.equal(other.dense_weight() * sends, layer.dense_weight())
        dense = (other.dense_weight() * sends).detach().requires_grad_()
        plain = x.detach().clone().requires_grad_()
        expected = nn.functional.linear(plain, dense, layer.bias.detach())
        expected.backward(incoming)
        target = torch.zeros_like(dense)
        targets, sources = (side.expand(layer.weight.shape) for side in layer.weight_units())
        real = (targets >= 0) & (sources >= 0)
        target[targets[real], sources[real]] = layer.weight.grad[real]
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(x.grad, plain.grad, rtol=0, atol=1e-10)
        torch.testing.assert_close(target, dense.grad * wiring.mask(), rtol=0, atol=1e-10)
        assert not layer.weight.grad[~real].any()


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (4, 4)])
def test_contract_with_silent_blocks(block, generator):
    wiring = Ensembles(n_groups=4, grouping="interleaved", block=block).wire(32, 16, generator=generator)
    layer = with_silence(wiring)
    assert_module(layer, torch.randn(5, 32, generator=generator, dtype=torch.float64))
    x = torch.randn(3, 32, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x).tanh(), x)
    torch.testing.assert_close(densify(layer)(x), layer(x))


def test_nobody_silent_is_as_before(generator):
    layer = SparseLinear(ErdosRenyi(0.5).wire(8, 6, generator=generator))
    shown, keys = repr(layer), layer.state_dict().keys()
    for blocks in (None, torch.zeros(layer.wiring.n_blocks, dtype=torch.bool)):
        layer.set_silent(torch.ones(layer.wiring.n_blocks, dtype=torch.bool))
        assert torch.equal(layer(torch.ones(2, 8)), layer.bias.expand(2, 6))
        layer.set_silent(blocks)
        assert layer.silent is None
        assert layer.effective_weight() is layer.weight
        assert (repr(layer), layer.state_dict().keys()) == (shown, keys)


def test_repr_says_who_is_silent():
    layer = SparseLinear(Wiring.from_mask([[1, 1, 0], [0, 1, 1]]))
    layer.set_silent(torch.tensor([False, False, False, True]))
    assert "density=0.6667, silent=0.25, bias=True" in repr(layer)
    assert (layer.dense_weight() != 0).tolist() == [[True, True, False], [False, True, False]]


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
def test_state_carries_who_is_silent(block, generator):
    pattern = Ensembles(n_groups=4, p_inter=0.3, block=block)
    first, second = (with_silence(pattern.wire(16, 8, generator=generator), seed=i) for i in range(2))
    x = torch.randn(3, 16, dtype=torch.float64)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.silent, first.silent)
    assert torch.equal(second(x), first(x))
    plain = SparseLinear(first.wiring, dtype=torch.float64)
    second.load_state_dict(plain.state_dict())  # as a state of before there was silence
    assert second.silent is None
    assert torch.equal(second(x), plain(x))
    plain.load_state_dict(first.state_dict())
    assert torch.equal(plain(x), first(x))
    model, twin = nn.Sequential(first), nn.Sequential(second)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), first(x))
    state = first.state_dict()
    with pytest.raises(RuntimeError, match="set_silent: blocks must be a bool for each of the"):
        second.load_state_dict({**state, "silent": state["silent"][1:]})
    with pytest.raises(RuntimeError, match="Unexpected key.*silently"):
        second.load_state_dict({**state, "silently": state["silent"]})


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
def test_rewiring_keeps_who_is_silent(block, generator):
    pattern = Ensembles(n_groups=4, p_intra=0.6, p_inter=0.4, block=block)
    before, after = (pattern.wire(16, 8, generator=generator) for _ in range(2))
    layer = with_silence(before)
    was = heard(layer)
    layer.rewire(after)
    assert torch.equal(heard(layer), after.mask() & (was | ~before.mask()))
    layer.set_silent(torch.ones(after.n_blocks, dtype=torch.bool))
    layer.rewire(before)
    came = before.mask() & ~after.mask()
    assert torch.equal(heard(layer), came)
    layer.set_silent(None)
    layer.rewire(after)
    assert layer.silent is None


def test_silence_moves_with_the_layer(generator):
    for block in ((1, 1), ("group", 1)):
        layer = with_silence(Ensembles(n_groups=4, block=block).wire(16, 8, generator=generator))
        single = copy.deepcopy(layer).float()
        assert torch.equal(single.silent, layer.silent)
        assert single(torch.ones(2, 16)).dtype == torch.float32
        assert copy.deepcopy(layer).to("meta")(torch.empty(2, 16, device="meta", dtype=torch.float64)).shape == (2, 8)
        single.set_silent(None)
        assert layer.silent is not None


def test_who_is_silent_must_be_said_for_each_block():
    layer = SparseLinear(Ensembles(n_groups=4, block=("group", 1), p_inter=0.0).wire(16, 8))
    with pytest.raises(
        ValueError,
        match=r"SparseLinear.set_silent: blocks must be a bool for each of the 16 blocks, got torch.bool of shape \(8, 16\)",
    ):
        layer.set_silent(layer.wiring.mask())
    with pytest.raises(ValueError, match="got torch.float32 of shape"):
        layer.set_silent(torch.ones(16))
