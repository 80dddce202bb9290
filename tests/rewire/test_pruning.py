"""Magnitude pruning with retraining: what goes, what is kept, what is set back, against loops over dense masks."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil import data, models
from neuropil.connect import ErdosRenyi, SparseConv2d, SparseLinear, densify, sparsify
from neuropil.rewire import (
    Magnitude,
    Random,
    Rewind,
    Rewirer,
    Rounds,
    Schedule,
    iterative_magnitude,
    lottery_ticket,
    magnitude_masks,
    one_shot,
    with_wirings,
)
from neuropil.train import fit


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


BLOCKS = [(1, 1), (2, 1), (3, 2)]


def dense_net(seed=0):
    """Sixty-four weights that are pruned, normalization, and a read-out that is not."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    return net


def full(net, block=(1, 1), skip=("5",)):
    """The same net, its layers sparse with all connections."""
    return with_wirings(net, magnitude_masks(net, density=1.0, block=block, skip=skip))


def learn(net, optimizer, step):
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()


def run(net, rewiring, n_steps, *, optimizer=None, look=None):
    optimizer = optimizer or torch.optim.Adam(net.parameters(), lr=0.02)
    rewirer = rewiring.attach(net, optimizer, generator=torch.Generator().manual_seed(9))
    rewirer.set_length(epochs=1, steps_per_epoch=n_steps)
    for step in range(1, n_steps + 1):
        learn(net, optimizer, step)
        if look is not None:
            look(step)
        rewirer.step()
    return rewirer


def tile_means(values, block):
    """The mean of each tile, in its place; layers here have sizes that blocks divide."""
    rows, columns = block
    tiles = values.view(values.shape[0] // rows, rows, values.shape[1] // columns, columns).mean((1, 3), keepdim=True)
    return tiles.expand(-1, rows, -1, columns).reshape(values.shape)


def masked_twin(n_steps, events, densities, block, *, rewind_to=None):
    """Masks on dense layers, all layers by one threshold; returns the net after its last step."""
    net = dense_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    weights = [net[0].weight, net[3].weight]
    masks = [torch.ones_like(w) for w in weights]
    kept = copy.deepcopy(net.state_dict()) if rewind_to == 0 else None
    for step in range(1, n_steps + 1):
        learn(net, optimizer, step)
        with torch.no_grad():
            for w, mask in zip(weights, masks, strict=True):
                w.mul_(mask)
                optimizer.state[w]["exp_avg"].mul_(mask)
        if step == rewind_to:
            kept = copy.deepcopy(net.state_dict())
        if step in events:
            worth = [tile_means(w.detach().abs(), block) - 9 * (1 - m) for w, m in zip(weights, masks, strict=True)]
            n = round(densities[events.index(step)] * sum(w.numel() for w in weights))
            border = torch.cat([w.flatten() for w in worth]).sort(descending=True).values[n - 1]
            masks = [(w >= border).float() for w in worth]
            with torch.no_grad():
                if kept is not None:
                    net.load_state_dict(kept)
                    optimizer.state.clear()
                for w, mask in zip(weights, masks, strict=True):
                    w.mul_(mask)
                    for key in ("exp_avg", "exp_avg_sq") if kept is None else ():
                        optimizer.state[w][key].mul_(mask)
            if kept is not None:
                optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    return net


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("rewiring", "events", "densities", "rewind_to"),
    [
        (one_shot(0.25, after=7), [7], [0.25], None),
        (one_shot(0.25, after=0.5), [10], [0.25], None),
        (iterative_magnitude(0.125, rounds=3), [5, 10, 15], [0.5, 0.25, 0.125], None),
        (iterative_magnitude(0.25, rounds=2, every=4), [4, 8], [0.5, 0.25], None),
        (lottery_ticket(0.125, rounds=3), [5, 10, 15], [0.5, 0.25, 0.125], 0),
        (lottery_ticket(0.25, rounds=2, every=6, rewind_to=3), [6, 12], [0.5, 0.25], 3),
        (lottery_ticket(0.25, rounds=2, rewind_to=0.1), [7, 14], [0.5, 0.25], 2),
    ],
)
def test_equals_a_loop_over_masks(rewiring, events, densities, rewind_to, block):
    net = full(dense_net(), block)
    rewirer = run(net, rewiring, 20)
    assert [event.step for event in rewirer.history][::2] == events
    twin = masked_twin(20, events, densities, block, rewind_to=rewind_to)
    for name, value in densify(net).state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=2e-4, atol=2e-5, msg=name)


