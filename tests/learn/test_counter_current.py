"""Counter-current learning against a naive twin written from its card."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseConv2d, SparseLinear, filters
from neuropil.learn import CounterCurrent
from neuropil.randomness import stream
from neuropil.rewire import Magnitude, Random, Rewirer, Schedule


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def linear(n_in, n_out, name):
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=False, dtype=torch.float64)
    nn.init.normal_(layer.weight, std=0.4, generator=stream(0, name))
    return layer


def mlp():
    return nn.Sequential(linear(6, 8, 0), nn.ELU(), linear(8, 5, 1), nn.ELU(), linear(5, 3, 2))


def sparse(block):
    layers = []
    for i, (n_in, n_out) in enumerate([(6, 8), (8, 8)]):
        wiring = Ensembles(n_groups=2, p_inter=0.25, block=block).wire(n_in, n_out, generator=stream(0, "wiring", i))
        layers += [SparseLinear(wiring, bias=False, generator=stream(0, i), dtype=torch.float64), nn.ELU()]
    return nn.Sequential(*layers, linear(8, 3, 2))


def conv_net():
    generator = stream(0, "conv")
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ELU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ELU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3),
    ).double()  # fmt: skip
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return net


def batch(n=7, shape=(6,)):
    generator = stream(0, "batch")
    return torch.randn(n, *shape, dtype=torch.float64, generator=generator), torch.arange(n) % 3


def naive_product(weights, feedback, x, y, n_classes=3):
    """Gradients of all weights and of all feedback weights, by one backward pass of the sum of losses."""
    weights = [w.detach().clone().requires_grad_() for w in weights]
    feedback = [b.detach().clone().requires_grad_() for b in feedback]
    a = [x]
    for i, w in enumerate(weights):
        z = a[-1].detach() @ w.T
        a.append(F.elu(z) if i < len(weights) - 1 else z)
    c = [torch.eye(n_classes, dtype=x.dtype)]
    for i in reversed(range(len(weights))):
        z = c[0].detach() @ feedback[i]
        c.insert(0, F.elu(z) if i else z)
    match = F.one_hot(y, n_classes).to(x)
    total = F.cross_entropy(a[-1], y)
    for mine, its in zip(a[:-1], c[:-1], strict=True):
        total = total + 256 * 0.5 * ((mine @ its.T - match) ** 2).mean() / mine.shape[1]
    total.backward()
    return [w.grad for w in weights], [b.grad for b in feedback]


def test_losses_of_products_train_the_two_layers_that_meet():
    rule = CounterCurrent(mlp(), optimizer=sgd, clip_norm=None, generator=stream(1))
    x, y = batch()
    forward, backward = naive_product(
        [s.layer.weight for s in rule.stages], [rule.parts[str(i)].weight for i in range(3)], x, y
    )
    rule.step(x, y)
    for i in range(3):
        torch.testing.assert_close(rule.stages[i].layer.weight.grad, forward[i])
        torch.testing.assert_close(rule.parts[str(i)].weight.grad, backward[i])


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
def test_sparse_networks_learn_on_live_weights_alone(block):
    net = sparse(block)
    rule = CounterCurrent(net, optimizer=sgd, clip_norm=None, generator=stream(1))
    x, y = batch()
    weights = [net[0].dense_weight(), net[2].dense_weight(), net[4].weight]
    forward, backward = naive_product(weights, [rule.parts[str(i)].matrix() for i in range(3)], x, y)
    before = [w.detach().clone() for w in weights], [rule.parts[str(i)].matrix().detach() for i in range(2)]
    rule.step(x, y)
    for i, layer in enumerate((net[0], net[2])):
        mask = layer.wiring.mask()
        torch.testing.assert_close(layer.dense_weight(), before[0][i] - 0.1 * forward[i] * mask)
        torch.testing.assert_close(rule.parts[str(i)].matrix(), before[1][i] - 0.1 * backward[i] * mask)


def test_losses_of_angles_in_a_convolutional_network():
    net = conv_net()
    rule = CounterCurrent(net, optimizer=sgd, clip_norm=None, generator=stream(1))
    assert (rule.similarity, rule.scale, rule.self_similarity) == ("cosine", 1.0, 0.5)
    x, y = batch(shape=(2, 8, 8))
    b = [rule.parts[str(i)].weight.detach().clone().requires_grad_() for i in range(3)]
    w = [net[i].weight.detach().clone().requires_grad_() for i in (0, 3, 7)]
    with torch.no_grad():
        biases = [net[i].bias.clone() for i in (0, 3, 7)]
    a1 = F.max_pool2d(F.elu(F.conv2d(x, w[0], biases[0], padding=1)), 2)
    a2 = F.max_pool2d(F.elu(F.conv2d(a1.detach(), w[1], biases[1], padding=1)), 2).flatten(1)
    c2 = F.elu(torch.eye(3, dtype=x.dtype) @ b[2])
    up = F.interpolate(c2.detach().view(3, 6, 2, 2), scale_factor=2, mode="nearest")
    c1 = F.elu(F.conv2d(up, b[1].transpose(0, 1), padding=1))
    up = F.interpolate(c1.detach(), scale_factor=2, mode="nearest")
    c0 = F.conv2d(up, b[0].transpose(0, 1), padding=1)
    match, total = F.one_hot(y, 3).to(x), 0.0
    for mine, its in ((x, c0), (a1, c1), (a2, c2)):
        mine, its = F.normalize(mine.flatten(1)), F.normalize(its.flatten(1))
        total = (
            total
            + ((mine @ its.T - match) ** 2).mean()
            + 0.5 * (((mine @ mine.T - torch.eye(7)) ** 2).mean() + ((its @ its.T - torch.eye(3)) ** 2).mean())
        )
    total = total + F.cross_entropy(a2.detach() @ w[2].T + biases[2], y)
    total.backward()
    rule.step(x, y)
    for i, at in enumerate((0, 3, 7)):
        torch.testing.assert_close(net[at].weight.grad, w[i].grad)
        torch.testing.assert_close(rule.parts[str(i)].weight.grad, b[i].grad)


def test_certain_samples_are_left_alone():
    x, y = batch()
    grads = []
    for scale in (1.0, 100.0):  # the second network is certain of each of its answers
        rule = CounterCurrent(mlp(), optimizer=sgd, clip_norm=None, filter_target=True, generator=stream(1))
        with torch.no_grad():
            rule.stages[2].layer.weight.mul_(scale)
            y = rule.model(x).argmax(1)
        rule.step(x, y)
        grads.append(rule.stages[0].layer.weight.grad)
    assert grads[0].any()
    assert not grads[1].any()


def test_centralized_gradients_have_no_mean():
    net = sparse((1, 1))
    rule = CounterCurrent(net, optimizer=sgd, clip_norm=None, centralize=True, generator=stream(1))
    rule.step(*batch())
    layer = SparseLinear(net[2].wiring, bias=False, dtype=torch.float64)
    layer.weight.data = net[2].weight.grad
    gradient = layer.dense_weight().detach()
    assert gradient.any()
    torch.testing.assert_close(gradient.sum(1), torch.zeros(8, dtype=torch.float64))
    torch.testing.assert_close(net[4].weight.grad.sum(1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(rule.parts["2"].weight.grad.sum(0), torch.zeros(8, dtype=torch.float64))


def test_feedback_stays_fixed_where_it_is_the_control():
    rule = CounterCurrent(mlp(), feedback="fixed", generator=stream(1))
    before = [part.weight.clone() for part in rule.parts.values()]
    rule.step(*batch())
    assert all(torch.equal(part.weight, b) for part, b in zip(rule.parts.values(), before, strict=True))
    assert len(rule.optimizer.param_groups) == 1


def test_normalization_does_not_learn_and_groups_are_clipped_apart():
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ELU(), nn.Linear(8, 3)).double()
    rule = CounterCurrent(net, clip_norm=1e-3, generator=stream(1))
    rule.step(*batch())
    assert (net[1].weight == 1).all()
    for group in rule.optimizer.param_groups:
        norm = torch.stack([p.grad.norm() for p in group["params"] if p.grad is not None]).norm()
        assert norm == pytest.approx(1e-3, rel=1e-2)


def test_feedback_follows_a_rewired_wiring():
    net = sparse(("group", 1))
    rule = CounterCurrent(net, generator=stream(1))
    rewirer = Rewirer(net, rule.optimizer, prune=Magnitude(), grow=Random(), schedule=Schedule(every=1, fraction=0.5))
    rule.step(*batch())
    assert sum(event.came for event in rewirer.step()) > 0
    rule.step(*batch())
    assert rule.parts["1"].twin.wiring is net[2].wiring


def test_sparse_convolutions_have_sparse_feedback():
    wiring = filters(Ensembles(n_groups=2, block=(1, 1)).wire(4, 6, generator=stream(0)), (3, 3))
    conv = SparseConv2d(wiring, 4, 3, padding=1, bias=False, generator=stream(1), dtype=torch.float64)
    net = nn.Sequential(conv, nn.ELU(), nn.MaxPool2d(2), nn.Flatten(), linear(24, 3, "readout"))
    rule = CounterCurrent(net, generator=stream(1))
    x, y = batch(shape=(4, 4, 4))
    losses = [float(rule.step(x, y)["local_loss"]) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert not rule.parts["0"].matrix()[~conv.synapses.wiring.mask()].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity": "angle"}, "similarity must be one of product, cosine, got 'angle'"),
        ({"feedback": "none"}, "feedback must be one of learned, fixed"),
        ({"along": "axons"}, "along must be one of wiring, dense"),
        ({"scale": -1.0}, "scale must be at least 0, got -1"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        CounterCurrent(mlp(), **settings)


def test_labels_beyond_the_classes_are_told():
    with pytest.raises(ValueError, match="labels must be in 0 … 2, as many as the model has outputs, got 0 … 5"):
        CounterCurrent(mlp()).step(batch()[0], torch.tensor([0, 5, 1, 2, 0, 1, 2]))
