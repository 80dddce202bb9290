"""Layers that predict one another."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseConv2d, SparseLinear, filters
from neuropil.data import load
from neuropil.learn import Backpropagation, PredictiveCoding
from neuropil.randomness import stream


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def linear(n_in, n_out, name, seed=0):
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.uniform_(layer.weight, -(n_in**-0.5), n_in**-0.5, generator=stream(seed, "w", name))
    nn.init.uniform_(layer.bias, -(n_in**-0.5), n_in**-0.5, generator=stream(seed, "b", name))
    return layer


def mlp():
    return nn.Sequential(linear(6, 5, 0), nn.Tanh(), linear(5, 4, 1), nn.Tanh(), linear(4, 3, 2)).double()


def sparse(block=("group", 1), kernel="auto"):
    pattern = Ensembles(n_groups=2, p_inter=0.2, block=block)
    layers = [nn.Flatten()]
    for i, (n_in, n_out) in enumerate([(6, 8), (8, 8)]):
        wiring = pattern.wire(n_in, n_out, generator=stream(0, "wiring", i))
        layers += [SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights", i)), nn.Tanh()]
    return nn.Sequential(*layers, linear(8, 3, "readout")).double()


def densified(net):
    """The same network with dense layers, zero where nothing connects."""
    twin = copy.deepcopy(net)
    for i in (1, 3):
        twin[i] = nn.Linear(net[i].in_features, net[i].out_features).double()
        twin[i].weight.data, twin[i].bias.data = net[i].dense_weight().detach(), net[i].bias.detach().clone()
    return twin


def cnn():
    generator = stream(0)
    wiring = filters(Ensembles(n_groups=2, block=(1, 1)).wire(4, 6, generator=generator), (3, 3))
    convolution = SparseConv2d(wiring, 4, 3, padding=1, generator=generator)
    first = nn.utils.skip_init(nn.Conv2d, 1, 4, 3, padding=1, bias=False)
    for parameter in first.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return nn.Sequential(
        first, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), convolution, nn.ReLU(), nn.Flatten(), linear(96, 3, 0)
    )


def batch(shape=(6,), dtype=torch.float64, n=7):
    generator = stream(0, "batch")
    return torch.randn(n, *shape, dtype=dtype, generator=generator), torch.randint(3, (n,), generator=generator)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(mlp, (6,)), (cnn, (1, 8, 8)), (sparse, (6,)), (lambda: sparse((1, 1), "synapses"), (6,))],
    ids=["mlp", "cnn", "groups", "synapses"],
)
def test_fixed_predictions_have_the_gradient_of_backpropagation(make, shape, dtype, tolerance):
    model = make().to(dtype)
    reference = copy.deepcopy(model)
    x, y = batch(shape, dtype)
    told = PredictiveCoding(model, "fixed_prediction", optimizer=sgd).step(x, y)
    loss = F.cross_entropy(reference(x), y)
    loss.backward()
    for mine, its in zip(model.parameters(), reference.parameters(), strict=True):
        assert (mine.grad - its.grad).norm() <= tolerance * its.grad.norm()
    torch.testing.assert_close(told["loss"], loss)


def by_hand(model, x, y, n_steps, rate, output):
    """The card's inference and gradients, of a tanh network, with the slopes written out."""
    layers = [module for module in model if isinstance(module, nn.Linear)]
    W, b = [layer.weight for layer in layers], [layer.bias for layer in layers]
    v = [x]
    for i in range(len(layers) - 1):
        v.append(torch.tanh(v[-1] @ W[i].T + b[i]))

    def errors():
        found = [v[i + 1] - torch.tanh(v[i] @ W[i].T + b[i]) for i in range(len(layers) - 1)]
        logits = v[-1] @ W[-1].T + b[-1]
        return [*found, F.one_hot(y, 3) - (logits.softmax(1) if output == "cross_entropy" else logits)]

    def slopes(i, error):
        """Of tanh, or of the read-out."""
        return error if i == len(layers) - 1 else error * (1 - torch.tanh(v[i] @ W[i].T + b[i]) ** 2)

    for _ in range(n_steps):
        e = errors()
        steps = [-e[i - 1] + slopes(i, e[i]) @ W[i] for i in range(1, len(layers))]
        for i, step in enumerate(steps, start=1):
            v[i] = v[i] + rate * step
    deltas = [slopes(i, error) for i, error in enumerate(errors())]
    return [(-delta.T @ v[i] / len(x), -delta.mean(0)) for i, delta in enumerate(deltas)]


