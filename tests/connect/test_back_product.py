"""Signals that go back along a wiring."""

import pytest
import torch

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, back_product
from neuropil.randomness import stream

WIRINGS = {
    "masked": (Ensembles(n_groups=4, p_inter=0.1), "masked"),
    "synapses": (ErdosRenyi(0.2), "synapses"),
    "events": (ErdosRenyi(0.2), "events"),
    "blocks": (Ensembles(n_groups=4, p_inter=0.1, block=("group", 1)), "blocks"),
    "interleaved": (Ensembles(n_groups=4, p_inter=0.1, block=("group", 1), grouping="interleaved"), "blocks"),
    "tiles": (Ensembles(n_groups=4, p_inter=0.1, block=(4, 4)), "blocks"),
    "uneven": (Ensembles(n_groups=3, p_inter=0.1, block=("group", 1), uneven=True), "blocks"),
}


@pytest.mark.parametrize("name", WIRINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_product_with_the_transpose(name, dtype):
    pattern, kernel = WIRINGS[name]
    wiring = pattern.wire(48, 64, generator=stream(0, "wiring"))
    layer = SparseLinear(wiring, kernel=kernel, dtype=dtype, generator=stream(0, "weights"))
    other = SparseLinear(wiring, kernel=kernel, dtype=dtype, generator=stream(1, "weights"))
    delta = torch.randn(2, 5, 64, dtype=dtype, generator=stream(0, "delta"))
    for weight, expected in ((None, layer), (other.weight, other)):
        found = back_product(layer, delta, weight)
        assert not found.requires_grad
        torch.testing.assert_close(found, delta @ expected.dense_weight().detach())


def test_silent_connections_pass_nothing_back():
    layer = SparseLinear(ErdosRenyi(0.5).wire(6, 8, generator=stream(0)), kernel="synapses", generator=stream(1))
    layer.set_silent(torch.ones(layer.wiring.n_blocks, dtype=torch.bool))
    assert not back_product(layer, torch.ones(8)).any()


def test_wrong_shapes_are_told():
    layer = SparseLinear(ErdosRenyi(0.5).wire(6, 8, generator=stream(0)))
    with pytest.raises(ValueError, match="delta's last dimension must be out_features=8"):
        back_product(layer, torch.ones(6))
    with pytest.raises(ValueError, match="weight must have the shape"):
        back_product(layer, torch.ones(8), torch.ones(3))