def test_those_that_stay_keep_weights_and_moments():
    net = full(dense_net())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    before = {}

    def look(step):
        if step == 6:
            before.update({id(p): [p.detach().clone(), *(v.clone() for v in optimizer.state[p].values())]
                           for p in net.parameters()})  # fmt: skip

    rewirer = one_shot(0.5, after=6).attach(net, optimizer)
    for step in range(1, 7):
        learn(net, optimizer, step)
        look(step)
        rewirer.step()
    for parameter in net.parameters():
        now = [parameter.detach(), *optimizer.state[parameter].values()]
        stays = (parameter != 0) if parameter is net[0].weight or parameter is net[3].weight else ...
        for old, new in zip(before[id(parameter)], now, strict=True):
            assert torch.equal(old, new) if new.dim() == 0 else torch.equal(old[stays], new[stays])
    assert sum(layer.wiring.n_connections for layer in (net[0], net[3])) == 72


def test_by_layer_every_layer_has_the_same_density():
    net = full(dense_net())
    rewirer = run(net, iterative_magnitude(0.25, rounds=2, scope="layer"), 9)
    assert [(event.step, event.n_blocks) for event in rewirer.history] == [(3, 36), (3, 36), (6, 18), (6, 18)]


def test_rounds_that_start_sparser_end_where_they_started():
    generator = torch.Generator().manual_seed(0)
    net = sparsify(dense_net(), ErdosRenyi(0.25, exact=True), skip=("5",), generator=generator)
    rewirer = run(net, iterative_magnitude(0.5, rounds=2), 9)
    assert {event.went for event in rewirer.history} == {0}
    assert [Rounds(0.5, 2).after(k, 0.25) for k in range(3)] == [0.25] * 3


# Going back


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)])
def test_all_of_the_model_goes_back_and_the_optimizer_forgets(optimizer):
    net = full(dense_net())
    start = copy.deepcopy(densify(net).state_dict())
    optimizer = optimizer(net.parameters(), lr=0.05)
    rewirer = lottery_ticket(0.25, rounds=1, every=5).attach(net, optimizer)
    for step in range(1, 6):
        learn(net, optimizer, step)
        rewirer.step()
    masks = {f"{name}.weight": net.get_submodule(name).wiring.mask() for name in ("0", "3")}
    for name, value in densify(net).state_dict().items():
        expected = start[name] * masks[name] if name in masks else start[name]
        assert torch.equal(value, expected), name
    assert start["1.num_batches_tracked"] == 0
    assert not optimizer.state
    learn(net, optimizer, 6)
    assert rewirer.step() == []


def test_redrawn_tickets_have_the_same_wiring_and_other_weights():
    nets, start = {}, densify(full(dense_net())).state_dict()
    for redraw in (False, True):
        net = full(dense_net(), (2, 1))
        seen = []
        rewiring = lottery_ticket(0.125, rounds=3, rewind_to=2, redraw=redraw)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        rewirer = rewiring.attach(net, optimizer, generator=torch.Generator().manual_seed(4))
        rewirer.set_length(epochs=1, steps_per_epoch=20)
        for step in range(1, 16):
            learn(net, optimizer, step)
            rewirer.step()
            seen.append(densify(net).state_dict())
        nets[redraw] = net, seen
    (ticket, seen), (redrawn, seen_too) = nets[False], nets[True]
    assert ticket[0].wiring == redrawn[0].wiring
    assert ticket[3].wiring == redrawn[3].wiring
    for before, before_too in zip(seen[:-1], seen_too[:-1], strict=True):  # one way until the last round
        assert all(torch.equal(before[name], before_too[name]) for name in before)
    last = seen_too[-1]
    for name in ("0.weight", "3.weight"):
        drawn, pool = last[name][last[name] != 0].tolist(), start[name].flatten().tolist()
        assert len(set(drawn)) == len(drawn)
        assert set(drawn) <= set(pool)
        assert not torch.equal(last[name], seen[-1][name])
    assert sorted(last["5.weight"].flatten().tolist()) == sorted(start["5.weight"].flatten().tolist())
    assert not torch.equal(last["5.weight"], start["5.weight"])
    for name in ("0.bias", "1.weight", "1.running_mean", "1.num_batches_tracked"):
        assert torch.equal(last[name], start[name]), name


