"""Errors that come back over other weights than the forward ones."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseConv2d, SparseLinear, filters
from neuropil.learn import (
    Backpropagation,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    KolenPollack,
    SignSymmetry,
    stages_of,
)
from neuropil.randomness import stream
from neuropil.rewire import Magnitude, Random, Rewirer, Schedule


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def linear(n_in, n_out, name):
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.normal_(layer.weight, std=0.3, generator=stream(0, "w", name))
    nn.init.normal_(layer.bias, std=0.1, generator=stream(0, "b", name))
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


def batch(n=7):
    generator = stream(0, "batch")
    return torch.randn(n, 6, dtype=torch.float64, generator=generator), torch.randint(3, (n,), generator=generator)


def by_hand(model, x, y, back):
    """The card's update of a tanh network: gradients of weights and biases, layer by layer, from the first."""
    layers = [module for module in model if isinstance(module, nn.Linear)]
    activities = [x]
    for i, layer in enumerate(layers):
        z = activities[-1] @ layer.weight.T + layer.bias
        activities.append(torch.tanh(z) if i < len(layers) - 1 else z)
    error = (activities[-1].softmax(1) - F.one_hot(y, activities[-1].shape[1])) / len(y)
    delta, found = error, []
    for i in reversed(range(len(layers))):
        found.insert(0, (delta.T @ activities[i], delta.sum(0)))
        if i:
            delta = back(i, delta, error) * (1 - activities[i] ** 2)
    return found


BACK = {
    "feedback": lambda rule: lambda i, delta, error: delta @ rule.parts[str(i)].weight,
    "direct": lambda rule: lambda i, delta, error: error @ rule.parts[str(i)].weight,
    "uniform": lambda rule: lambda i, delta, error: delta @ (
        rule.stages[i].layer.weight.sign() * math.sqrt(2 / sum(rule.stages[i].layer.weight.shape))
    ),
    "fixed": lambda rule: lambda i, delta, error: delta @ (
        rule.stages[i].layer.weight.sign() * rule.parts[str(i)].weight.abs()
    ),
    "transpose": lambda rule: lambda i, delta, error: delta @ rule.stages[i].layer.weight,
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "back"),
    [
        (FeedbackAlignment, "feedback"),
        (DirectFeedbackAlignment, "direct"),
        (SignSymmetry, "uniform"),
        (lambda model, **settings: SignSymmetry(model, "fixed", **settings), "fixed"),
        (Backpropagation, "transpose"),
    ],
    ids=["feedback", "direct", "uniform", "fixed", "backpropagation"],
)
def test_updates_are_those_of_the_card(make, back):
    model = mlp()
    rule = make(model, optimizer=sgd)
    x, y = batch()
    rule.stages = stages_of(model, who="test")
    if back == "direct":
        rule.step(x, y)  # its weights are drawn when sizes are known
        model.load_state_dict(mlp().state_dict())
    with torch.no_grad():
        expected = by_hand(copy.deepcopy(model), x, y, BACK[back](copy.deepcopy(rule)))
    rule.step(x, y)
    for layer, (of_weight, of_bias) in zip((model[0], model[2], model[4]), expected, strict=True):
        torch.testing.assert_close(layer.weight.grad, of_weight)
        torch.testing.assert_close(layer.bias.grad, of_bias)


def test_kolen_pollack_gives_both_weights_the_same_gradient_and_they_come_to_agree():
    model = mlp()
    rule = KolenPollack(model, optimizer=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.05))
    x, y = batch()
    before = (rule.parts["1"].weight - model[2].weight).norm()
    for _ in range(200):
        rule.step(x, y)
    assert torch.equal(rule.parts["1"].weight.grad, model[2].weight.grad)
    after = (rule.parts["1"].weight - model[2].weight).norm()
    torch.testing.assert_close(after, before * (1 - 0.1 * 0.05) ** 200)


def test_kolen_pollack_wants_a_weight_decay():
    with pytest.raises(ValueError, match="weight decay above 0"):
        KolenPollack(mlp(), optimizer=sgd)


def test_fresh_magnitudes_differ_from_step_to_step_and_are_the_generators():
    grads = []
    for _ in range(2):
        model = mlp()
        rule = SignSymmetry(model, "fresh", optimizer=lambda p: torch.optim.SGD(p, lr=0.0), generator=stream(3))
        for _ in range(2):
            rule.step(*batch())
            grads.append(model[0].weight.grad.clone())
    assert torch.equal(grads[0], grads[2])
    assert not torch.equal(grads[0], grads[1])


