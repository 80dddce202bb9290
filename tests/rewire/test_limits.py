"""Limits hold after every event, whatever rules choose."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, Wiring
from neuropil.rewire import (
    CannistraciHebb,
    Cubic,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    Mixture,
    Random,
    Rewirer,
    Rule,
    Sampled,
    Schedule,
    SignedMagnitude,
)

PRUNE = [Magnitude(), SignedMagnitude(), Random(), Hebbian(), Mixture(((Magnitude(), 1), (Random(), 1)))]
GROW = [Random(), Gradient(), Hebbian(), CannistraciHebb(), Mixture(((Random(), 1), (Gradient(), 1))),
        Sampled(CannistraciHebb())]  # fmt: skip
prunes, grows, fractions = st.sampled_from(PRUNE), st.sampled_from(GROW), st.sampled_from([0.1, 0.4, 0.9])


@st.composite
def grouped(draw, *, least=0.1):
    """Wirings whose neurons belong to groups, of all blocks and orders."""
    n_groups = draw(st.integers(1, 4))
    n_in, n_out = (draw(st.integers(n_groups, 14)) for _ in range(2))
    p_intra, p_inter = draw(st.sampled_from([(1.0, least), (0.7, 0.3), (0.2, 0.2), (least, 0.9), (1.0, 1.0)]))
    pattern = Ensembles(
        n_groups=n_groups,
        p_intra=p_intra,
        p_inter=p_inter,
        grouping=draw(st.sampled_from(["index", "interleaved", "random"])),
        block=draw(st.sampled_from([(1, 1), (2, 1), (2, 2), ("group", 1), (1, "group"), ("group", "group")])),
        uneven=True,
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    for _ in range(20):
        try:
            return pattern.wire(n_in, n_out, generator=generator)
        except ValueError:
            continue
    return Ensembles(n_groups=n_groups, p_inter=1.0, uneven=True).wire(n_in, n_out)


def start(tools, wirings, limits, *, prune=None, grow=None, schedule=None, fraction=0.4, n_steps=100, seed=0):
    """A function that takes one step of training and of rewiring, and the network it trains."""
    model = tools.Net(wirings, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rewirer = Rewirer(
        model,
        optimizer,
        prune=prune or Magnitude(),
        grow=grow,
        schedule=schedule or Schedule(every=1, fraction=fraction),
        limits=limits,
        generator=torch.Generator().manual_seed(seed),
    )
    rewirer.set_length(epochs=1, steps_per_epoch=n_steps)
    generator = torch.Generator().manual_seed(seed)

    def step():
        tools.learn(model, optimizer, generator)
        return rewirer.step()

    return step, model


# within


@given(grouped(), prunes, grows, fractions, st.booleans())
def test_within_is_kept(tools, wiring, prune, grow, fraction, regrow):
    step, model = start(
        tools, [wiring], Limits(within="keep", regrow=regrow), prune=prune, grow=grow, fraction=fraction
    )
    inside = tools.within(wiring)
    n_within = len(tools.cells_of(wiring) & inside)
    for _ in range(3):
        before = tools.cells_of(model.layers[0].wiring)
        (event,) = step()
        after = tools.cells_of(model.layers[0].wiring)
        assert event.n_blocks == len(after) == wiring.n_blocks
        assert len(after & inside) == n_within
        assert event.went_within == event.came_within == len((before - after) & inside)
        tools.assert_sound(model.layers[0])


@given(grouped(), prunes, grows, st.floats(0, 1), st.booleans())
def test_a_share_within_is_approached_and_then_kept(tools, wiring, prune, grow, share, regrow):
    inside = tools.within(wiring)
    n_cells = wiring.grid[0] * wiring.grid[1]
    wanted = round(share * wiring.n_blocks)
    limits = Limits(within=share, regrow=regrow)
    if wanted > len(inside) or wiring.n_blocks - wanted > n_cells - len(inside):
        with pytest.raises(
            ValueError, match=r"Limits: within=.* cannot be met by layer 'layers.0': it has \d+ blocks, "
        ):
            start(tools, [wiring], limits, prune=prune, grow=grow)
        return
    step, model = start(tools, [wiring], limits, prune=prune, grow=grow, fraction=0.5)
    missing = [abs(len(tools.cells_of(wiring) & inside) - wanted)]
    for _ in range(12):
        (event,) = step()
        assert event.n_blocks == wiring.n_blocks
        missing.append(abs(len(tools.cells_of(model.layers[0].wiring) & inside) - wanted))
    assert missing == sorted(missing, reverse=True)
    if regrow and wiring.n_blocks > 1:
        assert missing[-1] < max(1, missing[0])


def test_a_share_within_is_met_at_once_where_enough_goes(tools):
    wiring = Ensembles(n_groups=4, p_inter=0.2, exact=True, grouping="random").wire(
        16, 16, generator=torch.Generator().manual_seed(0)
    )
    step, model = start(tools, [wiring], Limits(within=0.25), grow=Random(), prune=Random(), fraction=0.9)
    step()
    after = tools.cells_of(model.layers[0].wiring)
    assert len(after & tools.within(wiring)) == round(0.25 * wiring.n_blocks)


# frozen


@given(grouped(), prunes, grows, fractions, st.integers(0, 99), st.booleans(), st.booleans())
def test_frozen_connections_stay_as_they_are(tools, wiring, prune, grow, fraction, seed, regrow, as_wiring):
    mask = torch.rand(wiring.shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    mask[0, 0] = True
    frozen = Wiring.from_mask(mask) if as_wiring else mask
    limits = Limits(frozen={"layers.0": frozen}, regrow=regrow)
    step, model = start(tools, [wiring], limits, prune=prune, grow=grow, fraction=fraction)
    n_columns = wiring.grid[1]
    barred = {
        row * n_columns + column
        for row in range(wiring.grid[0])
        for column in range(n_columns)
        if any(mask[o, i] for o in tools.members(wiring, row, column)[0]
               for i in tools.members(wiring, row, column)[1])
    }  # fmt: skip
    live = tools.cells_of(wiring)
    for _ in range(3):
        (event,) = step()
        after = tools.cells_of(model.layers[0].wiring)
        assert after & barred == live & barred
        assert event.n_blocks == wiring.n_blocks
        if regrow:
            assert event.dropped == int(fraction * len(live - barred))
    assert torch.equal(model.layers[0].wiring.mask()[mask], wiring.mask()[mask])


@pytest.mark.parametrize("within", [None, "keep"])
def test_everything_may_be_frozen(tools, within):
    wiring = Ensembles(n_groups=2, p_inter=0.3).wire(8, 8, generator=torch.Generator().manual_seed(0))
    schedule = Schedule(every=1, fraction=0.5, density=Cubic(to=0.1, until=0.05))
    limits = Limits(frozen={"layers.0": torch.ones(8, 8)}, within=within)
    for grow in (Random(), Gradient()):
        step, model = start(tools, [wiring], limits, grow=grow, schedule=schedule)
        for _ in range(6):
            (event,) = step()
        assert (event.dropped, event.came, event.n_blocks) == (0, 0, wiring.n_blocks)
        assert model.layers[0].wiring == wiring


def test_frozen_weights_still_learn(tools):
    wiring = ErdosRenyi(0.5, exact=True).wire(8, 8, generator=torch.Generator().manual_seed(0))
    step, model = start(tools, [wiring], Limits(frozen={"layers.0": wiring}), grow=Random())
    before = model.layers[0].dense_weight().detach().clone()
    step()
    assert model.layers[0].wiring == wiring
    assert (model.layers[0].dense_weight() != before).any()


# regrow


@given(grouped(), prunes, grows, fractions)
def test_what_was_dropped_may_be_kept_out(tools, wiring, prune, grow, fraction):
    step, _ = start(tools, [wiring], Limits(regrow=False), prune=prune, grow=grow, fraction=fraction)
    n_dead = wiring.grid[0] * wiring.grid[1] - wiring.n_blocks
    for _ in range(3):
        (event,) = step()
        assert event.dropped == event.went == event.came == min(int(fraction * wiring.n_blocks), n_dead)
        assert event.n_blocks == wiring.n_blocks


@pytest.mark.parametrize("within", [None, "keep"])
def test_gradual_pruning_needs_no_place_to_regrow(tools, within):
    """A dense layer has no dead cells; what is to go for good goes all the same."""
    wiring = Ensembles(n_groups=2, p_inter=1.0).wire(8, 8)
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=0.25, until=0.04))
    step, model = start(tools, [wiring], Limits(regrow=False, within=within), schedule=schedule)
    for _ in range(5):
        step()
    assert model.layers[0].wiring.n_blocks == 16


LIMITS = [{"within": "keep"}, {"regrow": False}, {"within": 0.5}, {"within": "keep", "regrow": False}, {}]


@given(grouped(), st.sampled_from([None, 0.1, 0.4]), st.sampled_from(LIMITS))
def test_gradual_pruning_comes_to_its_count(tools, wiring, fraction, limits):
    """Also where groups share out what goes, and whether or not something comes."""
    n_cells = wiring.grid[0] * wiring.grid[1]
    schedule = Schedule(every=1, fraction=fraction, density=Cubic(to=0.5 * wiring.n_blocks / n_cells, until=0.04))
    try:
        step, model = start(
            tools, [wiring], Limits(**limits), grow=None if fraction is None else Random(), schedule=schedule
        )
    except ValueError as error:
        assert "within=0.5 cannot be met" in str(error)
        return
    for k in range(1, 6):
        step()
        wanted = schedule.density.at(k / 100, wiring.n_blocks / n_cells) * n_cells
        assert model.layers[0].wiring.n_blocks == max(1, round(wanted))


# constant_fan_in


@given(grouped(), prunes, grows, fractions, st.booleans())
def test_constant_fan_in(tools, wiring, prune, grow, fraction, regrow):
    n_rows = wiring.grid[0]
    fan_in = wiring.n_blocks // n_rows
    limits = Limits(constant_fan_in=True, regrow=regrow)
    if fan_in < 1:
        with pytest.raises(ValueError, match=r"constant_fan_in cannot be met by layer 'layers.0': it has \d+ blocks for "
                                             rf"{n_rows} rows; try a higher density"):  # fmt: skip
            start(tools, [wiring], limits, prune=prune, grow=grow)
        return
    step, model = start(tools, [wiring], limits, prune=prune, grow=grow, fraction=fraction)
    for _ in range(3):
        (event,) = step()
        assert np.diff(model.layers[0].wiring.indptr).tolist() == [fan_in] * n_rows
        assert event.n_blocks == fan_in * n_rows
        tools.assert_sound(model.layers[0])


@pytest.mark.parametrize("density", [0.25, 0.75])
def test_constant_fan_in_without_what_was_dropped(tools, density):
    """Rows with few dead cells must not drop more than may come."""
    wiring = ErdosRenyi(density, exact=True).wire(8, 10, generator=torch.Generator().manual_seed(0))
    step, model = start(tools, [wiring], Limits(constant_fan_in=True, regrow=False), grow=Random())
    for _ in range(3):
        (event,) = step()
        assert np.diff(model.layers[0].wiring.indptr).tolist() == [wiring.n_blocks // 10] * 10
    assert event.went > 0


@given(grouped(), fractions, st.integers(0, 99))
def test_constant_fan_in_with_frozen_connections(tools, wiring, fraction, seed):
    mask = torch.rand(wiring.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
    limits = Limits(constant_fan_in=True, frozen={"layers.0": mask})
    try:
        step, model = start(tools, [wiring], limits, grow=Gradient(), fraction=fraction)
    except ValueError as error:
        assert "constant_fan_in cannot be met by layer 'layers.0': " in str(error)
        return
    for _ in range(3):
        step()
        assert np.diff(model.layers[0].wiring.indptr).tolist() == [wiring.n_blocks // wiring.grid[0]] * wiring.grid[0]
        assert torch.equal(model.layers[0].wiring.mask()[mask], wiring.mask()[mask])


def test_frozen_connections_that_leave_no_constant_fan_in(tools):
    wiring = Wiring(4, 4, [0, 0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 0, 1, 0, 1, 2])
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0] = True
    message = (
        "each row would have 2 blocks, and frozen connections leave one row with 3 that stay and 0 places to choose"
    )
    with pytest.raises(ValueError, match=message):
        start(tools, [wiring], Limits(constant_fan_in=True, frozen={"layers.0": mask}), grow=Random())


def naive_srigl(weight, gradient, live, *, fraction, share, n_blocks, ablated):
    """One event of SRigL on a layer of single synapses, as the card has it; return the mask and who is ablated."""
    n_rows, n_columns = weight.shape
    cells = [(o, i) for o in range(n_rows) for i in range(n_columns) if live[o, i]]
    dead = [(o, i) for o in range(n_rows) for i in range(n_columns) if not live[o, i] and o not in ablated]
    n = int(fraction * len(cells))
    kept = set(sorted(cells, key=lambda cell: abs(weight[cell]))[n:])
    if share is not None:
        promising = sorted(dead, key=lambda cell: -abs(gradient[cell]))[:n]
        least = max(1, share * min(n_columns, n_blocks // (n_rows - len(ablated))))
        weak = {row for row in range(n_rows) if sum(o == row for o, _ in [*kept, *promising]) < least}
        if len(weak | ablated) < n_rows:
            ablated = ablated | weak
    fan_in = min(n_columns, n_blocks // (n_rows - len(ablated)))
    mask = np.zeros((n_rows, n_columns), dtype=bool)
    for row in set(range(n_rows)) - ablated:
        own = sorted((cell for cell in kept if cell[0] == row), key=lambda cell: -abs(weight[cell]))[:fan_in]
        others = [(row, i) for i in range(n_columns) if (row, i) not in own]
        own += sorted(others, key=lambda cell: -abs(gradient[cell]))[: fan_in - len(own)]
        for cell in own:
            mask[cell] = True
    return mask, ablated


@pytest.mark.parametrize("share", [None, 0.0, 0.3, 0.6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_srigl_equals_a_naive_twin(tools, share, seed):
    generator = torch.Generator().manual_seed(seed)
    wiring = ErdosRenyi(0.3, exact=True).wire(10, 12, generator=generator)
    model = tools.Net([wiring], seed=seed, activation=nn.Tanh)  # no unit is dead, no two gradients are equal
    layer = model.layers[0]
    with torch.no_grad():  # neurons that differ, so that some are ablated
        layer.weight.mul_(torch.rand(12, 1, generator=generator) ** 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    limits, schedule = Limits(constant_fan_in=True, ablation=share), Schedule(every=1, fraction=0.3)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=Gradient(), schedule=schedule, limits=limits)
    ablated = set()
    for _ in range(3):
        tools.learn(model, optimizer, generator)
        x, output, _ = model.seen[-1][0]
        mask, ablated = naive_srigl(
            layer.dense_weight().detach().double().numpy(),
            (output.grad.double().T @ x.double()).numpy(),
            layer.wiring.mask().numpy(),
            fraction=0.3,
            share=share,
            n_blocks=wiring.n_blocks,
            ablated=ablated,
        )
        (event,) = rewirer.step()
        np.testing.assert_array_equal(layer.wiring.mask().numpy(), mask)
        assert event.neurons_without_input == len(ablated)
    assert len(ablated) < 12
    if share == 0.6:
        assert ablated


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_ablation_leaves_room_for_all_connections(tools, share):
    """Each ablation raises the fan-in of the others, and with it what makes a neuron salient."""
    generator = torch.Generator().manual_seed(0)
    wiring = ErdosRenyi(0.3, exact=True).wire(10, 12, generator=generator)
    model = tools.Net([wiring], activation=nn.Tanh)
    with torch.no_grad():
        model.layers[0].weight.mul_(torch.rand(12, 1, generator=generator) ** 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    limits, schedule = Limits(constant_fan_in=True, ablation=share), Schedule(every=1, fraction=0.3)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=Gradient(), schedule=schedule, limits=limits)
    for _ in range(6):
        tools.learn(model, optimizer, generator)
        rewirer.step()
        fan_in = model.layers[0].wiring.fan_in()
        alive = fan_in[fan_in > 0]
        assert len(alive) >= 4  # 36 connections, 10 places in a row
        assert alive.unique().tolist() == [36 // len(alive)]


def test_ablation_spares_the_last_layer(tools):
    """Nothing follows upon the last weights of a model: all its neurons are needed."""
    generator = torch.Generator().manual_seed(0)
    wirings = [ErdosRenyi(0.3, exact=True).wire(n, m, generator=generator) for n, m in ((10, 12), (12, 10))]
    model = tools.Net(wirings)
    model.head = nn.Identity()
    with torch.no_grad():
        for layer in model.layers:
            layer.weight.mul_(torch.rand(layer.out_features, 1, generator=generator) ** 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    limits = Limits(constant_fan_in=True, ablation=1.0)
    rewirer = Rewirer(
        model, optimizer, prune=Magnitude(), grow=Random(), schedule=Schedule(every=1, fraction=0.3), limits=limits
    )
    first, last = rewirer.step()
    assert first.neurons_without_input > 0
    assert last.neurons_without_input == 0
    gone = set(torch.nonzero(model.layers[0].wiring.fan_in() == 0).ravel().tolist())
    for _ in range(3):
        rewirer.step()
        assert gone <= set(torch.nonzero(model.layers[0].wiring.fan_in() == 0).ravel().tolist())  # for good


def test_not_every_neuron_is_ablated(tools):
    """Where all are weak, all stay."""
    wirings = [ErdosRenyi(0.5, exact=True).wire(8, 8, generator=torch.Generator().manual_seed(0))]
    schedule = Schedule(every=1, fraction=0.99)
    step, model = start(
        tools, wirings, Limits(constant_fan_in=True, ablation=1.0), grow=Random(), prune=Random(), schedule=schedule
    )
    for _ in range(5):
        (event,) = step()
        assert event.n_blocks > 0
        fan_ins = set(model.layers[0].wiring.fan_in().tolist())
        assert len(fan_ins - {0}) == 1


# stop_overlap


class Back(Rule):
    """Grows what was just dropped, of some layers: as much of it as a share says."""

    can_grow = True

    def __init__(self, share, names):
        self.share, self.names = share, names

    def grow(self, site, pool, n):
        back = site.wiring.cells()[site.gone]
        back = back[: round(self.share * len(back))] if site.name in self.names else back[:0]
        free = np.setdiff1d(np.arange(site.wiring.grid[0] * site.wiring.grid[1]), site.wiring.cells())
        return np.sort(np.concatenate([back, free[: n - len(back)]]))


@pytest.mark.parametrize(("overlap", "stops"), [(0.0, False), (0.5, False), (0.9, False), (1.0, True)])
def test_layers_that_have_settled_are_left_alone(tools, overlap, stops):
    generator = torch.Generator().manual_seed(0)
    wirings = [ErdosRenyi(0.4, exact=True).wire(10, 10, generator=generator) for _ in range(2)]
    step, model = start(tools, wirings, Limits(stop_overlap=0.9), grow=Back(overlap, ["layers.0"]), fraction=0.25)
    events = step()
    assert [event.dropped for event in events] == [10, 10]
    assert [event.came for event in events] == [round(10 * (1 - overlap)), 10]
    wiring = model.layers[0].wiring
    for _ in range(2):
        events = step()
        assert [event.layer for event in events] == (["layers.1"] if stops else ["layers.0", "layers.1"])
        if stops:
            assert model.layers[0].wiring is wiring


def test_nothing_dropped_is_no_overlap(tools):
    step, _ = start(tools, [Wiring(4, 4, [0], [1])], Limits(stop_overlap=0.5), grow=Random())
    assert len(step()) == len(step()) == 1


# The wording of errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"within": "all"}, r"Limits: within must be 'keep', a share in \[0, 1\] or None, got 'all'"),
        ({"within": 1.5}, r"Limits: within must be 'keep', a share in \[0, 1\] or None, got 1\.5"),
        ({"within": -0.1}, r"within must be 'keep', a share in \[0, 1\] or None, got -0\.1"),
        ({"within": math.nan}, r"within must be 'keep', a share in \[0, 1\] or None, got nan"),
        ({"ablation": 1.5, "constant_fan_in": True}, r"Limits: ablation must lie in \[0, 1\], got 1\.5"),
        ({"ablation": 0.3}, "Limits: ablation must go with constant_fan_in, got it alone"),
        (
            {"within": 0.5, "constant_fan_in": True},
            "within and constant_fan_in must not be asked for together, got both",
        ),
        ({"stop_overlap": 0.0}, r"Limits: stop_overlap must lie in \(0, 1\], got 0"),
        ({"stop_overlap": 1.1}, r"Limits: stop_overlap must lie in \(0, 1\], got 1\.1"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        Limits(**settings)
