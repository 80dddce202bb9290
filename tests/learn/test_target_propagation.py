"""Targets that come back over learned inverses."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseLinear
from neuropil.data import load
from neuropil.learn import Backpropagation, DifferenceTargetPropagation
from neuropil.randomness import stream
from neuropil.rewire import Magnitude, Random, Rewirer, Schedule

SGD = partial(torch.optim.SGD, lr=0.1)


def linear(n_in, n_out, name, seed=0):
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=stream(seed, name, parameter.ndim))
    return layer


def mlp():
    return nn.Sequential(linear(6, 8, 0), nn.Tanh(), linear(8, 8, 1), nn.Tanh(), linear(8, 3, 2)).double()


def sparse(block=("group", 1), kernel="auto"):
    pattern = Ensembles(n_groups=2, p_inter=0.2, block=block)
    layers = []
    for i, (n_in, n_out) in enumerate([(6, 8), (8, 8)]):
        wiring = pattern.wire(n_in, n_out, generator=stream(0, "wiring", i))
        layers += [SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights", i)), nn.Tanh()]
    return nn.Sequential(*layers, linear(8, 3, "readout")).double()


def batch(n=7):
    generator = stream(0, "batch")
    return torch.randn(n, 6, dtype=torch.float64, generator=generator), torch.randint(3, (n,), generator=generator)


def dense(layer, values=None):
    """Weights of a layer, or others that are stored like them, as a matrix."""
    if isinstance(layer, nn.Linear):
        return (layer.weight if values is None else values).detach().clone()
    twin = SparseLinear(layer.wiring, kernel=layer.kernel, dtype=torch.float64)
    twin.weight.data = (layer.weight if values is None else values).detach().clone()
    return twin.dense_weight().detach()


def by_hand(rule, x, y, *, rate, n_steps, sigma, generator):
    """The card's step: inverses learn, targets come back, gradients of weights and biases; of a tanh network."""
    layers = [stage.layer for stage in rule.stages]
    masks = [layer.wiring.mask() if isinstance(layer, SparseLinear) else 1.0 for layer in layers]
    W, b = [dense(layer) for layer in layers], [layer.bias.detach().clone() for layer in layers]
    V = [None, *(dense(layers[i], rule.parts[str(i)].feedback.weight) for i in (1, 2))]
    c = [None, *(rule.parts[str(i)].bias.detach().clone() for i in (1, 2))]

    def forward(i, h):
        current = h @ W[i].T + b[i]
        return current if i == 2 else torch.tanh(current)

    h = [x]
    for i in range(3):
        h.append(forward(i, h[-1]))
    for _ in range(n_steps):
        for i in (1, 2):
            noisy = h[i] + 0.3 * torch.randn(h[i].shape, generator=generator, dtype=h[i].dtype)
            own = V[i].clone().requires_grad_(), c[i].clone().requires_grad_()
            loss = (sigma(forward(i, noisy) @ own[0] + own[1]) - noisy).pow(2).sum(1).mean()
            of_v, of_c = torch.autograd.grad(loss, own)
            V[i], c[i] = V[i] - rate * of_v * masks[i], c[i] - rate * of_c
    target = h[3] - 0.5 * (h[3].softmax(1) - F.one_hot(y, 3))
    found = []
    for i in (2, 1, 0):
        delta = (h[i + 1] - target) / len(x)
        if i < 2:
            delta = delta * (1 - h[i + 1] ** 2)
        found.insert(0, ((delta.T @ h[i]) * masks[i], delta.sum(0)))
        if i:
            target = h[i] + sigma(target @ V[i] + c[i]) - sigma(h[i + 1] @ V[i] + c[i])
    return found, V, c


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (mlp, "tanh"),
        (mlp, "linear"),
        (mlp, "model"),
        (partial(sparse, ("group", 1), "blocks"), "tanh"),
        (partial(sparse, (1, 1), "synapses"), "tanh"),
        (partial(sparse, (1, 1), "masked"), "tanh"),
    ],
)
def test_a_step_is_that_of_the_card(make, form):
    model = make()
    rule = DifferenceTargetPropagation(
        model, beta=0.5, feedback_steps=3, feedback_rate=0.05, noise=0.3, inverse_activation=form, optimizer=SGD,
        generator=stream(4),
    )  # fmt: skip
    generator = torch.Generator()
    generator.set_state(rule.generator.get_state())
    x, y = batch()
    sigma = torch.tanh if form != "linear" else nn.Identity()
    expected, V, c = by_hand(rule, x, y, rate=0.05, n_steps=3, sigma=sigma, generator=generator)
    told = rule.step(x, y)
    for stage, (of_weight, of_bias) in zip(rule.stages, expected, strict=True):
        torch.testing.assert_close(dense(stage.layer, stage.layer.weight.grad), of_weight)
        torch.testing.assert_close(stage.layer.bias.grad, of_bias)
    for i in (1, 2):
        torch.testing.assert_close(dense(rule.stages[i].layer, rule.parts[str(i)].feedback.weight), V[i])
        torch.testing.assert_close(rule.parts[str(i)].bias.detach(), c[i])
    torch.testing.assert_close(told["loss"], F.cross_entropy(make()(x), y).detach())


