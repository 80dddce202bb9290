"""What once went wrong, each with the smallest network that shows it."""

import copy
import logging
import pickle

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, Wiring, sparsify
from neuropil.connect.change import Change
from neuropil.rewire import (
    Cubic,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    Momentum,
    Random,
    Rewirer,
    Schedule,
    TopKast,
    g2g,
)


def small(*activation, density=0.5, seed=0):
    model = nn.Sequential(nn.Linear(8, 8), *activation, nn.Linear(8, 4))
    return sparsify(model, ErdosRenyi(density, exact=True), generator=torch.Generator().manual_seed(seed))


def attach(model, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"prune": Magnitude(), "grow": Random(), "schedule": Schedule(every=1, fraction=0.3), **settings}
    return optimizer, Rewirer(model, optimizer, **settings)


def train(model, optimizer, rewirer, n_steps=1):
    generator = torch.Generator().manual_seed(1)
    events = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(torch.randn(6, 8, generator=generator)).square().sum().backward()
        optimizer.step()
        events += rewirer.step()
    return events


def test_gradients_are_found_behind_an_in_place_activation():
    wirings = []
    for inplace in (False, True):
        model = small(nn.ReLU(inplace=inplace))
        train(model, *attach(model, grow=Gradient()), n_steps=3)
        wirings.append(model[0].wiring)
    assert wirings[0] == wirings[1]


@pytest.mark.parametrize("kernel", ["masked", "blocks"])
def test_a_layer_can_be_compiled_after_it_was_rewired(kernel):
    wiring = Wiring(8, 8, [0, 1, 1], [0, 1, 2], block=(4, 2))
    layer = SparseLinear(wiring, kernel=kernel)
    layer.rewire(Change.of(wiring, went=[0], came=[1]))
    x = torch.randn(3, 8)
    assert torch.equal(torch.compile(layer, backend="eager")(x), layer(x))


@pytest.mark.parametrize("limits", [{"within": "keep"}, {"within": "keep", "regrow": False}])
def test_pruning_alone_keeps_the_share_within_groups(limits):
    wiring = Ensembles(n_groups=4, p_inter=0.3, exact=True).wire(32, 32, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(SparseLinear(wiring), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = Schedule(every=2, fraction=None, density=Cubic(0.15, until=0.8))
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=None, schedule=schedule, limits=Limits(**limits))
    rewirer.set_length(epochs=1, steps_per_epoch=10)

    def share():
        labels, (targets, sources) = model[0].wiring.out_groups, model[0].wiring.connections()
        return float((labels[targets] == labels[sources]).mean())

    before = share()
    for _ in range(10):
        rewirer.step()
    assert model[0].wiring.n_blocks == round(0.15 * 32 * 32)
    assert share() == pytest.approx(before, abs=0.01)


def test_pruning_alone_keeps_a_constant_fan_in():
    model = small(nn.ReLU(), density=0.9)
    schedule = Schedule(every=2, fraction=None, density=Cubic(0.4, until=0.8))
    optimizer, rewirer = attach(model, grow=None, schedule=schedule, limits=Limits(constant_fan_in=True))
    rewirer.set_length(epochs=1, steps_per_epoch=10)
    train(model, optimizer, rewirer, 10)
    assert model[0].wiring.fan_in().unique().tolist() == [3]  # 0.4 · 8, rounded down


def test_a_constant_fan_in_does_not_fall_to_nothing():
    model = small(nn.ReLU())
    schedule = Schedule(every=2, fraction=0.3, density=Cubic(0.05, until=0.8))
    optimizer, rewirer = attach(model, grow=Gradient(), schedule=schedule, limits=Limits(constant_fan_in=True))
    rewirer.set_length(epochs=1, steps_per_epoch=10)
    train(model, optimizer, rewirer, 10)
    assert model[0].wiring.fan_in().unique().tolist() == [1]


def test_layers_that_share_a_weight_are_refused():
    model = sparsify(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), ErdosRenyi(0.5))
    model[2].weight = model[0].weight
    with pytest.raises(
        ValueError, match="Rewirer: a layer's weight must be its own, got '0', which shares it with '2'"
    ):
        attach(model)


def test_copies_and_pickles_of_a_model_that_is_watched():
    model = small(nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = g2g(every=1).attach(model, optimizer)
    loss = model(torch.ones(3, 8)).sum()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin(torch.zeros(50, 8)).sum().backward()  # nobody writes this down
    loss.backward()
    optimizer.step()
    samples = rewirer._recorder.collect()
    assert {name: tuple(sample.pre.shape) for name, sample in samples.items()} == {"0": (3, 8), "2": (3, 8)}


def test_events_under_autocast_are_computed_in_full():
    wirings = []
    for enabled in (False, True):
        model = small(nn.ReLU())
        _, rewirer = attach(model, grow=Hebbian(), schedule=Schedule(every=1, fraction=0.5))
        model(torch.randn(6, 8, generator=torch.Generator().manual_seed(3))).sum().backward()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            rewirer.step()
        wirings.append(model[0].wiring)
    assert wirings[0] == wirings[1]


def test_an_optimizer_that_factors_is_refused_before_anything_changes():
    model = sparsify(nn.Sequential(nn.Linear(8, 8)), ErdosRenyi(0.5, exact=True))
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=Random(), schedule=Schedule(every=1, fraction=0.3))
    before = model[0].wiring
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    with pytest.raises(
        ValueError, match="an optimizer must keep what is shaped like a weight, or one number, got 'row_var'"
    ):
        rewirer.step()
    assert model[0].wiring is before


def test_a_training_too_short_for_any_event_is_told(caplog):
    model = small(nn.ReLU())
    _, rewirer = attach(model, schedule=Schedule(every=1000))
    with caplog.at_level(logging.WARNING):
        rewirer.set_length(epochs=2, steps_per_epoch=10)
    assert "no rewiring event falls into the 20 steps of this training" in caplog.text


def test_a_state_of_another_kind_is_refused():
    model = small(nn.ReLU(), density=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = TopKast(model, optimizer, density=0.2, backward_density=0.4).state_dict()
    _, rewirer = attach(small(nn.ReLU()), grow=Momentum())
    with pytest.raises(ValueError, match="a stored state must be that of a Rewirer, got one without 'n_samples'"):
        rewirer.load_state_dict(state)


def test_wrong_kinds_of_settings():
    with pytest.raises(TypeError, match="Rewirer: schedule must be a Schedule, got Rewiring"):
        attach(small(nn.ReLU()), schedule=g2g())
    with pytest.raises(TypeError, match="Rewirer: limits must be a Limits, got {'within': 0.5}"):
        attach(small(nn.ReLU()), limits={"within": 0.5})
    with pytest.raises(ValueError, match="Schedule: every must be a whole number of at least 1 step, got 2.5"):
        Schedule(every=2.5)
    with pytest.raises(ValueError, match="Limits: frozen must name layers that are rewired, got 'x'"):
        attach(small(nn.ReLU()), schedule=None, limits=Limits(frozen={"x": torch.ones(8, 8)}))
