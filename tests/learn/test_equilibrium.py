"""Units that settle together."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseConv2d, SparseLinear, filters
from neuropil.data import load
from neuropil.learn import Backpropagation, EquilibriumPropagation
from neuropil.models import ensemble_net
from neuropil.randomness import stream


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def drawn(layer, name, seed=0):
    bound = layer.weight[0].numel() ** -0.5
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -bound, bound, generator=stream(seed, name, parameter.ndim))
    return layer


def linear(n_in, n_out, name, seed=0):
    return drawn(nn.utils.skip_init(nn.Linear, n_in, n_out), name, seed)


def mlp():
    layers = [linear(6, 8, 0), nn.Tanh(), linear(8, 7, 1), nn.Sigmoid(), linear(7, 8, 2), nn.Tanh(), linear(8, 3, 3)]
    return nn.Sequential(*layers).double()


def cnn():
    generator = stream(0)
    wiring = filters(Ensembles(n_groups=2, block=(1, 1)).wire(4, 6, generator=generator), (3, 3))
    sparse = SparseConv2d(wiring, 4, 3, padding=1, generator=generator)
    first = drawn(nn.utils.skip_init(nn.Conv2d, 1, 4, 3, padding=1), 0)
    layers = [first, nn.Tanh(), nn.MaxPool2d(2), sparse, nn.AvgPool2d(2), nn.Hardtanh(0, 1, inplace=True), nn.Flatten()]
    return nn.Sequential(*layers, linear(24, 9, 1), nn.Tanh(), linear(9, 3, 2)).double()


def sparse(block=("group", 1), kernel="auto"):
    pattern = Ensembles(n_groups=2, p_inter=0.2, block=block)
    layers = [nn.Flatten()]
    for i, (n_in, n_out) in enumerate([(6, 8), (8, 8)]):
        wiring = pattern.wire(n_in, n_out, generator=stream(0, "wiring", i))
        layers += [SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights", i)), nn.Tanh()]
    return nn.Sequential(*layers, linear(8, 3, "readout")).double()


# what drives the hidden units of these networks, and their activations: pools come before those
DRIVES = {
    mlp: lambda net: [net[0], net[2], net[4]],
    cnn: lambda net: [
        lambda x: F.max_pool2d(net[0](x), 2),
        lambda h: F.avg_pool2d(net[3](h), 2).flatten(1),
        net[7],
    ],
}
SIGMAS = {
    mlp: [torch.tanh, torch.sigmoid, torch.tanh],
    cnn: [torch.tanh, lambda x: x.clamp(0, 1), torch.tanh],
}
SHAPES = {mlp: ((6,), [(8,), (7,), (8,)]), cnn: ((1, 8, 8), [(4, 4, 4), (24,), (9,)])}


def batch(shape=(6,), n=7):
    generator = stream(0, "batch")
    return torch.randn(n, *shape, dtype=torch.float64, generator=generator), torch.randint(3, (n,), generator=generator)


def relaxed(make, net, x, y, h, n_steps, beta=0.0):
    """The card's iteration, through the gradient of the whole primitive function; its graph goes on."""
    drives = DRIVES[make](net)
    for _ in range(n_steps):
        h = [v if v.requires_grad else v.requires_grad_() for v in h]
        phi = sum((drive(below) * v).sum() for drive, below, v in zip(drives, [x, *h], h, strict=False))
        phi = phi - beta * F.cross_entropy(net[-1](h[-1]), y, reduction="sum")
        slopes = torch.autograd.grad(phi, h, create_graph=True)
        h = [sigma(slope) for sigma, slope in zip(SIGMAS[make], slopes, strict=True)]
    return h


def at_rest(make, n):
    return [torch.zeros(n, *shape, dtype=torch.float64) for shape in SHAPES[make][1]]


