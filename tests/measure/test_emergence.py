"""Paths from inactive to active units, against their enumeration one by one."""

import itertools
import math
import re
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from neuropil import models
from neuropil.connect import Dense, Ensembles, ErdosRenyi, EventLinear, SparseConv2d, SparseLinear, Wiring
from neuropil.measure import emergence, emergence_of_units
from neuropil.measure.path_count import most_paths_if_full, paths_if_full
from neuropil.randomness import stream


def enumerated(active, masks):
    """Follow every path of every unit, one by one."""

    def ending(layer, unit):
        if layer == len(masks):
            return 0
        targets = [o for o in range(len(masks[layer])) if masks[layer][o][unit]]
        return sum(int(active[layer + 1][o]) + ending(layer + 1, o) for o in targets)

    return sum(ending(i, u) for i, layer in enumerate(active) for u in range(len(layer)) if not layer[u])


def counted(active, masks):
    """The same by powers of matrices whose entries are numbers of connections, for larger layers."""
    total = 0.0
    for i in range(len(masks)):
        v = (~active[i]).double()
        for j in range(i, len(masks)):
            v = masks[j].double() @ v
            total += float(v[active[j + 1]].sum())
    return total


def drawn(seed, *, most_layers=5, widest=8):
    """Widths, activity and masks of a net."""
    generator = stream(seed, "net")
    widths = torch.randint(1, widest + 1, (int(torch.randint(2, most_layers + 1, (), generator=generator)),),
                           generator=generator).tolist()  # fmt: skip
    active = [torch.rand(n, generator=generator) < 0.5 for n in widths]
    density = float(torch.rand((), generator=generator))
    masks = [torch.rand(o, i, generator=generator) < density for i, o in itertools.pairwise(widths)]
    return widths, active, masks


def counts(widths, active):
    return [torch.arange(n) < a for n, a in zip(widths, active, strict=True)]


def images(*shape, seed=0):
    return torch.randn(shape, generator=stream(seed, "images"))


# Numbers of paths


@pytest.mark.parametrize("seed", range(30))
def test_equals_enumeration(seed):
    widths, active, masks = drawn(seed)
    found = emergence_of_units(active, masks)
    expected = enumerated([layer.tolist() for layer in active], [mask.tolist() for mask in masks])
    assert found.emergence == expected
    assert found.log10 == (math.log10(expected) if expected else -math.inf)
    weights = sum(int(mask.sum()) for mask in masks)
    assert found.relative_to_weights == (expected / weights if weights else 0.0)
    assert found.n_units == tuple(widths)
    assert found.n_active == tuple(int(layer.sum()) for layer in active)
    # the same as wirings, where each has a connection; and where the first transition is dense
    if all(mask.any() for mask in masks):
        assert emergence_of_units(active, [Wiring.from_mask(mask) for mask in masks]) == found
    masks[0] = torch.ones_like(masks[0])
    assert emergence_of_units(active, [None, *masks[1:]]) == emergence_of_units(active, masks)
    assert emergence_of_units(active, masks).emergence == enumerated(active, masks)


@pytest.mark.parametrize("block", [(1, 1), (2, 1), ("group", "group")])
def test_wirings_of_blocks(block):
    active = [torch.rand(n, generator=stream(n, "active")) < 0.5 for n in (9, 7, 8)]
    wirings = [
        Ensembles(n_groups=2, p_inter=0.3, block=block, uneven=True, grouping="interleaved").wire(
            i, o, generator=stream(i, "wiring")
        )
        for i, o in ((9, 7), (7, 8))
    ]
    masks = [wiring.mask() for wiring in wirings]
    assert emergence_of_units(active, wirings).emergence == enumerated(active, masks) > 0


def test_by_hand():
    active = counts([6, 5, 4, 3], [3, 0, 2, 1])
    found = emergence_of_units(active)
    assert found.emergence == 122.0
    assert found.relative_to_weights == 122 / (30 + 20 + 12)
    assert (found.rule, found.thresholds, found.variant) == (None, None, "paths")
    assert emergence_of_units(active, variant="quoted").emergence == 726.0


