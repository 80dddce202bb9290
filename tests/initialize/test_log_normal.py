"""Log-normal magnitudes under random signs."""

import pytest
import torch
from torch import nn

from neuropil.connect import ErdosRenyi, SparseConv2d, SparseLinear, filters
from neuropil.initialize import log_normal_
from neuropil.randomness import stream


@pytest.mark.parametrize("ratio", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("sparse", [False, True])
def test_moments_are_those_that_are_promised(ratio, sparse):
    layer = nn.Linear(600, 500)
    fan = 600.0
    if sparse:
        wiring = ErdosRenyi(0.2).wire(2000, 500, generator=stream(0))
        layer = SparseLinear(wiring, generator=stream(0))
        fan = wiring.fan_in().double()[:, None]
    log_normal_(layer, ratio=ratio, generator=stream(1))
    weight = (layer.dense_weight() if sparse else layer.weight).detach().double() * (fan / 2) ** 0.5
    if sparse:
        weight = weight[layer.wiring.mask()]
    size = weight.abs()
    assert abs(weight.mean()) < 0.02
    torch.testing.assert_close(weight.square().mean(), torch.tensor(1.0).double(), rtol=0.03, atol=0)
    torch.testing.assert_close(size.mean() / size.std(), torch.tensor(ratio).double(), rtol=0.05, atol=0)
    logs = size.log()
    skew = ((logs - logs.mean()) / logs.std()).pow(3).mean()
    assert abs(skew) < 0.03  # the logarithms are symmetric, those of normal weights far from it


def test_each_wiring_may_have_one_sign_a_source(wiring):
    layer = SparseLinear(wiring, generator=stream(0))
    log_normal_(layer, signs="neuron", generator=stream(1))
    dense = layer.dense_weight()
    assert torch.equal(dense != 0, wiring.mask())
    assert not bool(((dense > 0).any(0) & (dense < 0).any(0)).any())
    assert (dense > 0).any()
    assert (dense < 0).any()


def test_channels_have_one_sign_in_convolutions():
    wiring = filters(ErdosRenyi(0.5).wire(6, 8, generator=stream(0)), (3, 3))
    sparse = SparseConv2d(wiring, 6, 3, generator=stream(0)).synapses
    log_normal_(sparse, signs="neuron", generator=stream(1))
    grouped = nn.Conv2d(6, 8, 3, groups=2)
    log_normal_(grouped, signs="neuron", generator=stream(1))
    by_channel = grouped.weight.view(2, 4, 3, 9).transpose(1, 2).reshape(6, 36)
    for weight in (sparse.dense_weight().view(8, 6, 9).transpose(0, 1).reshape(6, 72), by_channel):
        assert not bool(((weight > 0).any(1) & (weight < 0).any(1)).any())
        assert (weight > 0).any()
        assert (weight < 0).any()


def test_unknown_settings_are_told():
    with pytest.raises(ValueError, match="ratio must be finite and above 0, got 0"):
        log_normal_(nn.Linear(2, 2), ratio=0)
    with pytest.raises(ValueError, match="signs must be one of weight, neuron, got 'layer'"):
        log_normal_(nn.Linear(2, 2), signs="layer")
