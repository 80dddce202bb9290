"""Tangent kernels against explicit Jacobians, and what is said of two kernels against plain formulas."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from neuropil.connect import Ensembles, ErdosRenyi, SparseConv2d, SparseLinear
from neuropil.connect.kernels import KERNELS
from neuropil.measure import kernel_alignment, kernel_drift, tangent_kernel, target_alignment
from neuropil.models import spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.units.encode import RateEncoder

F64 = torch.float64


def jacobian(model, x, names=None):
    """[n, k, P], from torch.autograd.functional on all samples at once."""
    named = {name: value.detach() for name, value in model.named_parameters() if names is None or name in names}

    def outputs(*values):
        return functional_call(model, dict(zip(named, values, strict=True)), (x,)).flatten(1)

    parts = torch.autograd.functional.jacobian(outputs, tuple(named.values()))
    return torch.cat([part.flatten(2) for part in parts], dim=2)


def sparse_net(kernel, block, generator):
    """Two sparse layers and a dense one, or None where the kernel cannot compute them."""
    pattern = Ensembles(n_groups=2, p_intra=0.8, p_inter=0.4, block=block)
    wirings = [pattern.wire(4, 8, generator=generator), pattern.wire(8, 8, generator=generator)]
    if any(KERNELS[kernel].obstacle(wiring) for wiring in wirings):
        pytest.skip("the kernel cannot compute it")
    first, second = (SparseLinear(wiring, kernel=kernel, generator=generator, dtype=F64) for wiring in wirings)
    return nn.Sequential(first, nn.Tanh(), second, nn.ReLU(), nn.Linear(8, 3, dtype=F64))


def dense_net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def check(model, x, names=None, tolerance=1e-10):
    j = jacobian(model, x, names)
    full = torch.einsum("ikp,jlp->ikjl", j, j)
    close = {"rtol": tolerance, "atol": tolerance}
    for chunk in (None, 1, 2, 100):
        torch.testing.assert_close(tangent_kernel(model, x, outputs="full", chunk=chunk, only=names), full, **close)
        trace = tangent_kernel(model, x, chunk=chunk, only=names)
        torch.testing.assert_close(trace, torch.einsum("ikjk->ij", full), **close)
        summed = tangent_kernel(model, x, outputs="sum", chunk=chunk, only=names)
        torch.testing.assert_close(summed, full.sum((1, 3)) / j.shape[1], **close)


@pytest.mark.parametrize("n", [1, 5])
def test_dense_net_against_its_jacobian(n, generator):
    check(dense_net(), torch.randn(n, 4, generator=generator, dtype=F64))


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_sparse_net_against_the_jacobian_of_its_dense_twin(kernel, block, generator):
    net = sparse_net(kernel, block, generator)
    x = torch.randn(5, 4, generator=generator, dtype=F64)
    masks = [net[0].wiring.mask(), net[2].wiring.mask()]
    twin = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for i in (0, 2):
            twin[i].weight.copy_(net[i].dense_weight())
            twin[i].bias.copy_(net[i].bias)
    twin[4] = net[4]
    j = jacobian(twin, x)
    live = torch.cat(
        [torch.ones(value.numel(), dtype=torch.bool) if value.dim() == 1 or i == 4 else masks[i // 2].flatten()
         for i in (0, 2, 4) for value in (twin[i].weight, twin[i].bias)]
    )  # fmt: skip
    j = j * live
    found = tangent_kernel(net, x, outputs="full", chunk=2)
    torch.testing.assert_close(found, torch.einsum("ikp,jlp->ikjl", j, j), rtol=1e-10, atol=1e-10)


def test_groups_of_uneven_size_and_silent_connections(generator):
    for kernel, block in (("masked", (1, 1)), ("synapses", (1, 1)), ("blocks", ("group", 1))):
        pattern = Ensembles(n_groups=2, p_inter=0.6, block=block, uneven=True)
        layer = SparseLinear(pattern.wire(5, 7, generator=generator), kernel=kernel, generator=generator, dtype=F64)
        layer.set_silent(torch.arange(layer.wiring.n_blocks) % 2 == 0)
        x = torch.randn(3, 5, generator=generator, dtype=F64)
        transmitting = (layer.dense_weight() != 0).double()  # of y = W x: ∂y_o/∂W_oi = x_i
        expected = torch.einsum("ip,jp,op->ij", x, x, transmitting) + 7
        torch.testing.assert_close(tangent_kernel(layer, x), expected, rtol=1e-10, atol=1e-10)


def test_some_parameters_alone(generator):
    net, x = dense_net(), torch.randn(4, 4, generator=generator, dtype=F64)
    check(net, x, names=["0.weight"])
    check(net, x, names=["2.bias", "0.bias"])
    net[0].weight.requires_grad_(False)
    j = jacobian(net, x, ["0.bias", "2.weight", "2.bias"])
    torch.testing.assert_close(tangent_kernel(net, x), torch.einsum("ikp,jkp->ij", j, j))
    assert not net[0].weight.requires_grad


def test_the_kernel_of_a_linear_model_is_the_product_of_its_inputs(generator):
    x = torch.randn(6, 4, generator=generator, dtype=F64)
    model = nn.Linear(4, 3, dtype=F64)
    one = x @ x.T + 1
    torch.testing.assert_close(tangent_kernel(model, x), 3 * one)
    torch.testing.assert_close(tangent_kernel(model, x, outputs="sum"), one)
    expected = torch.einsum("ij,kl->ikjl", one, torch.eye(3, dtype=F64))
    torch.testing.assert_close(tangent_kernel(model, x, outputs="full"), expected)
    torch.testing.assert_close(tangent_kernel(model, x, only=["weight"]), 3 * x @ x.T)


def test_it_says_how_a_small_step_of_gradient_descent_moves_the_outputs(generator):
    net, x = dense_net(), torch.randn(5, 4, generator=generator, dtype=F64)
    y = torch.randn(5, 3, generator=generator, dtype=F64)
    before, rate = net(x), 1e-5
    residual = (before - y).detach()
    (before - y).square().sum().mul(0.5).backward()
    expected = -rate * torch.einsum("ikjl,jl->ik", tangent_kernel(net, x, outputs="full"), residual)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= rate * parameter.grad
    torch.testing.assert_close(net(x) - before, expected, rtol=1e-3, atol=1e-8)


def test_permuting_samples_permutes_the_kernel_which_is_symmetric_and_positive(generator):
    net, x = dense_net(), torch.randn(6, 4, generator=generator, dtype=F64)
    kernel, order = tangent_kernel(net, x, chunk=4), torch.randperm(6, generator=generator)
    torch.testing.assert_close(tangent_kernel(net, x[order]), kernel[order][:, order])
    assert torch.equal(kernel, kernel.T)
    assert torch.linalg.eigvalsh(kernel).min() > -1e-10


def test_convolutions_shared_weights_and_several_output_axes(generator):
    wiring = ErdosRenyi(0.5).wire(2 * 9, 4, generator=generator)
    conv = SparseConv2d(wiring, 2, 3, padding=1, kernel="masked", generator=generator, dtype=F64)
    check(nn.Sequential(conv, nn.Tanh()), torch.randn(2, 2, 3, 3, generator=generator, dtype=F64))
    shared = nn.Linear(4, 4, dtype=F64)
    check(nn.Sequential(shared, nn.Tanh(), shared), torch.randn(3, 4, generator=generator, dtype=F64))


def untouched_net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


def test_the_model_is_left_as_it_was(generator):
    net = untouched_net()
    net[1].eval()
    net(torch.randn(4, 4, generator=generator)).sum().backward()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    identities = [(value, value.grad, value.grad.clone()) for value in net.parameters()]
    random, hooks = torch.get_rng_state(), []
    for value in net.parameters():
        value.register_hook(hooks.append)
    with torch.no_grad():
        tangent_kernel(net, torch.randn(3, 4, generator=generator))
    with pytest.raises(RuntimeError):
        tangent_kernel(net, torch.zeros(3, 5))
    assert [module.training for module in net] == [True, False, True, True, True]
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    for value, (same, grad, copy) in zip(net.parameters(), identities, strict=True):
        assert value is same
        assert value.grad is grad
        assert torch.equal(grad, copy)
    assert not hooks
    assert torch.equal(torch.get_rng_state(), random)


def test_buffers_that_a_model_writes_whatever_its_mode():
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    model = Counting()
    assert torch.equal(tangent_kernel(model, torch.ones(3, 2)), torch.full((3, 3), 6.0))
    assert model.calls == 0


@pytest.mark.parametrize("own", [False, True])
def test_what_a_model_draws_is_the_same_each_time_and_put_back(own):
    generator = stream(0, "noise") if own else None
    net = nn.Sequential(RateEncoder(5, generator=generator), nn.Flatten(0, 1), nn.Linear(4, 2))

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).view(5, len(x), 2).mean(0)

    model, x = Mean(), torch.rand(3, 4, generator=stream(1))
    states = torch.get_rng_state(), generator.get_state() if own else None
    first = tangent_kernel(model, x)
    assert torch.equal(tangent_kernel(model, x), first)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert not own or torch.equal(generator.get_state(), states[1])


def test_spiking_networks_have_the_kernel_of_their_surrogates():
    pattern = Ensembles(n_groups=2, p_inter=0.5)
    net = spiking_ensemble_net((1, 4, 4), 3, hidden=[8], pattern=pattern, encoding="current", steps=4)
    kernel = tangent_kernel(net, torch.rand(3, 1, 4, 4, generator=stream(0)))
    assert kernel.shape == (3, 3)
    assert torch.isfinite(kernel).all()


# Two kernels


def random_kernel(n, generator):
    half = torch.randn(n, n, generator=generator, dtype=F64)
    return half @ half.T


def test_no_drift_from_itself_and_the_cosine_ignores_scale(generator):
    kernel = random_kernel(5, generator)
    drift = kernel_drift(kernel, kernel)
    assert drift.relative == 0.0
    assert drift.cosine == pytest.approx(0.0, abs=1e-12)
    drift = kernel_drift(kernel, 3 * kernel)
    assert drift.relative == pytest.approx(2.0)
    assert drift.cosine == pytest.approx(0.0, abs=1e-12)


def test_drift_and_alignment_by_their_formulas(generator):
    for shape in ((5, 5), (2, 3, 2, 3)):
        a, b = (torch.randn(shape, generator=generator, dtype=F64) for _ in range(2))
        x, y = a.flatten().tolist(), b.flatten().tolist()
        squares = sum(v * v for v in x), sum(v * v for v in y)
        cosine = sum(v * w for v, w in zip(x, y, strict=True)) / (squares[0] * squares[1]) ** 0.5
        assert kernel_alignment(a, b) == pytest.approx(cosine)
        drift = kernel_drift(a, b)
        assert drift.cosine == pytest.approx(1 - cosine)
        difference = sum((w - v) ** 2 for v, w in zip(x, y, strict=True))
        assert drift.relative == pytest.approx((difference / squares[0]) ** 0.5)


@pytest.mark.parametrize("centred", [False, True])
def test_target_alignment_by_its_formula(centred, generator):
    kernel, y = random_kernel(6, generator), torch.randn(6, 2, generator=generator, dtype=F64)
    h = torch.eye(6, dtype=F64) - (1 / 6 if centred else 0)
    expected = kernel_alignment(h @ kernel @ h, h @ y @ y.T @ h)
    assert target_alignment(kernel, y, centred=centred) == pytest.approx(expected)
    classes = torch.tensor([4, 0, 9, 4, 0, 0])
    same = (classes[:, None] == classes).double()
    assert target_alignment(same, classes, centred=centred) == pytest.approx(1.0)
    expected = kernel_alignment(h @ kernel @ h, h @ same @ h)
    assert target_alignment(kernel, classes, centred=centred) == pytest.approx(expected)
    order = torch.randperm(6, generator=generator)
    shuffled = target_alignment(kernel[order][:, order], classes[order], centred=centred)
    assert shuffled == pytest.approx(expected)


def test_what_all_samples_share_does_not_count_once_centred(generator):
    kernel, classes = random_kernel(6, generator), torch.tensor([0, 1, 1, 1, 1, 1])
    assert target_alignment(kernel + 100, classes) == pytest.approx(target_alignment(kernel, classes))
    assert target_alignment(kernel + 100, classes, centred=False) > target_alignment(kernel, classes, centred=False)


# Errors


class Tuple(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


class Sum(nn.Linear):
    def forward(self, x):
        return super().forward(x).sum()


LINEAR, X = nn.Linear(2, 2), torch.ones(3, 2)
ERRORS = [
    (lambda: tangent_kernel(LINEAR, X, outputs="all"), "outputs must be one of trace, full, sum, got 'all'"),
    (lambda: tangent_kernel(LINEAR, X, chunk=0), "chunk must be at least 1, got 0"),
    (lambda: tangent_kernel(LINEAR, X[:0]), r"batch must have at least one sample, got shape \(0, 2\)"),
    (lambda: tangent_kernel(LINEAR, X, only=["w"]), r"only must name parameters of the model, got \['w'\]; try \['weight'"),
    (lambda: tangent_kernel(nn.ReLU(), X), "the model must have parameters to differentiate, got a ReLU"),
    (lambda: tangent_kernel(Sum(2, 2), X), r"the model must return \[n, …\] for n samples, got shape \(\) for one"),
    (lambda: kernel_alignment(torch.eye(2), torch.eye(3)), r"same shape, got \(2, 2\) and \(3, 3\)"),
    (lambda: kernel_drift(torch.zeros(2, 2), torch.eye(2)), "kernel_drift: a kernel must not be 0 throughout, got such a first"),
    (lambda: target_alignment(torch.ones(2, 3), torch.ones(2)), r"kernel must be \[n, n\], got shape \(2, 3\); try outputs='trace'"),
    (lambda: target_alignment(torch.eye(2), torch.ones(3)), "target must be .* for the kernel's n=2 samples"),
    (lambda: target_alignment(torch.ones(3, 3), torch.tensor([0, 1, 1])), "0 throughout, once centred, got such a first"),
    (lambda: target_alignment(torch.eye(3), torch.tensor([1, 1, 1])), "0 throughout, once centred, got such a second"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), ERRORS)
def test_errors_say_what_is_wrong(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_model_that_returns_something_else():
    with pytest.raises(TypeError, match="tangent_kernel: the model must return a floating-point tensor, got tuple"):
        tangent_kernel(Tuple(2, 2), X)


NAN = torch.eye(2) * float("nan")


@pytest.mark.parametrize(
    ("call", "owner"),
    [
        (lambda: kernel_alignment(NAN, torch.eye(2)), "kernel_alignment"),
        (lambda: kernel_drift(torch.eye(2), NAN), "kernel_drift"),
        (lambda: target_alignment(NAN, torch.tensor([0, 1])), "target_alignment"),
    ],
)
def test_kernels_that_are_not_finite_are_told(call, owner):
    with pytest.raises(ValueError, match=f"^{owner}: kernels must be finite, got inf or nan; try a smaller learning"):
        call()


def test_a_kernel_is_aligned_with_itself_by_1_and_not_by_more():
    kernels = [torch.randn(9, 9, generator=stream(seed, "kernel")) for seed in range(30)]
    assert max(kernel_alignment(kernel, kernel) for kernel in kernels) == 1.0