@given(st.lists(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=2, max_size=5))
def test_fully_connected_equals_the_closed_form(layers):
    widths, active = zip(*layers, strict=True)
    pairs = list(itertools.combinations(range(len(widths)), 2))
    for variant in ("paths", "quoted"):
        found = emergence_of_units(counts(widths, active), variant=variant)
        ends = [(i, j, j if variant == "paths" else len(widths)) for i, j in pairs]
        assert found.emergence == sum(
            (widths[i] - active[i]) * active[j] * math.prod(widths[i + 1 : end]) for i, j, end in ends
        )
        assert 0 <= found.relative_to_most <= 1
    masks = [torch.ones(o, i, dtype=torch.bool) for i, o in itertools.pairwise(widths)]
    assert emergence_of_units(counts(widths, active), masks) == emergence_of_units(counts(widths, active))


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.booleans())
def test_the_most_is_the_maximum_over_all_activity(widths, quoted):
    """Over every number of active units of every layer, not only over those that the proof leaves."""
    every = itertools.product(*(range(n + 1) for n in widths))
    assert most_paths_if_full(widths, quoted=quoted) == max(paths_if_full(widths, a, quoted=quoted) for a in every)


def test_the_most_in_deep_nets():
    """Every layer on or off, up to nine layers whose widths are far apart."""
    for seed in range(20):
        widths = torch.tensor([1, 1, 2, 3, 50])[torch.randint(5, (9,), generator=stream(seed, "widths"))].tolist()
        ends = itertools.product(*((0, n) for n in widths))
        assert most_paths_if_full(widths) == max(paths_if_full(widths, a) for a in ends)


@given(st.integers(0, 999))
def test_the_order_of_units_plays_no_part(seed):
    _, active, masks = drawn(seed)
    generator = stream(seed, "order")
    orders = [torch.randperm(len(layer), generator=generator) for layer in active]
    moved = [mask[after][:, before] for mask, before, after in zip(masks, orders[:-1], orders[1:], strict=True)]
    shuffled = emergence_of_units([layer[order] for layer, order in zip(active, orders, strict=True)], moved)
    assert shuffled == emergence_of_units(active, masks)


@given(st.integers(0, 999))
def test_zero_when_all_are_active_and_when_none_is(seed):
    _, active, masks = drawn(seed)
    for joined in (masks, None):
        for every in (True, False):
            found = emergence_of_units([torch.full_like(layer, every) for layer in active], joined)
            assert (found.emergence, found.log10, found.relative_to_most) == (0.0, -math.inf, 0.0)


@given(st.integers(0, 999))
def test_never_rises_when_connections_go(seed):
    _, active, masks = drawn(seed)
    last = emergence_of_units(active)
    for share in (1.0, 0.7, 0.3, 0.0):
        masks = [mask & (torch.rand(mask.shape, generator=stream(seed, share)) < share) for mask in masks]
        found = emergence_of_units(active, masks)
        assert found.emergence <= last.emergence
        assert found.relative_to_most <= last.relative_to_most <= 1
        last = found
    assert last.emergence == last.relative_to_weights == 0.0


def test_wide_layers():
    widths, active = [512] * 4, [100, 256, 300, 512]
    found = emergence_of_units(counts(widths, active))
    assert found.emergence == paths_if_full(widths, active) > 5e10  # by far more than int32 holds
    assert found.log10 == math.log10(found.emergence)
    wirings = [Dense().wire(512, 512, generator=stream(0, "wiring")) for _ in range(3)]
    assert emergence_of_units(counts(widths, active), wirings) == found
    sparse = [ErdosRenyi(0.1).wire(512, 512, generator=stream(i, "wiring")) for i in range(3)]
    masks = [wiring.mask() for wiring in sparse]
    assert emergence_of_units(counts(widths, active), sparse).emergence == counted(counts(widths, active), masks)


def test_counts_beyond_float64():
    n, depth = 64, 400
    active = counts([n] * depth, [0] * (depth - 1) + [n])
    exact = sum(n**k for k in range(2, depth + 1))
    full = emergence_of_units(active)
    assert full.emergence == math.inf
    assert full.log10 == math.log10(exact) > 700
    assert full.relative_to_most == float(Fraction(exact, most_paths_if_full([n] * depth)))
    # all connections but one of the last layer, so that the sweep counts
    mask = torch.ones(n, n, dtype=torch.bool)
    mask[0, 0] = False
    masked = emergence_of_units(active, [None] * (depth - 2) + [mask])
    less = sum(n ** (k - 2) for k in range(2, depth + 1))
    assert masked.log10 == pytest.approx(math.log10(exact - less), abs=1e-11)
    assert masked.relative_to_most == pytest.approx(full.relative_to_most * float(1 - Fraction(less, exact)), rel=1e-11)


