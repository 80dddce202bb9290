"""Blocks that learn, each for itself, to find a label again that noise has hidden."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil.connect import Ensembles, SparseLinear
from neuropil.initialize import reset_
from neuropil.learn import NoiseSchedule, NoProp
from neuropil.randomness import stream
from neuropil.rewire import Magnitude, Random, Rewirer, Schedule


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.1)


def net():
    layers = []
    for i, (n_in, n_out) in enumerate([(6, 5), (5, 3)]):
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float64)
        reset_(layer, generator=stream(0, "weights", i))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batch(n=7):
    generator = stream(0, "batch")
    return torch.randn(n, 6, dtype=torch.float64, generator=generator), torch.randint(3, (n,), generator=generator)


@pytest.mark.parametrize("n_steps", [1, 3, 10])
def test_transitions_are_the_gaussian_posterior(n_steps):
    schedule, label, last = NoiseSchedule(n_steps), 0.7, -0.4
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    for t in range(1, n_steps + 1):
        before, now = schedule.kept[t - 1], schedule.kept[t]
        alpha = before / now
        log = -((z - math.sqrt(now) * label) ** 2) / (2 * (1 - now))  # of z_t, given the label
        log = log - (last - math.sqrt(alpha) * z) ** 2 / (2 * (1 - alpha))  # of z_{t-1}, given z_t
        density = (log - log.max()).exp()
        density /= density.sum()
        mean = (density * z).sum()
        a, b, c = schedule.posterior(t)
        assert a * label + b * last == pytest.approx(float(mean), abs=1e-9)
        assert c == pytest.approx(float((density * (z - mean) ** 2).sum()), abs=1e-9)


def test_transitions_lead_from_one_marginal_to_the_next():
    schedule = NoiseSchedule(10)
    assert schedule.kept[0] == 0.001
    assert schedule.kept[10] == 0.999
    for t in range(1, 11):
        before, now = schedule.kept[t - 1], schedule.kept[t]
        a, b, c = schedule.posterior(t)
        assert a + b * math.sqrt(before) == pytest.approx(math.sqrt(now))
        assert b**2 * (1 - before) + c == pytest.approx(1 - now)
    assert sum(map(schedule.gain, range(1, 11))) == pytest.approx(999 - 1 / 999)


@pytest.mark.parametrize("embedding", [None, 4])
def test_updates_are_those_of_the_card(embedding):
    rule = NoProp(net(), optimizer=sgd, blocks=3, width=4, embedding=embedding, eta=0.2)
    x, y = batch()
    twin, generator = copy.deepcopy(rule.predictor), torch.Generator()
    generator.set_state(rule.generator.get_state())
    kept, d = [0.001, 0.25, 0.75, 0.999], embedding or 3
    label, loss = twin.embedding[y], 0.0
    for t in (1, 2, 3):
        noise = torch.randn(7, d, generator=generator, dtype=torch.float64)
        z = kept[t - 1] ** 0.5 * label + (1 - kept[t - 1]) ** 0.5 * noise
        block = twin.blocks[t - 1]
        path = block.label(z)
        logits = block.head(torch.cat([block.image(x), path + block.skipped(path)], 1))
        guess = sum(logits.softmax(1)[:, [k]] * twin.embedding[k] for k in range(3))
        growth = kept[t] / (1 - kept[t]) - kept[t - 1] / (1 - kept[t - 1])
        loss = loss + 0.2 / 2 * growth * ((guess - label) ** 2).sum() / 7
    noise = torch.randn(7, d, generator=generator, dtype=torch.float64)
    loss = loss + F.cross_entropy(twin.classifier(0.999**0.5 * label + 0.001**0.5 * noise), y)
    if embedding:
        start = torch.distributions.Normal(0.001**0.5 * label, 0.999**0.5)
        loss = loss + torch.distributions.kl_divergence(start, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    loss.backward()
    told = rule.step(x, y)
    torch.testing.assert_close(told["loss"], loss.detach())
    for mine, its in zip(rule.predictor.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad)
    assert len(list(rule.predictor.parameters())) == sum(len(group["params"]) for group in rule.optimizer.param_groups)


def test_a_block_learns_from_no_other_block():
    grads = []
    for factor in (1, -3):
        rule = NoProp(net(), optimizer=sgd, blocks=3, width=4)
        with torch.no_grad():
            for i in (0, 2):
                for parameter in rule.predictor.blocks[i].parameters():
                    parameter.mul_(factor)
        rule.step(*batch())
        grads.append([[p.grad for p in rule.predictor.blocks[i].parameters()] for i in (0, 1)])
    assert all(map(torch.equal, grads[0][1], grads[1][1]))
    assert not all(map(torch.equal, grads[0][0], grads[1][0]))


def test_answers_are_made_by_all_blocks_from_noise():
    x, _ = batch()
    network = NoProp(net(), blocks=2, width=4, n_noises=2, noise_seed=5).predictor.eval()
    generator, found = stream(0), []
    generator.manual_seed(5)
    for _ in range(2):
        z = torch.randn(7, 3, generator=generator, dtype=torch.float64)
        for t, block in enumerate(network.blocks, start=1):
            a, b, c = network.schedule.posterior(t)
            noise = torch.randn(7, 3, generator=generator, dtype=torch.float64)
            z = a * block(x, z).softmax(1) + b * z + c**0.5 * noise
        found.append(network.classifier(z).softmax(1))
    torch.testing.assert_close(network(x).exp(), sum(found) / 2)
    assert torch.equal(network(x), network(x))


def test_first_block_answers_alone():
    rule = NoProp(net(), blocks=3, width=4)
    x, _ = batch()
    rule.predictor.eval()
    assert rule.predictor.along(x).shape == (3, 7, 3)
    assert torch.equal(rule.first_block(x), rule.predictor.along(x)[0])


def test_blocks_have_copies_of_their_own_of_the_hidden_layers():
    model = net()
    rule = NoProp(model, blocks=2, width=4)
    paths = [block.image[0].weight for block in rule.predictor.blocks]
    assert all(torch.equal(weight, model[0].weight) for weight in paths)
    before = copy.deepcopy(model)
    rule.step(*batch())
    assert torch.equal(model[0].weight, before[0].weight)
    assert not torch.equal(paths[0], paths[1])


@pytest.mark.parametrize("block", [("group", 1), (1, 1)])
def test_sparse_paths_stay_sparse_and_can_be_rewired(block):
    wiring = Ensembles(n_groups=2, p_inter=0.3, block=block).wire(6, 8, generator=stream(0))
    layer = SparseLinear(wiring, generator=stream(1), dtype=torch.float64)
    rule = NoProp(nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 3, dtype=torch.float64)), blocks=2, width=4)
    schedule = Schedule(every=1, fraction=0.5)
    rewirer = Rewirer(rule.predictor, rule.optimizer, prune=Magnitude(), grow=Random(), schedule=schedule)
    for _ in range(2):
        rule.step(*batch())
        assert len(rewirer.step()) == 2
    for denoiser in rule.predictor.blocks:
        path = denoiser.image[0]
        assert path.wiring is not wiring
        assert not path.dense_weight()[~path.wiring.mask()].any()


def test_state_goes_on_bit_for_bit():
    rules = [NoProp(net(), blocks=2, width=4, embedding=4, generator=stream(seed)) for seed in (0, 1)]
    for _ in range(3):
        rules[0].step(*batch())
    rules[1].load_state_dict(copy.deepcopy(rules[0].state_dict()))
    for rule in rules:
        rule.step(*batch())
    first, second = (rule.predictor.state_dict() for rule in rules)
    assert "embedding" in first
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"width": 1}, "width must be at least 2, got 1"),
        ({"n_noises": 0}, "n_noises must be at least 1, got 0"),
        ({"embedding": 0}, "embedding must be at least 1 number a label, or None, got 0"),
        ({"eta": 0.0}, "eta must be above 0, got 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=f"NoProp: {message}"):
        NoProp(net(), **settings)


def test_what_cannot_be_trained_is_named():
    with pytest.raises(ValueError, match="NoProp: the model must have a hidden layer"):
        NoProp(nn.Sequential(nn.Linear(4, 3)))
    with pytest.raises(ValueError, match="labels must be in 0 … 2"):
        NoProp(net(), blocks=1, width=4).step(batch()[0], torch.full((7,), 3))
