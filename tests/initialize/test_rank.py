"""Rank at an unchanged norm, exactly in dense layers, and honestly told in sparse ones."""

import math

import pytest
import torch
from torch import nn

from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.initialize import effective_rank, kaiming_normal_, rank_controlled_
from neuropil.randomness import stream


def base_norm(layer, gain=1.0):
    weights = kaiming_normal_(layer, nonlinearity="linear", generator=stream(1)).detach()
    return gain * float(weights.norm())


@pytest.mark.parametrize("rank", [1, 3, 20])
@pytest.mark.parametrize("build", [lambda: nn.Linear(30, 20), lambda: nn.Conv2d(5, 20, (2, 3))])
def test_dense_layers_have_the_rank_and_the_norm_of_the_draw(rank, build):
    layer = build().double()
    norm = base_norm(layer)
    reached = rank_controlled_(layer, rank=rank, generator=stream(1))
    assert int(torch.linalg.matrix_rank(layer.weight.detach().flatten(1))) == rank
    assert float(layer.weight.detach().norm()) == pytest.approx(norm)
    assert reached.norm == pytest.approx(norm)
    assert reached.outside < 1e-12
    assert 1 - 1e-9 <= reached.effective_rank <= rank + 1e-9
    assert reached.effective_rank == pytest.approx(effective_rank(layer.weight))


def test_decay_goes_from_the_draw_to_rank_1():
    layer = nn.Linear(30, 20).double()
    norm, plain = base_norm(layer), layer.weight.detach().clone()
    found = []
    for decay in (1.0, 0.9, 0.5, 1e-9):
        found.append(rank_controlled_(layer, decay=decay, generator=stream(1)))
        assert found[-1].norm == pytest.approx(norm)
        if decay == 1.0:
            assert torch.equal(layer.weight, plain)
    ranks = [one.effective_rank for one in found]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] == pytest.approx(1.0, abs=1e-6)


def test_sparse_layers_keep_wiring_and_norm(wiring):
    layer = SparseLinear(wiring, generator=stream(0), dtype=torch.float64)
    norm = base_norm(layer)
    for settings in ({"rank": 2}, {"decay": 0.7}):
        reached = rank_controlled_(layer, **settings, generator=stream(1))
        dense = layer.dense_weight().detach()
        assert (dense[~wiring.mask()] == 0).all()
        assert int((layer.weight != 0).sum()) <= wiring.n_connections
        assert float(dense.norm()) == pytest.approx(norm)
        assert reached.effective_rank == pytest.approx(effective_rank(dense))
        assert 0 <= reached.outside < 1


@pytest.mark.parametrize("density", [0.2, 0.5])
def test_projections_bring_sparse_layers_nearer(density):
    layer = SparseLinear(ErdosRenyi(density).wire(60, 60, generator=stream(0)), dtype=torch.float64)
    outside = [rank_controlled_(layer, rank=5, n_projections=n, generator=stream(1)).outside for n in (1, 5, 20, 60)]
    assert outside == sorted(outside, reverse=True)
    ranks = [rank_controlled_(layer, rank=r, generator=stream(1)).effective_rank for r in (2, 10, 60)]
    assert ranks == sorted(ranks)


def test_gain():
    layer = nn.Linear(30, 20).double()
    plain = rank_controlled_(layer, rank=4, generator=stream(1)).norm
    assert rank_controlled_(layer, rank=4, gain=1.25, generator=stream(1)).norm == pytest.approx(1.25 * plain)


def test_silent_connections_are_weights_too():
    wiring = ErdosRenyi(0.5).wire(20, 20, generator=stream(0))
    layer, twin = (SparseLinear(wiring, dtype=torch.float64) for _ in range(2))
    silent = torch.arange(wiring.n_blocks) % 2 == 0
    layer.set_silent(silent)
    assert rank_controlled_(layer, rank=3, generator=stream(1)) == rank_controlled_(twin, rank=3, generator=stream(1))
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.silent, silent)


def test_effective_rank():
    assert effective_rank(torch.eye(6)) == pytest.approx(6)
    assert effective_rank(torch.ones(4, 3)) == pytest.approx(1)
    assert effective_rank(torch.zeros(4, 3)) == 0
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(16 / 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of rank and decay must be given, got neither"),
        ({"rank": 1, "decay": 0.5}, "exactly one of rank and decay must be given, got both"),
        ({"rank": 0}, "rank must be from 1 to 3, the layer's shorter side, got 0"),
        ({"rank": 4}, "rank must be from 1 to 3, the layer's shorter side, got 4"),
        ({"decay": 0.0}, r"decay must be in \(0, 1\], got 0.0"),
        ({"decay": math.nan}, r"decay must be in \(0, 1\], got nan"),
        ({"rank": 1, "n_projections": 0}, "n_projections must be at least 1, got 0"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=f"^rank_controlled_: {message}$"):
        rank_controlled_(nn.Linear(5, 3), **settings)


def test_effective_rank_of_what_is_not_finite():
    with pytest.raises(
        ValueError, match="^effective_rank: weights must be finite, got inf or nan; try a smaller learn"
    ):
        effective_rank(torch.full((2, 2), math.nan))


def test_projections_bring_the_rank_nearer():
    wiring = ErdosRenyi(0.2).wire(30, 30, generator=stream(0))
    once, often = (
        rank_controlled_(SparseLinear(wiring), rank=5, n_projections=n, generator=stream(1)).outside for n in (1, 20)
    )
    assert 0 < often < once / 3