def test_few_paths_beside_very_many():
    """Two separate parts: 2^1099 paths that end at inactive units, and five that count."""
    depth = 1100
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    off, on = torch.tensor([False] * 3), torch.tensor([False, False, True])
    active = [*[off] * 5, *[on] * (depth - 5)]
    assert emergence_of_units(active, [mask] * (depth - 1)).emergence == 5 * (depth - 5)
    # they count when they end at active units
    active[-1] = torch.tensor([True] * 3)
    assert emergence_of_units(active, [mask] * (depth - 1)).log10 == pytest.approx(1101 * math.log10(2), rel=1e-12)


@pytest.mark.parametrize(("arguments", "message"), [
    (([torch.tensor([True])],), "emergence_of_units: active must have at least two layers, got 1"),
    (([torch.ones(2), torch.ones(2)],), "must hold one bool for each unit of a layer, got torch.float32 of shape [2] for layer 0"),
    (([[True], []],), "got torch.float32 of shape [0] for layer 1"),
    (([[True], [True]], []), "connections must join each of the 2 layers to the next, got 0 of them"),
    (([[True], [True, False]], [torch.ones(1, 2, dtype=torch.bool)]), "must be bool of shape [out, in] = [2, 1] between layers 0 and 1, got torch.bool of shape [1, 2]"),
    (([[True], [True]], [torch.ones(1, 1)]), "got torch.float32 of shape [1, 1]"),
    (([[True], [True]], [Wiring(1, 2, [0], [0])]), "got a wiring of shape [2, 1]"),
])  # fmt: skip
def test_what_does_not_fit_is_told(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        emergence_of_units(*arguments)


def test_unknown_variants_are_told():
    layers = [[True], [False]]
    with pytest.raises(ValueError, match="emergence_of_units: variant must be one of paths, quoted, got 'review'"):
        emergence_of_units(layers, variant="review")
    with pytest.raises(ValueError, match="emergence_of_units: variant 'quoted' must be of fully connected layers"):
        emergence_of_units(layers, [torch.zeros(1, 1, dtype=torch.bool)], variant="quoted")


# Of a model


def by_hand(layers, masks, found):
    """Compare what was found of a model with activations ``[b, n]`` of each layer and masks."""
    active = [layer.abs().double().mean(0) > 0.01 * layer.double().square().mean().sqrt() for layer in layers]
    assert found.n_units == tuple(len(layer) for layer in active)
    assert found.n_active == tuple(int(layer.sum()) for layer in active)
    assert found.emergence == counted(active, masks)
    return active


@torch.no_grad()
def dying(*layers, seed=0):
    """Layers in a row with random weights, a third of whose units are off."""
    generator = stream(seed, "weights")
    for layer in layers:
        for name, value in layer.named_parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
            if name.endswith("bias"):
                value[torch.rand(value.shape, generator=generator) < 0.4] = -1e4
    return nn.Sequential(*layers)


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("inputs", [True, False])
def test_perceptron(inplace, inputs):
    net = dying(nn.Flatten(), nn.Linear(12, 9), nn.ReLU(inplace), EventLinear(9, 7), nn.Dropout(), nn.ReLU(inplace),
                nn.Linear(7, 3))  # fmt: skip
    x = images(5, 3, 4).clamp(min=0)
    x[:, 0, :2] = 0
    with torch.no_grad():
        first = net[1](x.flatten(1)).relu()
        second = net[3](first).relu()
        layers = [x.flatten(1), first, second, net[6](second)]
    masks = [torch.ones(layer.weight.shape) for layer in (net[1], net[3], net[6])]
    before = x.clone()
    found = emergence(net, x, inputs=inputs)
    assert torch.equal(x, before)
    by_hand(layers[not inputs :], masks[not inputs :], found)
    assert 0 < found.n_active[-2] < 7
    weights = sum(mask.numel() for mask in masks[not inputs :])
    assert found.relative_to_weights == found.emergence / weights
    assert (found.rule, found.variant) == ("mean", "paths")
    quoted = emergence(net, x, inputs=inputs, variant="quoted")
    assert quoted.emergence == paths_if_full(found.n_units, found.n_active, quoted=True) != found.emergence


def test_sparse_layers_and_silent_connections():
    wirings = [ErdosRenyi(0.4).wire(i, o, generator=stream(i, "wiring")) for i, o in ((10, 8), (8, 6))]
    net = dying(SparseLinear(wirings[0]), nn.ReLU(), SparseLinear(wirings[1]), nn.ReLU(), nn.Linear(6, 3))
    for layer in (net[0], net[2]):
        layer.clear_dead_weights()
    x, masks = images(5, 10), [wiring.mask() for wiring in wirings]
    x[:, :4] = 0
    for silent in (False, True):
        if silent:
            quiet = torch.rand(wirings[0].n_blocks, generator=stream(0, "silent")) < 0.5
            net[0].set_silent(quiet)
            masks[0][tuple(side[quiet] for side in wirings[0].connections())] = False
        with torch.no_grad():
            first = net[:2](x)
            layers = [x, first, net[2:4](first), net(x)]
        found = emergence(net, x)
        by_hand(layers, [*masks, torch.ones(3, 6)], found)
        assert found.relative_to_weights == found.emergence / (sum(int(mask.sum()) for mask in masks) + 18)
        with pytest.raises(ValueError, match="emergence: variant 'quoted' must be of fully connected layers"):
            emergence(net, x, variant="quoted")
    net[0].set_silent(torch.ones_like(quiet))
    assert emergence(net, x, threshold=[0.0, 1e9, 0.0, 0.0]).emergence > 0
    assert emergence(net[:1], x).emergence == 0


def test_masks_of_torch_prune():
    net = dying(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    x = images(5, 8)
    thresholds = emergence(net, x).thresholds
    before = emergence(net, x, threshold=thresholds)
    prune.l1_unstructured(net[0], "weight", 0.5)
    after = emergence(net, x, threshold=thresholds)
    with torch.no_grad():
        layers = [x, net[:2](x), net(x)]
    active = [layer.abs().double().mean(0) > one for layer, one in zip(layers, thresholds, strict=True)]
    assert after.emergence == counted(active, [net[0].weight_mask.bool(), torch.ones(4, 6)]) <= before.emergence
    assert after.relative_to_weights == after.emergence / (24 + 24)


def test_rules_and_thresholds():
    x = torch.tensor([[3.0, 0.0, 1.0, 0.25], [0.0, 0.0, -1.0, 0.25], [0.0, 0.0, 1.0, 0.25], [0.0, 0.0, 1.0, -0.25]])
    net = nn.Linear(4, 1)

    def active(**settings):
        return emergence(net, x, **settings).n_active[0]

    assert active() == 3
    assert (active(threshold=0.1), active(threshold=0.25), active(threshold=0.5), active(threshold=0.9)) == (3, 2, 2, 1)
    assert [active(threshold=threshold, rule="any") for threshold in (0.5, 0.9, 1.0)] == [2, 2, 1]
    assert (active(threshold=0.5, rule="rate"), active(threshold=0.5, rule="rate", rate=0.2)) == (1, 2)
    assert active(threshold=0.5, rule="rate", rate=0.25) == 1
    first = emergence(net, x, rule="any")
    assert first.thresholds[0] == pytest.approx(0.01 * float(x.square().mean().sqrt()))
    assert emergence(net, 100 * x, rule="any", threshold=first.thresholds).thresholds == first.thresholds
    assert emergence(net, x, threshold=[7, 0]).thresholds == (7.0, 0.0)
    # who is 0 throughout is inactive, whatever the threshold
    assert emergence(net, torch.zeros(3, 4)).n_active[0] == 0


def test_time_steps_are_samples():
    net = models.spiking_ensemble_net((1, 4, 4), 3, hidden=[12, 8], pattern=[Dense(), ErdosRenyi(0.4)], steps=20,
                                      encoding="latency")  # fmt: skip
    x = torch.rand(5, 1, 4, 4, generator=stream(0, "images"))
    seen = []
    handles = [layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
               for layer in net.modules() if isinstance(layer, nn.Linear | SparseLinear)]  # fmt: skip
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    layers = [reads.reshape(-1, reads.shape[-1]) for reads, _ in seen]
    found = emergence(net, x)
    wiring = net.sparse_layers()[0].wiring
    masks = [torch.ones(12, 16), wiring.mask(), torch.ones(3, 8)]
    by_hand([*layers, seen[-1][1].reshape(-1, 3)], masks, found)
    assert found.n_units == (16, 12, 8, 3)
    # spikes that are drawn pass no gradient back to the input
    net = models.spiking_ensemble_net((1, 4, 4), 3, hidden=[12], pattern=Dense(), steps=20)
    assert emergence(net, x).n_units == (16, 12, 3)


def test_ensemble_net():
    net = models.ensemble_net((3, 8, 8), 10, hidden=[16], pattern=ErdosRenyi(0.3), patches=2, patch_channels=4)
    found = emergence(net, images(6, 3, 8, 8))
    assert found.n_units == (3, 4, 16, 10)
    assert emergence(net, images(6, 3, 8, 8), units="positions").n_units == (3 * 64, 4 * 4, 16, 10)


# Convolutions


def test_channels():
    net = dying(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 1), nn.ReLU(), nn.Flatten(),
                nn.Linear(20, 3))  # fmt: skip
    x = images(5, 4, 6, 6)
    x[:, 1] = 0
    with torch.no_grad():
        pooled, flat = net[:3](x), net[:6](x)
        layers = [layer.movedim(1, -1).reshape(-1, layer.shape[1]) for layer in (x, pooled, flat.view(5, 5, 2, 2))]
        last = net(x)
    groups = torch.zeros(6, 4)
    groups[:3, :2] = groups[3:, 2:] = 1
    found = emergence(net, x)
    by_hand([*layers, last], [groups, torch.ones(5, 6), torch.ones(3, 5)], found)
    assert found.n_units == (4, 6, 5, 3)
    assert found.relative_to_weights == found.emergence / (6 * 2 * 9 + 30 + 60)
    # without groups all channels are joined, and the quoted form means something
    net = dying(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    found = emergence(net, x, variant="quoted")
    assert found.emergence == paths_if_full((4, 6, 3), found.n_active, quoted=True)


def test_channels_of_sparse_layers():
    """Channels are joined where a tap joins them; features of a channel are one source."""
    taps = Wiring.from_mask(torch.rand(5, 3 * 4, generator=stream(0, "taps")) < 0.15)
    flat = Wiring.from_mask(torch.rand(4, 5 * 9, generator=stream(0, "flat")) < 0.05)
    net = dying(SparseConv2d(taps, 3, 2), nn.ReLU(), nn.Flatten(), SparseLinear(flat))
    x = images(5, 3, 4, 4)
    x[:, 2] = 0
    with torch.no_grad():
        hidden = net[:2](x)
        layers = [layer.movedim(1, -1).reshape(-1, layer.shape[1]) for layer in (x, hidden)]
        layers.append(net(x))
    masks = [taps.mask().view(5, 3, 4).any(2), flat.mask().view(4, 5, 9).any(2)]
    found = emergence(net, x)
    by_hand(layers, masks, found)
    assert not masks[0].all()
    assert not masks[1].all()
    assert found.relative_to_weights == found.emergence / (taps.n_connections + flat.n_connections)


def dense_matrix(function, shape):
    """The matrix of a linear map of images, from the image of every place on its own."""
    places = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    return function(places).flatten(1).T


CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (1, 3), "padding": "same", "dilation": (1, 2)},
    {"kernel_size": (3, 1), "padding": (2, 0), "dilation": 2, "groups": 2},
]


