"""Units that go for good: the smaller network computes what the whole one does that does not listen to them."""

import copy
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuropil import data, models
from neuropil.connect import Ensembles, ErdosRenyi, SparseConv2d, SparseLinear, Wiring, sparsify
from neuropil.rewire import remove_units
from neuropil.rewire.cut import part_of
from neuropil.train import fit


def seeded(model, seed=0):
    """The model with all its numbers drawn, normalization included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if "running" in name else drawn - 0.4)
        for layer in model.modules():
            if isinstance(layer, SparseLinear):
                layer.clear_dead_weights()
    return model.eval()


def mlp(layer=nn.Linear):
    return nn.Sequential(
        layer(6, 8), nn.BatchNorm1d(8), nn.PReLU(8), nn.Dropout(0.5), layer(8, 5), nn.Tanh(), layer(5, 3)
    )


def cnn():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(6, 4, 3, stride=1), nn.LeakyReLU(), nn.AvgPool2d(2)),
        nn.Flatten(),
        nn.BatchNorm1d(4),
        nn.Linear(4, 7),
        nn.Sigmoid(),
        nn.Linear(7, 3),
    )


class Functional(nn.Module):
    """The same with functions in place of modules."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3)
        self.second = nn.Linear(6 * 9, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2).flatten(1)
        return self.last(torch.tanh(self.second(x)))


def sparse(model, pattern, **settings):
    return sparsify(model, pattern, generator=torch.Generator().manual_seed(1), **settings)


def ensembles(block, **settings):
    return models.ensemble_net(
        (2, 8, 8), 3, hidden=[16, 24], pattern=models.mixer(2, n_groups=4, block=block), seed=3, **settings
    )


NETS = {
    "linear": (mlp, (6,), {"0", "4"}),
    "convolutions": (cnn, (2, 8, 8), {"0.0", "1.0", "4"}),
    "functions": (Functional, (2, 8, 8), {"first", "second"}),
    "sparse linear": (lambda: sparse(mlp(), ErdosRenyi(0.6)), (6,), {"0", "4"}),
    "sparse convolutions": (lambda: sparse(cnn(), ErdosRenyi(0.8)), (2, 8, 8), {"0.0", "1.0", "4"}),
    "ensembles": (lambda: ensembles((1, 1)), (2, 8, 8), {"hidden.0", "hidden.2"}),
    "ensembles in blocks": (lambda: ensembles(("group", 1)), (2, 8, 8), {"hidden.0", "hidden.2"}),
    "tiles, patches": (lambda: ensembles((2, 2), patches=4), (2, 8, 8), {"encoder.convolution", "hidden.0", "hidden.2"}),
}  # fmt: skip


def deaf_to(model, removed):
    """A copy whose layers do not listen to units: they are set to 0 right where they are read, whatever lies between."""
    deaf = copy.deepcopy(model)
    layers = [m for m in deaf.modules() if isinstance(m, nn.Linear | nn.Conv2d | SparseLinear | SparseConv2d)]
    inside = {id(m.synapses) for m in layers if isinstance(m, SparseConv2d)}
    layers = [m for m in layers if id(m) not in inside]
    for name, units in removed.items():
        layer = deaf.get_submodule(name)
        reader = layers[layers.index(layer) + 1]
        n_units = getattr(layer, "out_channels", None) or layer.out_features

        def silence(_, inputs, n_units=n_units, units=units):
            (x,) = inputs
            by_unit = x.clone().view(len(x), n_units, -1)
            by_unit[:, units] = 0
            return (by_unit.view(x.shape),)

        reader.register_forward_pre_hook(silence)
    return deaf


@pytest.mark.parametrize("score", ["l1", "l2", "activity"])
@pytest.mark.parametrize("name", NETS)
def test_equals_the_network_that_does_not_listen(name, score):
    make, shape, layers = NETS[name]
    model = seeded(make())
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(2))
    found = remove_units(model, 0.6, score=score, sample=x)
    assert set(found.removed) == layers
    assert all(len(units) for units in found.removed.values())
    assert set(found.left.values()) == {"its units are what the model returns"}
    torch.testing.assert_close(found.model(x), deaf_to(model, found.removed)(x), rtol=1e-5, atol=1e-5)
    assert not torch.equal(found.model(x), model(x))
    n_before, n_after = (sum(p.numel() for p in net.parameters()) for net in (model, found.model))
    assert n_after < n_before
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_units_that_nothing_reaches_go_without_a_trace():
    model = seeded(
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 2))
    )
    dead = {"0": [1, 2, 5, 6], "3": [0, 3, 4]}
    with torch.no_grad():
        for name, units in dead.items():
            for parameter in model.get_submodule(name).parameters():
                parameter[units] = 0
    x = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    found = remove_units(model, 0.5)
    assert {name: units.tolist() for name, units in found.removed.items()} == dead
    torch.testing.assert_close(found.model(x), model(x))
    assert found.model[3].weight.shape == (3, 16)


def test_golden_scores():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 3.0], [-5.0, 0.0], [1.0, -1.5]]))
    for score, stays in {"l1": 0, "l2": 1, "activity": 2}.items():
        # sums 6, 5, 2.5; norms 4.24, 5, 1.8; activities 0, 0, 2.65
        sample = torch.tensor([[1.0, -1.1]]) if score == "activity" else None
        found = remove_units(model, 1 / 3, score=score, sample=sample)
        assert set(range(3)) - set(found.removed["0"].tolist()) == {stays}, score