@pytest.mark.parametrize("make", [mlp, cnn])
def test_activity_settles_as_the_card_says(make):
    net = make()
    x, y = batch(SHAPES[make][0])
    system = EquilibriumPropagation(net, free_steps=5).predictor
    of_input = system.drive(0, x)
    free = system.settle(of_input, 5)
    nudged = system.settle(of_input, 3, free, beta=0.4, y=y)
    expected = relaxed(make, net, x, y, at_rest(make, len(x)), 5)
    for mine, its in zip(free, expected, strict=True):
        torch.testing.assert_close(mine, its)
    torch.testing.assert_close(system(x), net[-1](expected[-1]))
    for mine, its in zip(nudged, relaxed(make, net, x, y, [v.detach() for v in expected], 3, 0.4), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("make", [mlp, cnn])
def test_the_gradient_is_that_through_time(make):
    net = make()
    x, y = batch(SHAPES[make][0])
    loss = F.cross_entropy(net[-1](relaxed(make, net, x, y, at_rest(make, len(x)), 80)[-1]), y)
    expected = torch.autograd.grad(loss, list(net.parameters()))
    errors = {}
    for nudging in ("one_sided", "symmetric"):
        model = copy.deepcopy(net)
        rule = EquilibriumPropagation(model, nudging, free_steps=80, nudged_steps=60, beta=0.02, optimizer=sgd)
        torch.testing.assert_close(rule.step(x, y)["loss"], loss.detach())
        for parameter, its in zip(model.parameters(), expected, strict=True):
            assert F.cosine_similarity(parameter.grad.ravel(), its.ravel(), dim=0) > 0.95
        pairs = zip(model.parameters(), expected, strict=True)
        errors[nudging] = max((parameter.grad - its).norm() / its.norm() for parameter, its in pairs)
    assert errors["symmetric"] < 0.3 * errors["one_sided"]
    assert errors["symmetric"] < 0.02


@pytest.mark.parametrize("nudging", ["one_sided", "symmetric"])
def test_the_gradient_is_a_difference_of_the_primitive_function(nudging):
    net = mlp()
    x, y = batch()
    free = relaxed(mlp, net, x, y, at_rest(mlp, len(x)), 4)
    free = [v.detach() for v in free]

    def slopes(beta):
        h = [v.detach() for v in (relaxed(mlp, net, x, y, free, 2, beta) if beta else free)]
        phi = sum((drive(below) * v).sum() for drive, below, v in zip(DRIVES[mlp](net), [x, *h], h, strict=False))
        phi = phi - beta * F.cross_entropy(net[-1](h[-1]), y, reduction="sum")
        return torch.autograd.grad(phi / len(x), list(net.parameters()), allow_unused=True, materialize_grads=True)

    below = -0.3 if nudging == "symmetric" else 0.0
    expected = [(low - high) / (0.3 - below) for high, low in zip(slopes(0.3), slopes(below), strict=True)]
    rule = EquilibriumPropagation(net, nudging, free_steps=4, nudged_steps=2, beta=0.3, optimizer=sgd)
    rule.step(x, y)
    for parameter, its in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, its)


@pytest.mark.parametrize(("block", "kernel"), [(("group", 1), "blocks"), ((1, 1), "synapses"), ((1, 1), "masked")])
def test_sparse_layers_learn_as_masked_ones(block, kernel):
    net = sparse(block, kernel)
    twin = copy.deepcopy(net)
    for i in (1, 3):
        twin[i] = nn.Linear(net[i].in_features, net[i].out_features).double()
        twin[i].weight.data, twin[i].bias.data = net[i].dense_weight().detach(), net[i].bias.detach().clone()
    for model in (net, twin):
        EquilibriumPropagation(model, optimizer=sgd).step(*batch())
    for i in (1, 3):
        dense = SparseLinear(net[i].wiring, kernel=kernel, dtype=torch.float64)
        dense.weight.data = net[i].weight.grad
        torch.testing.assert_close(dense.dense_weight(), twin[i].weight.grad * net[i].wiring.mask())
        assert net[i].weight.requires_grad


def test_a_layer_learns_from_its_own_ends_alone():
    seen, model = [], mlp()
    for i in (0, 2, 4, 6):
        model[i].register_forward_hook(lambda _, given, __: seen.append(given[0].grad_fn))
    EquilibriumPropagation(model, optimizer=sgd).step(*batch())
    assert len(seen) > 40
    assert all(graph is None for graph in seen)


def test_it_predicts_where_no_gradients_are():
    x, _ = batch()
    system = EquilibriumPropagation(mlp()).predictor
    with torch.inference_mode():
        inside = system(x.clone())
    with torch.no_grad():
        torch.testing.assert_close(inside.clone(), system(x))


