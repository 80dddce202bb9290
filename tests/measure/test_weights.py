"""How far weights have come, against dense matrices, and how large they are, against direct computation."""

import copy

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, Wiring
from neuropil.connect.kernels import KERNELS
from neuropil.measure import ParameterChange, ParameterNorm, gradient_norms, snapshot, weight_change

F64 = torch.float64
CROSS = nn.functional.cross_entropy


def direct(start, end, both=None):
    """Compare dense float64 tensors."""
    both = torch.ones_like(start, dtype=torch.bool) if both is None else both
    change, length = (end - start).square().sum(), start.square().sum()
    signs = int(((start * end < 0) & both).sum())
    return change, length, signs, int(both.sum())


def told(name, parts):
    change, length, signs, n = parts
    return ParameterChange(name, pytest.approx(float((change / length).sqrt())), pytest.approx(signs / n), n)


def test_dense_layers_each_and_together(generator):
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    start = snapshot(net)
    before = [value.detach().clone() for value in net.parameters()]
    with torch.no_grad():
        for value in net.parameters():
            value += 0.3 * torch.randn(value.shape, generator=generator, dtype=F64)
    parts = [direct(old, new.detach()) for old, new in zip(before, net.parameters(), strict=True)]
    change = weight_change(start, net)
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(change.parameters) == [told(name, part) for name, part in zip(names, parts, strict=True)]
    assert change.total == told("", [sum(each) for each in zip(*parts, strict=True)])
    assert any(part.sign_changes for part in change.parameters)


def test_nothing_has_changed_and_what_was_zero():
    net = nn.Linear(2, 2)
    nn.init.zeros_(net.bias)
    start = snapshot(net)
    change = weight_change(start, net)
    assert change.total == ParameterChange("", 0.0, 0.0, 6)
    assert change.parameters[1] == ParameterChange("bias", 0.0, 0.0, 2)
    nn.init.ones_(net.bias)
    assert weight_change(start, net).parameters[1].relative == float("inf")


def test_a_snapshot_is_a_copy_and_goes_to_another_model_built_alike():
    net = nn.Linear(3, 2)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    start, twin = snapshot(net), copy.deepcopy(net)
    nn.init.ones_(net.weight)
    assert all(torch.equal(start.parameters[name], value) for name, value in kept.items())
    assert not any(value.requires_grad for value in start.parameters.values())
    assert weight_change(start, twin).total.relative == 0.0


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_sparse_layers_rewired_or_not_against_their_dense_matrices(kernel, block, uneven, silent, generator):
    pattern = Ensembles(n_groups=2, p_intra=0.7, p_inter=0.4, block=block, uneven=uneven)
    sizes = (7, 9) if uneven else (8, 8)
    wirings = [pattern.wire(*sizes, generator=generator) for _ in range(2)]
    if KERNELS[kernel].obstacle(wirings[0]):
        pytest.skip("the kernel cannot compute it")
    layer = SparseLinear(wirings[0], bias=False, kernel=kernel, generator=generator, dtype=F64)
    if silent:
        layer.set_silent(torch.rand(layer.wiring.n_blocks, generator=generator) < 0.3)
    start, old = snapshot(layer), whole(layer)
    kept = start.parameters["weight"].clone()

    def check():
        both = wirings[0].mask() & layer.wiring.mask()
        assert weight_change(start, layer).total == told("", direct(old, whole(layer), both))

    with torch.no_grad():
        layer.weight += torch.randn(layer.weight.shape, generator=generator, dtype=F64)
        layer.clear_dead_weights()
    check()
    layer.rewire(wirings[1])
    with torch.no_grad():
        layer.weight += torch.randn(layer.weight.shape, generator=generator, dtype=F64)
        layer.clear_dead_weights()
    check()
    assert wirings[0] != wirings[1]
    check()
    assert torch.equal(start.parameters["weight"], kept)


def test_a_snapshot_is_not_written_to_where_as_many_connections_come_as_go(generator):
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1]])
    layer = SparseLinear(Wiring.from_mask(mask), bias=False, kernel="synapses", generator=generator, dtype=F64)
    start, old = snapshot(layer), whole(layer)
    kept = start.parameters["weight"].clone()
    layer.rewire(Wiring.from_mask(mask.roll(1, 1)))
    for _ in range(2):
        both = (mask * mask.roll(1, 1)).bool()
        assert weight_change(start, layer).total == told("", direct(old, whole(layer), both))
        assert torch.equal(start.parameters["weight"], kept)


def whole(layer):
    """Return the dense matrix, silent connections among it."""
    twin = copy.deepcopy(layer)
    twin.set_silent(None)
    return twin.dense_weight().detach().clone()