@pytest.mark.parametrize("output", ["cross_entropy", "clamped"])
def test_inference_is_that_of_the_card(output):
    model = mlp()
    x, y = batch()
    with torch.no_grad():
        expected = by_hand(copy.deepcopy(model), x, y, 7, 0.2, output)
    reference = copy.deepcopy(model)
    rule = PredictiveCoding(model, inference_steps=7, inference_rate=0.2, output=output, optimizer=sgd)
    told = rule.step(x, y)
    for layer, (of_weight, of_bias) in zip((model[0], model[2], model[4]), expected, strict=True):
        torch.testing.assert_close(layer.weight.grad, of_weight)
        torch.testing.assert_close(layer.bias.grad, of_bias)
    logits = reference(x)
    loss = (
        F.cross_entropy(logits, y) if output == "cross_entropy" else (logits - F.one_hot(y, 3)).pow(2).sum(1).mean() / 2
    )
    torch.testing.assert_close(told["loss"], loss)


@pytest.mark.parametrize(("block", "kernel"), [(("group", 1), "blocks"), ((1, 1), "synapses"), ((1, 1), "masked")])
def test_sparse_inference_is_the_masked_one(block, kernel):
    net = sparse(block, kernel)
    twin = densified(net)
    x, y = batch()
    PredictiveCoding(net, optimizer=sgd).step(x, y)
    PredictiveCoding(twin, optimizer=sgd).step(x, y)
    for i in (1, 3):
        dense = SparseLinear(net[i].wiring, kernel=kernel, dtype=torch.float64)
        dense.weight.data = net[i].weight.grad
        torch.testing.assert_close(dense.dense_weight(), twin[i].weight.grad * net[i].wiring.mask())
        assert net[i].weight.requires_grad


def test_a_layer_learns_from_its_own_ends_alone():
    x, y = batch()
    seen = []
    model = mlp()
    for layer in (model[0], model[2], model[4]):
        layer.register_forward_hook(lambda _, given, __: seen.append(given[0].grad_fn))
    for mode in ("inference", "fixed_prediction"):
        PredictiveCoding(model, mode, optimizer=sgd).step(x, y)
    assert len(seen) > 6
    assert all(graph is None for graph in seen)


def test_state_goes_on_bit_for_bit():
    x, y = batch()
    first = PredictiveCoding(mlp(), inference_steps=3)
    for _ in range(3):
        first.step(x, y)
    other = PredictiveCoding(mlp(), inference_steps=3)
    other.model.load_state_dict(first.model.state_dict())
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    for rule in (first, other):
        rule.step(x, y)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "strict"}, "mode must be one of inference, fixed_prediction, got 'strict'"),
        ({"output": "mse"}, "output must be one of cross_entropy, clamped, got 'mse'"),
        ({"inference_steps": 0}, "inference_steps must be at least 1 and inference_rate in \\(0, 1\\], got 0 and 0.1"),
        ({"mode": "fixed_prediction", "inference_rate": 0.5}, "must be None for fixed predictions, got None and 0.5"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        PredictiveCoding(mlp(), **settings)


def test_what_changes_from_call_to_call_cannot_settle():
    with pytest.raises(ValueError, match="whenever they are called, got a BatchNorm2d after '0'; try nn.LayerNorm"):
        PredictiveCoding(cnn())


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
                rule = PredictiveCoding(model, inference_steps=5, inference_rate=0.3, optimizer=optimizer)
            for x, y in digits.batches(digits.train, 32, generator=stream(seed, "order")):
                rule.step(x, y)
            images, labels = digits.normalize(digits.test.images), digits.test.labels
            accuracies[name] = (model(images).argmax(1) == labels).float().mean().item()
        assert accuracies["learned"] > max(0.9, accuracies["frozen"] + 0.05), accuracies
