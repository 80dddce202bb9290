"""Rewiring by the names of papers: published settings, and that each of them runs."""

import inspect
from typing import get_args

import pytest
import torch
from torch import nn

from neuropil import rewire
from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear
from neuropil.rewire import (
    CannistraciHebb,
    Contribution,
    Cubic,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    MagnitudeAndGradient,
    Mixture,
    Random,
    Rewind,
    Rewiring,
    Rounds,
    Sampled,
    Schedule,
    SignedMagnitude,
    Stages,
    cht,
    chts,
    drop_grow,
    g2g,
    gmp,
    granet,
    hebbian,
    iterative_magnitude,
    itop,
    lottery_ticket,
    mest,
    one_shot,
    rigl,
    set_,
    srigl,
    static,
)
from neuropil.rewire.pairs import GrowName, PruneName

THREE = Mixture(((Magnitude(), 1.0), (Random(), 1.0), (Hebbian(), 1.0)))

PUBLISHED = {
    "static": (static(), Rewiring(None, None, None)),
    # ζ = 0.3 once an epoch
    "set": (set_(), Rewiring(SignedMagnitude(), Random(), Schedule(per_epoch=1.0, fraction=0.3))),
    # α = 0.3, ΔT = 100, T_end = 75 %, cosine
    "rigl": (rigl(), Rewiring(Magnitude(), Gradient(), Schedule(every=100, fraction=0.3, anneal="cosine", until=0.75))),
    # ΔT = 1000, ζ = 0.1, not annealed
    "g2g": (g2g(), Rewiring(Magnitude(), Hebbian(), Schedule(every=1000, fraction=0.1))),
    "g2g three": (g2g(prune="three"), Rewiring(THREE, Hebbian(), Schedule(every=1000, fraction=0.1))),
    "g2g hebb random": (
        g2g(prune="hebb", grow="random"),
        Rewiring(Hebbian(), Random(), Schedule(every=1000, fraction=0.1)),
    ),
    "g2g random": (g2g(prune="random"), Rewiring(Random(), Hebbian(), Schedule(every=1000, fraction=0.1))),
    "hebbian": (
        hebbian(),
        Rewiring(
            Contribution(centered=True), Hebbian(centered=True, absolute=True), Schedule(every=1000, fraction=0.1)
        ),
    ),
    # α = 0.5 → 0.005 along a cosine, ΔT = 1500 for SET and 4000 for RigL
    "itop": (
        itop(),
        Rewiring(
            SignedMagnitude(), Random(), Schedule(every=1500, fraction=0.5, anneal="cosine", final_fraction=0.005)
        ),
    ),
    "itop gradient": (
        itop(grow="gradient"),
        Rewiring(Magnitude(), Gradient(), Schedule(every=4000, fraction=0.5, anneal="cosine", final_fraction=0.005)),
    ),
    "mest": (
        mest(),
        Rewiring(MagnitudeAndGradient(0.01), Random(), Schedule(every=100, fraction=0.3, anneal="cosine")),
    ),
    # density + 5 % until 0.6 of training, then + 2.5 %
    "mest soft": (
        mest(soft=True),
        Rewiring(
            MagnitudeAndGradient(0.01),
            Random(),
            Schedule(every=100, fraction=0.3, anneal="cosine", density=Stages(((0.6, 0.05), (0.8, 0.025)))),
        ),
    ),
    # ζ = 0.3, stop at an overlap of 0.9
    "cht": (
        cht(),
        Rewiring(
            Magnitude(),
            CannistraciHebb(3),
            Schedule(per_epoch=1.0, fraction=0.3),
            Limits(chain_removal=True, stop_overlap=0.9),
        ),
    ),
    # T = 1 → 3
    "chts": (
        chts(),
        Rewiring(
            Sampled(Magnitude(), (1.0, 3.0)),
            Sampled(CannistraciHebb(3)),
            Schedule(per_epoch=1.0, fraction=0.3),
            Limits(chain_removal=True),
        ),
    ),
    # α = 0.3, ΔT = 100, γ_sal = 0.3
    "srigl": (
        srigl(),
        Rewiring(
            Magnitude(),
            Gradient(),
            Schedule(every=100, fraction=0.3, anneal="cosine", until=0.75),
            Limits(constant_fan_in=True, ablation=0.3),
        ),
    ),
    # every 1000 steps, from 20k to 75k of 97.7k
    "gmp": (gmp(0.1), Rewiring(Magnitude(), None, Schedule(every=1000, fraction=None, density=Cubic(0.1, 0.2, 0.75)))),
    "one_shot": (
        one_shot(0.1),
        Rewiring(Magnitude(), None, Schedule(at=(0.5,), fraction=None, density=Rounds(0.1, 1, "global"))),
    ),
    "iterative_magnitude": (
        iterative_magnitude(0.1, rounds=3),
        Rewiring(Magnitude(), None, Schedule(at=(0.25, 0.5, 0.75), fraction=None, density=Rounds(0.1, 3, "global"))),
    ),
    # the smallest weights of each layer, in rounds, back to the start
    "lottery_ticket": (
        lottery_ticket(0.1, rounds=1, per_epoch=0.5, scope="layer"),
        Rewiring(
            Magnitude(), None, Schedule(per_epoch=0.5, fraction=None, density=Rounds(0.1, 1, "layer")), rewind=Rewind(0)
        ),
    ),
    # rate 0.5, ΔT = 1000, one threshold
    "granet": (
        granet(0.1),
        Rewiring(
            Magnitude(),
            Gradient(),
            Schedule(every=1000, fraction=0.5, anneal="cosine", density=Cubic(0.1, 0.0, 0.7, "global")),
        ),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    made, expected = PUBLISHED[name]
    assert made == expected


RUNS = {
    "static": static(),
    "set": set_(every=3),
    "set within": set_(every=3, within="keep"),
    "set fading": set_(per_epoch=2, anneal="cosine", until=0.8),
    "rigl": rigl(every=3),
    "rigl within": rigl(every=3, within=0.5),
    **{f"g2g {prune} {grow}": g2g(prune=prune, grow=grow, every=3, window=2, centered=True)
       for prune in ("set", "random", "hebb", "three") for grow in ("hebb", "random")},
    "g2g fading": g2g(every=3, anneal="linear", until=0.8, within="keep"),
    "hebbian": hebbian(every=3, window=2, within="keep"),
    "itop": itop(every=4),
    "itop gradient": itop(grow="gradient", per_epoch=2),
    "mest": mest(every=2, coefficient=0.1),
    "mest soft": mest(every=2, soft=True),
    "cht": cht(per_epoch=2, order=2),
    "chts": chts(every=3, temperature=(2.0, 5.0), anneal="linear"),
    "srigl": srigl(every=3),
    "srigl without ablation": srigl(every=3, ablation=None),
    "gmp": gmp(0.1, every=2),
    "gmp per epoch": gmp(0.1, per_epoch=3, start=0.0, until=0.9),
    "granet": granet(0.1, every=2),
    "one_shot": one_shot(0.1),
    "iterative_magnitude": iterative_magnitude(0.1, rounds=3, scope="layer"),
    "lottery_ticket": lottery_ticket(0.1, rounds=3, rewind_to=0.1),
}  # fmt: skip


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
@pytest.mark.parametrize("name", RUNS)
def test_each_runs(tools, name, block):
    rewiring = RUNS[name]
    generator = torch.Generator().manual_seed(0)
    pattern = Ensembles(n_groups=4, p_intra=0.8, p_inter=0.3, block=block, grouping="interleaved", exact=True)
    model = tools.Net([pattern.wire(n, m, generator=generator) for n, m in ((16, 24), (24, 24))])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rewirer = rewiring.attach(model, optimizer, generator=torch.Generator().manual_seed(1))
    rewirer.set_length(epochs=2, steps_per_epoch=10)
    live = [layer.wiring.n_blocks for layer in model.layers]
    for _ in range(20):
        tools.learn(model, optimizer, generator)
        rewirer.step()
    for layer in model.layers:
        tools.assert_sound(layer)
    n_blocks = [layer.wiring.n_blocks for layer in model.layers]
    assert bool(rewirer.history) == (name != "static")
    prunes_alone = rewiring.schedule is not None and rewiring.grow is None
    assert rewiring.keeps_density == (name != "granet" and not prunes_alone)
    if name == "static":
        assert rewirer.history == []
    elif rewiring.keeps_density and not name.startswith("srigl"):
        assert n_blocks == live
    elif name.startswith("srigl"):
        assert all(after <= before for after, before in zip(n_blocks, live, strict=True))
        for layer in model.layers:
            assert len(set(layer.wiring.fan_in().tolist()) - {0}) == 1
    else:
        density = sum(layer.wiring.n_connections for layer in model.layers) / (16 * 24 + 24 * 24)
        assert density == pytest.approx(rewiring.final_density(0.5), abs=0.01)
    if name != "static" and not prunes_alone:
        assert sum(event.came for event in rewirer.history) > 0


@pytest.mark.parametrize(("initial", "final"), [(0.5, 0.1), (0.05, 0.05)])
def test_final_density(initial, final):
    for falling in (gmp(0.1), granet(0.1), one_shot(0.1), iterative_magnitude(0.1), lottery_ticket(0.1)):
        assert falling.final_density(initial) == final
        assert not falling.keeps_density
    assert set_().final_density(initial) == mest(soft=True).final_density(initial) == initial
    assert static().final_density(initial) == initial
    assert static().keeps_density
    assert mest(soft=True).keeps_density


def test_attaching_passes_everything_on(tools):
    generator = torch.Generator().manual_seed(0)
    wirings = [ErdosRenyi(0.5, exact=True).wire(8, 8, generator=generator) for _ in range(2)]
    model = tools.Net(wirings)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = rewire.Rewiring(
        Random(), Random(), Schedule(every=1, fraction=0.5), Limits(frozen={"layers.1": wirings[1]})
    ).attach(model, optimizer, skip=("layers.0",), generator=torch.Generator().manual_seed(1), reduction="sum")
    (event,) = rewirer.step()
    assert (event.layer, event.dropped) == ("layers.1", 0)
    with pytest.raises(ValueError, match="reduction must be mean or sum, got 'max'"):
        set_().attach(model, optimizer, reduction="max")


@pytest.mark.parametrize("make", [set_, rigl, g2g, hebbian, itop, mest, cht, chts, srigl])
def test_intervals_may_be_given_either_way(make):
    assert make(every=7).schedule.every == 7
    assert make(every=7).schedule.per_epoch is None
    assert make(per_epoch=0.5).schedule.per_epoch == 0.5
    assert make(per_epoch=0.5).schedule.every is None
    with pytest.raises(ValueError, match="either every or per_epoch must be given, got every=7 and per_epoch=2"):
        make(every=7, per_epoch=2)
    parameters = inspect.signature(make).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: g2g(prune="magnitude"), "g2g: prune must be one of set, random, hebb, three, got 'magnitude'"),
        (lambda: g2g(grow="gradient"), "g2g: grow must be one of hebb, random, got 'gradient'"),
        (lambda: itop(grow="hebb"), "itop: grow must be random or gradient, got 'hebb'"),
        (lambda: gmp(0.0), r"Cubic: to must be a density in \(0, 1\], got 0"),
        (lambda: granet(2.0), r"Cubic: to must be a density in \(0, 1\], got 2"),
        (lambda: rigl(fraction=1.0), r"fraction must lie in \(0, 1\), got 1"),
        (lambda: set_(within=2.0), "within must be 'keep', a share in"),
        (lambda: cht(order=1), "order must be 2 or 3, got 1"),
        (lambda: chts(temperature=(0.0, 1.0)), "temperature must be two numbers above 0"),
        (lambda: srigl(ablation=2.0), r"ablation must lie in \[0, 1\], got 2"),
        (lambda: mest(coefficient=-1), "coefficient must be at least 0, got -1"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rewiring_learns_more_than_a_static_wiring():
    """Sixteen inputs of which three matter, and few connections: RigL finds them. Three seeds."""
    accuracies = {"static": [], "rigl": []}
    for seed in range(3):
        for name, rewiring in (("static", static()), ("rigl", rigl(every=5))):
            generator = torch.Generator().manual_seed(seed)
            x = torch.randn(600, 64, generator=generator)
            y = (x[:, 5] + x[:, 17] * 0.8 + x[:, 40] * 0.6 > 0).long()
            wiring = ErdosRenyi(0.02, exact=True).wire(64, 24, generator=generator)
            model = nn.Sequential(SparseLinear(wiring, generator=generator), nn.ReLU(), nn.Linear(24, 2))
            with torch.no_grad():
                model[2].weight.copy_(torch.rand(2, 24, generator=generator) - 0.5)
                model[2].bias.zero_()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            rewirer = rewiring.attach(model, optimizer, generator=torch.Generator().manual_seed(seed))
            rewirer.set_length(epochs=1, steps_per_epoch=120)
            for _ in range(120):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[:400]), y[:400]).backward()
                optimizer.step()
                rewirer.step()
            accuracies[name].append(float((model(x[400:]).argmax(1) == y[400:]).float().mean()))
    assert min(accuracies["rigl"]) > 0.9
    assert min(accuracies["rigl"]) > max(accuracies["static"]) + 0.05


@pytest.mark.parametrize("prune", get_args(PruneName))
@pytest.mark.parametrize("grow", get_args(GrowName))
def test_any_pair_of_rules_keeps_the_number_of_connections(prune, grow):
    generator = torch.Generator().manual_seed(0)
    wiring = ErdosRenyi(0.3, exact=True).wire(12, 10, generator=generator)
    model = nn.Sequential(SparseLinear(wiring, generator=generator), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = drop_grow(prune=prune, grow=grow, every=1, fraction=0.4).attach(model, optimizer, generator=generator)
    model(torch.randn(8, 12, generator=generator)).square().sum().backward()
    optimizer.step()
    (event,) = rewirer.step()
    assert event.dropped == int(0.4 * wiring.n_blocks)
    assert event.n_blocks == wiring.n_blocks


def test_unknown_rules_of_a_pair():
    with pytest.raises(ValueError, match="drop_grow: prune must be one of magnitude, .*, got 'ch3'"):
        drop_grow(prune="ch3")
    with pytest.raises(ValueError, match="drop_grow: grow must be one of random, .*, got 'magnitude'"):
        drop_grow(grow="magnitude")
