import numpy as np
import torch

from neuropil.bench.footprint import held_bytes
from neuropil.connect import SparseLinear, Wiring


def test_each_memory_counts_once():
    x = torch.zeros(100)
    assert held_bytes(x, x[:10], [x, {"a": x.view(10, 10)}]) == 400
    array = np.zeros(100)
    assert held_bytes(array, array[::2], torch.from_numpy(array)) == 800


def test_gradients_and_moments_count():
    layer = torch.nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.Adam(layer.parameters())
    assert held_bytes(layer, optimizer) == 400
    layer(torch.ones(1, 10)).sum().backward()
    assert held_bytes(layer) == 800
    optimizer.step()
    assert held_bytes(layer, optimizer) >= 1600


def test_indices_of_a_wiring_count():
    wiring = Wiring(4, 4, [0, 1], [0, 1], block=(2, 2))
    layer = SparseLinear(wiring, bias=False, kernel="blocks")
    indices = wiring.indptr.nbytes + wiring.indices.nbytes + wiring.out_order.nbytes + wiring.in_order.nbytes
    assert held_bytes(layer) >= 2 * 4 * 4 + indices