def test_a_stored_state_must_be_of_the_same_model():
    net, other = full(dense_net()), full(dense_net(), skip=("3", "5"))
    ways = [lottery_ticket(0.5, rounds=1), lottery_ticket(0.5, rounds=1, redraw=True)]
    rewirers = [
        way.attach(one, torch.optim.SGD(one.parameters(), lr=0.1)) for way, one in zip(ways, (net, net), strict=True)
    ]
    with pytest.raises(ValueError, match="what is kept for rewinding must be of this model, got that of another"):
        rewirers[1].load_state_dict(rewirers[0].state_dict())
    plain = one_shot(0.5).attach(other, torch.optim.SGD(other.parameters(), lr=0.1))
    assert not any(key.startswith("rewind.") for key in plain.state_dict())


# Choosing outside of training


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("block", BLOCKS)
def test_masks_are_those_of_the_largest_weights(scope, block):
    net = dense_net()
    wirings = magnitude_masks(net, density=0.25, scope=scope, block=block, skip=("5",))
    worth = {name: tile_means(net.get_submodule(name).weight.detach().abs(), block) for name in ("0", "3")}
    groups = [["0", "3"]] if scope == "global" else [["0"], ["3"]]
    for names in groups:
        values = torch.cat([worth[name].flatten() for name in names])
        border = values.sort(descending=True).values[round(0.25 * len(values)) - 1]
        for name in names:
            assert torch.equal(wirings[name].mask(), worth[name] >= border)


def image_net():
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3)
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    return net


def test_single_weights_of_convolutions_go_again_and_again():
    net = image_net()
    x = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    first = with_wirings(net, magnitude_masks(net, density=0.5))
    assert isinstance(first[0], SparseConv2d)
    assert isinstance(first[4], SparseLinear)
    assert type(first[2]) is nn.Conv2d  # has groups
    second = with_wirings(first, magnitude_masks(first, density=0.25))
    again = with_wirings(net, magnitude_masks(first, density=0.25))  # the ticket: names are those of the dense net
    masked = copy.deepcopy(net)
    with torch.no_grad():
        weights = [masked[0].weight, masked[4].weight]
        border = torch.cat([w.abs().flatten() for w in weights]).sort(descending=True).values[30 - 1]
        for w in weights:
            w.mul_(w.abs() >= border)
        assert first[0].wiring.n_connections + first[4].wiring.n_connections == 60
        torch.testing.assert_close(second(x), masked(x))
        torch.testing.assert_close(again(x), masked(x))


def test_any_model_made_ready_is_pruned_in_training():
    net = with_wirings(image_net(), magnitude_masks(image_net(), density=1.0))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    rewirer = one_shot(0.25, after=1).attach(net, optimizer)
    net(torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))).sum().backward()
    optimizer.step()
    assert {event.layer for event in rewirer.step()} == {"0.synapses", "4"}
    assert net[0].wiring.n_connections + net[4].wiring.n_connections == 30


def broken():
    net = dense_net()
    nn.init.constant_(net[3].weight, float("inf"))
    return net


def with_rewind(**settings):
    net = full(dense_net())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return Rewirer(net, optimizer, prune=Magnitude(), **{"grow": None, **settings})


