"""What every event must keep to, whatever rules, blocks and sizes; and what rules choose, against a naive twin."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, SparseLinear, Wiring
from neuropil.rewire import (
    CannistraciHebb,
    Cubic,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    MagnitudeAndGradient,
    Mixture,
    Momentum,
    Random,
    Rewirer,
    Sampled,
    Schedule,
    Sensitivity,
    SignedMagnitude,
    Stages,
)
from neuropil.rewire.scores import cannistraci_hebb

PRUNE = [
    Magnitude(),
    SignedMagnitude(),
    Random(),
    Hebbian(),
    Gradient(),
    Momentum(window=2),
    MagnitudeAndGradient(),
    Sensitivity(),
    Mixture(((Magnitude(), 1), (Random(), 1), (Hebbian(), 1))),
    Mixture(((SignedMagnitude(), 2), (Sensitivity(), 1))),
    Sampled(Magnitude(), (1.0, 3.0)),
]
GROW = [
    Random(),
    Hebbian(),
    Hebbian(centered=True, window=2),
    Gradient(),
    Momentum(window=3),
    CannistraciHebb(),
    CannistraciHebb(2),
    Mixture(((Gradient(), 1), (Random(), 2))),
    Sampled(CannistraciHebb()),
    Sampled(Gradient(), (2.0, 1.0)),
]
BLOCKS = [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), ("group", 1), ("group", "group"), (1, "group")]


@st.composite
def wirings(draw, n_in=None):
    """Wirings of any size, block, grouping, density and evenness."""
    n_groups = draw(st.integers(1, 4))
    n_in, n_out = n_in or draw(st.integers(n_groups, 14)), draw(st.integers(n_groups, 14))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    block = draw(st.sampled_from(BLOCKS))
    p_intra, p_inter = draw(st.sampled_from([(1.0, 0.0), (1.0, 0.15), (0.7, 0.3), (0.2, 0.2), (0.0, 0.9), (1.0, 1.0)]))
    pattern = Ensembles(
        n_groups=min(n_groups, n_in, n_out),
        p_intra=p_intra,
        p_inter=p_inter,
        grouping=draw(st.sampled_from(["index", "interleaved", "random"])),
        block=block,
        uneven=True,
    )
    try:
        return pattern.wire(n_in, n_out, generator=generator)
    except ValueError as error:
        assert "at least one connection" in str(error)
    return Dense().wire(n_in, n_out)


def snapshot(tools, model, optimizer):
    """Wiring, dense weights and dense optimizer state of each sparse layer."""
    found = []
    for layer in model.layers:
        state = {
            key: tools.laid_out(layer, value)
            for key, value in optimizer.state.get(layer.weight, {}).items()
            if isinstance(value, torch.Tensor) and value.shape == layer.weight.shape
        }
        found.append((layer.wiring, tools.laid_out(layer, layer.weight), state))
    return found


def assert_carried(tools, before, after):
    """What stayed keeps its weight and its moments, all else is 0: through dense matrices."""
    (old, weight, state), (new, new_weight, new_state) = before, after
    kept = old.mask() & new.mask()
    assert torch.equal(new_weight, weight * kept)
    assert state.keys() == new_state.keys()
    for key, value in state.items():
        assert torch.equal(new_state[key], value * kept), key


def assert_event(tools, event, before, after, visited, *, dropped=None):
    """An event says what happened, against sets of cells."""
    old, new = tools.cells_of(before), tools.cells_of(after)
    assert event.went == len(old - new)
    assert event.came == len(new - old)
    assert event.n_blocks == after.n_blocks == len(new)
    assert event.density == pytest.approx(float(after.mask().float().mean()), abs=1e-6)
    assert event.neurons_without_input == int((after.mask().sum(1) == 0).sum())
    if dropped is not None:
        assert event.dropped == dropped
    visited |= new
    assert event.explored == len(visited) / (after.grid[0] * after.grid[1])
    if after.out_groups is None:
        assert event.went_within is event.came_within is event.modularity is None
        return
    inside = tools.within(after)
    assert event.went_within == len((old - new) & inside)
    assert event.came_within == len((new - old) & inside)
    assert event.modularity == pytest.approx(naive_modularity(tools, after), abs=1e-9)


def naive_modularity(tools, wiring):
    """Q = 1/m Σ_blocks [within a group] − 1/m² Σ_groups (blocks that end in it) · (blocks that start in it)."""
    n_columns, ends, starts, inside = wiring.grid[1], {}, {}, 0
    cells = tools.cells_of(wiring)
    for cell in cells:
        targets, sources = tools.members(wiring, *divmod(cell, n_columns))
        target_groups = {int(wiring.out_groups[o]) for o in targets}
        source_groups = {int(wiring.in_groups[i]) for i in sources}
        for groups, counts in ((target_groups, ends), (source_groups, starts)):
            if len(groups) == 1:
                counts[min(groups)] = counts.get(min(groups), 0) + 1
        inside += len(target_groups | source_groups) == 1
    m = len(cells)
    return inside / m - sum(ends.get(g, 0) * starts.get(g, 0) for g in range(wiring.n_groups)) / m**2


@st.composite
def settings(draw):
    return {
        "prune": draw(st.sampled_from(PRUNE)),
        "grow": draw(st.sampled_from(GROW)),
        "fraction": draw(st.sampled_from([0.05, 0.3, 0.5, 0.95])),
        "reduction": draw(st.sampled_from(["mean", "sum"])),
        "seed": draw(st.integers(0, 99)),
        "same": draw(st.booleans()),
    }


def make(tools, wirings, how, limits=None, *, optimizer=torch.optim.Adam, lr=0.05, every=1, steps=6, **schedule):
    """A network, its optimizer and its rewirer; with ``same``, all weights are equal and no gradient flows."""
    model = tools.Net(wirings, seed=how["seed"])
    if how["same"]:
        with torch.no_grad():
            for layer in model.layers:
                layer.copy_dense_weight(torch.full(layer.wiring.shape, 0.25))
                layer.bias.fill_(0.1)
            model.head.weight.zero_()
    trained = [*model.layers.parameters()] if how["same"] else [*model.parameters()]
    optimizer = optimizer(trained, lr=lr)
    rewirer = Rewirer(
        model,
        optimizer,
        prune=how["prune"],
        grow=how["grow"],
        schedule=Schedule(every=every, fraction=how["fraction"], **schedule),
        reduction=how["reduction"],
        generator=torch.Generator().manual_seed(how["seed"]),
        limits=limits,
    )
    rewirer.set_length(epochs=1, steps_per_epoch=steps)
    return model, optimizer, rewirer


@given(wirings(), st.data(), settings())
def test_what_every_event_keeps(tools, first, data, how):
    second = data.draw(wirings(n_in=first.out_features))
    model, optimizer, rewirer = make(tools, [first, second], how)
    visited = [tools.cells_of(wiring) for wiring in (first, second)]
    generator, state = torch.Generator().manual_seed(0), torch.get_rng_state()
    parameters = [layer.weight for layer in model.layers]
    for step in range(1, 5):
        tools.learn(model, optimizer, generator)
        before = snapshot(tools, model, optimizer)
        events = rewirer.step()
        after = snapshot(tools, model, optimizer)
        assert [(event.step, event.layer) for event in events] == [(step, "layers.0"), (step, "layers.1")]
        for k, layer in enumerate(model.layers):
            old, new = before[k][0], after[k][0]
            assert old.n_blocks == new.n_blocks == (first, second)[k].n_blocks
            assert (old.block, old.grid, old.shape) == (new.block, new.grid, new.shape)
            assert np.array_equal(old.out_order, new.out_order)
            assert np.array_equal(old.in_order, new.in_order)
            assert events[k].went == events[k].came
            assert_event(tools, events[k], old, new, visited[k], dropped=int(how["fraction"] * old.n_blocks))
            assert_carried(tools, before[k], after[k])
            assert layer.weight is parameters[k]
            tools.assert_sound(layer)
    assert rewirer.history == [event for event in rewirer.history if event.step in (1, 2, 3, 4)]
    assert len(rewirer.history) == 8
    assert torch.equal(torch.get_rng_state(), state)


@given(wirings(), settings())
def test_same_generator_same_result(tools, wiring, how):
    """Nothing depends on what else draws random numbers."""
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, optimizer, rewirer = make(tools, [wiring], how)
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            tools.learn(model, optimizer, generator)
            rewirer.step()
        found.append((model.layers[0].wiring.cells().tolist(), model.layers[0].weight.detach(), rewirer.history))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]


def test_other_generator_other_result(tools):
    wiring = ErdosRenyi(0.3, exact=True).wire(20, 20, generator=torch.Generator().manual_seed(0))
    results = []
    for seed in (0, 0, 1, None, None):
        model = tools.Net([wiring])
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        rewirer = Rewirer(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            prune=Magnitude(),
            grow=Random(),
            schedule=Schedule(every=1, fraction=0.5),
            generator=generator,
        )
        rewirer.step()
        results.append(model.layers[0].wiring)
    assert results[0] == results[1]
    assert results[0] != results[2]
    assert results[3] == results[4] == results[0]  # by default seeded with 0


# What is chosen, against a naive twin


@st.composite
def choices(draw):
    prune = draw(st.sampled_from([Magnitude(), Hebbian(), Gradient(), MagnitudeAndGradient(2.0), Sensitivity()]))
    grow = draw(st.sampled_from([Random(), Hebbian(), Hebbian(centered=True), Gradient(), CannistraciHebb(),
                                 CannistraciHebb(2)]))  # fmt: skip
    return {
        "prune": prune,
        "grow": grow,
        "fraction": draw(st.sampled_from([0.3, 0.6])),
        "reduction": draw(st.sampled_from(["mean", "sum"])),
        "seed": draw(st.integers(0, 99)),
        "same": False,
    }


def naive_scores(tools, rule, layer, seen, gradient, weight, wiring, remaining, reduction):
    """Scores of all cells, from dense matrices in float64; None for chance."""
    pre, _, post = (tensor.detach().double() for tensor in seen)
    weight, gradient = weight.double(), gradient.double()
    if isinstance(rule, Random):
        return None
    if isinstance(rule, CannistraciHebb):
        mask = torch.zeros(wiring.grid[0] * wiring.grid[1], dtype=torch.float64)
        mask[sorted(remaining)] = 1
        return cannistraci_hebb(mask.view(wiring.grid), order=rule.order).numpy()
    if isinstance(rule, Hebbian):
        if rule.centered:
            pre, post = pre - pre.mean(0), post - post.mean(0)
        dense = torch.einsum("so,si->oi", post, pre) / (
            (post.norm(dim=0) + 1e-8)[:, None] * (pre.norm(dim=0) + 1e-8)[None, :]
        )
    elif isinstance(rule, Gradient):
        dense = torch.einsum("so,si->oi", seen[1].grad.double(), pre).abs()
    elif isinstance(rule, Magnitude):
        dense = weight.abs()
    elif isinstance(rule, MagnitudeAndGradient):
        dense = weight.abs() + rule.coefficient * gradient.abs()
    else:
        dense = (weight * gradient).abs()
    return tools.by_block(wiring, dense, reduction)


@given(wirings(), choices())
def test_choices_equal_a_naive_twin(tools, wiring, how):
    model, optimizer, rewirer = make(tools, [wiring], how, optimizer=torch.optim.SGD)
    layer, generator = model.layers[0], torch.Generator().manual_seed(3)
    for _ in range(2):
        tools.learn(model, optimizer, generator)
        before, weight = layer.wiring, tools.laid_out(layer, layer.weight)
        gradient, seen = tools.laid_out(layer, layer.weight.grad), model.seen[-1][0]
        (event,) = rewirer.step()
        old, new = tools.cells_of(before), tools.cells_of(layer.wiring)
        n = int(how["fraction"] * len(old))
        # what is dropped and comes back cannot be told apart from what stays: with n dropped, a cell that was left
        # alone scores at least as much as the n-th smallest
        scores = naive_scores(tools, how["prune"], layer, seen, gradient, weight, before, old, how["reduction"])
        worth = scores.ravel()
        ranked = sorted(worth[list(old)])
        tolerance = 1e-5 * max(1e-3, float(np.abs(worth).max()))
        border = ranked[n - 1] if n else -math.inf
        assert all(worth[cell] <= border + tolerance for cell in old - new)
        surely = {cell for cell in old if worth[cell] < border - tolerance}
        assert event.dropped == n
        # what came is the best of what was there to choose from
        gone = old - new
        if isinstance(how["grow"], CannistraciHebb):
            if len(ranked) > n and (n == 0 or ranked[n] - ranked[n - 1] > tolerance):
                surely = {cell for cell in old if worth[cell] <= border + tolerance} if n else set()
                scores = naive_scores(
                    tools, how["grow"], layer, seen, gradient, weight, before, old - surely, how["reduction"]
                )
                free = set(range(scores.size)) - (old - surely)
                tools.assert_largest(new - (old - surely), free, scores, n)
            continue
        scores = naive_scores(tools, how["grow"], layer, seen, gradient, weight, before, old, how["reduction"])
        if scores is None:
            assert len(new) == len(old)
            continue
        worth = scores.ravel()
        tolerance = 1e-5 * max(1e-3, float(np.abs(worth).max()))
        outside = set(range(worth.size)) - new
        # cells that lost: never connected, or gone; cells that won: those that came, and what was surely dropped
        for won in ((new - old) | (surely & new)) if n else ():
            assert all(worth[won] >= worth[lost] - tolerance for lost in outside)
        assert gone <= outside


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
def test_growth_by_gradient_equals_the_dense_twin(tools, block):
    """RigL's step by hand: the n smallest |w| go, the n largest |∂L/∂(W · mask)| come, those just dropped included."""
    generator = torch.Generator().manual_seed(0)
    wiring = Ensembles(n_groups=4, p_intra=0.5, p_inter=0.3, grouping="interleaved", block=block, exact=True).wire(
        16, 16, generator=generator
    )
    model = tools.Net([wiring], dtype=torch.float64)
    layer = model.layers[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=Gradient(), schedule=Schedule(every=1, fraction=0.4))
    x, y = tools.batch_of(model, generator)
    product = layer.dense_weight().detach().requires_grad_()
    hidden = nn.functional.linear(x, product, layer.bias).relu()
    nn.functional.cross_entropy(model.head(hidden), y).backward()
    gradient = tools.by_block(wiring, product.grad.abs()).ravel()

    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    weight = tools.by_block(wiring, layer.dense_weight().detach().abs()).ravel()
    (event,) = rewirer.step()
    old = sorted(tools.cells_of(wiring))
    n = int(0.4 * len(old))
    left = set(sorted(old, key=lambda cell: weight[cell])[n:])
    dead = sorted(set(range(len(gradient))) - left, key=lambda cell: -gradient[cell])
    assert tools.cells_of(layer.wiring) == left | set(dead[:n])
    assert event.dropped == n