@pytest.mark.parametrize("settings", CONVOLUTIONS)
@pytest.mark.parametrize("pool", [None, nn.MaxPool2d(2), nn.AvgPool2d(3, 1, padding=1), nn.AdaptiveAvgPool2d(1)])
def test_positions_equal_the_dense_matrix(settings, pool):
    convolution = nn.Conv2d(2, 4, **settings)
    shape = convolution(torch.zeros(1, 2, 5, 6)).shape[1:]
    middle = [nn.ReLU()] if pool is None else [nn.ReLU(), pool]
    read = nn.Sequential(convolution, *middle)(torch.zeros(1, 2, 5, 6)).shape[1:]
    net = dying(convolution, *middle, nn.Conv2d(4, 3, 1), nn.ReLU(), nn.Flatten(),
                nn.Linear(3 * read[1] * read[2], 2))  # fmt: skip
    x = images(4, 2, 5, 6)
    x[:, :, :2] = 0
    settings = {name: value for name, value in settings.items() if name != "kernel_size"}
    ones = torch.ones(convolution.weight.shape, dtype=torch.float64)
    first = dense_matrix(lambda places: F.conv2d(places, ones, **settings), (2, 5, 6))
    if pool is not None:
        averaged = nn.AvgPool2d(2) if isinstance(pool, nn.MaxPool2d) else pool
        first = (dense_matrix(averaged, shape) != 0).double() @ first
    ones = torch.ones(3, 4, 1, 1, dtype=torch.float64)
    second = dense_matrix(lambda places: F.conv2d(places, ones), read)
    with torch.no_grad():
        layers = [x, net[: 1 + len(middle)](x), net[: 3 + len(middle)](x), net(x)]
    found = emergence(net, x, units="positions")
    by_hand([layer.flatten(1) for layer in layers], [first, second, torch.ones(2, second.shape[0])], found)
    assert found.emergence > 0
    assert found.relative_to_weights == found.emergence / (convolution.weight.numel() + 12 + net[-1].weight.numel())


