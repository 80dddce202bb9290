"""Two forward passes in place of one forward and one backward."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseConv2d, SparseLinear, filters
from neuropil.initialize import reset_
from neuropil.learn import Pepita
from neuropil.randomness import stream


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def linear(n_in, n_out, name):
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float64)
    reset_(layer, generator=stream(0, "weights", name))
    return layer


def mlp():
    return nn.Sequential(linear(6, 5, 0), nn.Tanh(), linear(5, 4, 1), nn.ReLU(), linear(4, 3, 2))


def batch(*shape, n=7):
    generator = stream(0, "batch")
    x = torch.randn(n, *(shape or (6,)), dtype=torch.float64, generator=generator)
    return x, torch.randint(3, (n,), generator=generator)


def feedback_of(rule):
    """F, as the rule draws it at its first step, of a rule that is thrown away."""
    twin = copy.deepcopy(rule)
    twin.step(*batch())
    return twin.parts["feedback"].weight.T


@torch.no_grad()
def by_hand(model, x, y, feedback):
    """The card's gradients of weights and biases, image by image."""
    layers = [module for module in model if not isinstance(module, nn.Tanh | nn.ReLU)]

    def run(image):
        activities = [image]
        for layer, unit in zip(layers, (torch.tanh, torch.relu, lambda z: z), strict=True):
            activities.append(unit(layer(activities[-1])))
        return activities

    found = [[torch.zeros(layer.out_features, layer.in_features).double(), 0.0] for layer in layers]
    for image, label in zip(x, F.one_hot(y, 3), strict=True):
        first = run(image)
        second = run(image + feedback @ (first[-1].softmax(0) - label))
        deltas = [a - b for a, b in zip(first[1:-1], second[1:-1], strict=True)]
        for gradient, delta, reads in zip(found, [*deltas, second[-1].softmax(0) - label], second, strict=False):
            gradient[0] += torch.outer(delta, reads) / len(x)
            gradient[1] += delta / len(x)
    return found


def test_updates_are_those_of_the_card():
    model = mlp()
    rule = Pepita(model, optimizer=sgd)
    x, y = batch()
    expected = by_hand(copy.deepcopy(model), x, y, feedback_of(rule))
    loss = F.cross_entropy(model(x), y)
    told = rule.step(x, y)
    torch.testing.assert_close(told["loss"], loss.detach())
    for layer, (of_weight, of_bias) in zip(model[::2], expected, strict=True):
        torch.testing.assert_close(layer.weight.grad, of_weight)
        torch.testing.assert_close(layer.bias.grad, of_bias)


def test_feedback_is_small_and_fills_its_range():
    rule = Pepita(nn.Sequential(linear(600, 4, 0), nn.ReLU(), linear(4, 3, 1)))
    rule.step(*batch(600))
    weight = rule.parts["feedback"].weight
    bound = 0.05 * math.sqrt(6 / 600)
    assert weight.shape == (3, 600)
    assert 0.98 * bound < weight.abs().max() <= bound
    torch.testing.assert_close(weight.var(), torch.tensor(bound**2 / 3).double(), rtol=0.1, atol=0)


@pytest.mark.parametrize(("block", "kernel"), [(("group", 1), "blocks"), ((1, 1), "synapses"), ((1, 1), "masked")])
def test_sparse_layers_learn_as_masked_ones(block, kernel):
    pattern, layers = Ensembles(n_groups=2, p_inter=0.3, block=block), []
    for i, (n_in, n_out) in enumerate([(6, 8), (8, 8)]):
        wiring = pattern.wire(n_in, n_out, generator=stream(0, "wiring", i))
        layers.append(SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights", i), dtype=torch.float64))
    mine = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.ReLU(), linear(8, 3, "readout"))
    its = nn.Sequential(linear(6, 8, 0), nn.Tanh(), linear(8, 8, 1), nn.ReLU(), copy.deepcopy(mine[4]))
    for layer, twin in zip(layers, its[:4:2], strict=True):
        twin.weight.data, twin.bias.data = layer.dense_weight().detach(), layer.bias.detach().clone()
    rule = Pepita(mine, optimizer=sgd)
    x, y = batch()
    expected = by_hand(its, x, y, feedback_of(rule))
    rule.step(x, y)
    for layer, (of_weight, _) in zip(layers, expected, strict=False):
        mask = layer.wiring.mask()
        assert not layer.dense_weight()[~mask].any()
        gradient = copy.deepcopy(layer)
        gradient.weight.data = layer.weight.grad
        torch.testing.assert_close(gradient.dense_weight(), of_weight * mask)


