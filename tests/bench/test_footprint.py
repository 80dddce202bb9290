import numpy as np
import torch

from neuropil.bench.footprint import TensorBytes, held_bytes
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


def test_what_lives_at_once_is_counted_without_what_was_there_before():
    x = torch.ones(100)
    with TensorBytes() as made:
        kept = x + 1
        for _ in range(3):
            result = kept.add_(1).view(10, 10) * 2
        del result
    assert made.peak() == 1200  # one result is let go of when the next is there
    assert made.passing_peak() == 800
    with TensorBytes() as made:
        x.add_(1)
    assert made.peak() == 0


def test_what_autograd_keeps_is_counted():
    layer = torch.nn.Linear(100, 50, bias=False)
    x = torch.ones(10, 100)
    with TensorBytes() as made:
        layer(x).tanh().square().sum().backward()
    assert made.passing_peak() >= 2 * 4 * 500
    assert made.peak() >= made.passing_peak() >= made.peak() - 4 * 5000
