import pytest
import torch
from torch import nn

from neuropil.bench.footprint import TensorBytes
from neuropil.connect import Ensembles, sparsify
from neuropil.learn import Backpropagation, CounterCurrent, ForwardForward


def passing_peak(make_rule, n_hidden, *, sparse):
    """Return the bytes of a step's activities, most at once, without the gradients of weights."""
    layers = [module for _ in range(n_hidden) for module in (nn.Linear(64, 64), nn.ELU())]
    model = nn.Sequential(*layers, nn.Linear(64, 4))
    if sparse:
        pattern = Ensembles(n_groups=2, block=("group", 1))
        model = sparsify(model, pattern, skip=(str(2 * n_hidden),), generator=torch.Generator().manual_seed(0))
    rule = make_rule(model)
    x, y = torch.randn(512, 64), torch.randint(4, (512,))
    rule.step(x, y)  # states of the optimizer are made here
    with TensorBytes() as made:
        rule.step(x, y)
    return made.passing_peak()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("make_rule", [CounterCurrent, ForwardForward])
def test_rules_that_are_local_hold_the_activities_of_one_layer(make_rule, sparse):
    short, long = (passing_peak(make_rule, n, sparse=sparse) for n in (3, 9))
    layer = 512 * 64 * 4
    assert long - short < layer / 2  # what grows are the signals of four classes
    graphs = [passing_peak(Backpropagation, n, sparse=sparse) for n in (3, 9)]
    assert graphs[1] - graphs[0] > 5 * layer