def test_dead_entries_do_not_count(generator):
    layer = SparseLinear(ErdosRenyi(0.5).wire(6, 6, generator=generator), bias=False, kernel="masked")
    start = snapshot(layer)
    with torch.no_grad():
        layer.weight[~layer.wiring.mask()] = 100.0
    assert weight_change(start, layer).total == ParameterChange("", 0.0, 0.0, layer.wiring.n_connections)


def test_weights_that_layers_share_count_once(generator):
    shared = nn.Linear(3, 3)
    assert weight_change(snapshot(shared), nn.Sequential(shared, shared)[0]).total.n_compared == 12
    net = nn.Sequential(shared, shared)
    assert weight_change(snapshot(net), net).total.n_compared == 12


@pytest.mark.parametrize("kernel", ["masked", "synapses", "events"])
def test_norms_against_direct_computation(kernel, generator):
    layer = SparseLinear(ErdosRenyi(0.5).wire(4, 6, generator=generator), kernel=kernel, generator=generator, dtype=F64)
    net = nn.Sequential(layer, nn.Tanh(), nn.Linear(6, 3, dtype=F64))
    x = torch.randn(7, 4, generator=generator, dtype=F64)
    y = torch.randint(0, 3, (7,), generator=generator)
    found = gradient_norms(net, x, y, CROSS)
    CROSS(net(x), y).backward()
    expected = [
        ParameterNorm(name, pytest.approx(float(value.detach().norm())), pytest.approx(float(value.grad.norm())))
        for name, value in net.named_parameters()
    ]
    assert found == expected
    order = torch.randperm(7, generator=generator)
    assert gradient_norms(net, x[order], y[order], CROSS) == expected


def test_silent_connections_have_no_norm():
    layer = SparseLinear(Ensembles(n_groups=1).wire(2, 1), bias=False)
    layer.copy_dense_weight(torch.tensor([[3.0, 4.0]]))
    layer.set_silent(torch.tensor([True, False]))
    (found,) = gradient_norms(layer, torch.ones(1, 2), torch.zeros(1, 1), nn.functional.mse_loss)
    assert found == ParameterNorm("weight", 4.0, 8.0)


def test_the_model_is_left_as_it_was(generator):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    net[1].eval()
    x, y = torch.randn(5, 4, generator=generator), torch.randint(0, 3, (5,), generator=generator)
    net(x).sum().backward()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    grads = [(value.grad, value.grad.clone()) for value in net.parameters()]
    random = torch.get_rng_state()
    with torch.no_grad():
        assert gradient_norms(net, x, y, CROSS) == gradient_norms(net, x, y, CROSS)
    weight_change(snapshot(net), net)
    assert [module.training for module in net] == [True, False, True, True, True]
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    for value, (grad, kept) in zip(net.parameters(), grads, strict=True):
        assert value.grad is grad
        assert torch.equal(grad, kept)
    assert torch.equal(torch.get_rng_state(), random)


def sparse(kernel="masked", shape=(4, 4)):
    return SparseLinear(ErdosRenyi(0.5).wire(*shape, generator=torch.Generator().manual_seed(0)), kernel=kernel)


def rewired(kernel):
    layer = sparse(kernel)
    layer.rewire(ErdosRenyi(0.5).wire(4, 4, generator=torch.Generator().manual_seed(1)))
    return layer


OTHERWISE = "parameter 'weight' must be stored as in the snapshot, in shape"
ERRORS = [
    (nn.Linear(2, 2), nn.Linear(2, 2, bias=False), r"the model must have the snapshot's parameters, \['weight', 'bias'\], got"),
    (nn.Linear(2, 2), nn.Linear(3, 2), rf"{OTHERWISE} \(2, 2\), got \(2, 3\)"),
    (nn.Linear(4, 4), sparse(), "parameter 'weight' must be of a sparse layer in both or in neither"),
    (sparse(), sparse("synapses"), rf"{OTHERWISE} \(4, 4\), got \(10, 1, 1\)"),
    (sparse("synapses"), sparse(), rf"{OTHERWISE} \(10, 1, 1\), got \(4, 4\)"),
    (sparse("synapses"), rewired("masked"), rf"{OTHERWISE} \(10, 1, 1\), got \(4, 4\)"),
    (sparse(), sparse(shape=(5, 4)), OTHERWISE),
    (sparse("synapses"), sparse("synapses", (5, 4)), "both wirings must be of the same neurons"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "sentence"), ERRORS)
def test_errors_say_what_is_wrong(before, after, sentence):
    with pytest.raises(ValueError, match=sentence):
        weight_change(snapshot(before), after)
