import copy

import pytest
import torch
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear, densify, sparsify


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Sequential(nn.Linear(32, 32), nn.Tanh()), nn.Linear(32, 10))


def test_layers_are_replaced_and_the_model_is_left_alone(model, generator):
    before = copy.deepcopy(model.state_dict())
    sparse = sparsify(model, Ensembles(n_groups=8), skip=("3",), generator=generator)
    assert isinstance(sparse[0], SparseLinear)
    assert isinstance(sparse[2][0], SparseLinear)
    assert type(sparse[3]) is nn.Linear
    assert sparse[0].wiring != sparse[2][0].wiring
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sparse[3].weight is not model[3].weight
    sparse(torch.randn(2, 16)).sum().backward()


def test_weights_are_kept_where_asked(model, generator):
    sparse = sparsify(model, ErdosRenyi(0.5), keep_weights=True, generator=generator)
    for layer, original in ((sparse[0], model[0]), (sparse[3], model[3])):
        assert torch.equal(layer.dense_weight(), original.weight * layer.wiring.mask())
        assert torch.equal(layer.bias, original.bias)
    fresh = sparsify(model, ErdosRenyi(0.5), generator=generator)
    assert not torch.equal(fresh[0].bias, model[0].bias)


def test_there_and_back(model, generator):
    x = torch.randn(5, 16)
    full = sparsify(model, ErdosRenyi(1.0), keep_weights=True, generator=generator)
    torch.testing.assert_close(full(x), model(x))
    sparse = sparsify(model, Ensembles(n_groups=2, block=("group", 1)), generator=generator)
    dense = densify(sparse)
    assert not any(isinstance(module, SparseLinear) for module in dense.modules())
    torch.testing.assert_close(dense(x), sparse(x))
    assert torch.equal(densify(model)(x), model(x))


def test_one_layer_alone(generator):
    layer = sparsify(nn.Linear(8, 4, bias=False).double(), ErdosRenyi(0.5), generator=generator)
    assert isinstance(layer, SparseLinear)
    assert layer.bias is None
    assert layer.weight.dtype == torch.float64
    assert type(densify(layer)) is nn.Linear


def test_patterns_by_name(model, generator):
    patterns = {"0": ErdosRenyi(0.5, exact=True), "2.0": Ensembles(n_groups=4, block=("group", 1))}
    sparse = sparsify(model, patterns, generator=generator)
    assert sparse[0].wiring.density == 0.5
    assert sparse[2][0].wiring.n_groups == 4
    assert type(sparse[3]) is nn.Linear


def test_wirings_by_name(model, generator):
    wiring = ErdosRenyi(0.25, block=(4, 2)).wire(16, 32, generator=generator)
    sparse = sparsify(model, {"0": wiring, "3": ErdosRenyi(0.5)}, keep_weights=True, generator=generator)
    assert sparse[0].wiring is wiring
    assert torch.equal(sparse[0].dense_weight(), model[0].weight * wiring.mask())
    assert type(sparse[2][0]) is nn.Linear
    with pytest.raises(ValueError, match=r"layer '3': its wiring must be from 32 to 10 neurons, got Wiring\(16 → 32"):
        sparsify(model, {"3": wiring}, generator=generator)
    assert sparsify(model[0], {"": wiring}, generator=generator).wiring is wiring


def test_same_generator_same_model_and_no_global_draws(model):
    state = torch.get_rng_state()
    first, second = (sparsify(model, ErdosRenyi(0.3), generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_masks_and_weights_do_not_share_numbers(generator):
    layer = sparsify(nn.Linear(100, 100), ErdosRenyi(0.3), generator=generator)
    live = layer.dense_weight()[layer.wiring.mask()]
    assert abs(float((live > 0).double().mean()) - 0.5) < 0.05


def test_attention_keeps_working(generator):
    model = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True, dropout=0.0)
    sparse = sparsify(model, Ensembles(n_groups=4), generator=generator)
    assert isinstance(sparse.linear1, SparseLinear)
    assert not isinstance(sparse.self_attn.out_proj, SparseLinear)
    sparse(torch.randn(2, 3, 16)).sum().backward()


def test_modes_and_types_are_kept(model, generator):
    assert not sparsify(model.eval(), ErdosRenyi(0.5), generator=generator)[0].training
    assert not densify(sparsify(model, ErdosRenyi(0.5), generator=generator).eval())[0].training


def test_errors(model, generator):
    with pytest.raises(ValueError, match="every name must be that of a module of the model, got '2.O'; try '2.[01]'"):
        sparsify(model, ErdosRenyi(0.5), skip=("2.O",), generator=generator)
    with pytest.raises(
        ValueError, match="layer '3': Ensembles: out_features must be divisible by n_groups, got 10 and 8"
    ):
        sparsify(model, Ensembles(n_groups=8), generator=generator)
    with pytest.raises(ValueError, match="must have an nn.Linear or nn.Conv2d that is not skipped, got none"):
        sparsify(nn.Sequential(nn.ReLU()), ErdosRenyi(0.5), generator=generator)
    with pytest.raises(ValueError, match="got none"):
        sparsify(model, ErdosRenyi(0.5), skip=("0", "2", "3"), generator=generator)
    tied = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="a layer's weight must be its own, got '0', which shares it with '1'"):
        sparsify(tied, ErdosRenyi(0.5), generator=generator)


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
def test_transformer_layers_work_in_evaluation_too(block, generator):
    model = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True, dropout=0.0)
    sparse = sparsify(model, Ensembles(n_groups=4, block=block), generator=generator)
    x = torch.randn(2, 3, 16)
    trained = sparse(x)
    with torch.no_grad():
        torch.testing.assert_close(sparse.eval()(x), trained)


def test_frozen_weights_stay_frozen(generator):
    sparse = sparsify(nn.Linear(8, 8).requires_grad_(False), ErdosRenyi(0.5), keep_weights=True, generator=generator)
    assert not any(parameter.requires_grad for parameter in sparse.parameters())


def test_a_name_that_is_no_linear_layer_is_refused(model, generator):
    with pytest.raises(
        ValueError, match="every name in pattern must be that of an nn.Linear or .*, got '2', a Sequential"
    ):
        sparsify(model, {"2": ErdosRenyi(0.5)}, generator=generator)