def test_positions_of_sparse_and_pruned_convolutions():
    taps = Wiring.from_mask(torch.rand(4, 2 * 9, generator=stream(0, "taps")) < 0.3)
    net = dying(SparseConv2d(taps, 2, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(4, 3, 2))
    quiet = torch.rand(taps.n_blocks, generator=stream(0, "silent")) < 0.3
    net[0].synapses.set_silent(quiet)
    prune.random_unstructured(net[2], "weight", 0.5)
    x = images(4, 2, 5, 6)
    kernel = taps.mask()
    kernel[tuple(side[quiet] for side in taps.connections())] = False
    first = dense_matrix(
        lambda places: F.conv2d(places, kernel.view(4, 2, 3, 3).double(), padding=1, stride=2), (2, 5, 6)
    )
    second = dense_matrix(lambda places: F.conv2d(places, net[2].weight_mask.double()), (4, 3, 3))
    with torch.no_grad():
        layers = [x, net[:2](x), net(x)]
    found = emergence(net, x, units="positions")
    by_hand([layer.flatten(1) for layer in layers], [first, second], found)
    assert found.relative_to_weights == found.emergence / (int(kernel.sum()) + int(net[2].weight_mask.sum()))


# What it leaves behind, and what it refuses


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_model_is_left_as_it_was(mode):
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Dropout(), nn.Linear(8, 3))  # fmt: skip
    net[5].eval()
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = images(4, 1, 5, 5)
    for _ in range(2):
        with mode():
            emergence(net, x, units="positions")
            emergence(net, x.clone())
        with pytest.raises(RuntimeError):
            emergence(net, images(4, 3, 5, 5))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert x.grad is None
    assert not x.requires_grad


