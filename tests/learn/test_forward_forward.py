"""Layers that answer strongly to images with their own label."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseLinear
from neuropil.initialize import reset_
from neuropil.learn import ForwardForward, LabelledNetwork, PeerNormalization
from neuropil.learn.goodness import goodness
from neuropil.randomness import stream


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.05)


def net(*sizes, seed=0, dtype=torch.float64):
    layers = [nn.Flatten()]
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=dtype)
        reset_(layer, generator=stream(seed, "weights", i))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batch(n=7, n_in=8):
    generator = stream(0, "batch")
    return torch.randn(n, n_in, dtype=torch.float64, generator=generator), torch.randint(3, (n,), generator=generator)


def labelled(x, labels, scale=3.0):
    """Each image with its label over the first three numbers, one at a time."""
    out = x.clone()
    for image, label in zip(out, labels, strict=True):
        image[:3] = 0
        image[int(label)] = scale
    return out


def rms(h):
    return h / (h.pow(2).mean(1, keepdim=True).sqrt() + 1e-8)


def by_hand(model, x, y, wrong, straight_through, peers):
    """The card's losses and gradients of hidden layers, one after the other, and their activities for right labels."""
    h, found = torch.cat([labelled(x, y), labelled(x, wrong)]), []
    for layer, mean in zip([module for module in model if isinstance(module, nn.Linear)][:-1], peers, strict=True):
        reads = rms(h.detach())
        z = reads @ layer.weight.T + layer.bias
        h = z + (z.clamp(min=0) - z).detach() if straight_through else torch.relu(z)
        logits = (h**2).sum(1) - h.shape[1]
        loss = -(F.logsigmoid(logits[: len(x)]).sum() + F.logsigmoid(-logits[len(x) :]).sum()) / (2 * len(x))
        followed = 0.9 * mean + 0.1 * h[: len(x)].mean(0)
        penalty = sum((followed.mean() - unit) ** 2 for unit in followed) / len(followed)
        total = loss + 0.03 * penalty
        found.append((total, *torch.autograd.grad(total, (layer.weight, layer.bias)), followed.detach()))
    return found


@pytest.mark.parametrize("straight_through", [True, False])
def test_updates_are_those_of_the_card(straight_through, monkeypatch):
    model = net(8, 6, 5, 4, 3)
    rule = ForwardForward(model, optimizer=sgd, straight_through=straight_through)
    x, y = batch()
    wrong = (y + 1) % 3
    monkeypatch.setattr(rule, "_wrong_labels", lambda y, logits: wrong)
    peers = [torch.full((n,), 0.5, dtype=torch.float64) for n in (6, 5, 4)]
    for _ in range(2):
        reference, skip = copy.deepcopy(model), copy.deepcopy(rule.parts["skips"]["1"])
        expected = by_hand(reference, x, y, wrong, straight_through, peers)
        h = x.clone()
        h[:, :3] = 3 / 3
        read = []
        for i in (1, 3, 5):
            h = torch.relu(reference[i](rms(h)))
            read.append(rms(h).detach())
        of_readout = F.cross_entropy(reference[7](read[2]) + skip(read[1]), y)
        of_readout.backward()
        told = rule.step(x, y)
        for i, (_, of_weight, of_bias, mean) in enumerate(expected):
            torch.testing.assert_close(model[1 + 2 * i].weight.grad, of_weight)
            torch.testing.assert_close(model[1 + 2 * i].bias.grad, of_bias)
            torch.testing.assert_close(rule.parts[f"peers_{i}"].mean, mean)
        torch.testing.assert_close(model[7].weight.grad, reference[7].weight.grad)
        torch.testing.assert_close(rule.parts["skips"]["1"].weight.grad, skip.weight.grad)
        torch.testing.assert_close(told["loss"], (sum(loss for loss, *_ in expected) + of_readout).detach())
        peers = [mean for *_, mean in expected]


