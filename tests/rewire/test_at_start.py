"""Pruning at initialization: scores against twins, exact counts, nothing changed in the model, and that it learns."""

import copy
import itertools
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from neuropil import data
from neuropil.connect import ErdosRenyi, SparseLinear, Wiring, densify, layer_densities, sparsify
from neuropil.rewire import grasp, random_masks, snip, synflow, with_wirings
from neuropil.rewire.candidates import Candidates, best
from neuropil.train import fit

SIZES = (6, 8, 5, 3)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def mlp(*sizes, seed=0, bias=True, act=nn.ReLU, dtype=torch.float64):
    """A float64 net whose linear layers are called 0, 2, 4, …"""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=bias, dtype=dtype)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
        layers += [layer, act()]
    return nn.Sequential(*layers[:-1])


def samples(n_in=SIZES[0], n_out=SIZES[-1], n=12, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, n_in, generator=generator, dtype=dtype), torch.arange(n) % n_out


def chosen_by(name, model, *, density, batch=None, input_shape=None, **settings):
    """Call a method by its name with what it needs."""
    n_in = next(model.parameters()).shape[1] if input_shape is None else None
    if name in ("snip", "grasp"):
        method = {"snip": snip, "grasp": grasp}[name]
        dtype = next(model.parameters()).dtype
        batch = batch or samples(n_in, list(model.parameters())[-1].shape[0], dtype=dtype)
        return method(model, batch, density=density, **settings)
    if name == "synflow":
        return synflow(model, input_shape or (n_in,), density=density, **settings)
    return random_masks(model, density=density, **settings)


METHODS = ("snip", "grasp", "synflow", "random_masks")


@pytest.fixture
def seen(monkeypatch):
    """What :meth:`Candidates.keep` was given: the scores of each round, one vector a layer."""
    rounds = []
    keep = Candidates.keep

    def spy(self, scores, *rest):
        ends = np.cumsum([wiring.n_blocks for wiring in self.wirings.values()])[:-1]
        rounds.append(dict(zip(self.wirings, np.split(scores, ends), strict=True)))
        return keep(self, scores, *rest)

    monkeypatch.setattr(Candidates, "keep", spy)
    return rounds


def weights(model):
    return {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}


def n_kept(wirings):
    return sum(wiring.n_connections for wiring in wirings.values())


# Scores against twins