# Limits of the number of blocks


@given(wirings(), settings())
def test_a_dense_layer_stays_as_it_is(tools, wiring, how):
    """Everything that is dropped comes back, with its weight and its moments."""
    n_rows, n_columns = wiring.grid
    cells = np.arange(n_rows * n_columns)
    full = wiring.rewired(cells // n_columns, cells % n_columns)
    model, optimizer, rewirer = make(tools, [full], how)
    tools.learn(model, optimizer, torch.Generator().manual_seed(0))
    before = snapshot(tools, model, optimizer)
    (event,) = rewirer.step()
    after = snapshot(tools, model, optimizer)
    assert event.dropped == int(how["fraction"] * full.n_blocks)
    assert event.went == event.came == 0
    assert_carried(tools, before[0], after[0])
    assert torch.equal(before[0][1], after[0][1])


def test_a_single_block_stays(tools):
    model = tools.Net([Wiring(4, 4, [1], [2])])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Random(), grow=Random(), schedule=Schedule(every=1, fraction=0.99))
    for _ in range(3):
        tools.learn(model, optimizer, torch.Generator().manual_seed(0))
        (event,) = rewirer.step()
        assert (event.dropped, event.n_blocks) == (0, 1)


def test_nothing_to_do_without_a_schedule(tools):
    wiring = ErdosRenyi(0.5, exact=True).wire(8, 8, generator=torch.Generator().manual_seed(0))
    model = tools.Net([wiring])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=None, grow=None, schedule=None)
    for _ in range(3):
        tools.learn(model, optimizer, torch.Generator().manual_seed(0))
        assert rewirer.step() == []
    assert rewirer.history == []
    assert model.layers[0].wiring is wiring