def test_inverses_come_to_lead_to_what_gives_the_target():
    model = mlp()
    rule = DifferenceTargetPropagation(
        model, feedback_rate=0.3, noise=0.3, optimizer=partial(torch.optim.SGD, lr=0.0), generator=stream(1)
    )
    x, y = batch(64)
    h = torch.tanh(model[0](x)).detach()
    stage, inverse = rule.stages[1], rule.parts["1"]
    target = stage(h).detach() + 0.05 * torch.randn(64, 8, dtype=torch.float64, generator=stream(2))

    def left():
        """Which share of the distance to a target stays, when what a layer reads goes to where the inverse leads."""
        reads = h + inverse(target) - inverse(stage(h))
        return ((stage(reads) - target).norm() / (stage(h) - target).norm()).item()

    before = left()
    for _ in range(300):
        rule.step(x, y)
    assert before > 0.9
    assert left() < 0.7


def test_a_layer_learns_from_its_own_ends_alone():
    seen, model = [], mlp()
    for i in (0, 2, 4):
        model[i].register_forward_hook(lambda _, given, __: seen.append(given[0].requires_grad))
    DifferenceTargetPropagation(model, optimizer=SGD).step(*batch())
    assert seen == [False] * 5


def test_inverses_follow_a_layer_that_is_rewired():
    net = sparse()
    rule = DifferenceTargetPropagation(net)
    schedule = Schedule(every=1, fraction=0.5)
    rewirer = Rewirer(net, rule.optimizer, prune=Magnitude(), grow=Random(), schedule=schedule, skip=("0",))
    rule.step(*batch())
    (event,) = rewirer.step()
    assert event.came > 0
    rule.step(*batch())
    feedback = rule.parts["1"].feedback
    assert not dense(net[2], feedback.weight)[~net[2].wiring.mask()].any()
    assert rule.optimizer.state[feedback.weight]["momentum_buffer"].shape == feedback.weight.shape


def test_state_goes_on_bit_for_bit():
    x, y = batch()
    first = DifferenceTargetPropagation(mlp())
    for _ in range(3):
        first.step(x, y)
    other = DifferenceTargetPropagation(mlp(), generator=stream(9))
    other.model.load_state_dict(first.model.state_dict())
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    for rule in (first, other):
        rule.step(x, y)
    for a, b in zip(
        [*first.model.parameters(), *first.parts.parameters()],
        [*other.model.parameters(), *other.parts.parameters()],
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feedback_steps": 0}, "feedback_steps must be at least 1, and beta, .* above 0, got 0, 0.7, 0.01 and 0.1"),
        ({"noise": 0.0}, "and noise above 0, got 1, 0.7, 0.01 and 0"),
        ({"inverse_activation": "relu"}, "inverse_activation must be one of tanh, linear, model, got 'relu'"),
        ({"along": "axons"}, "along must be one of wiring, dense"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DifferenceTargetPropagation(mlp(), **settings)


def test_convolutions_may_only_come_first():
    first = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*first, nn.Flatten(), nn.Linear(18, 8), nn.ReLU(), nn.Linear(8, 3))
    rule = DifferenceTargetPropagation(model)
    rule.step(torch.randn(5, 1, 8, 8, generator=stream(0)), torch.tensor([0, 1, 2, 0, 1]))
    assert model[0].weight.grad.any()
    with pytest.raises(ValueError, match="all layers but the first must be linear, .* got a Conv2d"):
        DifferenceTargetPropagation(nn.Sequential(*first, nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2, 3)))


def test_digits_are_learned_better_than_over_frozen_layers():
    digits = load("digits")
    for seed in range(3):
        accuracies = {}
        for name in ("frozen", "learned"):
            layers = [linear(64, n_out, i, seed) for i, n_out in enumerate((64, 64, 10))]
            model = nn.Sequential(nn.Flatten(), layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
            optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
            if name == "frozen":
                for layer in layers[:-1]:
                    layer.requires_grad_(False)
                rule = Backpropagation(model, optimizer=optimizer)
            else:
                rule = DifferenceTargetPropagation(model, optimizer=optimizer, generator=stream(seed, "rule"))
            order = stream(seed, "order")
            for _ in range(2):
                for x, y in digits.batches(digits.train, 32, generator=order):
                    rule.step(x, y)
            images, labels = digits.normalize(digits.test.images), digits.test.labels
            accuracies[name] = (model(images).argmax(1) == labels).float().mean().item()
        assert accuracies["learned"] > max(0.9, accuracies["frozen"] + 0.03), accuracies
