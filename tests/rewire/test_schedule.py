import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear
from neuropil.rewire import Cubic, Magnitude, Random, Rewirer, Schedule, Stages


def run(schedule, *, n_steps, steps_per_epoch=None, density=0.5, prune=None, grow=None):
    """Train a layer of 10 × 20 possible connections without learning; return the rewirer and blocks after each step."""
    generator = torch.Generator().manual_seed(0)
    layer = SparseLinear(ErdosRenyi(density, exact=True).wire(20, 10, generator=generator), generator=generator)
    model = nn.Sequential(layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rewirer = Rewirer(model, optimizer, prune=prune or Magnitude(), grow=grow or Random(), schedule=schedule)
    if steps_per_epoch is not None:
        rewirer.set_length(epochs=n_steps // steps_per_epoch, steps_per_epoch=steps_per_epoch)
    blocks = []
    for _ in range(n_steps):
        rewirer.step()
        blocks.append(layer.wiring.n_blocks)
    return rewirer, blocks


def steps_of(rewirer):
    return [event.step for event in rewirer.history]


# Golden values


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.8), (0.25, 0.8), (0.375, 0.2 + 0.6 * 0.421875), (0.5, 0.275), (0.625, 0.209375), (0.75, 0.2), (1.0, 0.2)],
)
def test_cubic(progress, expected):
    assert Cubic(to=0.2, start=0.25, until=0.75).at(progress, 0.8) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.3), (0.59, 0.3), (0.6, 0.15), (0.79, 0.15), (0.8, 0.1), (1.0, 0.1)]
)
def test_stages(progress, expected):
    assert Stages(((0.6, 0.2), (0.8, 0.05))).at(progress, 0.1) == pytest.approx(expected, abs=1e-12)


def test_stages_never_exceed_a_dense_layer():
    assert Stages(((0.5, 0.4),)).at(0.0, 0.9) == 1.0


def test_no_stage_at_all():
    assert Stages(()).at(0.0, 0.25) == 0.25


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({}, [0.4, 0.4, 0.4, 0.4, 0.4]),
        ({"until": 0.5}, [0.4, 0.4, 0.4, 0.0, 0.0]),
        ({"anneal": "linear"}, [0.4, 0.3, 0.2, 0.1, 0.0]),
        ({"anneal": "linear", "final_fraction": 0.2}, [0.4, 0.35, 0.3, 0.25, 0.2]),
        ({"anneal": "linear", "until": 0.5}, [0.4, 0.2, 0.0, 0.0, 0.0]),
        ({"anneal": "cosine"}, [0.4, 0.2 + 0.1 * math.sqrt(2), 0.2, 0.2 - 0.1 * math.sqrt(2), 0.0]),
        ({"anneal": "cosine", "until": 0.5}, [0.4, 0.2, 0.0, 0.0, 0.0]),
        ({"anneal": "cosine", "final_fraction": 0.1}, [0.4, 0.25 + 0.075 * math.sqrt(2), 0.25,
                                                       0.25 - 0.075 * math.sqrt(2), 0.1]),
    ],
)  # fmt: skip
def test_share_of_an_event(settings, values):
    schedule = Schedule(every=1, fraction=0.4, **settings)
    assert [schedule.fraction_at(t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(values, abs=1e-12)


def test_share_without_replacement_is_zero():
    assert Schedule(every=1, fraction=None, density=Cubic(0.1)).fraction_at(0.5) == 0.0


@pytest.mark.parametrize(
    ("schedule", "needs"),
    [
        (Schedule(every=1), False),
        (Schedule(per_epoch=1), True),
        (Schedule(every=1, until=0.5), True),
        (Schedule(every=1, anneal="cosine"), True),
        (Schedule(every=1, anneal="linear"), True),
        (Schedule(every=1, density=Cubic(0.1)), True),
        (Schedule(every=1, fraction=None, density=Stages(((0.5, 0.1),))), True),
    ],
)
def test_what_needs_the_length_of_training(schedule, needs):
    assert schedule.needs_length is needs
    if needs:
        with pytest.raises(
            ValueError, match=r"how long training is must be known, .* try rewirer\.set_length\(epochs="
        ):
            run(schedule, n_steps=1)
    else:
        assert steps_of(run(schedule, n_steps=3)[0]) == [1, 2, 3]


# Which steps are followed by an event


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"every": 1}, list(range(1, 20))),  # none after the last step: nothing would be learnt any more
        ({"every": 3}, [3, 6, 9, 12, 15, 18]),
        ({"every": 19}, [19]),
        ({"every": 20}, []),
        ({"every": 3, "until": 0.5}, [3, 6, 9]),
        ({"every": 5, "until": 0.5}, [5, 10]),
        ({"every": 5, "until": 0.5, "anneal": "cosine"}, [5]),  # at 10 there is nothing left to replace
        ({"every": 5, "until": 0.5, "anneal": "linear"}, [5]),
        ({"every": 5, "until": 0.5, "anneal": "linear", "final_fraction": 0.05}, [5, 10]),
        ({"per_epoch": 1}, [5, 10, 15]),
        ({"per_epoch": 0.5}, [10]),
        ({"per_epoch": 0.3}, [17]),
        ({"per_epoch": 0.4}, [13]),  # every 12.5 steps
        ({"per_epoch": 2}, [3, 5, 8, 10, 13, 15, 18]),  # every 2.5 steps
        ({"per_epoch": 5}, list(range(1, 20))),
        ({"per_epoch": 50}, list(range(1, 20))),  # no more than one a step
    ],
)
def test_steps_of_events(settings, steps):
    rewirer, blocks = run(Schedule(**settings), n_steps=20, steps_per_epoch=5)
    assert steps_of(rewirer) == steps
    assert blocks == [100] * 20


