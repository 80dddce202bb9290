"""Hebbian rules: what hidden layers learn in a step, and when."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseConv2d, SparseLinear
from neuropil.learn import (
    KrotovHopfield,
    Oja,
    ReadoutOnly,
    RectifiedPower,
    Sanger,
    SoftHebb,
    Triangle,
    WinnerTakeAll,
)
from neuropil.randomness import stream
from neuropil.rewire import hebbian, rigl

RATE = 0.05


# Naive twins of ΔW, from the inputs X [m, n_in] and the weights W [n_out, n_in]: loops over samples and neurons


def oja(x, w):
    change = torch.zeros_like(w)
    for one in x:
        for k in range(len(w)):
            y = w[k] @ one
            change[k] += y * (one - y * w[k]) / len(x)
    return change


def sanger(x, w):
    change = torch.zeros_like(w)
    for one in x:
        y = w @ one
        for k in range(len(w)):
            change[k] += y[k] * (one - sum(y[j] * w[j] for j in range(k + 1))) / len(x)
    return change


def winner(x, w, *, nearest):
    won = [[] for _ in w]
    for one in x:
        score = torch.stack([-(one - row).square().sum() if nearest else row @ one for row in w])
        won[score.argmax()].append(one)
    return torch.stack([sum(own) / len(own) - row if own else 0 * row for own, row in zip(won, w, strict=True)])


def krotov_hopfield(x, w, *, p=2.0, k=2, delta=0.4):
    change = torch.zeros_like(w)
    for one in x:
        current = (w.sign() * w.abs() ** (p - 1)) @ one
        order = current.argsort(descending=True)
        g = torch.zeros(len(w), dtype=w.dtype)
        g[order[0]], g[order[k - 1]] = 1, -delta
        change += g[:, None] * (one[None] - current[:, None] * w)
    return change


def soft_hebb(x, w, *, t=1.0):
    change = torch.zeros_like(w)
    for one in x:
        u = w @ one
        y = -torch.exp(t * u) / torch.exp(t * u).sum()
        y[u.argmax()] *= -1
        change += y[:, None] * (one[None] - u[:, None] * w)
    return change


def of_length(change, w, exponent=0.5):
    length = w.square().sum(1, keepdim=True).sqrt()
    return change / change.abs().max() * (length - 1).abs() ** exponent


def over_largest(change, w):
    return change / change.abs().max()


def as_it_is(change, w):
    return change


constant = {"learning_rate": RATE, "anneal": "constant"}
RULES = {
    "oja": (partial(Oja, **constant), oja, as_it_is),
    "sanger": (partial(Sanger, **constant), sanger, as_it_is),
    "nearest": (partial(WinnerTakeAll, **constant), partial(winner, nearest=True), as_it_is),
    "strongest": (
        partial(WinnerTakeAll, wins="strongest", **constant),
        partial(winner, nearest=False),
        as_it_is,
    ),
    "krotov-hopfield": (partial(KrotovHopfield, start="model", **constant), krotov_hopfield, over_largest),
    "krotov-hopfield-3": (
        partial(KrotovHopfield, p=3.0, k=3, delta=0.1, start="model", **constant),
        partial(krotov_hopfield, p=3.0, k=3, delta=0.1),
        over_largest,
    ),
    "soft-hebb": (
        partial(SoftHebb, inverse_temperature=0.7, start="model", **constant),
        partial(soft_hebb, t=0.7),
        of_length,
    ),
}


def linear(n_in, n_out, name=0):
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.normal_(layer.weight, std=0.5, generator=stream(0, "w", name))
    nn.init.normal_(layer.bias, std=0.5, generator=stream(0, "b", name))
    return layer


def conv(*args, **settings):
    layer = nn.utils.skip_init(nn.Conv2d, *args, **settings)
    nn.init.normal_(layer.weight, std=0.5, generator=stream(0, "w"))
    nn.init.normal_(layer.bias, std=0.5, generator=stream(0, "b"))
    return layer


def sparse(block, kernel, n_in=6):
    pattern = Ensembles(n_groups=3, p_inter=0.3, block=block, uneven=True)
    wiring = pattern.wire(n_in, 9, generator=stream(0, "wiring"))
    return SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"))


def sparse_conv(block, kernel):
    wiring = Ensembles(n_groups=2, p_inter=0.3, block=block).wire(4, 6, generator=stream(0, "wiring"))
    return SparseConv2d(wiring, 4, 3, padding=1, stride=2, kernel=kernel, generator=stream(0, "weights"))


LAYERS = {
    "linear": lambda: linear(6, 9),
    "single-masked": lambda: sparse((1, 1), "masked"),
    "single-synapses": lambda: sparse((1, 1), "synapses"),
    "blocks": lambda: sparse(("group", 1), "blocks"),
    "uneven-blocks": lambda: sparse(("group", 1), "blocks", n_in=7),
    "tiles": lambda: sparse((3, 2), "blocks"),
    "conv": lambda: conv(4, 6, 3, padding=1, padding_mode="reflect"),
    "strided": lambda: conv(4, 6, 3, stride=2, dilation=2),
    "sparse-conv-masked": lambda: sparse_conv((1, 1), "masked"),
    "sparse-conv-blocks": lambda: sparse_conv(("group", 1), "blocks"),
}


def synapses_of(layer):
    return layer.synapses if isinstance(layer, SparseConv2d) else layer


def matrix(layer):
    synapses = synapses_of(layer)
    dense = synapses.dense_weight() if isinstance(synapses, SparseLinear) else synapses.weight
    return dense.detach().clone().flatten(1)


def inputs_of(layer, n=5):
    """Inputs of a layer, and their rows: a patch for each place."""
    generator = stream(0, "inputs")
    if isinstance(layer, nn.Linear | SparseLinear):
        x = torch.randn(n, layer.in_features, dtype=torch.float64, generator=generator)
        return x, x
    x = torch.randn(n, 4, 6, 6, dtype=torch.float64, generator=generator)
    padding = layer.padding
    padded = x
    if getattr(layer, "padding_mode", "zeros") == "reflect":
        padded, padding = F.pad(x, (1, 1, 1, 1), mode="reflect"), 0
    patches = F.unfold(padded, layer.kernel_size, layer.dilation, padding, layer.stride)
    return x, patches.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", LAYERS)
def test_step_is_that_of_the_card(kind, rule):
    make, twin, sized = RULES[rule]
    layer = LAYERS[kind]()
    n_out = (
        synapses_of(layer).weight.shape[0] if isinstance(layer, nn.Linear | nn.Conv2d) else layer.wiring.out_features
    )
    x, patches = inputs_of(layer)
    model = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)).double()
    model(x)
    before = matrix(layer)
    live = before != 0
    expected = twin(patches, before) * live
    attached = make(model)
    attached.step(x, torch.tensor([0, 1, 2, 0, 1]))
    after = matrix(layer)
    assert after.shape[0] == n_out
    torch.testing.assert_close(after, before + RATE * sized(expected, before))
    assert (after != before)[live].any()
    assert not after[~live].any()


def test_neurons_of_a_convolution_in_groups_learn_from_those_of_their_group():
    layer = conv(4, 6, 3, groups=2)
    x, _ = inputs_of(layer)
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3)).double()
    model(x)
    before = matrix(layer)
    Sanger(model, **constant).step(x, torch.tensor([0, 1, 2, 0, 1]))
    for group in range(2):
        own = F.unfold(x[:, 2 * group : 2 * group + 2], 3).transpose(1, 2).flatten(0, 1)
        rows = slice(3 * group, 3 * group + 3)
        torch.testing.assert_close(matrix(layer)[rows], before[rows] + RATE * sanger(own, before[rows]))


# What is learnt


def mlp(*widths):
    layers = [layer for i in range(len(widths) - 2) for layer in (linear(widths[i], widths[i + 1], i), nn.Tanh())]
    return nn.Sequential(*layers, linear(widths[-2], widths[-1], "readout")).double()


def learn(rule, draw, n=600):
    for _ in range(n):
        x = draw()
        rule.step(x, torch.zeros(len(x), dtype=torch.int64))


def anisotropic():
    """Draws whose principal components, with variances 9, 4, 1, 0.25, are the columns of a rotation."""
    generator = stream(1)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))
    deviations = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    return (lambda: torch.randn(64, 4, dtype=torch.float64, generator=generator) * deviations @ rotation.T), rotation


def test_oja_comes_to_the_first_principal_component():
    draw, rotation = anisotropic()
    model = mlp(4, 3, 2)
    learn(Oja(model, learning_rate=0.02), draw, 150)
    for row in model[0].weight:
        assert abs(row @ rotation[:, 0]) > 0.99
        assert row.norm().item() == pytest.approx(1, abs=0.03)


def test_sanger_comes_to_the_principal_components_in_order():
    draw, rotation = anisotropic()
    model = mlp(4, 3, 2)
    learn(Sanger(model, learning_rate=0.04), draw, 400)
    found = (model[0].weight @ rotation).abs()
    torch.testing.assert_close(found, torch.eye(3, 4, dtype=found.dtype), atol=0.1, rtol=0)


def clusters():
    centres = 4 * torch.eye(3, 5, dtype=torch.float64) - 2
    generator = stream(2)
    return (
        lambda: (
            centres[torch.randint(3, (64,), generator=generator)]
            + 0.1 * torch.randn(64, 5, dtype=torch.float64, generator=generator)
        )
    ), centres


def test_winners_come_to_the_centroids():
    draw, centres = clusters()
    model = mlp(5, 3, 2)
    with torch.no_grad():
        model[0].weight.copy_(centres[[2, 0, 1]] * 0.5)
    learn(WinnerTakeAll(model, learning_rate=0.2), draw, 40)
    torch.testing.assert_close(model[0].weight, centres[[2, 0, 1]], atol=0.03, rtol=0)


def test_krotov_hopfield_weights_come_to_length_1_in_their_norm():
    draw, _ = clusters()
    model = mlp(5, 3, 2)
    rule = KrotovHopfield(model, p=3.0, delta=0.0, learning_rate=0.1, generator=stream(1))
    start = model[0].weight.detach().clone()
    rule.set_length(epochs=2, steps_per_epoch=150)
    learn(rule, draw, 150)
    learnt = (model[0].weight != start).all(1)
    lengths = torch.stack([weight.detach().abs().pow(3).sum(1)[learnt] for weight in (start, model[0].weight)])
    assert (lengths[0] - 1).abs().max() > 1
    torch.testing.assert_close(lengths[1], torch.ones_like(lengths[1]), atol=0.03, rtol=0)


def test_soft_hebb_weights_come_to_length_1_as_their_learning_ends():
    draw, _ = clusters()
    model = mlp(5, 3, 2)
    rule = SoftHebb(model, learning_rate=0.2, generator=stream(1))
    assert (model[0].weight.norm(dim=1) > 10).all()
    learn(rule, draw, 400)
    torch.testing.assert_close(model[0].weight.norm(dim=1), torch.ones(3, dtype=torch.float64), atol=0.05, rtol=0)


def test_published_starts_count_the_connections_there_are():
    for block, kernel in (((1, 1), "masked"), ((1, 1), "synapses"), (("group", 1), "blocks")):
        wiring = Ensembles(n_groups=4, p_inter=0.1, block=block).wire(200, 200, generator=stream(0))
        layer = SparseLinear(wiring, kernel=kernel)
        SoftHebb(nn.Sequential(layer, nn.ReLU(), nn.Linear(200, 3)), generator=stream(1))
        assert not layer.bias.any()
        assert layer.dense_weight().norm(dim=1).mean().item() == pytest.approx(25, rel=0.05)
        assert not layer.dense_weight()[~wiring.mask()].any()


# Who learns when


def batch(n=8, n_in=6):
    generator = stream(0, "batch")
    return torch.randn(n, n_in, dtype=torch.float64, generator=generator), torch.randint(3, (n,), generator=generator)


def who_learns(rule, layers, n):
    """For each step, the numbers of the layers whose weights change."""
    found = []
    for _ in range(n):
        before = [layer.weight.detach().clone() for layer in layers]
        rule.train()
        rule.step(*batch())
        found.append({i for i, layer in enumerate(layers) if not torch.equal(layer.weight, before[i])})
    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [{0, 1}] * 4 + [{2}] * 4),
        ({"unsupervised": 0.25}, [{0, 1}] * 2 + [{2}] * 6),
        ({"order": "one_by_one"}, [{0}, {0}, {1}, {1}] + [{2}] * 4),
        ({"readout": "throughout"}, [{0, 1, 2}] * 4 + [{2}] * 4),
        ({"readout": "throughout", "unsupervised": 1.0}, [{0, 1, 2}] * 8),
    ],
    ids=["default", "share", "one-by-one", "throughout", "all"],
)
def test_layers_have_their_time(settings, expected):
    model = mlp(6, 5, 4, 3)
    rule = Oja(model, **settings)
    rule.set_length(epochs=2, steps_per_epoch=4)
    assert who_learns(rule, [model[0], model[2], model[4]], 8) == expected


def test_all_learn_always_where_nobody_said_how_long():
    model = mlp(6, 5, 4, 3)
    assert who_learns(Sanger(model, anneal="linear"), [model[0], model[2], model[4]], 3) == [{0, 1, 2}] * 3
    model = mlp(6, 5, 4, 3)
    assert who_learns(ReadoutOnly(model), [model[0], model[2], model[4]], 2) == [{2}] * 2


def test_rates_fall_to_zero():
    model = mlp(6, 5, 3)
    rule = KrotovHopfield(model, learning_rate=0.1, start="model")
    rule.set_length(epochs=1, steps_per_epoch=8)
    largest = []
    for _ in range(4):
        before = model[0].weight.detach().clone()
        rule.step(*batch())
        largest.append((model[0].weight - before).abs().max().item())
    assert largest == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_each_layer_may_have_its_rate_and_temperature():
    model = mlp(6, 5, 4, 3)
    SoftHebb(model, learning_rate=(0.1, 1e-9), inverse_temperature=[1, 0.5], power=0.0, start="model").step(*batch())
    reference = mlp(6, 5, 4, 3)
    assert (model[0].weight - reference[0].weight).abs().max().item() == pytest.approx(0.1)
    assert (model[2].weight - reference[2].weight).abs().max().item() == pytest.approx(1e-9, rel=1e-3)


def test_normalizations_keep_their_statistics_when_hidden_layers_are_done():
    model = nn.Sequential(
        nn.BatchNorm1d(6, affine=False), linear(6, 5), nn.BatchNorm1d(5, affine=False), Triangle(), linear(5, 3)
    ).double()
    rule = SoftHebb(model)
    rule.set_length(epochs=2, steps_per_epoch=1)
    rule.train()
    rule.step(*batch())
    kept = [model[0].running_mean.clone(), model[2].running_mean.clone()]
    assert all(mean.any() for mean in kept)
    rule.train()
    rule.step(*batch())
    assert torch.equal(model[0].running_mean, kept[0])
    assert torch.equal(model[2].running_mean, kept[1])


@pytest.mark.parametrize("rule", [*RULES, "readout"])
def test_layers_learn_by_what_they_see_alone(rule):
    """Neither labels nor the weights of layers behind it reach a hidden layer, and nothing has a graph."""
    weights = []
    for other in (False, True):
        model = mlp(6, 5, 4, 3)
        x, y = batch()
        if other:
            y = (y + 1) % 3
            with torch.no_grad():
                model[2].weight.mul_(-2)
                model[4].weight.zero_()
        attached = ReadoutOnly(model) if rule == "readout" else RULES[rule][0](model)
        result = attached.step(x, y)
        assert model[0].weight.grad is None and model[2].weight.grad is None  # noqa: PT018
        assert not any(value.requires_grad for value in result.values())
        weights.append(model[0].weight.detach())
    assert torch.equal(*weights)


def test_readout_learns_by_the_gradient_of_its_cross_entropy():
    model, (x, y) = mlp(6, 5, 3), batch()
    reference = copy.deepcopy(model)
    result = ReadoutOnly(model, optimizer=partial(torch.optim.SGD, lr=0.1)).step(x, y)
    logits = reference(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    torch.testing.assert_close(model[2].weight, reference[2].weight - 0.1 * reference[2].weight.grad)
    torch.testing.assert_close(result["loss"], loss.detach())
    assert result["accuracy"] == (logits.argmax(1) == y).float().mean()


# Together with the rest


@pytest.mark.parametrize("kernel", ["masked", "synapses"])
@pytest.mark.parametrize("make", [ReadoutOnly, KrotovHopfield, SoftHebb, Sanger])
def test_wirings_change_by_activity_while_layers_learn(make, kernel):
    layer = sparse((1, 1), kernel)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(9, 3)).double()
    rule = make(model)
    rule.set_length(epochs=2, steps_per_epoch=4)
    rewirer = hebbian(every=1, fraction=0.3).attach(model, rule.optimizer, generator=stream(4))
    rewirer.set_length(epochs=2, steps_per_epoch=4)
    for _ in range(8):
        rule.train()
        rule.step(*batch())
        rewirer.step()
        assert not layer.dense_weight()[~layer.wiring.mask()].any()
    assert sum(event.came for event in rewirer.history) > 5
    assert len(rewirer.history) == 7


def test_activity_is_that_of_the_activation_and_gradients_go_against_the_strength():
    layer = sparse(("group", 1), "blocks")
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(9, 3)).double()
    rule = Oja(model)
    rewirer = rigl(every=1).attach(model, rule.optimizer)
    rewirer._recorder.stop()
    rewirer._recorder.start(("pre", "post", "gradient"))
    x, y = batch()
    current = (layer(x) - layer.bias).detach()
    rewirer._recorder.collect()
    activity = model[:2](x).detach()
    rewirer._recorder.collect()
    rule.step(x, y)
    (seen,) = rewirer._recorder.collect().values()
    torch.testing.assert_close(seen.post, activity.float())
    torch.testing.assert_close(seen.gradient, -current.float() / len(x))


def test_state_goes_on_bit_for_bit():
    def make():
        model = nn.Sequential(sparse((1, 1), "synapses"), nn.BatchNorm1d(9), nn.ReLU(), linear(9, 3)).double()
        rule = SoftHebb(model, generator=stream(7))
        rule.set_length(epochs=1, steps_per_epoch=6)
        return rule

    def steps(rule, n):
        for _ in range(n):
            rule.train()
            rule.step(*batch())

    first, other = make(), make()
    for before in (2, 2):  # within the first part of training, and in the second
        steps(first, before)
        other = make()
        other.model.load_state_dict(copy.deepcopy(first.model.state_dict()))
        other.load_state_dict(copy.deepcopy(first.state_dict()))
        continued = copy.deepcopy(first)
        steps(continued, 2)
        steps(other, 2)
        assert all(
            torch.equal(a, b)
            for a, b in zip(continued.model.state_dict().values(), other.model.state_dict().values(), strict=True)
            if isinstance(a, torch.Tensor)
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Oja(mlp(6, 5, 3), learning_rate=0.0), "Oja: learning_rate must be above 0"),
        (lambda: Oja(mlp(6, 5, 3), learning_rate=[0.1, 0.1]), "one for each of the 1, got"),
        (lambda: Sanger(mlp(6, 5, 3), unsupervised=1.0), "Sanger: unsupervised must be above 0 and below 1"),
        (lambda: Sanger(mlp(6, 5, 3), order="last"), "order must be one of together, one_by_one, got 'last'"),
        (lambda: WinnerTakeAll(mlp(6, 5, 3), wins="all"), "wins must be one of nearest, strongest"),
        (lambda: WinnerTakeAll(mlp(6, 5, 3), learning_rate=1.5), "learning_rate must be at most 1, got 1.5"),
        (lambda: KrotovHopfield(mlp(6, 5, 3), k=6), "k from 2 to 5, the neurons of the smallest hidden layer"),
        (lambda: KrotovHopfield(mlp(6, 5, 3), start="zero"), "start must be one of model, published"),
        (lambda: SoftHebb(mlp(6, 5, 3), inverse_temperature=-1.0), "inverse_temperature must be above 0"),
        (lambda: SoftHebb(mlp(6, 5, 3), power=-1.0), "power must be at least 0"),
        (lambda: ReadoutOnly(mlp(6, 3)), "ReadoutOnly: the model must have a hidden layer"),
        (lambda: ReadoutOnly(mlp(6, 5, 2)).step(*batch()), "labels must be in 0 … 1"),
        (lambda: RectifiedPower(0.0), "RectifiedPower: power must be above 0"),
    ],
)
def test_what_is_wrong_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rates_that_are_too_high_show_in_the_loss():
    rule = Oja(nn.Sequential(linear(6, 5), nn.ReLU(), linear(5, 3)), learning_rate=50.0)
    x, y = batch()
    losses = [rule.step(x.float(), y)["loss"] for _ in range(10)]
    assert not torch.isfinite(torch.stack(losses)).all()