def test_weights_turn_towards_the_feedback():
    model = nn.Sequential(linear(6, 32, 0), nn.ReLU(), linear(32, 3, 1)).double()
    rule = FeedbackAlignment(model, generator=stream(1))
    generator = stream(5)
    teacher = torch.randn(6, 3, dtype=torch.float64, generator=generator)

    def angle():
        w, b = model[2].weight.detach().ravel(), rule.parts["1"].weight.ravel()
        return math.degrees(torch.arccos(F.cosine_similarity(w, b, dim=0)))

    before = angle()
    for _ in range(300):
        x = torch.randn(32, 6, dtype=torch.float64, generator=generator)
        rule.step(x, (x @ teacher).argmax(1))
    assert before > 80
    assert angle() < 70


@pytest.mark.parametrize(("block", "kernel"), [(("group", 1), "blocks"), ((1, 1), "synapses"), ((1, 1), "masked")])
def test_sparse_feedback_is_the_masked_one(block, kernel):
    net = sparse(block, kernel)
    rule = FeedbackAlignment(net, optimizer=sgd)
    x, y = batch()
    twin = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), linear(8, 3, "readout")).double()
    for mine, its in ((twin[0], net[1]), (twin[2], net[3])):
        mine.weight.data, mine.bias.data = its.dense_weight().detach(), its.bias.detach().clone()
    feedback = {"1": rule.parts["1"].twin.dense_weight().detach(), "2": rule.parts["2"].weight.detach()}
    with torch.no_grad():
        expected = by_hand(twin, x, y, lambda i, delta, error: delta @ feedback[str(i)])
    mask = net[1].wiring.mask()
    assert not feedback["1"][~net[3].wiring.mask()].any()
    rule.step(x, y)
    dense = SparseLinear(net[1].wiring, kernel=kernel, dtype=torch.float64)
    dense.weight.data = net[1].weight.grad
    torch.testing.assert_close(dense.dense_weight(), expected[0][0] * mask)


def test_dense_feedback_of_a_sparse_layer_reaches_every_source():
    net = sparse()
    rule = FeedbackAlignment(net, along="dense", optimizer=sgd)
    assert rule.parts["1"].weight.shape == (8, 8)
    rule.step(*batch())
    with pytest.raises(ValueError, match="along must be one of wiring, dense"):
        FeedbackAlignment(net, along="axons")


def test_feedback_follows_a_layer_that_is_rewired():
    net = sparse()
    rule = FeedbackAlignment(net, optimizer=sgd)
    rewirer = Rewirer(
        net, rule.optimizer, prune=Magnitude(), grow=Random(), schedule=Schedule(every=1, fraction=0.5), skip=("1",)
    )
    rule.step(*batch())
    (event,) = rewirer.step()
    assert event.came > 0
    rule.step(*batch())
    feedback = rule.parts["1"].twin
    assert feedback.wiring is net[3].wiring
    assert ((feedback.dense_weight() != 0) == net[3].wiring.mask()).all()


def test_convolutions_send_back_as_autograd_does():
    generator = stream(0)
    wiring = filters(Ensembles(n_groups=2, block=(1, 1)).wire(4, 6, generator=generator), (3, 3))
    conv = SparseConv2d(wiring, 4, 3, padding=1, generator=generator)
    for second in (nn.Conv2d(4, 6, 3, stride=2, padding=1), conv):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
        )
        x, y = torch.randn(5, 1, 8, 8, generator=generator), torch.randint(3, (5,), generator=generator)
        model(x)
        rule = SignSymmetry(model, "fixed", optimizer=sgd)
        weight = second.synapses.weight if isinstance(second, SparseConv2d) else second.weight
        with torch.no_grad():  # magnitudes like the layer's own: then it is backpropagation
            rule.parts["1"].weight.copy_(weight)
            rule.parts["2"].weight.copy_(model[6].weight)
        reference = copy.deepcopy(model)
        rule.step(x, y)
        F.cross_entropy(reference(x), y).backward()
        torch.testing.assert_close(model[0].weight.grad, reference[0].weight.grad)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4), nn.Linear(4, 2)), "got '1', a LSTM"),
        (nn.Sequential(nn.Linear(4, 2)), "must have a hidden layer and a read-out, got one layer"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1)), "got '3', a Softmax"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU()), "must end in a linear read-out"),
        (nn.Sequential(nn.ReLU()), "must have layers with weights, got none"),
    ],
    ids=["recurrent", "one", "softmax", "activation", "none"],
)
def test_what_cannot_be_trained_is_named(model, message):
    with pytest.raises(ValueError, match=message):
        FeedbackAlignment(model)


def test_state_goes_on_bit_for_bit():
    x, y = batch()
    first = KolenPollack(mlp())
    for _ in range(3):
        first.step(x, y)
    other = KolenPollack(mlp(), generator=stream(9))
    other.model.load_state_dict(first.model.state_dict())
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    for rule in (first, other):
        rule.step(x, y)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True))
    with pytest.raises(ValueError, match="stored state must be of this rule"):
        other.load_state_dict({"parts.5.weight": torch.ones(1), "n_done": 0, "generator": stream(0).get_state()})