def test_events_go_on_where_the_length_is_unknown():
    assert steps_of(run(Schedule(every=4), n_steps=20)[0]) == [4, 8, 12, 16, 20]


@pytest.mark.parametrize("per_epoch", [3, 7, 0.1, 0.3, 1 / 3])
@pytest.mark.parametrize("steps_per_epoch", [1, 3, 10, 49])
def test_events_are_as_many_as_asked_for(per_epoch, steps_per_epoch):
    schedule = Schedule(per_epoch=per_epoch)
    n_steps = 60 * steps_per_epoch
    due = [step for step in range(1, n_steps + 1) if schedule.is_due(step, steps_per_epoch)]
    assert len(due) == min(n_steps, math.floor(60 * per_epoch + 1e-6))
    gaps = [b - a for a, b in pairwise(due)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        ({"fraction": 0.29}, [29, 29, 29]),  # as a floating-point number, 0.29 · 100 is a little less than 29
        ({"fraction": 0.5, "anneal": "linear"}, [37, 25, 12]),
        ({"fraction": 0.5, "anneal": "cosine"}, [42, 25, 7]),
        ({"fraction": 0.5, "anneal": "linear", "final_fraction": 0.1}, [40, 30, 20]),
        ({"fraction": 0.004}, [0, 0, 0]),  # not a single block: an event that changes nothing
    ],
)
def test_blocks_dropped_by_each_event(settings, dropped):
    rewirer, blocks = run(Schedule(every=1, **settings), n_steps=4, steps_per_epoch=4)
    assert [event.dropped for event in rewirer.history] == dropped
    assert blocks == [100] * 4


# Densities that change


@pytest.mark.parametrize("fraction", [None, 0.3])
def test_gradual_pruning_follows_the_formula(fraction):
    schedule = Schedule(every=1, fraction=fraction, density=Cubic(to=0.1, start=0.25, until=0.75))
    rewirer, blocks = run(schedule, n_steps=8, steps_per_epoch=8)
    # 0.1 + 0.4 · (1 − (t − 1/4) · 2)³ of 200, t = 1/8 … 1
    expected = [0.1 + 0.4 * left**3 for left in (1, 1, 0.75, 0.5, 0.25, 0, 0, 0)]
    assert blocks == [round(200 * density) for density in expected] == [100, 100, 54, 30, 21, 20, 20, 20]
    assert [event.n_blocks for event in rewirer.history] == blocks[:7]
    assert rewirer.history[-1].density == 0.1


def test_gradual_pruning_leaves_layers_that_are_sparser_alone():
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=0.5))
    assert run(schedule, n_steps=4, steps_per_epoch=4, density=0.3)[1] == [60] * 4


def test_pruning_never_takes_the_last_block():
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=1e-6, until=0.5))
    assert run(schedule, n_steps=4, steps_per_epoch=4, density=0.1)[1][-1] == 1


@pytest.mark.parametrize("fraction", [None, 0.2])
def test_stages_start_at_once_and_end_at_the_first_density(fraction):
    schedule = Schedule(every=2, fraction=fraction, density=Stages(((0.5, 0.2), (0.75, 0.1))))
    rewirer, blocks = run(schedule, n_steps=8, steps_per_epoch=8, density=0.3)
    assert blocks == [100, 100, 100, 80, 80, 60, 60, 60]
    assert steps_of(rewirer) == [1, 2, 4, 6]
    assert rewirer.history[0].came - rewirer.history[0].went == 40