def test_convolutions_average_over_places():
    generator = stream(0)
    wiring = filters(Ensembles(n_groups=2, block=(1, 1)).wire(2, 4, generator=generator), (3, 3))
    for layer in (
        nn.Conv2d(2, 4, 3, stride=2, dtype=torch.float64),
        SparseConv2d(wiring, 2, 3, stride=2, generator=generator).double(),
    ):
        model = nn.Sequential(layer, nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), linear(4, 3, 0))
        rule = Pepita(model, optimizer=sgd)
        x, y = batch(2, 7, 7)
        reference = copy.deepcopy(model)
        rule.step(x, y)
        with torch.no_grad():
            error = reference(x).softmax(1) - F.one_hot(y, 3)
            changed = x + (error @ rule.parts["feedback"].weight).view_as(x)
            delta = torch.relu(reference[0](x)) - torch.relu(reference[0](changed))
            expected = torch.zeros(4, 2, 3, 3).double()
            for row in range(3):
                for column in range(3):
                    patch = changed[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                    expected += torch.einsum("bo,bihw->oihw", delta[:, :, row, column], patch) / (9 * len(x))
        if isinstance(layer, SparseConv2d):
            expected = expected * wiring.mask().view_as(expected)
            gradient = copy.deepcopy(layer)
            gradient.synapses.weight.data = layer.synapses.weight.grad
            torch.testing.assert_close(gradient.dense_weight(), expected)
        else:
            torch.testing.assert_close(layer.weight.grad, expected)
        bias = layer.synapses.bias if isinstance(layer, SparseConv2d) else layer.bias
        torch.testing.assert_close(bias.grad, delta.mean((0, 2, 3)))


def test_dropout_is_the_same_in_both_passes_and_new_at_each_step():
    model = nn.Sequential(linear(6, 40, 0), nn.Tanh(), nn.Dropout(0.5), linear(40, 3, 1))
    silent = []
    model[2].register_forward_hook(lambda module, reads, out: silent.append(out == 0))
    rule = Pepita(model, optimizer=sgd)
    for _ in range(2):
        rule.step(*batch())
    assert 0.3 < silent[0].float().mean() < 0.7
    assert torch.equal(silent[0], silent[1])
    assert torch.equal(silent[2], silent[3])
    assert not torch.equal(silent[0], silent[2])


def test_a_step_is_two_forward_passes_that_keep_no_graph_behind_a_layer():
    model, seen = mlp(), []
    for i in (0, 2, 4):
        model[i].register_forward_hook(
            lambda module, reads, out: seen.append((reads[0].requires_grad, out.requires_grad))
        )
    Pepita(model, optimizer=sgd).step(*batch())
    assert seen == [(False, False)] * 3 + [(False, True)] * 3


def test_later_weights_reach_earlier_ones_by_the_error_alone():
    model = mlp()
    rule, x, y = Pepita(model, optimizer=sgd), *batch()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
    rule.step(x, torch.zeros_like(y))  # no error: both passes are alike
    assert model[0].weight.grad.abs().max() < 1e-15
    assert model[2].weight.grad.abs().max() < 1e-15


def test_normalization_stays_as_it_is():
    model = nn.Sequential(linear(6, 5, 0), nn.BatchNorm1d(5).double(), nn.ReLU(), linear(5, 3, 1))
    rule = Pepita(model, optimizer=sgd)
    before = copy.deepcopy(model)
    rule.step(*batch())
    assert torch.equal(model[1].weight, before[1].weight)
    assert not torch.equal(model[0].weight, before[0].weight)


def test_state_goes_on_bit_for_bit():
    rules = [Pepita(mlp(), generator=stream(seed)) for seed in (0, 1)]
    for _ in range(3):
        rules[0].step(*batch())
    rules[1].model.load_state_dict(rules[0].model.state_dict())
    rules[1].load_state_dict(copy.deepcopy(rules[0].state_dict()))
    for rule in rules:
        rule.step(*batch())
    first, second = (rule.model.state_dict() for rule in rules)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="feedback_scale must be above 0, got 0"):
        Pepita(mlp(), feedback_scale=0)
    with pytest.raises(ValueError, match="Pepita: the model must have a hidden layer"):
        Pepita(nn.Sequential(nn.Linear(4, 3)))
    with pytest.raises(ValueError, match="labels must be in 0 … 2"):
        Pepita(mlp()).step(batch()[0], torch.full((7,), 3))
