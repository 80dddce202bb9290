"""Rules put together from others: how many each chooses, and how often chance chooses what."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.connect import ErdosRenyi, Wiring
from neuropil.rewire import (
    CannistraciHebb,
    Gradient,
    Hebbian,
    Magnitude,
    Mixture,
    Momentum,
    Random,
    Rewirer,
    Rule,
    Sampled,
    Schedule,
    Sensitivity,
    SignedMagnitude,
)


class ByHand(Rule):
    """Scores that a test gives: one for each live block, one for each cell; a log of what was asked for."""

    can_prune = can_grow = True

    def __init__(self, *, live=None, cells=None):
        self.of_live, self.of_cells = live, cells
        self.dropped, self.grown = [], []

    def live(self, site):
        return np.asarray(self.of_live, dtype=np.float32)

    def grid(self, site):
        grid = np.asarray(self.of_cells, dtype=np.float32).reshape(site.wiring.grid)
        return lambda rows: grid[rows]

    def drop(self, site, n, eligible):
        self.dropped.append(super().drop(site, n, eligible))
        return self.dropped[-1]

    def grow(self, site, pool, n):
        self.grown.append(super().grow(site, pool, n))
        return self.grown[-1]


def event(tools, wiring, prune, grow, *, fraction=0.5, steps=2, repeat=1, seed=0):
    """Rewire once without learning; return the rewirer's events and the layer."""
    model = tools.Net([wiring])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rewirer = Rewirer(
        model,
        optimizer,
        prune=prune,
        grow=grow,
        schedule=Schedule(every=1, fraction=fraction),
        generator=torch.Generator().manual_seed(seed),
    )
    rewirer.set_length(epochs=1, steps_per_epoch=steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(repeat):
        tools.learn(model, optimizer, generator)
        events = rewirer.step()
    return events, model.layers[0]


def a_wiring(n_blocks=30, shape=(6, 10)):
    cells = torch.randperm(shape[0] * shape[1], generator=torch.Generator().manual_seed(0))[:n_blocks].numpy()
    return Wiring(shape[1], shape[0], cells // shape[1], cells % shape[1])


# Mixture


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
    st.sampled_from([0.04, 0.1, 0.35, 0.5, 0.9]),
)
def test_a_mixture_shares_out_what_is_asked_for(tools, shares, fraction):
    wiring = a_wiring()
    parts = [ByHand(live=np.random.default_rng(i).random(30), cells=np.random.default_rng(i).random(60))
             for i in range(len(shares))]  # fmt: skip
    mixture = Mixture(tuple(zip(parts, shares, strict=True)))
    (done,), layer = event(tools, wiring, mixture, mixture, fraction=fraction)
    n = int(fraction * 30)
    assert done.dropped == n
    assert layer.wiring.n_blocks == 30
    for chosen in ([part.dropped[0] for part in parts], [part.grown[0] for part in parts]):
        assert len(set(np.concatenate(chosen).tolist())) == n  # what one has taken no other takes
        for share, own in zip(shares, chosen, strict=True):
            assert abs(len(own) - n * share / sum(shares)) <= len(shares) / 2


def test_each_part_chooses_from_what_those_before_have_left(tools):
    wiring = a_wiring()
    parts = [ByHand(live=np.arange(30.0), cells=np.arange(60.0)) for _ in range(3)]
    event(tools, wiring, Mixture(tuple((part, 1.0) for part in parts)), Random(), fraction=0.5)
    assert [sorted(part.dropped[0].tolist()) for part in parts] == [[*range(5)], [*range(5, 10)], [*range(10, 15)]]


def test_g2gs_three(tools):
    """A third by magnitude, a third at random, a third by correlation, in this order."""
    wiring = a_wiring()
    first, last = ByHand(live=np.arange(30.0)), ByHand(live=-np.arange(30.0))
    random = Mixture(((Random(), 1),))
    three = Mixture(((first, 1), (random, 1), (last, 1)))
    (done,), _ = event(tools, wiring, three, Random(), fraction=0.4)
    assert done.dropped == 12
    assert sorted(first.dropped[0].tolist()) == [0, 1, 2, 3]
    assert len(last.dropped[0]) == 4
    assert set(last.dropped[0].tolist()) <= set(range(22, 30))  # the last ones, less those that chance took


def test_what_a_mixture_can_do():
    both = Mixture(((Hebbian(window=3), 1), (Gradient(), 2)))
    assert both.can_prune
    assert both.can_grow
    assert both.needs == {"pre", "post", "gradient"}
    assert both.window == 3
    assert not both.needs_progress
    assert not Mixture(((Magnitude(), 1), (Random(), 1))).can_grow
    assert not Mixture(((CannistraciHebb(), 1), (Random(), 1))).can_prune
    assert Mixture(((Sampled(Magnitude(), (1.0, 3.0)), 1), (Random(), 1))).needs_progress


# Sampled


def test_sampled_has_what_its_rule_has():
    rule = Sampled(Momentum(window=4), (1.0, 2.0))
    assert rule.can_prune
    assert rule.can_grow
    assert rule.needs == {"pre", "gradient"}
    assert rule.window == 4
    assert rule.needs_progress
    assert not Sampled(Magnitude()).can_grow
    assert not Sampled(Magnitude(), (2.0, 2.0)).needs_progress


def test_progress_counts_however_deep():
    """A rule whose choice depends on progress still needs to know how long training is when others hold it."""
    inner = Sampled(Magnitude(), (1.0, 3.0))
    assert Mixture(((inner, 1.0),)).needs_progress
    assert Sampled(Mixture(((inner, 1.0),))).needs_progress


class Count(Rule):
    """Prunes by magnitude; before that, lets another rule choose again and again, and counts what it chooses."""

    can_prune = can_grow = True
    needs_progress = True

    def __init__(self, rule, n, times):
        self.rule, self.n, self.times = rule, n, times

    def drop(self, site, n, eligible):
        draws = [self.rule.drop(site, self.n, eligible) for _ in range(self.times)]
        self.counts = np.bincount(np.concatenate(draws), minlength=site.wiring.n_blocks)
        return Magnitude().drop(site, n, eligible)

    def grow(self, site, pool, n):
        draws = [self.rule.grow(site, pool, self.n) for _ in range(self.times)]
        cells = site.wiring.grid[0] * site.wiring.grid[1]
        self.counts = np.bincount(np.concatenate(draws), minlength=cells)
        return Random().grow(site, pool, n)


def kept_by_drawing(worth, n):
    """Probability that each of a few is among n drawn one after the other, in proportion to their worth."""
    chance = np.zeros(len(worth))

    def draw(left, taken, probability):
        if len(taken) == n:
            chance[list(taken)] += probability
            return
        total = sum(worth[k] for k in left)
        for k in left:
            draw([other for other in left if other != k], (*taken, k), probability * worth[k] / total)

    draw(list(range(len(worth))), (), 1.0)
    return chance


def assert_frequencies(counts, times, chance):
    spread = np.sqrt(times * chance * (1 - chance))
    np.testing.assert_array_less(np.abs(counts - times * chance), 4.5 * spread + 1e-9)


@pytest.mark.parametrize(("temperature", "steps", "power"), [((1.0, 1.0), 2, 1), ((2.0, 2.0), 2, 2), ((1.0, 3.0), 2, 2),
                                                             ((1.0, 3.0), 4, 1.5), ((2.0, 1.0), 4, 1.75)])  # fmt: skip
@pytest.mark.parametrize("n", [1, 2, 3])
def test_what_stays_is_drawn_in_proportion(tools, temperature, steps, power, n):
    """The first of ``steps`` steps: the temperature is 1/steps on its way."""
    worth = np.array([0.5, 1.0, 1.5, 3.0])
    wiring = Wiring(4, 3, [0, 0, 1, 2], [0, 1, 2, 3])
    rule = Count(Sampled(ByHand(live=worth), temperature), n, 1500)
    event(tools, wiring, rule, Random(), steps=steps)
    assert_frequencies(1500 - rule.counts, 1500, kept_by_drawing(worth**power, 4 - n))


@pytest.mark.parametrize("n", [1, 2])
def test_what_comes_is_drawn_in_proportion(tools, n):
    wiring = Wiring(2, 3, [0, 1], [0, 1])
    worth = [9.0, 1.0, 2.0, 9.0, 3.0, 0.0]  # cells 0 and 3 are connected; cell 5 is worth nothing
    rule = Count(Sampled(ByHand(cells=worth)), n, 1500)
    event(tools, wiring, Magnitude(), rule, fraction=0.1)
    assert_frequencies(rule.counts[[1, 2, 4]], 1500, kept_by_drawing([1.0, 2.0, 3.0], n))
    assert rule.counts[[0, 3, 5]].tolist() == [0, 0, 0]


def test_weights_of_zero_are_drawn_too(tools):
    """Where all is worth nothing, exactly as many are chosen, each as often as the others."""
    wiring = a_wiring(20)
    rule = Count(Sampled(ByHand(live=np.zeros(20))), 5, 800)
    event(tools, wiring, rule, Random())
    assert rule.counts.sum() == 4000
    assert_frequencies(rule.counts, 800, np.full(20, 0.25))


# Random


def test_random_choices_are_fair(tools):
    """Both ways, and the cells that were just dropped are as likely as any."""
    wiring = a_wiring(30)
    prune, grow = Count(Random(), 6, 1000), Count(Random(), 9, 1000)
    event(tools, wiring, prune, grow, fraction=0.5)
    assert_frequencies(prune.counts, 1000, np.full(30, 0.2))
    weights = tools.Net([wiring]).layers[0].dense_weight().detach().abs()
    live = weights[wiring.mask()]
    stays = (weights > live.median()).ravel().numpy()  # Magnitude has dropped the smaller half
    assert stays.sum() == 15
    assert_frequencies(grow.counts[~stays], 1000, np.full(45, 0.2))
    assert not grow.counts[stays].any()


@pytest.mark.parametrize(
    "rule",
    [Magnitude(), SignedMagnitude(), Sensitivity(), Hebbian(), CannistraciHebb(2), Mixture(((Magnitude(), 1.0),)),
     Sampled(Magnitude(), (1.0, 2.0))],
)  # fmt: skip
def test_rules_are_values(rule):
    import copy
    import pickle

    for other in (copy.deepcopy(rule), pickle.loads(pickle.dumps(rule))):
        assert other == rule
        assert hash(other) == hash(rule)
        assert other.needs == rule.needs
        assert other.can_prune == rule.can_prune
    with pytest.raises(AttributeError):
        rule.needs = frozenset()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture(()), r"Mixture: parts must be pairs of a rule and a share above 0, got \(\)"),
        (
            lambda: Mixture(((Random(), 1.0), (Random(), 0.0))),
            "Mixture: parts must be pairs of a rule and a share above 0",
        ),
        (lambda: Sampled(Magnitude(), (0.0, 1.0)), r"temperature must be two numbers above 0, .* got \(0\.0, 1\.0\)"),
        (
            lambda: Sampled(Magnitude(), (1.0,)),
            r"temperature must be two numbers above 0, at start and end, got \(1\.0,\)",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rule", [Random(), ByHand(cells=[0.0] * 60), Mixture(((Random(), 1), (Random(), 1)))])
def test_everything_may_be_asked_for(tools, rule):
    """A layer with one dead cell, of which nearly all goes: all that is dead comes."""
    wiring = ErdosRenyi(59 / 60, exact=True).wire(10, 6, generator=torch.Generator().manual_seed(0))
    (done,), layer = event(tools, wiring, Random(), rule, fraction=0.99)
    assert done.dropped == 58
    assert layer.wiring.n_blocks == 59
    assert done.came == done.went <= 1
