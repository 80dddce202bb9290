"""Sharpness where the Hessian is known, by both ways, and against the explicit one where it is not."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from neuropil.connect import Ensembles, EventLinear, SparseLinear
from neuropil.connect.kernels import KERNELS
from neuropil.measure import ascent_sharpness, sharpness
from neuropil.randomness import stream
from neuropil.units import LIF

F64 = torch.float64
WAYS = ["exact", "differences"]
MSE, CROSS = nn.functional.mse_loss, nn.functional.cross_entropy


class Point(nn.Module):
    """A model whose output is its parameter."""

    def __init__(self, *at, dtype=F64):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at, dtype=dtype))

    def forward(self, x):
        return self.at * torch.ones_like(x)


def found(model, x, y, loss, products="exact", seed=0, **given):
    return sharpness(model, x, y, loss, products=products, generator=stream(seed, "lanczos"), **given)


def hessian(model, x, y, loss):
    names, values = zip(*((name, value.detach()) for name, value in model.named_parameters()), strict=True)
    sizes, shapes = [value.numel() for value in values], [value.shape for value in values]

    def at(vector):
        parts = [part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]
        return loss(functional_call(model, dict(zip(names, parts, strict=True)), (x,)), y)

    return torch.autograd.functional.hessian(at, torch.cat([value.flatten() for value in values]))


@pytest.mark.parametrize("products", WAYS)
@pytest.mark.parametrize("eigenvalues", [[5.0, 1.0, 0.5], [2.0, 2.0, 2.0], [3.0, -7.0, 1.0], [-1.0, -2.0], [4.0]])
def test_a_quadratic_with_known_eigenvalues(eigenvalues, products, generator):
    """The largest one, not the one that is largest in size."""
    n = len(eigenvalues)
    q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=F64))[0]
    matrix = q @ torch.diag(torch.tensor(eigenvalues, dtype=F64)) @ q.T
    model = Point(*torch.randn(n, generator=generator, dtype=F64).tolist())
    result = found(model, torch.ones(n, dtype=F64), matrix, lambda w, a: 0.5 * w @ a @ w, products, tolerance=1e-6)
    assert result.value == pytest.approx(max(eigenvalues), rel=1e-6)
    assert result.products <= n
    assert result.residual < 1e-5


def test_it_ends_where_nothing_is_left_to_reach():
    model = Point(0.3, -0.2, 0.9)
    result = found(model, torch.ones(3, dtype=F64), None, lambda w, _: (w**2).sum(), tolerance=0.0)
    assert (result.value, result.products) == (pytest.approx(2.0), 1)


@pytest.mark.parametrize("products", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_least_squares(products, dtype, generator):
    x = torch.randn(20, 6, generator=generator, dtype=dtype)
    y = torch.randn(20, 1, generator=generator, dtype=dtype)
    expected = float(torch.linalg.eigvalsh(2 * x.T @ x / 20)[-1])
    result = found(nn.Linear(6, 1, bias=False, dtype=dtype), x, y, MSE, products, tolerance=1e-4)
    assert result.value == pytest.approx(expected, rel=2e-3 if dtype == torch.float32 else 1e-5)


@pytest.mark.parametrize("products", WAYS)
def test_a_network_against_its_whole_hessian(products, generator):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = torch.randn(10, 4, generator=generator, dtype=F64)
    y = torch.randint(0, 3, (10,), generator=generator)
    eigenvalues = torch.linalg.eigvalsh(hessian(net, x, y, CROSS))
    result = found(net, x, y, CROSS, products, tolerance=1e-7)
    assert result.value == pytest.approx(float(eigenvalues[-1]), rel=1e-6)
    rough = found(net, x, y, CROSS, products, most=3)
    assert rough.products == 3
    assert rough.value <= float(eigenvalues[-1]) + 1e-8
    assert (eigenvalues - rough.value).abs().min() <= rough.residual + 1e-8
    order = torch.randperm(10, generator=generator)
    assert found(net, x[order], y[order], CROSS, products, 1, tolerance=1e-7).value == pytest.approx(result.value)


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_sparse_layers_against_a_dense_twin_with_a_mask(kernel, block, generator):
    wiring = Ensembles(n_groups=2, p_intra=0.8, p_inter=0.4, block=block).wire(4, 8, generator=generator)
    if KERNELS[kernel].obstacle(wiring):
        pytest.skip("the kernel cannot compute it")
    layer = SparseLinear(wiring, kernel=kernel, generator=generator, dtype=F64)
    layer.set_silent(torch.arange(wiring.n_blocks) % 3 == 0)
    net = nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 3, dtype=F64))
    x = torch.randn(10, 4, generator=generator, dtype=F64)
    y = torch.randint(0, 3, (10,), generator=generator)
    twin = nn.Sequential(nn.Linear(4, 8, dtype=F64), nn.Tanh(), net[2])
    with torch.no_grad():
        twin[0].weight.copy_(layer.dense_weight())
        twin[0].bias.copy_(layer.bias)
    live = torch.cat([(twin[0].weight != 0).flatten(), torch.ones(8 + 24 + 3, dtype=torch.bool)])
    expected = float(torch.linalg.eigvalsh(hessian(twin, x, y, CROSS)[live][:, live])[-1])
    assert found(net, x, y, CROSS, "differences", tolerance=1e-7).value == pytest.approx(expected, rel=1e-6)
    if kernel == "events":
        with pytest.raises(ValueError, match="products='exact' must differentiate each layer twice.*'differences'"):
            found(net, x, y, CROSS)
    else:
        assert found(net, x, y, CROSS, tolerance=1e-7).value == pytest.approx(expected, rel=1e-6)


class Spiking(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.neurons = layer, LIF(kernel="numba")

    def forward(self, x):
        return self.neurons(self.layer(x).expand(5, -1, -1))[0].mean(0)


@pytest.mark.parametrize("layer", [nn.Linear, EventLinear])
def test_compiled_neurons_are_refused_and_differences_are_not(layer, generator):
    model, x = Spiking(layer(4, 3)), torch.randn(6, 4, generator=generator)
    y = torch.randint(0, 3, (6,), generator=generator)
    with pytest.raises(ValueError, match="sharpness: products='exact' must differentiate each layer twice"):
        found(model, x, y, CROSS)
    assert found(model, x, y, CROSS, "differences").products >= 1


@pytest.mark.parametrize("products", WAYS)
@pytest.mark.parametrize("value", [math.nan, 1e30])
def test_a_network_that_has_diverged_is_refused(products, value):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    with pytest.raises(
        ValueError, match="(second derivatives of the loss|parameters) must be finite, got .*; try a smaller"
    ):
        found(model, torch.ones(4, 2), torch.zeros(4, 2), MSE, products)


@pytest.mark.parametrize("products", WAYS)
def test_a_loss_without_curvature(products):
    result = found(nn.Linear(3, 1, dtype=F64), torch.ones(2, 3, dtype=F64), None, lambda y, _: y.mean(), products)
    assert result.value == pytest.approx(0.0, abs=1e-9)


# One step uphill


def test_the_step_by_its_formula(generator):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = torch.randn(10, 4, generator=generator, dtype=F64)
    y = torch.randint(0, 3, (10,), generator=generator)
    before = CROSS(net(x), y)
    gradients = torch.autograd.grad(before, list(net.parameters()))
    start = [value.detach().clone() for value in net.parameters()]
    for adaptive in (False, True):
        scale = [w.abs() if adaptive else torch.ones_like(w) for w in start]
        norm = sum(((t * g) ** 2).sum() for t, g in zip(scale, gradients, strict=True)).sqrt()
        result = ascent_sharpness(net, x, y, CROSS, radius=0.3, adaptive=adaptive)
        with torch.no_grad():
            for value, w, t, g in zip(net.parameters(), start, scale, gradients, strict=True):
                value.copy_(w + 0.3 * t * t * g / norm)
            assert result == pytest.approx(float(CROSS(net(x), y) - before))
            for value, w in zip(net.parameters(), start, strict=True):
                value.copy_(w)
        small = ascent_sharpness(net, x, y, CROSS, radius=1e-6, adaptive=adaptive)
        assert small == pytest.approx(1e-6 * float(norm), rel=1e-4)


def test_adaptive_does_not_notice_how_a_relu_network_shares_its_scale_out(generator):
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    x, y = torch.randn(10, 4, generator=generator, dtype=F64), torch.randint(0, 3, (10,), generator=generator)
    plain, adaptive = (ascent_sharpness(net, x, y, CROSS, adaptive=how) for how in (False, True))
    with torch.no_grad():
        net[0].weight.mul_(5)
        net[0].bias.mul_(5)
        net[2].weight.div_(5)
    assert ascent_sharpness(net, x, y, CROSS, adaptive=True) == pytest.approx(adaptive)
    assert ascent_sharpness(net, x, y, CROSS) != pytest.approx(plain, rel=0.1)


def test_no_step_where_there_is_no_slope_and_none_of_silent_connections(generator):
    assert ascent_sharpness(Point(0.0, 0.0), torch.ones(2, dtype=F64), torch.zeros(2, dtype=F64), MSE) == 0.0
    layer = SparseLinear(Ensembles(n_groups=1).wire(3, 2), generator=generator, dtype=F64, bias=False)
    layer.set_silent(torch.ones(layer.wiring.n_blocks, dtype=torch.bool))
    given = layer, torch.ones(2, 3, dtype=F64), torch.ones(2, 2, dtype=F64), MSE
    assert ascent_sharpness(*given) == 0.0
    assert found(*given).value == 0.0


# The model, and errors


@pytest.mark.parametrize("measure", ["exact", "differences", "ascent"])
def test_the_model_is_left_as_it_was(measure, generator):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 3))
    net[1].eval()
    x, y = torch.randn(5, 4, generator=generator), torch.randint(0, 3, (5,), generator=generator)
    net(x).sum().backward()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    grads = [(value.grad, value.grad.clone()) for value in net.parameters()]
    random, hooks = torch.get_rng_state(), []
    for value in net.parameters():
        value.register_hook(hooks.append)

    def run(inputs, loss=CROSS):
        with torch.no_grad():
            if measure == "ascent":
                return ascent_sharpness(net, inputs, y, loss)
            return found(net, inputs, y, loss, measure)

    assert run(x) == run(x)
    with pytest.raises(RuntimeError):
        run(torch.zeros(5, 5))
    with pytest.raises(ValueError, match=r"loss must give one number for the batch, got shape \(5,\); try its mean"):
        run(x, lambda output, target: CROSS(output, target, reduction="none"))
    assert [module.training for module in net] == [True, False, True, True, True]
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    for value, (grad, copy) in zip(net.parameters(), grads, strict=True):
        assert value.grad is grad
        assert torch.equal(grad, copy)
    assert not hooks
    assert torch.equal(torch.get_rng_state(), random)


X = torch.ones(3, 2)
Y = torch.ones(3, 1)
ERRORS = [
    (lambda: found(nn.Linear(2, 1), X, Y, MSE, "power"), "products must be one of exact, differences, got 'power'"),
    (lambda: found(nn.Linear(2, 1), X, Y, MSE, tolerance=-1.0), "tolerance must be at least 0, got -1"),
    (lambda: found(nn.Linear(2, 1), X, Y, MSE, most=0), "most must be at least 1, got 0"),
    (lambda: found(nn.ReLU(), X, Y, MSE), "sharpness: the model must have parameters to differentiate, got a ReLU"),
    (lambda: ascent_sharpness(nn.Linear(2, 1), X, Y, MSE, radius=0.0), "radius must be finite and above 0, got 0"),
    (lambda: ascent_sharpness(nn.Linear(2, 1), X, Y, MSE, radius=float("nan")), "radius must be finite .* got nan"),
]


@pytest.mark.parametrize(("call", "sentence"), ERRORS)
def test_errors_say_what_is_wrong(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("measure", ["exact", "differences", "ascent"])
def test_empty_batches_and_numbers_that_are_not_finite_are_told(measure):
    def run(net, x=X, y=Y):
        return ascent_sharpness(net, x, y, MSE) if measure == "ascent" else found(net, x, y, MSE, measure)

    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"sharpness: batch must have at least one sample, got shape \(0, 2\)"):
        run(net, X[:0], Y[:0])
    if measure != "ascent":
        with pytest.raises(ValueError, match="sharpness: the second derivatives of the loss must be finite, got nan"):
            run(net, X * float("nan"))
    net.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="sharpness: parameters must be finite, got inf or nan in 'weight'; try"):
        run(net)


def test_inference_mode_and_what_was_made_in_it():
    expected = found(nn.Linear(2, 1), X, Y, MSE).value  # of least squares, the same for all weights
    with torch.inference_mode():
        made, x, y = nn.Linear(2, 1), X.clone(), Y.clone()
        assert found(nn.Linear(2, 1), x, y, MSE).value == pytest.approx(expected)
    for products in WAYS:
        assert found(made, x, y, MSE, products).value == pytest.approx(expected, rel=2e-3)
    frozen = nn.Sequential(made.requires_grad_(False), nn.Linear(1, 1))
    assert found(frozen, x, y, MSE).products >= 1
