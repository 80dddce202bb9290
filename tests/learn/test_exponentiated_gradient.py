"""Steps that multiply weights, and their additive control."""

import copy
import math

import pytest
import torch
from torch import nn

from neuropil import data
from neuropil.connect import Ensembles, SparseLinear
from neuropil.initialize import start_, weight_layers
from neuropil.learn import Backpropagation, ExponentiatedAdam, ExponentiatedGradient, SignConstrainedSGD
from neuropil.randomness import stream

OPTIMIZERS = [ExponentiatedGradient, ExponentiatedAdam, SignConstrainedSGD]


def parameters(*, zeros=True):
    generator = stream(0)
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    if zeros:
        weight[0] = 0
    return nn.Parameter(weight), nn.Parameter(torch.zeros(4, dtype=torch.float64))


def gradients(n):
    generator = stream(1)
    return [torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(n)]


def stepped(optimizer, weight, bias, given):
    for gradient in given:
        weight.grad, bias.grad = gradient.clone(), gradient[:, 0].clone()
        optimizer.step()
    return weight.detach(), bias.detach()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("lr", [0.3, 4.0])
def test_gradient_form_is_that_of_the_card(momentum, decay, lr):
    weight, bias = parameters()
    w, b = weight.detach().tolist(), bias.detach().tolist()
    settings = {"lr": lr, "momentum": momentum, "dampening": 0.2 if momentum else 0.0, "weight_decay": decay}
    given = gradients(3)
    found = stepped(ExponentiatedGradient([weight, bias], additive_scale=0.1, **settings), weight, bias, given)

    def sign(value):
        return (value > 0) - (value < 0)

    def updated(buffer, d, t):
        return d if t == 0 or not momentum else momentum * buffer + (1 - settings["dampening"]) * d

    for i in range(4):
        buffer = 0.0
        for t, gradient in enumerate(given):
            buffer = updated(buffer, gradient[i, 0].item() + decay * b[i], t)
            b[i] -= 0.1 * lr * buffer
        for j in range(3):
            for t, gradient in enumerate(given):
                buffer = updated(buffer, gradient[i, j].item() + decay * sign(w[i][j]), t)
                w[i][j] *= math.exp(min(1, max(-1, -lr * sign(w[i][j]) * buffer)))
    torch.testing.assert_close(found, (torch.tensor(w).double(), torch.tensor(b).double()), rtol=1e-6, atol=1e-9)