class Between(nn.Module):
    """Layers a, b and c, joined as told."""

    def __init__(self, join, *layers):
        super().__init__()
        self.a, self.b, self.c = layers or (nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
        self.join = join

    def forward(self, x):
        return self.join(self, x)


@pytest.mark.parametrize(("join", "message"), [
    (lambda net, x: net.c(x + net.b(net.a(x))), "the input of 'c' must come from 'b' alone and comes from 'b' and the model's input"),
    (lambda net, x: net.c(net.a(x) + net.b(net.a.weight)), "the input of 'b' must come from 'a' alone and comes from nothing that gradients could flow back to"),
    (lambda net, x: net.c(net.b(y := net.a(x)) + y), "the input of 'c' must come from 'b' alone and comes from 'a' and 'b'"),
    (lambda net, x: net.b(net.a(x)) + net.c(x), "the input of 'c' must come from 'b' alone and comes from the model's input"),
    (lambda net, x: x + net.b(net.a(x)), "the model's output must come from 'b' alone and comes from 'b' and the model's input"),
    (lambda net, x: net.b((net.a(x) > 0).float()), "comes from nothing that gradients could flow back to"),
    (lambda net, x: net.a(net.b(net.a(x))), "emergence: each layer must be called once, got several calls of 'a'"),
    (lambda net, x: x.relu(), "emergence: the model must call a linear layer or a convolution, got a Between that calls none"),
])  # fmt: skip
def test_what_is_no_chain_is_told(join, message):
    net = Between(join)
    with pytest.raises(ValueError, match=re.escape(message)):
        emergence(net, images(5, 4))
    assert not any(module._forward_hooks for module in net.modules())


def test_states_of_earlier_layers_may_be_returned():
    net = Between(lambda net, x: (net.b(y := net.a(x).relu()), y))
    assert emergence(net, images(5, 4)).n_units == (4, 4, 4)


@pytest.mark.parametrize(("net", "shape", "units", "message"), [
    (nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Linear(3, 2)), (4,), "channels", "what '0' gives must be what '2' reads, unit by unit, got [2, 6] and [2, 2, 3]"),
    (nn.Sequential(nn.Linear(4, 8), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 1, 1)), (4,), "channels", "what '0' gives must be what '2' reads"),
    (nn.Sequential(nn.Conv2d(1, 8, 1), nn.PixelShuffle(2), nn.Conv2d(2, 1, 1)), (1, 2, 2), "channels", "what '0' gives must be what '2' reads"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 1)), (1, 2, 2), "positions", "only pooling modules may come between"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(scale_factor=2), nn.MaxPool2d(2), nn.Conv2d(2, 1, 1)), (1, 2, 2), "positions", "only pooling modules may come between"),
    (nn.Sequential(nn.Conv2d(1, 2, 1, padding=1, padding_mode="circular"), nn.Conv2d(2, 1, 1)), (1, 2, 2), "positions", "padding must be with zeros for units='positions', got 'circular'"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(2, 1, 1)), (1, 5, 5), "positions", "pooling must be even, without ceil_mode"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveMaxPool2d(2), nn.Conv2d(2, 1, 1)), (1, 5, 5), "positions", "pooling must be even, without ceil_mode"),
    (nn.Sequential(nn.Conv1d(1, 2, 1), nn.Linear(4, 2)), (1, 4), "channels", "weights must be those of linear layers and two-dimensional convolutions, got a Conv1d"),
])  # fmt: skip
def test_layers_that_do_not_fit_are_told(net, shape, units, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        emergence(net, images(2, *shape), units=units)


def test_linear_layers_may_be_read_as_images():
    net = nn.Sequential(nn.Linear(4, 8), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 1, 2))
    assert emergence(net, images(2, 4), units="positions").n_units == (4, 8, 1)


