"""What each rule makes of a layer, against loops over synapses and blocks."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, Wiring
from neuropil.rewire import (
    CannistraciHebb,
    Contribution,
    Gradient,
    Hebbian,
    Magnitude,
    MagnitudeAndGradient,
    Momentum,
    Random,
    Rewirer,
    Rule,
    Schedule,
    Sensitivity,
    SignedMagnitude,
)
from neuropil.rewire.scores import cannistraci_hebb


class Look(Rule):
    """Prunes like Magnitude, and calls a function with the site of each event."""

    can_prune = True

    def __init__(self, function, needs=(), window=1):
        self.function, self.needs, self.window = function, frozenset(needs), window

    def drop(self, site, n, eligible):
        self.function(site)
        return Magnitude().drop(site, n, eligible)


def look(tools, model, function, *, rule=None, steps=1, seed=0, lr=0.1, reduction="mean", **settings):
    """Train, and call the function with the site of the first layer in the event after the last step."""
    seen = []

    def first(site):
        if site.name == "layers.0":
            seen.append(function(site))

    spy = Look(first, rule.needs if rule else (), rule.window if rule else 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    rewirer = Rewirer(
        model, optimizer, prune=spy, grow=Random(), schedule=Schedule(every=steps), reduction=reduction, **settings
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        tools.learn(model, optimizer, generator)
        rewirer.step()
    return seen[0]


def grid_of(rule, site):
    """All scores of a rule, also where they come in several strips."""
    n_rows, middle = site.wiring.grid[0], site.wiring.grid[0] // 2
    strip = rule.grid(site)
    parts = [strip(slice(start, end)) for start, end in ((0, middle), (middle, n_rows)) if start < end]
    return np.concatenate(parts)


def assert_live_is_grid(rule, site, grid):
    wiring = site.wiring
    np.testing.assert_allclose(rule.live(site), grid[wiring.block_rows, wiring.indices], rtol=1e-5, atol=1e-7)


@st.composite
def wirings(draw):
    """Wirings of all kinds: tiny, dense, sparse, blocks that reach past groups, neurons in any order."""
    n_groups = draw(st.integers(1, 3))
    n_in, n_out = (draw(st.integers(n_groups, 9)) for _ in range(2))
    pattern = Ensembles(
        n_groups=n_groups,
        p_inter=draw(st.sampled_from([0.0, 0.4, 1.0])),
        grouping=draw(st.sampled_from(["index", "interleaved", "random"])),
        block=draw(st.sampled_from([(1, 1), (2, 1), ("group", 1), (2, 2), (2, 3), ("group", "group")])),
        uneven=True,
    )
    return pattern.wire(n_in, n_out, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))


reductions = st.sampled_from(["mean", "sum"])


@given(wirings(), reductions)
def test_magnitude(tools, wiring, reduction):
    model = tools.Net([wiring])
    layer = model.layers[0]
    found = look(tools, model, lambda site: (Magnitude().live(site), layer.dense_weight()), reduction=reduction)
    expected = tools.by_block(wiring, found[1].abs(), reduction)[wiring.block_rows, wiring.indices]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-7)


@given(wirings(), reductions)
def test_rules_that_weigh_gradients(tools, wiring, reduction):
    model = tools.Net([wiring])
    layer = model.layers[0]

    def scores(site):
        gradient = tools.laid_out(layer, layer.weight.grad)
        live = [rule.live(site) for rule in (MagnitudeAndGradient(), MagnitudeAndGradient(3.0), Sensitivity())]
        return live, layer.dense_weight(), gradient

    live, weight, gradient = look(tools, model, scores, reduction=reduction)
    expected = (
        weight.abs() + 0.01 * gradient.abs(),
        weight.abs() + 3.0 * gradient.abs(),
        (weight * gradient).abs(),
    )
    for got, dense in zip(live, expected, strict=True):
        blocks = tools.by_block(wiring, dense, reduction)[wiring.block_rows, wiring.indices]
        np.testing.assert_allclose(got, blocks, rtol=1e-5, atol=1e-7)


def naive_correlation(pre, post, *, centered):
    """C_H, one pair of neurons after the other."""
    correlation = torch.zeros(post.shape[1], pre.shape[1])
    for o in range(post.shape[1]):
        for i in range(pre.shape[1]):
            a, b = post[:, o].double(), pre[:, i].double()
            if centered:
                a, b = a - a.mean(), b - b.mean()
            correlation[o, i] = float((a @ b) / ((a.norm() + 1e-8) * (b.norm() + 1e-8)))
    return correlation


@given(wirings(), reductions, st.booleans(), st.booleans())
def test_hebbian(tools, wiring, reduction, centered, absolute):
    model = tools.Net([wiring])
    rule = Hebbian(centered=centered, absolute=absolute)

    def scores(site):
        grid = grid_of(rule, site)
        assert_live_is_grid(rule, site, grid)
        return grid

    grid = look(tools, model, scores, rule=rule, reduction=reduction)
    pre, _, post = model.seen[-1][0]
    correlation = naive_correlation(pre, post, centered=centered)
    correlation = correlation.abs() if absolute else correlation
    np.testing.assert_allclose(grid, tools.by_block(wiring, correlation, reduction), rtol=1e-4, atol=1e-5)


@given(wirings(), reductions, st.booleans())
def test_contribution(tools, wiring, reduction, centered):
    model = tools.Net([wiring])
    rule = Contribution(centered=centered)
    live, weight = look(
        tools, model, lambda site: (rule.live(site), site.layer.dense_weight()), rule=rule, reduction=reduction
    )
    pre, _, post = model.seen[-1][0]
    worth = weight.abs() * naive_correlation(pre, post, centered=centered).abs()
    expected = tools.by_block(wiring, worth, reduction)[wiring.block_rows, wiring.indices]
    np.testing.assert_allclose(live, expected, rtol=1e-4, atol=1e-5)


def gradient_of_the_product(model, x, y):
    """∂L/∂(W · mask) of the dense masked twin of the first layer, by autograd."""
    layer = model.layers[0]
    product = (layer.dense_weight().detach() * layer.wiring.mask()).requires_grad_()
    hidden = nn.functional.linear(x, product, layer.bias).relu()
    nn.functional.cross_entropy(model.head(hidden), y).backward()
    return product.grad


@given(wirings(), reductions)
def test_gradient_where_nothing_connects(tools, wiring, reduction):
    model = tools.Net([wiring])
    x, y = tools.batch_of(model, torch.Generator().manual_seed(0))
    expected = tools.by_block(wiring, gradient_of_the_product(model, x, y).abs(), reduction)

    def scores(site):
        grid = grid_of(Gradient(), site)
        assert_live_is_grid(Gradient(), site, grid)
        return grid

    grid = look(tools, model, scores, rule=Gradient(), reduction=reduction)
    np.testing.assert_allclose(grid, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
def test_momentum(tools, block, window):
    """m ← decay · m + (1 − decay) · g over the latest steps, by hand."""
    decay, steps = 0.7, 4
    wiring = Ensembles(n_groups=2, p_inter=0.5, grouping="interleaved", block=block).wire(
        4, 8, generator=torch.Generator().manual_seed(0)
    )
    model = tools.Net([wiring])
    rule = Momentum(decay, window)

    def scores(site):
        grid = grid_of(rule, site)
        assert_live_is_grid(rule, site, grid)
        return grid

    grid = look(tools, model, scores, rule=rule, steps=steps)
    momentum = torch.zeros(wiring.shape)
    for call in model.seen[-window:]:
        x, output, _ = call[0]
        momentum = decay * momentum + (1 - decay) * (output.grad.T @ x)
    np.testing.assert_allclose(grid, tools.by_block(wiring, momentum.abs()), rtol=1e-4, atol=1e-7)


@given(wirings(), st.sampled_from([2, 3]))
def test_cannistraci_hebb_looks_at_blocks_that_stay(tools, wiring, order):
    model = tools.Net([wiring])
    rule = CannistraciHebb(order)
    n_gone = wiring.n_blocks // 3

    def scores(site):
        gone = np.arange(n_gone)
        return grid_of(rule, site), grid_of(rule, dataclasses.replace(site, gone=gone))

    before, after = look(tools, model, scores)
    mask = torch.zeros(wiring.grid[0] * wiring.grid[1])
    mask[sorted(tools.cells_of(wiring))] = 1
    np.testing.assert_allclose(before, cannistraci_hebb(mask.view(wiring.grid), order=order), rtol=1e-5)
    mask[sorted(tools.cells_of(wiring))[:n_gone]] = 0
    np.testing.assert_allclose(after, cannistraci_hebb(mask.view(wiring.grid), order=order), rtol=1e-5)


def test_random_scores_come_from_the_sites_generator(tools):
    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(6, 8, generator=torch.Generator().manual_seed(0))])

    def scores(site):
        first = torch.Generator().manual_seed(3)
        site = dataclasses.replace(site, generator=first)
        live = Random().live(site)
        again = Random().live(dataclasses.replace(site, generator=torch.Generator().manual_seed(3)))
        return live, again, Random().live(site), grid_of(Random(), site)

    live, again, other, grid = look(tools, model, scores)
    np.testing.assert_array_equal(live, again)
    assert (live != other).all()
    assert grid.shape == (8, 6)
    assert len(np.unique(grid)) == 48


# Which blocks go


def set_weights(model, values):
    """Give the live blocks of the first layer, in order, one value each."""
    layer = model.layers[0]
    with torch.no_grad():
        if layer.wiring.block == (1, 1):
            layer.weight[layer.wiring.mask()] = torch.tensor(values)
        else:
            layer.weight.copy_(torch.tensor(values).reshape(-1, 1, 1).expand(layer.weight.shape))
            layer.clear_dead_weights()


@pytest.mark.parametrize("block", [(1, 1), (2, 2)])
def test_signed_magnitude_drops_from_both_sides(tools, block):
    """SET: the share of the positive ones nearest 0, and the same share of the negative ones."""
    wiring = Wiring(8 * block[1], 8 * block[0], np.arange(16) // 2, np.arange(16) % 8, block=block)
    model = tools.Net([wiring])
    values = [0.1, 0.9, -1.5, -1.6, 0.8, 0.3, -1.9, -1.8, 0.2, 0.7, 0.6, 0.0, 1.0, 1.1, 1.2, 1.3]
    set_weights(model, values)

    def gone(site):
        return SignedMagnitude().drop(site, 8, np.ones(16, dtype=bool)), Magnitude().drop(site, 8, np.ones(16, bool))

    by_sign, by_size = look(tools, model, gone, lr=0.0)
    # of the 12 that are positive or 0: 6; of the 4 negative ones: 2
    assert [values[k] for k in by_sign] == [0.1, -1.5, -1.6, 0.3, 0.2, 0.7, 0.6, 0.0]
    assert sorted(abs(values[k]) for k in by_size) == sorted(map(abs, values))[:8]


@pytest.mark.parametrize(("n", "n_negative"), [(0, 0), (1, 0), (3, 1), (8, 2), (15, 4), (16, 4)])
def test_signed_magnitude_takes_as_many_as_asked_for(tools, n, n_negative):
    wiring = Wiring(8, 8, np.arange(16) // 2, np.arange(16) % 8)
    model = tools.Net([wiring])
    values = [-1.0] * 4 + [1.0] * 12
    set_weights(model, values)
    gone = look(tools, model, lambda site: SignedMagnitude().drop(site, n, np.ones(16, dtype=bool)), lr=0.0)
    assert len(set(gone.tolist())) == n
    assert sum(values[k] < 0 for k in gone) == n_negative


def test_only_what_may_go_goes(tools):
    wiring = Wiring(8, 8, np.arange(16) // 2, np.arange(16) % 8)
    model = tools.Net([wiring])
    set_weights(model, [float(k) - 7.5 for k in range(16)])
    eligible = np.arange(16) % 2 == 0
    for rule, expected in (
        (Magnitude(), [6, 8, 10]),
        (SignedMagnitude(), None),
        (Random(), None),
    ):
        model = tools.Net([wiring])
        set_weights(model, [float(k) - 7.5 for k in range(16)])
        gone = look(tools, model, lambda site, rule=rule: rule.drop(site, 3, eligible), lr=0.0)
        assert len(set(gone.tolist())) == 3
        assert all(eligible[gone])
        assert expected is None or set(gone.tolist()) == set(expected)


@pytest.mark.parametrize("rule", [Magnitude(), SignedMagnitude(), Sensitivity(), MagnitudeAndGradient(), Gradient()])
def test_ties_are_broken_by_chance(tools, rule):
    """All weights equal and no gradient anywhere: exactly n go, and over many draws each as often as the others."""
    wiring = ErdosRenyi(0.5, exact=True).wire(4, 8, generator=torch.Generator().manual_seed(0))
    model = tools.Net([wiring])
    set_weights(model, [0.5] * 16)
    with torch.no_grad():
        model.head.weight.zero_()

    def often(site):
        return np.bincount(
            np.concatenate([rule.drop(site, 5, np.ones(16, dtype=bool)) for _ in range(800)]), minlength=16
        )

    counts = look(tools, model, often, rule=rule, lr=0.0)
    assert counts.sum() == 4000
    # binomial(800, 5/16): mean 250, standard deviation 13
    assert abs(counts - 250).max() < 66


def test_a_weight_that_is_not_a_number_breaks_nothing(tools):
    wiring = ErdosRenyi(0.5, exact=True).wire(4, 8, generator=torch.Generator().manual_seed(0))
    model = tools.Net([wiring])
    set_weights(model, [math.nan] * 4 + [0.1 * k for k in range(12)])
    gone = look(tools, model, lambda site: Magnitude().drop(site, 7, np.ones(16, dtype=bool)), lr=0.0)
    assert len(set(gone.tolist())) == 7


def test_a_large_grid_is_scored_in_parts(tools):
    """More cells than are scored at once: the largest of all parts come."""
    generator = torch.Generator().manual_seed(0)
    wiring = ErdosRenyi(0.01, exact=True).wire(900, 1000, generator=generator)
    model = nn.Sequential(SparseLinear(wiring, generator=generator), nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x = torch.randn(5, 900, generator=generator)
    for grow in (Gradient(), Hebbian()):
        before = model[0].wiring
        rewirer = Rewirer(model, optimizer, prune=Random(), grow=grow, schedule=Schedule(every=1, fraction=0.5))
        optimizer.zero_grad()
        post = model(x)
        (post.square().sum() / 2).backward()
        (event,) = rewirer.step()
        assert event.n_blocks == 9000
        assert event.dropped == 4500
        with torch.no_grad():
            if isinstance(grow, Gradient):
                dense = ((post * (1 - post**2)).T @ x).abs()
            else:
                dense = (post / post.norm(dim=0)).T @ (x / x.norm(dim=0))
        old, new = tools.cells_of(before), tools.cells_of(model[0].wiring)
        came = new - old
        assert len(came) == event.came
        tools.assert_largest(came, set(range(900_000)) - (old & new), dense, event.came)


# The wording of errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hebbian(window=0), "Hebbian: window must be at least 1, got 0"),
        (lambda: Contribution(window=0), "Contribution: window must be at least 1, got 0"),
        (lambda: Momentum(window=0), "Momentum: window must be at least 1, got 0"),
        (lambda: Momentum(decay=0.0), r"Momentum: decay must lie in \(0, 1\), got 0"),
        (lambda: Momentum(decay=1.0), r"Momentum: decay must lie in \(0, 1\), got 1"),
        (lambda: MagnitudeAndGradient(-1.0), "MagnitudeAndGradient: coefficient must be at least 0, got -1"),
        (lambda: CannistraciHebb(4), "CannistraciHebb: order must be 2 or 3, got 4"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            Hebbian(),
            "Hebbian needs the (input|activity) of layer 'layers.0' in the step before, none was recorded; try",
        ),
        (Gradient(), "Gradient needs the (output gradient|input) of layer 'layers.0' in the step before"),
        (Momentum(), "Momentum needs the (output gradient|input) of layer 'layers.0' in the step before"),
    ],
)
def test_nothing_was_recorded(tools, rule, message):
    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(4, 8, generator=torch.Generator().manual_seed(0))])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=rule, schedule=Schedule(every=1))
    with pytest.raises(ValueError, match=message):
        rewirer.step()


@pytest.mark.parametrize("rule", [Gradient(), Momentum()])
def test_nothing_came_back(tools, rule):
    """A forward pass alone leaves no gradient."""
    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(4, 8, generator=torch.Generator().manual_seed(0))])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=rule, schedule=Schedule(every=1))
    model(torch.rand(2, 4))
    with pytest.raises(ValueError, match="needs the output gradient of layer 'layers.0' in the step before, none was"):
        rewirer.step()


@pytest.mark.parametrize("rule", [MagnitudeAndGradient(), Sensitivity()])
def test_gradients_were_cleared_too_early(tools, rule):
    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(4, 8, generator=torch.Generator().manual_seed(0))])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=rule, grow=Random(), schedule=Schedule(every=1))
    tools.learn(model, optimizer, torch.Generator().manual_seed(0))
    optimizer.zero_grad()
    with pytest.raises(ValueError, match="needs the gradient of layer 'layers.0', there is none; try zero_grad after"):
        rewirer.step()


def test_a_rule_that_cannot_score_says_so(tools):
    class Half(Rule):
        can_grow = True

    model = tools.Net([ErdosRenyi(0.5, exact=True).wire(4, 8, generator=torch.Generator().manual_seed(0))])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=Half(), schedule=Schedule(every=1))
    with pytest.raises(NotImplementedError, match="Half does not score connections that are not there"):
        rewirer.step()