def test_adam_form_is_that_of_the_card():
    weight, bias = parameters()
    w, given = weight.detach().clone(), gradients(5)
    found, of_bias = stepped(ExponentiatedAdam([weight, bias], lr=0.2, weight_decay=0.5), weight, bias, given)
    reference = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    adam = torch.optim.AdamW([reference], lr=0.02, weight_decay=0.5)
    m, v = torch.zeros(4, 3), torch.zeros(4, 3)
    for t, gradient in enumerate(given, 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        exponent = 0.2 / (1 - 0.9**t) * w.sign() * m / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        w = w * (1 - 0.2 * 0.5) * torch.exp(-exponent)
        reference.grad = gradient[:, 0].clone()
        adam.step()
    torch.testing.assert_close(found, w)
    torch.testing.assert_close(of_bias, reference.detach())


def test_control_is_sgd_but_where_signs_would_change():
    weight, bias = parameters()
    with torch.no_grad():
        w = weight - 2.0 * gradients(1)[0]
        flips = w.sign() != weight.sign()
        expected = torch.where(flips, 1e-18 * weight.sign(), w)
    assert 3 < int(flips.sum()) < 12  # three are those of weights at 0
    found, of_bias = stepped(SignConstrainedSGD([weight, bias], lr=2.0), weight, bias, gradients(1))
    assert torch.equal(found, expected)
    assert (of_bias != 0).all()


def net(start="log-normal", **settings):
    digits = data.load("digits")
    wiring = Ensembles(n_groups=4, block=("group", 1)).wire(64, 64, generator=stream(0, "wiring"))
    hidden = SparseLinear(wiring, generator=stream(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(64, 10))
    sample = next(digits.batches(digits.train, 32))[0]
    start_(model, start, sample=sample, generator=stream(0, "start"), **settings)
    return digits, model


@pytest.mark.parametrize(
    ("optimizer", "lr", "least"),
    [
        (ExponentiatedGradient, 1.0, 0.9),
        (ExponentiatedGradient, 8.0, 0.0),  # far too large
        (ExponentiatedAdam, 0.03, 0.9),
        (ExponentiatedAdam, 0.6, 0.0),
        (SignConstrainedSGD, 0.1, 0.9),
        (SignConstrainedSGD, 0.7, 0.0),
    ],
)
def test_digits_are_learned_and_no_sign_flips(optimizer, lr, least):
    digits, model = net(signs="neuron")
    before = [layer.weight.detach().clone() for _, layer in weight_layers(model)]
    rule = Backpropagation(model, optimizer=lambda parameters: optimizer(parameters, lr=lr))
    for _ in range(4):
        for x, y in digits.batches(digits.train, 32, generator=rule.generator):
            rule.step(x, y)
    for old, (_, layer) in zip(before, weight_layers(model), strict=True):
        assert bool(layer.weight.isfinite().all())
        assert torch.equal(layer.weight.sign(), old.sign())
        assert not torch.equal(layer.weight, old)
        assert float(layer.bias.detach().abs().max()) > 0
    dense = model[3].dense_weight()
    for row in (dense.sign(), model[1].weight.sign()):  # Dale: what a neuron sends is of one sign
        assert not bool(((row > 0).any(0) & (row < 0).any(0)).any())
    x, y = next(digits.batches(digits.test, len(digits.test)))
    assert float((model(x).argmax(1) == y).float().mean()) > least


def test_weights_that_would_underflow_keep_their_sign():
    weight = nn.Parameter(torch.tensor([[1.0, -1.0]]))
    optimizer = ExponentiatedGradient([weight], lr=1.0, largest=60.0)
    for _ in range(5):
        weight.grad = torch.tensor([[50.0, -50.0]])
        optimizer.step()
    assert weight[0, 0] > 0 > weight[0, 1]
    assert weight.abs().max() < 1e-30


def test_new_connections_grow_only_where_they_are_revived():
    for revive in (0.0, 0.01):
        _, model = net()
        layer = model[3]
        with torch.no_grad():
            layer.weight[0] = 0
        rule = Backpropagation(
            model, optimizer=lambda parameters, revive=revive: ExponentiatedGradient(parameters, revive=revive)
        )
        x, y = torch.rand(64, 1, 8, 8, generator=stream(3)), torch.randint(10, (64,), generator=stream(4))
        rule.step(x, y)
        live = (layer.weight[0] != 0) == (layer.weight.grad[0] != 0)
        assert bool((layer.weight[0] == 0).all()) == (revive == 0)
        if revive:
            assert live.all()
            assert torch.equal(layer.weight[0], -revive * layer.weight.grad[0].sign())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_uneven_groups_keep_what_is_stored_beyond_them_at_zero(optimizer):
    wiring = Ensembles(n_groups=3, uneven=True, block=("group", 1)).wire(20, 14, generator=stream(0))
    layer = SparseLinear(wiring, generator=stream(1))
    rule = Backpropagation(layer, optimizer=lambda parameters: optimizer(parameters, lr=0.5, weight_decay=0.1))
    nobody = layer.weight == 0
    assert nobody.any()
    for i in range(3):
        rule.step(torch.rand(8, 20, generator=stream(i)), torch.arange(8))
    assert torch.equal(layer.weight == 0, nobody)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_goes_on_bit_for_bit(optimizer):
    given = gradients(6)
    weight, bias = parameters()
    settings = {} if optimizer is ExponentiatedAdam else {"lr": 0.2, "momentum": 0.9}
    first = optimizer([weight, bias], **settings)
    stepped(first, weight, bias, given[:3])
    other = parameters()
    second = optimizer(other, **settings)
    with torch.no_grad():
        other[0].copy_(weight)
        other[1].copy_(bias)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    ends = [stepped(first, weight, bias, given[3:]), stepped(second, *other, given[3:])]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_groups_say_whether_they_are_multiplied():
    weight, bias = parameters(zeros=False)
    with torch.no_grad():
        bias.fill_(1.0)
    groups = [{"params": [weight], "multiplicative": False}, {"params": [bias], "multiplicative": True}]
    before = weight.detach().clone()
    stepped(ExponentiatedGradient(groups, lr=0.5, additive_scale=1.0), weight, bias, gradients(1))
    torch.testing.assert_close(weight.detach(), before - 0.5 * gradients(1)[0])
    torch.testing.assert_close(bias.detach(), torch.exp((-0.5 * gradients(1)[0][:, 0]).clamp(-1, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: ExponentiatedGradient(p, lr=-1.0), "lr must be finite and at least 0, got -1"),
        (lambda p: ExponentiatedGradient(p, momentum=1.0), r"momentum must be in \[0, 1\), got 1"),
        (lambda p: ExponentiatedGradient(p, dampening=2.0), r"dampening must be in \[0, 1\], got 2"),
        (lambda p: ExponentiatedGradient(p, largest=0.0), "largest must be above 0, got 0"),
        (lambda p: ExponentiatedAdam(p, betas=(0.9, 1.0)), r"betas must be in \[0, 1\)"),
        (lambda p: ExponentiatedAdam(p, lr=2.0, weight_decay=1.0), "weight_decay must be below 1, got 2.0 · 1.0"),
        (lambda p: ExponentiatedAdam(p, eps=0.0), "eps must be above 0"),
    ],
)
def test_settings_out_of_range_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make(parameters())