@pytest.mark.parametrize(("settings", "message"), [
    ({"rule": "mode"}, "emergence: rule must be one of mean, any, rate, got 'mode'"),
    ({"units": "pixels"}, "emergence: units must be one of channels, positions, got 'pixels'"),
    ({"variant": "n"}, "emergence: variant must be one of paths, quoted, got 'n'"),
    ({"rate": 1.0}, r"emergence: rate must lie in \[0, 1\), got 1.0"),
    ({"threshold": -0.5}, "emergence: threshold must be a number of at least 0, or one for each of the 2 layers of units, got -0.5"),
    ({"threshold": [1.0]}, r"for each of the 2 layers of units, got \[1.0\]"),
    ({"inputs": False}, "emergence: a model with a single layer must be measured with inputs=True, got False"),
])  # fmt: skip
def test_settings_out_of_range_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        emergence(nn.Linear(4, 2), images(5, 4), **settings)


def test_an_empty_batch_is_told():
    with pytest.raises(ValueError, match=r"emergence: x must hold at least one sample, got shape \[0, 4\]"):
        emergence(nn.Linear(4, 2), torch.zeros(0, 4))


def test_activations_that_are_not_finite_are_told():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    net[0].weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="^emergence: activity must be finite, got inf or nan; try a smaller learning"):
        emergence(net, torch.ones(4, 2))