def test_each_layer_reads_no_goodness_of_the_one_before():
    network = LabelledNetwork(net(8, 6, 5, 3))
    weak = network.answer(network.hidden[0], network.normalize(batch()[0]))
    strong = weak * torch.linspace(0.1, 10, len(weak), dtype=torch.float64)[:, None]
    torch.testing.assert_close(network.normalize(strong), network.normalize(weak), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(goodness(network.normalize(strong)), 6 * torch.ones(7).double(), rtol=1e-5, atol=0)
    network.normalization = "l2"
    torch.testing.assert_close(goodness(network.normalize(strong)), torch.ones(7).double(), rtol=1e-5, atol=0)


def test_a_layer_learns_from_nothing_behind_it():
    first, second = (net(8, 6, 5, 4, 3) for _ in range(2))
    with torch.no_grad():
        for i in (3, 5, 7):
            second[i].weight.mul_(-2)
    for model in (first, second):
        ForwardForward(model, optimizer=sgd).step(*batch())
    assert torch.equal(first[1].weight.grad, second[1].weight.grad)
    assert not torch.equal(first[3].weight.grad, second[3].weight.grad)


def test_one_layer_has_a_graph_at_a_time():
    model, alive = net(8, 6, 5, 4, 3), []
    for i in (1, 3, 5):
        model[i].register_forward_hook(lambda module, reads, out: alive.append((reads[0].requires_grad, out.grad_fn)))
    ForwardForward(model, optimizer=sgd).step(*batch())
    neutral, learning = alive[:3], alive[3:]
    assert all(grad_fn is None for _, grad_fn in neutral)
    assert len(learning) == 3
    assert all(grad_fn is not None and not of_input for of_input, grad_fn in learning)


def test_goodness_predicts_the_label_that_layers_answer_to_most():
    model = net(8, 6, 5, 4, 3)
    x, _ = batch()
    predictor = ForwardForward(model, predict="goodness").predictor
    expected = torch.zeros(7, 3, dtype=torch.float64)
    for label in range(3):
        h = labelled(x, torch.full((7,), label))
        for i in (1, 3, 5):
            h = torch.relu(model[i](rms(h)))
            if i > 1:
                expected[:, label] += (h**2).sum(1).detach()
    torch.testing.assert_close(predictor(x), expected)
    only = net(8, 6, 3)
    of_first = ForwardForward(only, predict="goodness").predictor(x)[:, 2]
    torch.testing.assert_close(of_first, (torch.relu(only[1](rms(labelled(x, torch.full((7,), 2))))) ** 2).sum(1))


def test_peer_normalization_is_zero_where_units_are_alike():
    peers = PeerNormalization(4)
    assert peers(torch.ones(5, 4)) == 0
    assert torch.allclose(peers.mean, torch.full((4,), 0.55))
    assert peers(torch.tensor([[0.0, 2.0, 0.0, 2.0]])) > 0


@pytest.mark.parametrize("negatives", ["uniform", "hard"])
def test_wrong_labels_come_as_often_as_they_must(negatives):
    rule = ForwardForward(net(8, 6, 3), negatives=negatives)
    logits = torch.tensor([[4.0, 1.0, 1.0 + torch.log(torch.tensor(3.0))]]).expand(4000, -1)
    wrong = rule._wrong_labels(torch.zeros(4000, dtype=torch.int64), logits)
    share = torch.bincount(wrong, minlength=3) / 4000
    expected = torch.tensor([0, 0.5, 0.5] if negatives == "uniform" else [0, 0.25, 0.75])
    torch.testing.assert_close(share, expected, atol=0.03, rtol=0)
    sure = torch.tensor([[0.0, 1000.0, -1000.0]]).expand(9, -1)
    assert (rule._wrong_labels(torch.ones(9, dtype=torch.int64), sure) != 1).all()


def test_greedy_layers_learn_one_after_the_other():
    model = net(8, 6, 5, 3)
    rule = ForwardForward(model, layer_wise="greedy")
    with pytest.raises(ValueError, match=r"rule.set_length\(epochs"):
        rule.step(*batch())
    rule.set_length(epochs=2, steps_per_epoch=2)
    moved = []
    for _ in range(5):
        before = [model[i].weight.detach().clone() for i in (1, 3, 5)]
        rule.step(*batch())
        moved.append([not torch.equal(model[i].weight, w) for i, w in zip((1, 3, 5), before, strict=True)])
    assert moved == [[True, False, True]] * 2 + [[False, True, True]] * 3


@pytest.mark.parametrize(("block", "kernel"), [(("group", 1), "blocks"), ((1, 1), "synapses"), ((1, 1), "masked")])
def test_sparse_layers_learn_as_masked_ones(block, kernel):
    pattern, layers, dense = Ensembles(n_groups=2, p_inter=0.3, block=block), [], []
    for i, (n_in, n_out) in enumerate([(8, 6), (6, 6)]):
        wiring = pattern.wire(n_in, n_out, generator=stream(0, "wiring", i))
        layer = SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights", i), dtype=torch.float64)
        twin = nn.Linear(n_in, n_out, dtype=torch.float64)
        twin.weight.data, twin.bias.data = layer.dense_weight().detach(), layer.bias.detach().clone()
        layers += [layer, nn.ReLU()]
        dense += [twin, nn.ReLU()]
    readout = net(6, 3)[1]
    mine, its = nn.Sequential(*layers, readout), nn.Sequential(*dense, copy.deepcopy(readout))
    for model in (mine, its):
        ForwardForward(model, optimizer=sgd).step(*batch())
    for layer, twin in zip((mine[0], mine[2]), (its[0], its[2]), strict=True):
        mask = layer.wiring.mask()
        assert not layer.dense_weight()[~mask].any()
        of_weight = copy.deepcopy(layer)
        of_weight.weight.data = layer.weight.grad
        torch.testing.assert_close(of_weight.dense_weight(), twin.weight.grad * mask)


def test_state_goes_on_bit_for_bit():
    x, y = batch()
    rules = [ForwardForward(net(8, 6, 5, 4, 3, seed=seed), negatives="hard", generator=stream(seed)) for seed in (0, 1)]
    for _ in range(3):
        rules[0].step(x, y)
    rules[1].model.load_state_dict(rules[0].model.state_dict())
    rules[1].load_state_dict(copy.deepcopy(rules[0].state_dict()))
    for rule in rules:
        rule.step(x, y)
    first, second = (rule.predictor.state_dict() for rule in rules)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(rules[0].parts["peers_1"].mean, rules[1].parts["peers_1"].mean)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), {}, "got a Conv2d"),
        (nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 4), nn.Linear(4, 3)), {}, "got a BatchNorm1d"),
        (nn.Sequential(nn.Linear(8, 4), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(4, 3)), {}, "an? Unflatten"),
        (net(3, 4, 3), {}, "more inputs than classes, as the label takes one for each, got 3 and 3"),
        (net(8, 4, 1), {}, "at least 2 classes apart, got 1"),
        (net(8, 4, 3), {"negatives": "easy"}, "negatives must be one of uniform, hard, got 'easy'"),
        (net(8, 4, 3), {"layer_wise": "no"}, "layer_wise must be one of together, greedy"),
        (net(8, 4, 3), {"predict": "mean"}, "predict must be one of softmax, goodness"),
        (net(8, 4, 3), {"normalization": "l1"}, "normalization must be one of rms, l2"),
        (net(8, 4, 3), {"label_scale": 0.0}, "label_scale must be above 0, got 0"),
        (net(8, 4, 3), {"peer_normalization": -1.0}, "peer_normalization must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_trained_is_named(model, settings, message):
    with pytest.raises(ValueError, match=message):
        ForwardForward(model, **settings)


def test_labels_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"labels must be in 0 … 2"):
        ForwardForward(net(8, 4, 3)).step(batch()[0], torch.full((7,), 3))
