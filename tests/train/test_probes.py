"""Measures that are recorded while a network trains."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from neuropil import models
from neuropil.connect import Ensembles
from neuropil.measure import emergence, layer_activity
from neuropil.rewire import rigl
from neuropil.train import Probe, Run, fit
from neuropil.train.probes import measure_once
from neuropil.units.encode import RateEncoder


class KilledError(Exception):
    """A run ends here."""


def first_weight(model, images, labels):
    return float(next(iter(model.parameters())).detach().flatten()[0])


def meddles(model, images, labels):
    """What a measure may do: draw numbers, compute gradients, run the model."""
    torch.rand(3, generator=None)
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    assert not any(module.training for module in model.modules())
    return loss


def train(dataset, *, probes=(), run=None, spiking=False, rewired=False, **settings):
    make = models.spiking_ensemble_net if spiking else models.ensemble_net
    net = make((1, 8, 8), 10, hidden=[32], pattern=Ensembles(n_groups=4), **({"steps": 4} if spiking else {}))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    rewirer = rigl(every=2).attach(net, optimizer) if rewired else None
    settings = {"epochs": 3, "batch_size": 32, **settings}
    return net, fit(net, dataset, optimizer, probes=probes, run=run, rewirer=rewirer, **settings)


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("rewired", [False, True])
def test_training_is_the_same_without_them(few_digits, spiking, rewired):
    dataset = few_digits.in_unit_range() if spiking else few_digits
    plain, result = train(dataset, spiking=spiking, rewired=rewired)
    probed, other = train(dataset, spiking=spiking, rewired=rewired, probes=[Probe("meddles", meddles, every=1)])
    for name, value in plain.state_dict().items():
        assert torch.equal(value, probed.state_dict()[name]), name
    assert result.test_loss == other.test_loss
    assert result.probes == []
    assert len(other.probes) > 3


def test_when(few_digits):
    steps = -(-len(few_digits.train) // 32)
    probes = [
        Probe("all", first_weight),
        Probe("some", first_weight, epochs=(0, 2)),
        Probe("steps", first_weight, epochs=(), every=steps - 1),
    ]
    _, result = train(few_digits, probes=probes)
    when = {probe.name: [] for probe in probes}
    for record in result.probes:
        when[record["probe"]].append((record["epoch"], record.get("step")))
    assert when["all"] == [(0, None), (1, None), (2, None), (3, None)]
    assert when["some"] == [(0, None), (2, None)]
    assert when["steps"] == [(1 + (step - 1) // steps, step) for step in range(steps - 1, 3 * steps + 1, steps - 1)]
    values = [record["value"] for record in result.probes if record["probe"] == "all"]
    assert len({*values}) == 4  # the network changed in between


def test_the_same_batch_each_time(few_digits):
    seen = []
    probe = Probe("batch", lambda model, images, labels: seen.append((images, labels)), n_samples=7)
    train(few_digits, probes=[probe])
    assert len(seen) == 4
    for images, labels in seen:
        assert torch.equal(images, few_digits.normalize(few_digits.train.images[:7]))
        assert torch.equal(labels, few_digits.train.labels[:7])


def test_a_model_that_draws_does_so_alike(few_digits):
    def spikes(model, images, labels):
        return float(model.encoder(images.flatten(1)).sum())

    _, result = train(few_digits.in_unit_range(), spiking=True, probes=[Probe("spikes", spikes)])
    assert len({record["value"] for record in result.probes}) == 1


@pytest.mark.parametrize("killed_in", [1, 2, 3])
def test_a_run_that_was_killed_has_the_same_records(killed_in, few_digits, tmp_path):
    """Once each, whatever was written when it was killed: here, before the checkpoint of an epoch."""
    probe = Probe("weight", first_weight, every=3)
    _, expected = train(few_digits, probes=[probe])
    run = Run(tmp_path / "run", {"seed": 0})
    save = run.save

    def save_or_die(epoch, *rest):
        if epoch == killed_in:
            raise KilledError
        save(epoch, *rest)

    run.save = save_or_die
    with pytest.raises(KilledError):
        train(few_digits, probes=[probe], run=run)
    again = Run(tmp_path / "run", {"seed": 0})
    _, result = train(few_digits, probes=[probe], run=again)
    assert again.probes() == result.probes == expected.probes


def test_seconds_of_an_epoch_are_without_theirs(few_digits, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def slow(model, images, labels):
        clock[0] += 100

    _, result = train(few_digits, probes=[Probe("slow", slow, every=1)])
    assert [record["seconds"] for record in result.history] == [0, 0, 0]


@dataclass
class Pair:
    one: torch.Tensor
    other: dict


def test_whatever_holds_numbers_can_be_recorded(few_digits):
    values = {
        "number": (3, 3),
        "tensor": (torch.tensor([1.0, float("nan")]), [1.0, None]),
        "array": (np.float32(0.5), 0.5),
        "dataclass": (Pair(torch.ones(2, 1), {"a": (1, None)}), {"one": [[1.0], [1.0]], "other": {"a": [1, None]}}),
    }
    probes = [Probe(name, lambda *_, value=value: value, epochs=[0]) for name, (value, _) in values.items()]
    _, result = train(few_digits, probes=probes, epochs=1)
    assert {record["probe"]: record["value"] for record in result.probes} == {
        name: expected for name, (_, expected) in values.items()
    }
    with pytest.raises(TypeError, match="a measure must give numbers, got a object"):
        train(few_digits, probes=[Probe("bad", lambda *_: object())])


def test_what_was_measured_before_it_diverged_is_kept(few_digits, caplog):
    with caplog.at_level(logging.ERROR):
        net = models.ensemble_net((1, 8, 8), 10, hidden=[32])
        optimizer = torch.optim.SGD(net.parameters(), lr=1e20)
        result = fit(net, few_digits, optimizer, epochs=2, batch_size=32, probes=[Probe("loss", meddles, every=1)])
    assert result.status == "diverged"
    assert [record.get("step") for record in result.probes][:3] == [None, 1, 2]


def test_a_measure_that_takes_finite_numbers_only_does_not_end_a_run_that_diverges(few_digits):
    def diverging(model, images, labels):
        return emergence(model, images).log10

    net = models.ensemble_net((1, 8, 8), 10, hidden=[32], pattern=Ensembles(n_groups=4))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e30)
    result = fit(net, few_digits, optimizer, epochs=1, batch_size=32, probes=[Probe("e", diverging, every=1)])
    assert result.status == "diverged"
    values = [record["value"] for record in result.probes]
    assert values[0] is not None
    assert values[-1] is None

    def refuses(model, images, labels):
        raise ValueError("of another kind")

    with pytest.raises(ValueError, match="of another kind"):
        train(few_digits, probes=[Probe("refuses", refuses)])


def test_generators_of_the_model_are_put_back(few_digits):
    own = torch.Generator().manual_seed(0)
    net = nn.Sequential(RateEncoder(2, generator=own), nn.Flatten(2), nn.Linear(64, 10))
    before = own.get_state()
    value = measure_once(
        lambda model, images, _: model(images).sum(), net, few_digits.in_unit_range(), n_samples=3, seed=0
    )
    assert value.isfinite()
    assert torch.equal(own.get_state(), before)


def test_activity_as_a_probe(few_digits):
    probe = Probe("activity", lambda model, images, labels: layer_activity(model, images))
    _, result = train(few_digits, probes=[probe])
    assert {"name", "dead", "saturated"} <= result.probes[0]["value"][0].keys()


def test_says_what_is_wrong(few_digits):
    for settings, message in (
        ({"name": ""}, "name must not be empty"),
        ({"every": 0}, "every must be at least 1, or None, got 0"),
        ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
        ({"epochs": [3, -1]}, "epochs must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Probe(**{"name": "x", "measure": first_weight, **settings})
    with pytest.raises(ValueError, match="names of probes must differ, got x, x"):
        train(few_digits, probes=[Probe("x", first_weight), Probe("x", first_weight)])