def started(rewiring, n_steps):
    net = full(dense_net())
    rewirer = rewiring.attach(net, torch.optim.SGD(net.parameters(), lr=0.1))
    rewirer.set_length(epochs=1, steps_per_epoch=n_steps)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: magnitude_masks(nn.ReLU(), density=0.5), "magnitude_masks: the model must have an nn.Linear, an nn.C"),
        (lambda: magnitude_masks(dense_net(), density=0.0), "magnitude_masks: density must lie in (0, 1], got 0.0"),
        (lambda: magnitude_masks(dense_net(), density=1.5), "magnitude_masks: density must lie in (0, 1], got 1.5"),
        (lambda: magnitude_masks(broken(), density=0.5), "magnitude_masks: every score must be finite, got inf"),
        (
            lambda: magnitude_masks(dense_net(), density=0.5, scope="net"),
            "magnitude_masks: scope must be layer or global, got 'net'",
        ),
        (
            lambda: magnitude_masks(full(dense_net()), density=0.5, skip=("0", "3", "5")),
            "magnitude_masks: the model must have an nn.Linear, an nn.Conv2d, or a sparse layer, got only skipped ones",
        ),
        (lambda: one_shot(1.5), "Rounds: to must be a density in (0, 1], got 1.5"),
        (lambda: one_shot(0.5, after=1.5), "Schedule: at must be shares of training that rise within (0, 1), got (1.5,)"),
        (lambda: one_shot(0.5, after=0), "Schedule: every must be a whole number of at least 1 step, got 0"),
        (lambda: one_shot(0.5, scope="net"), "Rounds: scope must be layer or global, got 'net'"),
        (lambda: iterative_magnitude(0.5, rounds=0), "Rounds: n must be a whole number of at least 1 event, got 0"),
        (lambda: Schedule(every=3, at=(0.5,)), "Schedule: at must stand without every and per_epoch, got every=3 and"),
        (lambda: Schedule(at=()), "Schedule: at must be shares of training that rise within (0, 1), got ()"),
        (lambda: lottery_ticket(0.5, rewind_to=-1), "Rewind: to must be a whole number of steps, at least 0, or a share"),
        (lambda: Rewind(1.5), "Rewind: to must be a whole number of steps, at least 0, or a share of training in (0, 1)"),
        (
            lambda: started(iterative_magnitude(0.1, rounds=5, every=10), 50),
            "Rewirer: every round of pruning must come before the last step of training, got 4 of 5 in 50 steps; try",
        ),
        (
            lambda: started(lottery_ticket(0.1, rounds=2, every=10, rewind_to=10), 50),
            "Rewirer: a network must be set back to a moment before its first event, got rewinding to step 10 and an "
            "event after step 10; try a smaller rewind_to",
        ),
        (
            lambda: with_rewind(schedule=None, rewind=Rewind()),
            "Rewirer: rewind must go with a schedule whose density falls in Rounds, got another",
        ),
        (
            lambda: with_rewind(schedule=Schedule(every=2), grow=Random(), rewind=Rewind()),
            "Rewirer: rewind must go with a schedule whose density falls in Rounds, got another",
        ),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


def test_a_moment_after_the_first_event_is_found_without_a_length():
    net = full(dense_net())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rewirer = lottery_ticket(0.1, rounds=2, every=1, rewind_to=4).attach(net, optimizer)
    learn(net, optimizer, 1)
    with pytest.raises(ValueError, match="got rewinding to step 4 and an event after step 1"):
        rewirer.step()


def test_a_wrong_type_for_rewind():
    with pytest.raises(TypeError, match="Rewirer: rewind must be a Rewind, got 3"):
        with_rewind(schedule=Schedule(every=2, fraction=None, density=Rounds(0.5)), rewind=3)


def test_digits_with_a_tenth_of_the_connections(digits):
    """Three seeds: at a tenth of the connections, both ways stay within reach of the dense network."""
    for seed in range(3):
        for rewiring in (iterative_magnitude(0.1, rounds=2), lottery_ticket(0.1, rounds=2)):
            full_wiring = ErdosRenyi(1.0)
            net = models.ensemble_net(
                digits.input_shape, 10, hidden=[64], pattern=full_wiring, readout=full_wiring, seed=seed
            )
            optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
            result = fit(
                net, digits, optimizer, epochs=6, batch_size=64, seed=seed, rewirer=rewiring.attach(net, optimizer)
            )
            assert sum(layer.wiring.n_connections for layer in net.sparse_layers()) == 474
            assert result.test_accuracy > 0.88