def test_the_share_may_differ_by_layer_and_layers_may_be_skipped():
    model = seeded(mlp())
    found = remove_units(model, {"0": 0.25})
    assert {name: len(units) for name, units in found.removed.items()} == {"0": 6}
    assert found.left["4"] == "it is to stay as it is"
    assert found.model[0].out_features == found.model[1].num_features == found.model[2].num_parameters == 2
    assert set(remove_units(model, 0.5, skip="4").removed) == {"0"}
    assert len(remove_units(model, 1e-9).removed["0"]) == 7  # one stays
    assert [len(units) for units in remove_units(model, 1.0).removed.values()] == [0, 0]


def test_ties_are_broken_by_the_generator_alone():
    model = nn.Sequential(nn.Linear(2, 40), nn.ReLU(), nn.Linear(40, 1))
    nn.init.ones_(model[0].weight)
    first, again, other = (
        remove_units(model, 0.5, generator=torch.Generator().manual_seed(seed)).removed["0"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.stem, self.head = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.outer(self.inner(x).relu()))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


def test_what_cannot_go_is_told():
    found = remove_units(Residual())
    assert set(found.removed) == {"inner"}
    assert found.left == {
        "outer": "its units meet others in 'add'",
        "stem": "2 operations read its units, not one",
        "head": "its units are what the model returns",
    }
    tied = nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)
    )
    tied[2].weight = tied[0].weight
    assert remove_units(tied).left["0"] == "its weight is used elsewhere, too"
    normed = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    assert remove_units(normed).left["0"] == "its units pass '1', a LayerNorm, which may mix them"
    grouped = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1))
    left = remove_units(grouped).left
    assert left["0"] == "layer '1' reads its units: it is a convolution with groups"
    assert left["1"] == "it is a convolution with groups"
    places = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))  # along the last axis
    assert remove_units(places).left["0"] == "layer '1' reads its units: it does not take them one by one"
    attention = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    assert remove_units(attention).left["0.linear1"] == "no operation of the model calls it by itself"


def unfinished():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    nn.init.constant_(model[0].weight, float("nan"))
    return model


def unconnected():
    """Unit 0 of the first layer is the worthiest, and nothing else."""
    wiring = Wiring.from_mask([[0, 1], [0, 1]])
    return seeded(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), SparseLinear(wiring), nn.ReLU(), nn.Linear(2, 1)))


NET = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: remove_units(NET, 0.0), "keep must be a share of units in (0, 1], got 0.0"),
        (lambda: remove_units(NET, {"0": 2}), "keep must be a share of units in (0, 1], got 2"),
        (lambda: remove_units(NET, {"3": 0.5}), "every name must be that of a module of the model, got '3'"),
        (
            lambda: remove_units(NET, {"2": 0.5}),
            "layer '2' must have units that can be removed, got one where its units are what the model returns",
        ),
        (
            lambda: remove_units(NET, {"1": 0.5}),
            "layer '1' must have units that can be removed, got one where it is no linear or convolutional layer",
        ),
        (lambda: remove_units(NET, score="l3"), "score must be one of l1, l2, activity, got 'l3'"),
        (lambda: remove_units(NET, score="activity"), "score activity needs a batch, got sample=None"),
        (
            lambda: remove_units(NET, score="activity", sample=torch.zeros(2, 3)),
            "sample must be a batch that fits the model, got shape (2, 3): ",
        ),
        (lambda: remove_units(nn.ReLU()), "the model must have a layer whose units can be removed, got none: it has no"),
        (
            lambda: remove_units(nn.Sequential(nn.Linear(2, 2))),
            "the model must have a layer whose units can be removed, got none: '0': its units are what the model returns",
        ),
        (lambda: remove_units(Branching()), "the model must do the same operations whatever its input, so that torch.fx"),
        (lambda: remove_units(unfinished()), "every unit must have a finite score, got nan in '0'"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=f"^remove_units: {re.escape(message)}"):
        call()


def test_a_sparse_layer_must_keep_a_connection():
    model = unconnected()
    with torch.no_grad():
        model[0].weight[0] = 9.0
    with pytest.raises(ValueError, match="^remove_units: layer '2': Wiring: a layer must have at least one connection"):
        remove_units(model, 0.5)


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (3, 2), ("group", "group")])
@pytest.mark.parametrize("grouping", ["index", "interleaved"])
def test_a_part_of_a_wiring(block, grouping):
    generator = torch.Generator().manual_seed(0)
    wiring = Ensembles(n_groups=3, block=block, grouping=grouping, p_inter=0.4).wire(12, 18, generator=generator)
    for seed in range(4):
        generator.manual_seed(seed)
        targets, sources = (np.sort(torch.randperm(n, generator=generator)[: n // 2].numpy()) for n in (18, 12))
        part = part_of(wiring, targets, sources)
        assert torch.equal(part.mask(), wiring.mask()[targets][:, sources])
        assert np.array_equal(part.out_groups, wiring.out_groups[targets])


def test_a_smaller_network_learns_on():
    """Half of the units of a network that has learnt digits: little is lost at once, and nothing after retraining."""
    digits = data.load("digits")
    for seed in range(3):
        net = models.ensemble_net(digits.input_shape, 10, hidden=[64, 64], pattern=Ensembles(n_groups=4), seed=seed)
        fit(net, digits, torch.optim.Adam(net.parameters(), lr=5e-3), epochs=4, batch_size=64, seed=seed)
        small = remove_units(net, 0.5, score="activity", sample=digits.normalize(digits.train.images[:200])).model
        optimizer = torch.optim.Adam(small.parameters(), lr=5e-3)
        assert fit(small, digits, optimizer, epochs=3, batch_size=64, seed=seed).test_accuracy > 0.9
