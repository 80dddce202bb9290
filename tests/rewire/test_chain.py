"""Connections that lead nowhere, against a loop that takes them away one after the other."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, Wiring
from neuropil.rewire import CannistraciHebb, Cubic, Limits, Magnitude, Random, Rewirer, Schedule


def naive_chains(tools, wirings, left):
    """Take blocks away that lead from or to a neuron without a way on, until there are none; return what is left."""
    left = [set(cells) for cells in left]
    changed = True
    while changed:
        changed = False
        for k, (first, second) in enumerate(pairwise(wirings)):
            reached = {o for cell in left[k] for o in tools.members(first, *divmod(cell, first.grid[1]))[0]}
            read = {i for cell in left[k + 1] for i in tools.members(second, *divmod(cell, second.grid[1]))[1]}
            useless = (
                {cell for cell in left[k] if not set(tools.members(first, *divmod(cell, first.grid[1]))[0]) & read},
                {cell for cell in left[k + 1]
                 if not set(tools.members(second, *divmod(cell, second.grid[1]))[1]) & reached},
            )  # fmt: skip
            for cells, gone in zip(left[k : k + 2], useless, strict=True):
                changed = changed or bool(gone)
                cells -= gone
    return left


@st.composite
def chains(draw):
    """Three layers, one after the other, of any blocks."""
    sizes = [draw(st.integers(6, 12)) for _ in range(4)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    wirings = []
    for n_in, n_out in pairwise(sizes):
        pattern = Ensembles(
            n_groups=draw(st.integers(1, 3)),
            p_intra=0.7,
            p_inter=0.4,
            grouping=draw(st.sampled_from(["index", "interleaved", "random"])),
            block=draw(st.sampled_from([(1, 1), (2, 1), (2, 2), ("group", 1)])),
            uneven=True,
        )
        wirings.append(pattern.wire(n_in, n_out, generator=generator))
    return wirings


@given(chains(), st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=30)
def test_nothing_is_left_that_leads_nowhere(tools, wirings, keep):
    """Gradual pruning alone: the smallest go, and then all that leads nowhere."""
    model = tools.Net(wirings)
    n_cells = [wiring.grid[0] * wiring.grid[1] for wiring in wirings]
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=0.01, until=1.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    limits = Limits(chain_removal=True)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=None, schedule=schedule, limits=limits)
    n_steps = 10
    rewirer.set_length(epochs=1, steps_per_epoch=n_steps)
    progress = 1 / n_steps
    left, dropped = [], []
    for layer, wiring, cells in zip(model.layers, wirings, n_cells, strict=True):
        initial = wiring.n_blocks / cells
        target = max(1, round((0.01 + (initial - 0.01) * (1 - progress) ** 3) * cells))
        worth = tools.by_block(wiring, layer.dense_weight().detach().abs()).ravel()
        ranked = sorted(tools.cells_of(wiring), key=lambda cell: -worth[cell])
        left.append(ranked[:target])
        dropped.append(len(ranked) - len(left[-1]))
    expected = naive_chains(tools, wirings, left)
    events = rewirer.step()
    assert [tools.cells_of(layer.wiring) for layer in model.layers] == expected
    # what the rule took is told apart from what went besides
    assert [event.dropped for event in events] == dropped
    assert [event.went for event in events] == [
        wiring.n_blocks - len(cells) for wiring, cells in zip(wirings, expected, strict=True)
    ]


def test_a_chain_by_hand(tools):
    """a → b → c: once b → c is gone nothing needs a → b, and once that is gone nothing reaches what follows."""
    first = Wiring(3, 3, [0, 1, 2], [0, 1, 2])
    second = Wiring(3, 3, [0, 1, 2], [0, 1, 2])
    third = Wiring(3, 3, [0, 1, 2], [0, 1, 2])
    for chain_removal, left in ((False, [3, 2, 3]), (True, [2, 2, 2])):
        model = tools.Net([first, second, third])
        with torch.no_grad():
            for layer in model.layers:
                layer.weight.copy_(torch.eye(3))
            model.layers[1].weight[0, 0] = 0.1
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        limits = Limits(chain_removal=chain_removal)
        schedule = Schedule(every=1, fraction=0.34)
        rewirer = Rewirer(
            model, optimizer, prune=_Only(["layers.1"]), grow=_Nothing(), schedule=schedule, limits=limits
        )
        rewirer.step()
        assert [layer.wiring.n_blocks for layer in model.layers] == left


class _Only(Magnitude):
    """Magnitude on some layers, nothing on the others."""

    def __init__(self, names):
        object.__setattr__(self, "names", names)

    def drop(self, site, n, eligible):
        return super().drop(site, n if site.name in self.names else 0, eligible)


class _Nothing(Random):
    """Grows nothing, though it could."""

    def grow(self, site, pool, n):
        return super().grow(site, pool, 0)


def test_pruning_until_nothing_leads_anywhere(tools):
    """A layer cannot be left without a single connection."""
    model = tools.Net([Wiring(2, 2, [0, 1], [0, 1]), Wiring(2, 2, [0, 1], [0, 1])])
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.diag(torch.tensor([1.0, 0.1])))
        model.layers[1].weight.copy_(torch.diag(torch.tensor([0.1, 1.0])))  # the other one
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = Schedule(every=1, fraction=None, density=Cubic(to=0.25, until=0.1))
    limits = Limits(chain_removal=True)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=None, schedule=schedule, limits=limits)
    rewirer.set_length(epochs=1, steps_per_epoch=10)
    rewirer.step()
    assert [layer.wiring.n_blocks for layer in model.layers] == [1, 1]


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_chains_stay(tools, frozen):
    wirings = [Wiring(3, 3, [0, 1, 2], [0, 1, 2]) for _ in range(2)]
    model = tools.Net(wirings)
    with torch.no_grad():
        for layer in model.layers:
            layer.weight.copy_(torch.eye(3) * torch.tensor([0.1, 1.0, 1.0]))
    mask = torch.eye(3, dtype=torch.bool)
    limits = Limits(chain_removal=True, frozen={"layers.0": mask} if frozen else {})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = Schedule(every=1, fraction=0.34)
    rewirer = Rewirer(model, optimizer, prune=_Only(["layers.1"]), grow=_Nothing(), schedule=schedule, limits=limits)
    rewirer.step()
    assert model.layers[1].wiring.n_blocks == 2
    assert model.layers[0].wiring.n_blocks == (3 if frozen else 2)


@given(chains(), st.sampled_from([Random(), CannistraciHebb()]), st.sampled_from([0.2, 0.6]))
@settings(max_examples=20)
def test_what_chains_lose_is_grown_again(tools, wirings, grow, fraction):
    model = tools.Net(wirings)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    limits, schedule = Limits(chain_removal=True), Schedule(every=1, fraction=fraction)
    rewirer = Rewirer(model, optimizer, prune=Magnitude(), grow=grow, schedule=schedule, limits=limits)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        tools.learn(model, optimizer, generator)
        live = [layer.wiring.n_blocks for layer in model.layers]
        events = rewirer.step()
        assert [layer.wiring.n_blocks for layer in model.layers] == live
        assert [event.dropped for event in events] == [int(fraction * n) for n in live]
        for layer in model.layers:
            tools.assert_sound(layer)


@pytest.mark.parametrize("between", [nn.ReLU(), nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(8))])
def test_only_layers_that_follow_upon_each_other_form_chains(between):
    """A dense layer in between reads every neuron and reaches every one."""
    generator = torch.Generator().manual_seed(0)
    layers = [SparseLinear(Wiring(8, 8, np.arange(8), np.arange(8)), generator=generator) for _ in range(2)]
    model = nn.Sequential(layers[0], between, layers[1])
    with torch.no_grad():
        layers[1].weight[0, 0] = 1e-4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rewirer = Rewirer(
        model,
        optimizer,
        prune=_Only(["2"]),
        grow=_Nothing(),
        schedule=Schedule(every=1, fraction=0.13),
        limits=Limits(chain_removal=True),
    )
    rewirer.step()
    assert layers[1].wiring.n_blocks == 7
    assert layers[0].wiring.n_blocks == (8 if isinstance(between, nn.Linear) else 7)


def test_layers_of_other_sizes_form_no_chain():
    generator = torch.Generator().manual_seed(0)
    layers = [SparseLinear(ErdosRenyi(0.2, exact=True).wire(n, 8, generator=generator)) for n in (8, 16)]
    model = nn.Sequential(layers[0], nn.Flatten(), layers[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = Schedule(every=1, fraction=0.5)
    rewirer = Rewirer(
        model, optimizer, prune=Random(), grow=_Nothing(), schedule=schedule, limits=Limits(chain_removal=True)
    )
    rewirer.step()
    assert [layer.wiring.n_blocks for layer in layers] == [7, 13]