def test_snip_scores_equal_the_change_of_the_loss_by_finite_differences(seen):
    model, (x, y) = mlp(*SIZES, act=nn.Tanh), samples()
    snip(model, (x, y), density=0.5)
    for name, weight in weights(model).items():
        expected = torch.empty_like(weight)
        for o in range(weight.shape[0]):
            for i in range(weight.shape[1]):
                ends = []
                for factor in (1 + 1e-5, 1 - 1e-5):  # c of the paper, around 1
                    changed = copy.deepcopy(model)
                    with torch.no_grad():
                        changed.get_submodule(name).weight[o, i] *= factor
                        ends.append(float(F.cross_entropy(changed(x), y)))
                expected[o, i] = abs(ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(seen[0][name], expected.detach().numpy().ravel(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("temperature", [200.0, 1.0])
def test_grasp_scores_equal_those_of_an_explicit_hessian(seen, temperature):
    model, (x, y) = mlp(3, 4, 3, act=nn.Tanh), samples(3, 3)
    grasp(model, (x, y), density=0.5, temperature=temperature)
    shapes = {f"{name}.weight": weight.shape for name, weight in weights(model).items()}
    lengths = [shape.numel() for shape in shapes.values()]
    flat = torch.cat([weight.detach().ravel() for weight in weights(model).values()])

    def loss(vector):
        parts = {k: v.view(shapes[k]) for k, v in zip(shapes, vector.split(lengths), strict=True)}
        return F.cross_entropy(functional_call(model, parts, x) / temperature, y)

    gradient = torch.autograd.functional.jacobian(loss, flat)
    expected = flat * (torch.autograd.functional.hessian(loss, flat) @ gradient)
    np.testing.assert_allclose(np.concatenate(list(seen[0].values())), expected.numpy(), rtol=1e-8, atol=1e-16)


def test_grasp_keeps_the_weights_whose_going_makes_the_gradient_shrink(seen):
    """The sign: as a weight goes, gᵀg falls at twice the rate of its score; the largest scores stay."""
    model, (x, y) = mlp(3, 4, 3, act=nn.Tanh), samples(3, 3)

    def rate(net):
        ws = list(weights(net).values())
        return sum(float(g.square().sum()) for g in torch.autograd.grad(F.cross_entropy(net(x) / 200, y), ws))

    changes = {}
    for name, weight in weights(model).items():
        for o, i in np.ndindex(*weight.shape):
            shrunk = copy.deepcopy(model)
            with torch.no_grad():
                shrunk.get_submodule(name).weight[o, i] *= 1 - 1e-6
            changes[name, o, i] = (rate(shrunk) - rate(model)) / 1e-6
    grasp(model, (x, y), density=0.5)
    scores = np.concatenate([seen[0][name] for name in weights(model)])
    np.testing.assert_allclose(list(changes.values()), -2 * scores, atol=1e-4 * abs(scores).max())
    assert max(changes.values()) > 0 > min(changes.values())


def test_synflow_golden_values(seen):
    model = mlp(2, 2, 1, bias=False)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 1.0]]))
        model[2].weight.copy_(torch.tensor([[-4.0, 1.0]]))
    # R = 4 · (1 + 2) + 1 · (3 + 1) = 16
    one_shot = synflow(model, (2,), density=4 / 6, rounds=1)
    assert seen[0]["0"].tolist() == [4.0, 8.0, 3.0, 1.0]
    assert seen[0]["2"].tolist() == [12.0, 4.0]
    assert one_shot["0"].mask().int().tolist() == [[1, 1], [0, 0]]
    assert one_shot["2"].mask().int().tolist() == [[1, 1]]
    # two rounds: 6 · (2/3)^(1/2) rounds to 5, so 1 goes; then R = 4 · 3 + 1 · 3 = 15, and the 3s of the lower path tie
    seen.clear()
    synflow(model, (2,), density=4 / 6, rounds=2)
    assert seen[1]["0"].tolist() == [4.0, 8.0, 3.0]
    assert seen[1]["2"].tolist() == [12.0, 3.0]


def test_synflow_conserves_the_flow_from_layer_to_layer_in_every_round(seen):
    model = mlp(*SIZES, bias=False)
    synflow(model, (SIZES[0],), density=0.3, rounds=7)
    assert len(seen) == 7
    positive = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    flow = float(positive(torch.ones(1, SIZES[0], dtype=torch.float64)).sum().detach())
    np.testing.assert_allclose([part.sum() for part in seen[0].values()], flow, rtol=1e-12)
    for scores in seen[1:]:
        sums = [part.sum() for part in scores.values()]
        np.testing.assert_allclose(sums, sums[0], rtol=1e-12)
        assert sums[0] < flow


def test_synflow_follows_its_exponential_schedule(seen):
    model = mlp(40, 50, 10, bias=False)
    synflow(model, (40,), density=0.05, rounds=10)
    reached = [sum(len(part) for part in scores.values()) for scores in seen]
    assert reached == [2500, *(round(2500 * 0.05 ** (k / 10)) for k in range(1, 10))]


def test_synflow_scores_in_evaluation_mode_and_with_absolute_buffers(seen):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1, bias=False))
    model[1].running_mean.fill_(-1.0)
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[2].weight.fill_(1.0)
    synflow(model, (2,), density=1.0, rounds=1)
    np.testing.assert_allclose(seen[0]["2"], (2 - 1) / (1 + 1e-5) ** 0.5, rtol=1e-6)  # Σ|w| − |mean|