@given(wirings(), settings(), st.sampled_from(["layer", "global"]), st.booleans())
def test_pruning_by_and_by(tools, wiring, how, scope, replaces):
    """Blocks go for good or are replaced in part, weights and moments follow, and the parameter stays the same one."""
    n_rows, n_columns = wiring.grid
    cells = np.arange(n_rows * n_columns)
    full = wiring.rewired(cells // n_columns, cells % n_columns)
    scope = "layer" if wiring.is_padded else scope  # see test_schedule for padded layers and one threshold
    how["fraction"] = how["fraction"] if replaces else None
    density = Cubic(to=0.3, until=0.6, scope=scope)
    model, optimizer, rewirer = make(tools, [full], how, density=density, steps=5)
    layer, weight = model.layers[0], model.layers[0].weight
    generator, visited = torch.Generator().manual_seed(0), tools.cells_of(full)
    for step in range(1, 5):
        tools.learn(model, optimizer, generator)
        before = snapshot(tools, model, optimizer)
        (event,) = rewirer.step()
        after = snapshot(tools, model, optimizer)
        left = 1 - min(1.0, step / 3)
        wanted = 0.3 + 0.7 * left**3
        if scope == "layer":
            assert layer.wiring.n_blocks == max(1, round(wanted * len(cells)))
        else:
            n_synapses = wiring.shape[0] * wiring.shape[1]
            largest = max(int(size) for size in full.block_sizes())
            assert wanted * n_synapses - largest < layer.wiring.n_connections <= max(wanted * n_synapses + 0.5, largest)
        assert_event(tools, event, before[0][0], after[0][0], visited)
        assert_carried(tools, before[0], after[0])
        assert layer.weight is weight
        assert optimizer.param_groups[0]["params"][0] is weight
        tools.assert_sound(layer)
    if full.n_blocks > 3:
        assert layer.wiring.n_blocks < full.n_blocks


@given(wirings(), settings())
def test_denser_for_a_while(tools, wiring, how):
    n_cells = wiring.grid[0] * wiring.grid[1]
    model, optimizer, rewirer = make(tools, [wiring], how, density=Stages(((0.5, 0.2), (0.8, 0.1))), steps=5)
    generator, visited = torch.Generator().manual_seed(0), tools.cells_of(wiring)
    for step in range(1, 5):
        tools.learn(model, optimizer, generator)
        before = snapshot(tools, model, optimizer)
        (event,) = rewirer.step()
        after = snapshot(tools, model, optimizer)
        extra = 0.2 if step / 5 < 0.5 else 0.1 if step / 5 < 0.8 else 0.0
        assert event.n_blocks == round(min(1.0, wiring.n_blocks / n_cells + extra) * n_cells)
        assert_event(tools, event, before[0][0], after[0][0], visited)
        assert_carried(tools, before[0], after[0])
        tools.assert_sound(model.layers[0])
    assert event.n_blocks == wiring.n_blocks


def test_weights_that_are_not_numbers_lose_no_blocks(tools):
    """A run that diverges is somebody else's to stop; its wirings stay what they are."""
    generator = torch.Generator().manual_seed(0)
    for grow in (Gradient(), Hebbian(), Momentum(window=1), Sampled(Gradient())):
        model = tools.Net([ErdosRenyi(0.3, exact=True).wire(10, 10, generator=generator)])
        with torch.no_grad():
            model.layers[0].weight[model.layers[0].wiring.mask()] = math.nan
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = Schedule(every=1, fraction=0.5)
        rewirer = Rewirer(model, optimizer, prune=SignedMagnitude(), grow=grow, schedule=schedule)
        for _ in range(2):
            tools.learn(model, optimizer, generator)
            (event,) = rewirer.step()
            assert (event.dropped, event.n_blocks) == (15, 30)
            assert len(tools.cells_of(model.layers[0].wiring)) == 30


# Which layers, and what of them is seen


def test_layers_can_be_skipped(tools):
    generator = torch.Generator().manual_seed(0)
    wirings = [ErdosRenyi(0.5, exact=True).wire(8, 8, generator=generator) for _ in range(3)]
    model = tools.Net(wirings)
    optimizer = torch.optim.SGD([*model.layers[0].parameters(), *model.layers[2].parameters()], lr=0.1)
    schedule = Schedule(every=1, fraction=0.5)
    rewirer = Rewirer(model, optimizer, prune=Random(), grow=Random(), schedule=schedule, skip=("layers.1",))
    assert list(rewirer.layers) == ["layers.0", "layers.2"]
    assert rewirer.layers["layers.2"] is model.layers[2]
    assert [event.layer for event in rewirer.step()] == ["layers.0", "layers.2"]
    assert model.layers[1].wiring is wirings[1]
    assert model.layers[0].wiring != wirings[0]


def test_a_model_may_be_one_layer():
    generator = torch.Generator().manual_seed(0)
    layer = SparseLinear(ErdosRenyi(0.5, exact=True).wire(8, 8, generator=generator), generator=generator)
    optimizer = torch.optim.Adam(layer.parameters())
    rewirer = Rewirer(layer, optimizer, prune=Magnitude(), grow=Gradient(), schedule=Schedule(every=1, fraction=0.5))
    layer(torch.rand(3, 8)).sum().backward()
    optimizer.step()
    (event,) = rewirer.step()
    assert event.layer == ""
    assert event.n_blocks == 32
    assert event.as_record()["layer"] == ""
    assert all(value is None or isinstance(value, int | float | str) for value in event.as_record().values())


def test_history_grows(tools):
    generator = torch.Generator().manual_seed(0)
    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(8, 8, generator=generator)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Random(), grow=Random(), schedule=Schedule(every=2, fraction=0.5))
    all_events = []
    for _ in range(6):
        all_events += rewirer.step()
    assert [event.step for event in all_events] == [2, 4, 6]
    assert rewirer.history == all_events
    explored = [event.explored for event in all_events]
    assert explored == sorted(explored)
    assert explored[-1] > 0.5