def test_one_threshold_for_all_layers():
    """GraNet: the largest |w| of all layers together stay."""
    generator = torch.Generator().manual_seed(0)
    wirings = [ErdosRenyi(0.8, exact=True).wire(n, m, generator=generator) for n, m in ((20, 10), (10, 15), (15, 4))]
    model = nn.Sequential(*[SparseLinear(wiring, generator=generator) for wiring in wirings])
    with torch.no_grad():
        model[1].weight.mul_(0.7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=0.2, until=0.5, scope="global"))
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=None, schedule=schedule)
    rewirer.set_length(epochs=1, steps_per_epoch=4)
    weights = torch.cat([layer.weight.detach().abs().ravel() for layer in model])
    for density in (0.2 + 0.6 * 0.125, 0.2):
        rewirer.step()
        n = int(density * len(weights) + 0.5)
        threshold = weights.sort(descending=True).values[n - 1]
        for layer, wiring in zip(model, wirings, strict=True):
            assert torch.equal(layer.wiring.mask(), layer.weight.abs() >= threshold)
            assert layer.wiring.n_blocks < wiring.n_blocks
    assert sum(layer.wiring.n_blocks for layer in model) == n


def test_one_threshold_counts_connections_not_blocks():
    generator = torch.Generator().manual_seed(0)
    blocks = ((1, 1), (4, 1), (2, 2))
    model = nn.Sequential(*[
        SparseLinear(ErdosRenyi(1.0, block=block).wire(12, 12, generator=generator), generator=generator)
        for block in blocks
    ])  # fmt: skip
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=0.25, until=0.5, scope="global"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=None, schedule=schedule)
    rewirer.set_length(epochs=1, steps_per_epoch=2)
    rewirer.step()
    total = sum(layer.wiring.n_connections for layer in model)
    assert 0.25 * 3 * 144 - 4 < total <= 0.25 * 3 * 144  # the next block would be one too many


def test_one_threshold_counts_synapses_that_exist():
    """Blocks that reach past a group count for what they connect: before the start nothing goes."""
    generator = torch.Generator().manual_seed(0)
    wiring = Ensembles(n_groups=4, p_inter=0.5, block=("group", "group"), uneven=True).wire(21, 17, generator=generator)
    assert wiring.is_padded
    model = nn.Sequential(SparseLinear(wiring, generator=generator))
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=0.1, start=0.5, until=0.9, scope="global"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=None, schedule=schedule)
    rewirer.set_length(epochs=1, steps_per_epoch=10)
    rewirer.step()
    assert model[0].wiring.n_blocks == wiring.n_blocks


# The wording of errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cubic(0.1, scope="all"), "Cubic: scope must be layer or global, got 'all'"),
        (lambda: Cubic(0.0), r"Cubic: to must be a density in \(0, 1\], got 0"),
        (lambda: Cubic(1.5), r"Cubic: to must be a density in \(0, 1\], got 1\.5"),
        (lambda: Cubic(0.1, start=0.5, until=0.5), "start and until must be shares .* first one smaller, got 0.5 and 0.5"),
        (lambda: Cubic(0.1, start=-0.1), "start and until must be shares of training, .* got -0.1 and 0.75"),
        (lambda: Cubic(0.1, until=1.1), "start and until must be shares of training, .* got 0 and 1.1"),
        (lambda: Stages(((0.8, 0.1), (0.5, 0.1))), r"Stages: stages must be pairs \(until, extra\), until rising"),
        (lambda: Stages(((0.5, -0.1),)), "extra at least 0, got"),
        (lambda: Stages(((0.0, 0.1),)), "until rising within"),
        (lambda: Stages(((0.5, 0.1), (1.5, 0.0))), "until rising within"),
        (lambda: Schedule(), "either every or per_epoch must be given, got every=None and per_epoch=None"),
        (lambda: Schedule(every=1, per_epoch=1), "either every or per_epoch must be given, got every=1 and per_epoch=1"),
        (lambda: Schedule(every=0), "Schedule: every must be a whole number of at least 1 step, got 0"),
        (lambda: Schedule(per_epoch=0.0), "Schedule: per_epoch must be above 0, got 0"),
        (lambda: Schedule(per_epoch=math.inf), "Schedule: per_epoch must be above 0, got inf"),
        (lambda: Schedule(per_epoch=math.nan), "Schedule: per_epoch must be above 0, got nan"),
        (lambda: Schedule(every=1, fraction=0.0), r"Schedule: fraction must lie in \(0, 1\), got 0"),
        (lambda: Schedule(every=1, fraction=1.0), r"Schedule: fraction must lie in \(0, 1\), got 1"),
        (lambda: Schedule(every=1, anneal="step"), "anneal must be one of constant, cosine, linear, got 'step'"),
        (lambda: Schedule(every=1, fraction=0.1, final_fraction=0.2), "between 0 and fraction, got 0.2 and 0.1"),
        (lambda: Schedule(every=1, final_fraction=-0.1), "final_fraction must lie between 0 and fraction, got -0.1"),
        (lambda: Schedule(every=1, until=0.0), r"until must be a share of training in \(0, 1\], got 0"),
        (lambda: Schedule(every=1, until=1.1), r"until must be a share of training in \(0, 1\], got 1\.1"),
        (lambda: Schedule(every=1, fraction=None), "fraction or density must be given, got None for both: nothing"),
    ],
)  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
