"""Orthogonal where the wiring allows it, and as near to it as projecting in turn gets where not."""

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear
from neuropil.initialize import kaiming_normal_, orthogonal_
from neuropil.randomness import stream


def distance(weight):
    """How far a matrix is from keeping lengths: ‖G − I‖ / √n, G of the shorter side."""
    weight = weight.detach().double()
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    return float((gram - torch.eye(len(gram))).norm() / len(gram) ** 0.5)


@pytest.mark.parametrize(("in_features", "out_features"), [(1, 1), (7, 7), (9, 4), (4, 9), (1, 6), (6, 1)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_dense_layers_exactly(in_features, out_features, gain):
    layer = nn.Linear(in_features, out_features, dtype=torch.float64)
    bias = layer.bias.clone()
    assert orthogonal_(layer, gain=gain, generator=stream(0)) is layer.weight
    assert distance(layer.weight / gain) < 1e-12
    assert torch.equal(layer.bias, bias)


def test_convolutions_exactly():
    layer = nn.Conv2d(3, 8, (2, 5))
    orthogonal_(layer, generator=stream(0))
    assert layer.weight.shape == (8, 3, 2, 5)
    assert distance(layer.weight.flatten(1)) < 1e-6
    assert layer.weight.is_contiguous()


@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2), ("group", "group")])
@pytest.mark.parametrize("grouping", ["index", "interleaved", "random"])
@pytest.mark.parametrize(("in_features", "out_features"), [(16, 16), (32, 16)])
def test_unconnected_groups_exactly(block, grouping, in_features, out_features):
    pattern = Ensembles(n_groups=4, p_inter=0.0, grouping=grouping, block=block)
    layer = SparseLinear(pattern.wire(in_features, out_features, generator=stream(0)), dtype=torch.float64)
    orthogonal_(layer, generator=stream(1))
    assert distance(layer.dense_weight()) < 1e-10


def test_rows_have_the_length_of_an_orthogonal_matrix(wiring):
    layer = SparseLinear(wiring, generator=stream(0))
    orthogonal_(layer, gain=2.0, generator=stream(1))
    dense = layer.dense_weight().detach()
    assert (dense[~wiring.mask()] == 0).all()
    reads = wiring.fan_in() > 0
    length = 2.0 * min(1.0, wiring.in_features / wiring.out_features) ** 0.5
    assert torch.allclose(dense[reads].norm(dim=1), torch.tensor(length), rtol=1e-5)
    assert int((layer.weight != 0).sum()) <= wiring.n_connections


@pytest.mark.parametrize("pattern", [ErdosRenyi(0.3), Ensembles(n_groups=4), Ensembles(n_groups=4, block=("group", 1))])
@pytest.mark.parametrize(("in_features", "out_features"), [(64, 64), (128, 64)])
def test_projections_bring_it_nearer(pattern, in_features, out_features):
    wiring = pattern.wire(in_features, out_features, generator=stream(0, "wiring"))
    found = []
    for n_projections in (0, 5, 20, 80):
        layer = SparseLinear(wiring, generator=stream(0))
        orthogonal_(layer, n_projections=n_projections, generator=stream(1))
        found.append(distance(layer.dense_weight()))
    assert found == sorted(found, reverse=True)
    assert found[2] < 0.5 * found[0]
    kaiming_normal_(layer, nonlinearity="linear", generator=stream(1))
    assert found[2] < 0.5 * distance(layer.dense_weight())


def test_a_tall_sparse_matrix_gets_nearer_too():
    wiring = ErdosRenyi(0.4).wire(32, 64, generator=stream(0, "wiring"))
    layer = SparseLinear(wiring, generator=stream(0))
    orthogonal_(layer, n_projections=0, generator=stream(1))
    without = distance(layer.dense_weight())
    orthogonal_(layer, generator=stream(1))
    assert distance(layer.dense_weight()) < 0.7 * without