def test_gradients_of_a_step_follow_the_wiring(tools):
    """Whoever reads .grad after an event finds it where the weights are."""
    for block in ((1, 1), (2, 1)):
        generator = torch.Generator().manual_seed(0)
        model = tools.Net([ErdosRenyi(0.4, exact=True, block=block).wire(8, 8, generator=generator)])
        layer = model.layers[0]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = Schedule(every=1, fraction=None, density=Cubic(0.2, until=1.0))
        rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=None, schedule=schedule)
        rewirer.set_length(epochs=1, steps_per_epoch=2)
        tools.learn(model, optimizer, generator)
        gradient = tools.laid_out(layer, layer.weight.grad)
        rewirer.step()
        assert layer.weight.grad.shape == layer.weight.shape
        assert torch.equal(tools.laid_out(layer, layer.weight.grad), gradient * layer.wiring.mask())


# The wording of errors


def network(tools):
    generator = torch.Generator().manual_seed(0)
    wirings = [ErdosRenyi(0.25, exact=True).wire(8, n, generator=generator) for n in (8, 16)]
    return tools.Net(wirings)


GOOD = {"prune": Magnitude(), "grow": Random(), "schedule": Schedule(every=1)}


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"skip": ("layers.7",)}, ValueError, "Rewirer: skip must name sparse layers of the model, got 'layers.7'; it has "
                                              "layers.0, layers.1"),
        ({"skip": ("head",)}, ValueError, "skip must name sparse layers of the model, got 'head'"),
        ({"skip": ("layers.0", "layers.1")}, ValueError, "the model must have sparse layers, got only skipped ones; try "),
        ({"prune": CannistraciHebb()}, ValueError, r"prune must be a rule that can prune, got CannistraciHebb\(order=3\)"),
        ({"grow": Magnitude()}, ValueError, r"Rewirer: grow must be a rule that can grow, got Magnitude\(\)"),
        ({"grow": SignedMagnitude()}, ValueError, "grow must be a rule that can grow"),
        ({"grow": Sensitivity()}, ValueError, "grow must be a rule that can grow"),
        ({"grow": Sampled(Magnitude())}, ValueError, "grow must be a rule that can grow"),
        ({"grow": Mixture(((Random(), 1), (Magnitude(), 1)))}, ValueError, "grow must be a rule that can grow"),
        ({"grow": "gradient"}, TypeError, r"Rewirer: grow must be a rule, such as Random\(\), got 'gradient'"),
        ({"prune": Magnitude}, TypeError, r"Rewirer: prune must be a rule, such as Random\(\), got <class"),
        ({"reduction": "max"}, ValueError, "Rewirer: reduction must be mean or sum, got 'max'"),
        ({"prune": None}, ValueError, r"needs a prune rule and a growth rule, got prune=None and grow=Random\(\); try "
                                      r"Schedule\(fraction=None, density=…\) to prune alone"),
        ({"grow": None}, ValueError, r"needs a prune rule and a growth rule, got prune=Magnitude\(\) and grow=None"),
        ({"prune": None, "schedule": Schedule(every=1, fraction=None, density=Cubic(0.1))}, ValueError,
         "Rewirer: gradual pruning needs a prune rule, got None"),
        ({"grow": None, "schedule": Schedule(every=1, fraction=None, density=Stages(((0.5, 0.1),)))}, ValueError,
         "Rewirer: a density in stages needs a prune rule and a growth rule, got None for one"),
        ({"limits": Limits(frozen={"head": torch.zeros(3, 16)})}, ValueError,
         "Limits: frozen must name layers that are rewired, got 'head'; they are layers.0, layers.1"),
        ({"limits": Limits(frozen={"layers.1": torch.zeros(8, 16)})}, ValueError,
         r"Limits: frozen must be of the layer's shape \(16, 8\) for 'layers.1', got \(8, 16\)"),
        ({"limits": Limits(within="keep")}, ValueError,
         "Limits: within needs neurons that belong to groups, those of layer 'layers.0' do not; try wiring it by Ens"),
    ],
)  # fmt: skip
def test_errors(tools, settings, kind, message):
    model = network(tools)
    with pytest.raises(kind, match=message):
        Rewirer(model, torch.optim.SGD(model.parameters(), lr=0.1), **(GOOD | settings))