def test_unrest_is_the_change_of_a_further_step():
    x, y = batch()
    unrest = []
    for n_steps in (2, 40):
        net = mlp()
        before, after = (torch.cat(relaxed(mlp, net, x, y, at_rest(mlp, len(x)), n), 1) for n in (n_steps, n_steps + 1))
        unrest.append(EquilibriumPropagation(net, free_steps=n_steps).net.unrest(x))
        assert unrest[-1] == pytest.approx((after - before).abs().mean().item())
    assert unrest[1] < 1e-3 * unrest[0]


def test_layers_that_do_not_learn_stay_as_they_are():
    model = mlp()
    model[0].requires_grad_(False)
    model[4].requires_grad_(False)
    EquilibriumPropagation(model, optimizer=sgd).step(*batch())
    assert model[0].weight.grad is model[4].weight.grad is None
    assert model[2].weight.grad.any()
    assert not model[0].weight.requires_grad


def test_a_hard_sigmoid_may_stand_in_for_unbounded_activations():
    net = ensemble_net((1, 8, 8), 10, hidden=[16, 16], pattern=Ensembles(n_groups=2))
    with pytest.raises(ValueError, match="must be bounded, got a ReLU after 'hidden.0'; try activation='hard_sigmoid'"):
        EquilibriumPropagation(net)
    system = EquilibriumPropagation(net, activation="hard_sigmoid").predictor
    images = torch.randn(5, 1, 8, 8, generator=stream(0))
    first, second = system.settle(system.drive(0, images), 1)
    torch.testing.assert_close(first, (1 + (net.hidden[0](images.flatten(1)) - 1).clamp(-1, 1)) / 2)
    torch.testing.assert_close(second, (1 + (net.hidden[2].bias.expand(5, -1) - 1).clamp(-1, 1)) / 2)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ([nn.Identity()], "followed by one activation, and by pools at most, got none after '0'"),
        ([nn.Tanh(), nn.Tanh()], "got Tanh, Tanh after '0'"),
        ([nn.LayerNorm(5), nn.Tanh()], "got LayerNorm, Tanh after '0'"),
        ([nn.BatchNorm1d(5), nn.Tanh()], "got BatchNorm1d, Tanh after '0'"),
    ],
)
def test_what_cannot_settle_is_named(after, message):
    with pytest.raises(ValueError, match=message):
        EquilibriumPropagation(nn.Sequential(linear(6, 5, 0), *after, linear(5, 3, 1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nudging": "both"}, "nudging must be one of symmetric, one_sided, got 'both'"),
        ({"activation": "tanh"}, "activation must be one of model, hard_sigmoid, got 'tanh'"),
        ({"beta": 0.0}, "at least 1 and beta above 0, got 30, 10 and 0"),
        ({"nudged_steps": 0}, "at least 1 and beta above 0, got 30, 0 and 0.1"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        EquilibriumPropagation(mlp(), **settings)


def test_state_goes_on_bit_for_bit():
    x, y = batch()
    first = EquilibriumPropagation(mlp(), optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    for _ in range(3):
        first.step(x, y)
    other = EquilibriumPropagation(mlp(), optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    other.model.load_state_dict(first.model.state_dict())
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    for rule in (first, other):
        rule.step(x, y)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True))


def test_digits_are_learned_better_than_over_frozen_layers():
    digits = load("digits")
    for seed in range(3):
        accuracies = {}
        for name in ("frozen", "learned"):
            layers = [linear(64, n_out, i, seed) for i, n_out in enumerate((64, 64, 10))]
            model = nn.Sequential(nn.Flatten(), layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
            optimizer = partial(torch.optim.Adam, lr=0.005)
            if name == "frozen":
                for layer in layers[:-1]:
                    layer.requires_grad_(False)
                rule = Backpropagation(model, optimizer=optimizer)
            else:
                rule = EquilibriumPropagation(model, free_steps=8, nudged_steps=4, optimizer=optimizer)
            order = stream(seed, "order")
            for _ in range(2):
                for x, y in digits.batches(digits.train, 32, generator=order):
                    rule.step(x, y)
            images, labels = digits.normalize(digits.test.images), digits.test.labels
            accuracies[name] = (rule.predictor(images).argmax(1) == labels).float().mean().item()
        assert accuracies["learned"] > max(0.9, accuracies["frozen"] + 0.03), accuracies
