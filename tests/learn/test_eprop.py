"""E-prop: traces against autograd, forward in time against reverse, and learning."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil import data
from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear
from neuropil.learn import EProp
from neuropil.models import SpikingSequential, spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.units import LIF, AdaptiveLIF, CurrentLIF, LeakyIntegrator, Recurrent, Triangle
from neuropil.units.encode import CurrentEncoder, RateEncoder

STEPS, BATCH, SIZES = 12, 4, (6, 8, 8, 3)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def decaying(parameters):
    return torch.optim.SGD(parameters, lr=0.1, weight_decay=0.01)


def layer(n_in, n_out, kind, name):
    if kind == "dense":
        made = nn.Linear(n_in, n_out)
        with torch.no_grad():
            made.weight.normal_(std=0.7, generator=stream(0, "w", name))
            made.bias.normal_(std=0.2, generator=stream(0, "b", name))
        return made
    block = ("group", 1) if kind == "blocks" else (1, 1)
    pattern = Ensembles(n_groups=2, p_inter=0.4, block=block)
    kernel = kind if kind == "masked" else "auto"
    made = SparseLinear(pattern.wire(n_in, n_out, generator=stream(0, name)), kernel=kernel, generator=stream(1, name))
    with torch.no_grad():
        made.weight.mul_(2)
    return made


def neurons(kind):
    surrogate = Triangle(width=1.0, area=0.3)
    if kind == "adaptive":
        return AdaptiveLIF(0.8, 0.6, adaptation=0.4, adaptation_decay=0.9, surrogate=surrogate)
    if kind == "adaptive at once":
        numbers = {"adaptation": torch.rand(8, generator=stream(3)), "adaptation_decay": 0.9}
        return AdaptiveLIF(0.8, 0.6, reset="zero", reset_delay=False, surrogate=surrogate, **numbers)
    if kind == "own decays":
        return LIF(torch.rand(8, generator=stream(3)), 0.6, reset_delay=False, surrogate=surrogate)
    return LIF(0.8, 0.6, reset=kind, surrogate=surrogate)


NEURONS = ["subtract", "zero", "adaptive", "adaptive at once", "own decays"]


def model(kind="dense", unit="adaptive", *, recurrent=True, deep=False):
    sizes = SIZES if deep else (SIZES[0], SIZES[1], SIZES[3])
    modules = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes[:-1])):
        unit_here = neurons(unit)
        if recurrent:
            unit_here = Recurrent(unit_here, layer(n_out, n_out, kind, f"among {i}"), detach_transmission=True)
        modules += [layer(n_in, n_out, kind, i), unit_here]
    return SpikingSequential(*modules, layer(sizes[-2], 3, "dense", "readout"), LeakyIntegrator(0.7)).double()


def batch():
    x = (torch.rand(STEPS, BATCH, SIZES[0], generator=stream(7)) < 0.4).double()
    return x, torch.tensor([0, 1, 2, 1])


def gradients(net):
    return {name: parameter.grad for name, parameter in net.named_parameters() if parameter.requires_grad}


def run(net, x, y, **settings):
    rule = EProp(net, generator=stream(5), **settings)
    numbers = rule.step(x, y)
    return rule, numbers, gradients(net)


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["feed-forward", "recurrent"])
@pytest.mark.parametrize("unit", NEURONS)
@pytest.mark.parametrize("kind", ["dense", "blocks", "masked", "synapses"])
def test_gradient_is_that_of_autograd_with_transmission_detached(kind, unit, recurrent, order):
    net = model(kind, unit, recurrent=recurrent)
    reference = copy.deepcopy(net)
    x, y = batch()
    potentials, _ = reference(x)
    loss = F.cross_entropy(potentials.flatten(0, 1), y.repeat(STEPS))
    loss.backward()
    _, numbers, found = run(net, x, y, order=order, optimizer=sgd)
    torch.testing.assert_close(numbers["loss"], loss.detach())
    assert numbers["accuracy"] == (potentials.mean(0).argmax(1) == y).double().mean()
    for name, expected in gradients(reference).items():
        assert expected.abs().max() > 1e-4, name
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("feedback", ["symmetric", "random", "adaptive"])
def test_deep_gradient_is_that_of_autograd_with_layers_detached(feedback, order):
    net = model("blocks", deep=True)
    reference, (x, y) = copy.deepcopy(net), batch()
    rule = EProp(net, feedback, order=order, optimizer=decaying, generator=stream(5))
    weights = {name: part.weight.detach().clone() for name, part in rule.parts.items()}
    assert rule.transports_weights == (feedback == "symmetric")
    assert sorted(weights) == (["0"] if feedback == "symmetric" else ["0", "1"])
    weights.setdefault("1", reference[4].weight.detach().clone())

    objective, reads, kept = torch.zeros(()), x, []
    for i in (0, 2):
        spikes, _ = reference[i + 1](reference[i](reads))
        reads = spikes.detach()
        kept.append(spikes)
    potentials, _ = reference[5](reference[4](reads))
    error = (potentials.softmax(2) - F.one_hot(y, 3)).detach() / (STEPS * BATCH)
    objective = F.cross_entropy(potentials.flatten(0, 1), y.repeat(STEPS))
    of_errors = []
    for i, spikes in enumerate(kept):  # a read-out of its own for each layer, which has the true one's errors
        weight = weights[str(i)].clone().requires_grad_()
        of_errors.append(weight)
        own, _ = LeakyIntegrator(0.7).double()(spikes @ weight.T)
        objective = objective + (own * error).sum()
    objective.backward()
    rule.step(x, y)
    found = gradients(net)
    for name, expected in gradients(reference).items():
        assert expected.abs().max() > 1e-5, name
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-10)
    if feedback == "adaptive":
        for i, weight in enumerate(of_errors):
            torch.testing.assert_close(rule.parts[str(i)].weight.grad, weight.grad, rtol=1e-5, atol=1e-10)


def test_adaptive_feedback_comes_to_agree_with_the_readout():
    net, (x, y) = model(), batch()
    rule = EProp(net, "adaptive", optimizer=decaying, order="reverse", generator=stream(5))
    before = (rule.parts["0"].weight - net[2].weight).norm()
    for _ in range(100):
        rule.step(x, y)
    torch.testing.assert_close((rule.parts["0"].weight - net[2].weight).norm(), before * (1 - 0.001) ** 100)


def test_only_live_weights_learn_and_sparse_is_the_masked_dense_one():
    for order in ("forward", "reverse"):
        net = model("blocks", deep=True)
        dense = copy.deepcopy(net)
        for i in (0, 2):
            twin = nn.Linear(net[i].in_features, net[i].out_features).double()
            twin.weight.data, twin.bias.data = net[i].dense_weight().detach(), net[i].bias.detach().clone()
            dense[i] = twin
        _, _, found = run(net, *batch(), order=order, optimizer=sgd)
        _, _, expected = run(dense, *batch(), order=order, optimizer=sgd)
        stored = SparseLinear(net[0].wiring, dtype=torch.float64)
        stored.weight.data = found["0.weight"]
        torch.testing.assert_close(stored.dense_weight(), expected["0.weight"] * net[0].wiring.mask())
        assert torch.equal(net[0].dense_weight() != 0, net[0].wiring.mask())


def test_uneven_groups_give_nothing_to_what_is_not_there():
    for order in ("forward", "reverse"):
        wiring = Ensembles(n_groups=3, uneven=True, block=("group", 1)).wire(6, 8, generator=stream(0))
        net = SpikingSequential(SparseLinear(wiring, generator=stream(0)), LIF(), nn.Linear(8, 3), LeakyIntegrator())
        nobody = net[0].weight == 0
        assert nobody.any()
        rule = EProp(net, order=order)
        rule.step(batch()[0].float(), batch()[1])
        assert torch.equal(net[0].weight == 0, nobody)


def test_forward_keeps_nothing_for_each_step():
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    counts = []
    for steps in (3, 12):
        net, (x, y) = model(recurrent=True), batch()
        rule = EProp(net, optimizer=sgd)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            rule.step(x[:steps], y)
        counts.append(len(kept))
    assert counts == [0, 0]


def test_a_sparse_readout_learns_along_its_wiring():
    found = []
    for order in ("forward", "reverse"):
        net = model()
        wiring = ErdosRenyi(0.5).wire(8, 3, generator=stream(0))
        net[2] = SparseLinear(wiring, generator=stream(1)).double()
        found.append(run(net, *batch(), order=order, optimizer=sgd)[2])
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-5, atol=1e-10)


def ensembles(readout=False):
    net = spiking_ensemble_net((1, 8, 8), 10, hidden=[64, 64], pattern=Ensembles(n_groups=4, block=("group", 1)),
                               steps=8, encoding="current", scale=2.0, neurons="fixed")  # fmt: skip
    if not readout:
        net.output = LeakyIntegrator(0.9)
    return net


def test_it_takes_the_network_of_ensembles_and_predicts_by_it():
    digits = data.load("digits").in_unit_range()
    net = ensembles()
    rule = EProp(net, order="reverse")
    assert rule.predictor is net
    before = [parameter.detach().clone() for parameter in net.parameters() if parameter.requires_grad]
    rule.step(*next(digits.batches(digits.train, 32)))
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def digits_net(seed):
    torch.manual_seed(seed)
    hidden = SparseLinear(
        Ensembles(n_groups=4, block=("group", 1)).wire(64, 64, generator=stream(seed)), generator=stream(seed, "w")
    )
    front = (nn.Flatten(), CurrentEncoder(6, scale=2.0))
    surrogate = Triangle(width=1.0)
    return nn.Sequential(
        *front, nn.Linear(64, 64), LIF(0.9, surrogate=surrogate), hidden, LIF(0.9, surrogate=surrogate),
        nn.Linear(64, 10), LeakyIntegrator(0.9),
    )  # fmt: skip


def test_digits_are_learned_better_than_by_the_readout_alone():
    digits = data.load("digits").in_unit_range()
    x, y = next(digits.batches(digits.test, len(digits.test)))
    for seed in range(3):
        accuracies = []
        for frozen in (False, True):
            net = digits_net(seed)
            for module in net[2:6] if frozen else ():
                module.requires_grad_(False)
            rule = EProp(net, "random", order="reverse", generator=stream(seed, "rule"))
            order = stream(seed, "order")
            for _ in range(2):
                for batch_x, batch_y in digits.batches(digits.train, 32, generator=order):
                    rule.step(batch_x, batch_y)
            with torch.no_grad():
                accuracies.append(float((rule.predictor(x).argmax(1) == y).float().mean()))
        assert accuracies[0] > 0.8
        assert accuracies[0] > accuracies[1] + 0.03


def test_state_goes_on_bit_for_bit():
    x, y = batch()
    first, other = (EProp(model(), "adaptive", optimizer=decaying, generator=stream(i)) for i in (0, 9))
    for _ in range(3):
        first.step(x, y)
    other.model.load_state_dict(first.model.state_dict())
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    for rule in (first, other):
        rule.step(x, y)
    for a, b in zip((*first.model.parameters(), *first.parts.parameters()),
                    (*other.model.parameters(), *other.parts.parameters()), strict=True):  # fmt: skip
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EProp(model(), "feedback"), "feedback must be one of symmetric, random, adaptive, got 'feedback'"),
        (lambda: EProp(model(), order="backward"), "order must be one of forward, reverse, got 'backward'"),
        (lambda: EProp(model(), "adaptive", optimizer=sgd), "weight decay above 0"),
        (lambda: EProp(ensembles(readout=True)), "must end in a linear layer and a LeakyIntegrator .* got EventLinear"),
        (lambda: EProp(nn.LSTM(3, 3)), "must be an nn.Sequential of an encoder, layers and units, .* got a LSTM"),
        (
            lambda: EProp(nn.Sequential(nn.Linear(4, 3), CurrentLIF(), nn.Linear(3, 2), LeakyIntegrator())),
            "hidden units must be one of LIF, IF, AdaptiveLIF, got a CurrentLIF",
        ),
        (
            lambda: EProp(nn.Sequential(nn.Linear(4, 3), LIF(detach_reset=False), nn.Linear(3, 2), LeakyIntegrator())),
            "no gradient may flow through the reset",
        ),
        (
            lambda: EProp(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), LeakyIntegrator())),
            "hidden units must be one of LIF, IF, AdaptiveLIF, got a ReLU",
        ),
        (lambda: EProp(nn.Sequential(nn.Linear(4, 3), LeakyIntegrator())), "must have hidden layers and a read-out"),
        (
            lambda: EProp(nn.Sequential(nn.Conv1d(1, 1, 1), *model())),
            "before the first spiking layer must be frozen",
        ),
    ],
)
def test_what_cannot_be_trained_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_input_without_time_and_labels_out_of_range_are_named():
    rule = EProp(model())
    with pytest.raises(ValueError, match=r"must read \[t, b, n\], got \[4, 6\]"):
        rule.step(torch.ones(4, 6, dtype=torch.float64), batch()[1])
    with pytest.raises(ValueError, match=r"labels must be in 0 … 2"):
        rule.step(batch()[0], torch.tensor([0, 1, 2, 3]))


def test_a_rate_code_may_come_first():
    net = nn.Sequential(nn.Flatten(), RateEncoder(4), *model("dense", "subtract"))
    numbers = EProp(net).step(torch.rand(BATCH, 1, 2, 3, dtype=torch.float64, generator=stream(0)), batch()[1])
    assert numbers["loss"].isfinite()