def test_errors_of_the_model(tools):
    dense = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"must have sparse layers, got none; try neuropil\.connect\.sparsify\(model"):
        Rewirer(dense, torch.optim.SGD(dense.parameters(), lr=0.1), **GOOD)
    model = network(tools)
    optimizer = torch.optim.SGD(model.layers[0].parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match="must hold the weights of every sparse layer, got one without 'layers.1'; make"
    ):
        Rewirer(model, optimizer, **GOOD)
    Rewirer(model, optimizer, **GOOD, skip=("layers.1",))


def test_errors_of_the_length(tools):
    model = network(tools)
    rewirer = Rewirer(model, torch.optim.SGD(model.parameters(), lr=0.1), **GOOD)
    with pytest.raises(ValueError, match="epochs and steps_per_epoch must be at least 1, got 0 and 5"):
        rewirer.set_length(epochs=0, steps_per_epoch=5)
    with pytest.raises(ValueError, match="epochs and steps_per_epoch must be at least 1, got 3 and -1"):
        rewirer.set_length(epochs=3, steps_per_epoch=-1)


def test_rules_that_look_at_progress_need_the_length(tools):
    model = network(tools)
    rewirer = Rewirer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        prune=Sampled(Magnitude(), (1.0, 3.0)),
        grow=Random(),
        schedule=Schedule(every=5),
    )
    with pytest.raises(ValueError, match="how long training is must be known"):
        rewirer.step()