# How many, and where


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("density", [0.3, 0.517, 1.0])
def test_density_is_exact_and_weights_are_kept(name, density):
    model = mlp(*SIZES)
    wirings = chosen_by(name, model, density=density)
    assert list(wirings) == ["0", "2", "4"]
    assert n_kept(wirings) == round(density * (48 + 40 + 15))
    sparse = with_wirings(model, wirings)
    for layer_name, wiring in wirings.items():
        layer, original = sparse.get_submodule(layer_name), model.get_submodule(layer_name)
        assert isinstance(layer, SparseLinear)
        assert layer.wiring == wiring
        assert torch.equal(layer.dense_weight(), original.weight * wiring.mask())
        assert torch.equal(layer.bias, original.bias)


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_the_largest_scores_of_all_layers_together_stay(name, seen):
    model = mlp(*SIZES)
    wirings = chosen_by(name, model, density=0.4)
    scores = np.concatenate(list(seen[0].values()))
    kept = np.concatenate([wiring.mask().numpy().ravel() for wiring in wirings.values()])
    assert kept.sum() == round(0.4 * 103)
    assert scores[kept].min() >= scores[~kept].max()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("block", [(2, 1), (4, 4), (3, 2), (1, 5)])
def test_blocks_of_any_shape(name, block):
    model = mlp(16, 24, 10, 5)
    possible, density = 16 * 24 + 240 + 50, 0.4
    wirings = chosen_by(name, model, density=density, block=block)
    assert {wiring.block for wiring in wirings.values()} == {block}
    assert abs(n_kept(wirings) - density * possible) <= block[0] * block[1]
    sparse = with_wirings(model, wirings)
    x = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for layer_name, wiring in wirings.items():
            masked.get_submodule(layer_name).weight.mul_(wiring.mask())
    torch.testing.assert_close(sparse(x), masked(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_a_blocks_score_is_the_sum_over_its_synapses(name, seen):
    model, settings = mlp(6, 5, 3), {"rounds": 1} if name == "synflow" else {}
    chosen_by(name, model, density=0.7, **settings)
    chosen_by(name, model, density=0.7, block=(2, 4), **settings)
    single, blocks = seen
    for layer_name, (n_out, n_in) in {"0": (5, 6), "2": (3, 5)}.items():
        padded = np.zeros((-(-n_out // 2) * 2, 8))
        padded[:n_out, :n_in] = single[layer_name].reshape(n_out, n_in)
        expected = padded.reshape(-1, 2, 2, 4).sum(axis=(1, 3)).ravel()
        np.testing.assert_allclose(blocks[layer_name], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("method", ["uniform", "er", "erk"])
def test_random_masks_have_the_layer_densities_of_the_rule(method):
    shapes = [(300, 64), (100, 300), (10, 100)]
    wirings = random_masks(mlp(64, 300, 100, 10), density=0.1, method=method)
    for wiring, expected in zip(wirings.values(), layer_densities(shapes, 0.1, method), strict=True):
        assert abs(wiring.n_connections - expected * wiring.in_features * wiring.out_features) <= 1
    assert n_kept(wirings) == round(0.1 * 50200)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=12), st.floats(0, 40))
def test_best_marks_the_largest_up_to_a_total(pairs, wanted):
    scores, sizes = (np.array(side) for side in zip(*pairs, strict=True))
    kept = best(scores.astype(float), sizes, wanted, torch.Generator().manual_seed(0))
    if kept.any() and not kept.all():
        assert scores[kept].min() >= scores[~kept].max()
    total = sizes[kept].sum()
    assert abs(total - min(wanted, sizes.sum())) <= sizes.max()
    if (sizes == 1).all():
        assert abs(total - min(wanted, len(sizes))) <= 0.5


@pytest.mark.parametrize("last", [1, 2])
def test_ties_are_broken_by_chance(last):
    scores, sizes = np.array([1.0] * 6 + [2.0]), np.array([1] * 6 + [last])
    generators = [torch.Generator().manual_seed(seed) for seed in range(40)]
    drawn = {tuple(np.flatnonzero(best(scores, sizes, 2 + last, generator))) for generator in generators}
    assert all(len(kept) == 3 and kept[-1] == 6 for kept in drawn)
    assert len(drawn) > 8


@pytest.mark.parametrize("name", METHODS)
def test_skipped_layers_stay_as_they_are_and_are_not_counted(name):
    model = nn.Sequential(mlp(6, 8), nn.ReLU(), mlp(8, 5, 3))
    settings = {"batch": samples(6, 3), "input_shape": (6,)}
    wirings = chosen_by(name, model, density=0.5, skip=("2",), **settings)
    assert list(wirings) == ["0.0"]
    assert n_kept(wirings) == 24
    sparse = with_wirings(model, wirings)
    assert type(sparse[2][0]) is nn.Linear
    assert list(chosen_by(name, model, density=0.5, skip="2.0", **settings)) == ["0.0", "2.2"]


# Layers that are sparse already


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("block", [(1, 1), (2, 2)])
def test_sparse_layers_are_thinned_out(name, block, generator):
    pattern = {"0": ErdosRenyi(0.5, exact=True, block=block)}
    model = sparsify(mlp(16, 24, 10), pattern, keep_weights=True, generator=generator)
    before = copy.deepcopy(model)
    settings = {"batch": samples(16, 10, n=40), "input_shape": (16,)}
    wirings = chosen_by(name, model, density=0.3, **settings)
    assert wirings["0"].block == block
    assert wirings["2"].block == (1, 1)
    assert abs(n_kept(wirings) - round(0.3 * (384 + 240))) <= (block != (1, 1)) * 2
    assert not (wirings["0"].mask() & ~model[0].wiring.mask()).any()
    sparse = with_wirings(model, wirings)
    assert torch.equal(sparse[0].dense_weight(), model[0].dense_weight() * wirings["0"].mask())
    assert model[0].wiring == before[0].wiring
    assert torch.equal(model[0].weight, before[0].weight)


def test_scores_of_a_sparse_layer_are_those_of_its_dense_twin(seen, generator):
    model = sparsify(mlp(16, 24, 10), {"0": ErdosRenyi(0.5, exact=True, block=(2, 2))}, generator=generator)
    batch = samples(16, 10, n=40)
    snip(model, batch, density=0.3)
    snip(densify(model), batch, density=0.3)
    sparse, dense = seen
    np.testing.assert_allclose(sparse["2"], dense["2"])
    blocks = dense["0"].reshape(12, 2, 8, 2).sum(axis=(1, 3)).ravel()
    np.testing.assert_allclose(sparse["0"], blocks[model[0].wiring.cells()])


def test_random_masks_give_a_sparse_layer_no_more_than_it_has(generator):
    model = sparsify(mlp(16, 24, 10), {"2": ErdosRenyi(0.1, exact=True)}, generator=generator)
    wirings = random_masks(model, density=0.4)
    assert wirings["2"] == model[2].wiring
    assert n_kept(wirings) == round(0.4 * (384 + 240))
    whole = random_masks(model, density=(384 + 24) / 624)
    assert n_kept(whole) == 408


# What stays the same


def noisy():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    model(torch.randn(4, 6)).sum().backward()
    model[1].eval()
    model[1].weight.requires_grad_(False)
    return model


def state(model):
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        [(module.training, type(module), len(module._forward_hooks)) for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
        torch.get_rng_state(),
    )


def assert_same(before, after):
    for old, new in zip(before[:2], after[:2], strict=True):
        assert old.keys() == new.keys()
        assert all(new[k] is old[k] or torch.equal(old[k], new[k]) for k in old)
    assert before[2:4] == after[2:4]
    assert torch.equal(before[4], after[4])


@pytest.mark.parametrize("name", METHODS)
def test_nothing_changes_in_the_model_or_the_global_random_state(name):
    model = noisy()
    before = state(model)
    settings = {"batch": samples(6, 3, dtype=torch.float32), "input_shape": (6,)}
    wirings = chosen_by(name, model, density=0.5, **settings)
    with_wirings(model, wirings)
    assert_same(before, state(model))
    bad = (torch.full((4, 6), torch.nan), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="must"):
        chosen_by(name, model, density=1e-9 if name == "random_masks" else 0.5, batch=bad, input_shape=(7,))
    assert_same(before, state(model))


@pytest.mark.parametrize("name", METHODS)
def test_same_generator_same_masks_whatever_the_global_state(name):
    model = noisy()
    settings = {"batch": samples(6, 3, dtype=torch.float32), "input_shape": (6,), "density": 0.5}
    drawn = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        drawn.append(chosen_by(name, model, generator=torch.Generator().manual_seed(seed), **settings))
    assert drawn[0] == drawn[1]
    if name != "synflow":  # which has no chance in it, but for ties
        assert drawn[0] != drawn[2]


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_works_where_gradients_are_off_and_with_frozen_weights(name):
    model = mlp(*SIZES)
    expected = chosen_by(name, model, density=0.3)
    with torch.no_grad():
        assert chosen_by(name, model.requires_grad_(False), density=0.3) == expected
    batch = samples()
    with torch.inference_mode():
        assert chosen_by(name, model, density=0.3, batch=batch) == expected


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
@pytest.mark.parametrize("training", [True, False])
def test_transformer_layers(name, training, generator):
    layers = [nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True) for _ in range(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 4)).train(training)
    batch = torch.randn(8, 3, 16, generator=generator), torch.arange(8) % 4
    wirings = chosen_by(name, model, density=0.5, batch=batch, input_shape=(3, 16))
    assert list(wirings) == ["0.linear1", "0.linear2", "1.linear1", "1.linear2", "3"]
    assert with_wirings(model, wirings)(batch[0]).shape == (8, 4)


def test_one_layer_alone_and_layers_used_twice():
    layer = nn.Linear(6, 3).double()
    sparse = with_wirings(layer, snip(layer, samples(), density=0.5))
    assert isinstance(sparse, SparseLinear)
    assert sparse.wiring.n_connections == 9
    again = with_wirings(sparse, snip(sparse, samples(), density=0.25))
    assert again.wiring.n_connections == 4  # round half to even
    shared = nn.Linear(6, 6).double()
    twice = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(6, 3).double())
    wirings = snip(twice, samples(), density=0.5)
    assert list(wirings) == ["0", "3"]
    result = with_wirings(twice, wirings)
    assert result[0] is result[2]


# Collapse


def test_synflow_empties_no_layer_where_magnitude_does():
    model = mlp(64, 300, 300, 300, 10)
    density = 0.01
    magnitudes = [layer.weight.detach().abs().numpy().ravel() for layer in model if isinstance(layer, nn.Linear)]
    sizes = [len(part) for part in magnitudes]
    kept = best(
        np.concatenate(magnitudes),
        np.ones(sum(sizes), dtype=np.int64),
        density * sum(sizes),
        torch.Generator().manual_seed(0),
    )
    by_magnitude = [int(part.sum()) for part in np.split(kept, np.cumsum(sizes)[:-1])]
    assert by_magnitude[1:] == [0, 0, 0]
    wirings = synflow(model, (64,), density=density)
    assert n_kept(wirings) == round(density * sum(sizes))
    assert min(wiring.n_connections for wiring in wirings.values()) > 100
    # and paths lead all the way through
    alive = torch.ones(64, dtype=torch.bool)
    for wiring in wirings.values():
        alive = wiring.mask()[:, alive].any(dim=1)
    assert alive.all()


def test_synflow_holds_out_to_a_few_connections():
    """Down to 8 connections for 4 layers: a single path would do with 4."""
    model = mlp(20, 30, 30, 30, 5, bias=False)
    wirings = synflow(model, (20,), density=8 / 2550)
    assert n_kept(wirings) == 8
    assert min(wiring.n_connections for wiring in wirings.values()) >= 1


# Learning


@pytest.mark.parametrize(("name", "settings"), [(name, {}) for name in METHODS] + [("snip", {"block": (4, 1)})])
def test_a_pruned_net_learns_digits(name, settings, digits):
    model = nn.Sequential(nn.Flatten(), *mlp(64, 128, 128, 10, dtype=torch.float32))
    images, labels = digits.normalize(digits.train.images), digits.train.labels
    ten_a_class = torch.cat([torch.nonzero(labels == c)[:10, 0] for c in range(10)])
    batch = images[ten_a_class], labels[ten_a_class]
    wirings = chosen_by(name, model, density=0.1, batch=batch, input_shape=digits.input_shape, **settings)
    sparse = with_wirings(model, wirings)
    result = fit(sparse, digits, torch.optim.Adam(sparse.parameters(), lr=1e-2), epochs=8, batch_size=64)
    assert result.test_accuracy > 0.92
    assert {name: sparse.get_submodule(name).wiring for name in wirings} == wirings


# Words


def test_errors():
    model, batch = mlp(*SIZES), samples()
    for call, words in (
        (lambda: snip(model, batch, density=1.5), "snip: density must lie in (0, 1], got 1.5"),
        (lambda: synflow(model, (6,), density=0.0), "synflow: density must lie in (0, 1], got 0.0"),
        (lambda: grasp(model, batch, density="half"), "grasp: density must lie in (0, 1], got 'half'"),
        (
            lambda: random_masks(model, density=1e-4),
            "random_masks: density must leave at least one of 103 connections, got 0.0001",
        ),
        (
            lambda: snip(nn.Sequential(nn.ReLU()), batch, density=0.5),
            "snip: the model must have an nn.Linear, an nn.Conv2d, or a sparse layer, got none",
        ),
        (
            lambda: snip(model, batch, density=0.5, skip=("0", "2", "4")),
            "snip: the model must have an nn.Linear, an nn.Conv2d, or a sparse layer, got only skipped ones",
        ),
        (
            lambda: grasp(nn.ModuleDict({"head": model}), batch, density=0.5, skip=("hed",)),
            "grasp: every name must be that of a module of the model, got 'hed'; try 'head'",
        ),
        (
            lambda: snip(model, batch, density=0.5, block=(0, 1)),
            "snip: block must be two positive integers (rows, columns), got (0, 1)",
        ),
        (
            lambda: snip(model, (batch[0][:, :5], batch[1]), density=0.5),
            "snip: batch must fit the model and the loss, got shapes (12, 5) and (12,): ",
        ),
        (
            lambda: grasp(model, (batch[0], batch[1][:4]), density=0.5),
            "grasp: batch must fit the model and the loss, got shapes (12, 6) and (4,): ",
        ),
        (lambda: snip(model, batch[0], density=0.5), "snip: batch must be a pair of inputs and targets, got a Tensor"),
        (
            lambda: snip(model, (batch[0] * torch.nan, batch[1]), density=0.5),
            "snip: loss must be finite on the batch, got nan",
        ),
        (
            lambda: snip(model, batch, density=0.5, loss=lambda a, b: F.cross_entropy(a, b, reduction="none")),
            "snip: loss must give one number, got shape (12,)",
        ),
        (
            lambda: snip(model, batch, density=0.5, loss=lambda a, b: a.detach().sum()),
            "snip: loss must depend on the weights through derivatives, got one that does not",
        ),
        (lambda: grasp(model, batch, density=0.5, temperature=0), "grasp: temperature must be above 0, got 0"),
        (lambda: synflow(model, (6,), density=0.5, rounds=0), "synflow: rounds must be at least 1, got 0"),
        (lambda: synflow(model, (7,), density=0.5), "synflow: input_shape must fit the model, got (7,): "),
        (
            lambda: synflow(nn.Sequential(model, nn.LSTM(3, 2)), (6,), density=0.5),
            "synflow: model must return one tensor, got a tuple",
        ),
        (
            lambda: synflow(nn.Sequential(model, nn.Hardtanh(-2e-9, 1e-9)), (6,), density=0.5),
            "synflow: something must flow from the inputs to the outputs, got a flow of 0 in round 1; try more",
        ),
        (
            lambda: random_masks(model, density=0.5, method="full"),
            "random_masks: method must be one of uniform, er, erk, got 'full'",
        ),
        (
            lambda: random_masks(model, density=0.02, method="uniform", skip=()),
            "random_masks: density must leave a connection in every layer, got none in '4'; try a higher density, or",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
            call()


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_a_layer_that_takes_no_part_is_named(name):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle = nn.Linear(4, 4).double()
            self.net = mlp(*SIZES)

        def forward(self, x):
            return self.net(x)

    settings = {"batch": samples(), "input_shape": (6,)}
    with pytest.raises(ValueError, match=r"got none in 'idle'; try a higher density, or skip=\('idle',\)"):
        chosen_by(name, Idle(), density=0.1, **settings)
    wirings = chosen_by(name, Idle(), density=0.5, skip=("idle",), **settings)
    assert list(wirings) == ["net.0", "net.2", "net.4"]


def test_errors_of_sparse_and_shared_layers(generator):
    model = sparsify(mlp(16, 24, 10), ErdosRenyi(0.1, exact=True), generator=generator)
    with pytest.raises(ValueError, match=r"^snip: density must be at most 0.09936, which the layers have, got 0.5"):
        snip(model, samples(16, 10), density=0.5)
    tied = mlp(6, 6, 6)
    tied[2].weight = tied[0].weight
    with pytest.raises(ValueError, match="^synflow: a layer's weight must be its own, got '0', which shares it with"):
        synflow(tied, (6,), density=0.5)
    with pytest.raises(ValueError, match="^with_wirings: a layer's weight must be its own, got '2', which shares it"):
        with_wirings(tied, {"2": Wiring.from_mask(torch.eye(6))})


def test_with_wirings_adds_connections_at_zero_and_refuses_what_does_not_fit(generator):
    wiring = Wiring.from_mask(torch.eye(4))
    model = nn.Sequential(SparseLinear(wiring, generator=generator), nn.ReLU(), nn.Linear(4, 2))
    fuller = with_wirings(model, {"0": Wiring.from_mask(torch.ones(4, 4).tril())})
    assert torch.equal(fuller[0].dense_weight(), model[0].dense_weight())
    assert fuller[0].wiring.n_connections == 10
    assert type(fuller[2]) is nn.Linear
    for wirings, words in (
        ({}, "with_wirings: wirings must name at least one layer, got none"),
        (
            {"1": wiring},
            "with_wirings: every name must be that of an nn.Linear, an nn.Conv2d without groups, padded with zeros, or "
            "a sparse layer, got '1', a ReLU",
        ),
        ({"3": wiring}, "with_wirings: every name must be that of a module of the model, got '3'"),
        ({"2": wiring}, "with_wirings: layer '2': its wiring must be from 4 to 2 neurons, got Wiring(4 → 4"),
        ({"0": Wiring.from_mask(torch.ones(4, 4), block=(2, 2))}, "with_wirings: layer '0': Change: both wirings must"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
            with_wirings(model, wirings)


# Convolutions


@pytest.mark.parametrize("name", METHODS)
def test_convolutions_lose_single_weights(name):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    batch = torch.randn(6, 2, 4, 4, generator=generator, dtype=torch.float64), torch.arange(6) % 3
    wirings = chosen_by(name, model, density=0.5, batch=batch, input_shape=(2, 4, 4))
    assert {layer: wiring.shape for layer, wiring in wirings.items()} == {"0": (4, 18), "3": (3, 16)}
    assert n_kept(wirings) == 60
    again = chosen_by(name, with_wirings(model, wirings), density=0.25, batch=batch, input_shape=(2, 4, 4))
    assert set(again) == {"0", "3"}
    assert n_kept(again) == 30
    if name == "snip":
        weights = [model[0].weight, model[3].weight]
        gradients = torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), weights)
        scores = [(w * g).abs().flatten(1) for w, g in zip(weights, gradients, strict=True)]
        border = torch.cat([s.flatten() for s in scores]).sort(descending=True).values[59]
        for wiring, score in zip(wirings.values(), scores, strict=True):
            assert torch.equal(wiring.mask(), score >= border)
