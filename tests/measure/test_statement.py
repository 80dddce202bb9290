"""The statement of sparsity, counted by hand and against masks."""

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseConv2d, SparseLinear
from neuropil.connect.kernels import KERNELS
from neuropil.measure import LayerStatement, count_parameters, network_cost, sparsity_statement


class Reader(nn.Module):
    """An embedding of 10 words, a sparse layer and a read-out."""

    def __init__(self, layer):
        super().__init__()
        self.words, self.hidden = nn.Embedding(10, 8), layer
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.norm(self.hidden(self.words(x))))


def grouped(**given):
    pattern = Ensembles(n_groups=2, p_inter=0.0, block=given.pop("block", (1, 1)))
    return SparseLinear(pattern.wire(8, 8, generator=torch.Generator().manual_seed(0)), **given)


def test_each_weight_by_hand():
    layer = grouped(block=("group", 1), generator=torch.Generator().manual_seed(1))
    layer.set_silent(torch.arange(8) == 0)
    with torch.no_grad():
        layer.weight[1, 0, 0] = 0.0
    found = sparsity_statement(Reader(layer), when="rewired", readout="head", seconds=(2.0, 3.0))
    words, hidden, head = found.layers
    assert words == LayerStatement("words.weight", "Embedding", False, (10, 8), None, None, 80, 80, 0, 0, True, False)
    assert hidden == LayerStatement(
        "hidden.weight", "SparseLinear", True, (8, 8), (4, 1), 2, 32, 64, 4, 1, False, False
    )
    assert head == LayerStatement("head.weight", "Linear", False, (3, 8), None, None, 24, 24, 0, 0, False, True)
    assert found.other_parameters == 8 + 16 + 3
    assert found.density == (80 + 32 + 24) / (80 + 64 + 24)
    assert found.density_without_embeddings == (32 + 24) / (64 + 24)
    assert found.density_inside == found.density_of_sparse_layers == 0.5
    assert found.speed_up == 1.5


def test_the_words():
    layer = grouped(block=("group", 1), generator=torch.Generator().manual_seed(1))
    layer.set_silent(torch.arange(8) == 0)
    text = str(sparsity_statement(Reader(layer), when="rewired", readout="head.weight", seconds=(2.0, 3.0)))
    assert text.splitlines() == [
        "where: 1 of 3 weights are sparse",
        "  words.weight (Embedding, 10 × 8): dense, embedding",
        "  hidden.weight (SparseLinear, 8 × 8): density 0.5, block 4 × 1, 2 groups, 4 silent",
        "  head.weight (Linear, 3 × 8): dense, read-out",
        "density, all weights: 0.8095 (136 of 168)",
        "density, without embeddings: 0.6364",
        "density, without embeddings and read-out (head.weight): 0.5",
        "density, sparse layers alone: 0.5",
        "when: sparse from the start, connections exchanged while learning",
        "counted: 136 live weights, 4 of them silent, 0 of them exactly 0; not 27 biases and other vectors",
        "speed: 2 s sparse, 3 s dense: 1.5 times as fast",
    ]


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("block", [(1, 1), ("group", 1), (2, 2)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_counts_against_the_mask_and_other_measures(kernel, block, uneven, generator):
    pattern = Ensembles(n_groups=2, p_inter=0.5, block=block, uneven=uneven)
    wiring = pattern.wire(*((7, 9) if uneven else (8, 8)), generator=generator)
    if KERNELS[kernel].obstacle(wiring):
        pytest.skip("the kernel cannot compute it")
    net = nn.Sequential(SparseLinear(wiring, kernel=kernel, generator=generator), nn.Linear(wiring.out_features, 3))
    found = sparsity_statement(net)
    assert found.layers[0].connections == int(wiring.mask().sum())
    assert found.layers[0].possible == wiring.mask().numel()
    assert found.layers[0].zeros == 0
    assert sum(layer.connections for layer in found.layers) + found.other_parameters == count_parameters(net)
    assert found.density == network_cost(net, torch.zeros(1, wiring.in_features)).density


def test_zeros_in_a_dense_weight_do_not_make_it_sparse():
    net = nn.Linear(4, 4)
    with torch.no_grad():
        net.weight[:2] = 0.0
    found = sparsity_statement(net, when="pruned after")
    assert found.density == found.density_of_sparse_layers == 1.0
    assert found.layers[0].zeros == 8
    assert "8 of them exactly 0" in str(found)
    assert "  weight (Linear, 4 × 4): dense, 8 exactly 0" in str(found)


def test_convolutions_recurrent_and_shared_weights(generator):
    conv = SparseConv2d(ErdosRenyi(0.5).wire(18, 4, generator=generator), 2, 3)
    shared = nn.Linear(4, 4)
    net = nn.Sequential(conv, nn.Conv2d(4, 2, 3), nn.RNN(3, 5), shared, shared)
    found = sparsity_statement(net)
    names = ["0.synapses.weight", "1.weight", "2.weight_ih_l0", "2.weight_hh_l0", "3.weight"]
    assert [layer.name for layer in found.layers] == names
    assert [layer.possible for layer in found.layers] == [72, 72, 15, 25, 16]
    assert found.layers[0].n_groups is None
    assert "no groups" in str(found)
    assert found.density == (conv.wiring.n_connections + 72 + 15 + 25 + 16) / (72 + 72 + 15 + 25 + 16)


def test_a_model_without_weights():
    found = sparsity_statement(nn.LayerNorm(3))
    assert found.layers == ()
    assert found.density == 1.0
    assert found.speed_up is None
    assert "speed: not measured" in str(found)
    assert "(none named)" in str(found)


def test_the_model_is_only_read():
    net = Reader(grouped()).train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    str(sparsity_statement(net))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.training
    assert all(value.grad is None for value in net.parameters())
    assert torch.equal(torch.get_rng_state(), random)


ERRORS = [
    (
        {"when": "later"},
        "when must be one of static, rewired, thinned out, pruned after, never, not stated, got 'later'",
    ),
    ({"readout": "tail"}, r"readout must name a weight or a module with one, got 'tail'; try one of \['weight'\]"),
    ({"seconds": (0.0, 1.0)}, r"seconds must be two finite numbers above 0, got \(0.0, 1.0\)"),
    ({"seconds": (1.0, float("nan"))}, "seconds must be two finite numbers above 0"),
]


@pytest.mark.parametrize(("given", "sentence"), ERRORS)
def test_errors_say_what_is_wrong(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        sparsity_statement(nn.Linear(2, 2), **given)
