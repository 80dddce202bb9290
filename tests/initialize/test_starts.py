"""Whole models started by the name of a scheme."""

import pytest
import torch
from torch import nn

from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.initialize import STARTS, effective_rank, settings_of, start_, weight_layers


def network(width: int = 32, *, sparse: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    hidden: nn.Module = nn.Linear(width, width)
    if sparse:
        hidden = SparseLinear(ErdosRenyi(0.3).wire(width, width, generator=torch.Generator().manual_seed(0)))
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(width, 4))


def started(scheme: str, model: nn.Module, seed: int = 0, **settings: object) -> nn.Module:
    sample = torch.rand(64, 16, generator=torch.Generator().manual_seed(1))
    start_(model, scheme, sample=sample, generator=torch.Generator().manual_seed(seed), **settings)
    return model


REQUIRED = {"emergence": {"alpha": 1.5}}


@pytest.mark.parametrize("scheme", STARTS)
@pytest.mark.parametrize("sparse", [False, True])
def test_every_scheme_sets_all_weights_from_its_generator_alone(scheme: str, sparse: bool) -> None:
    settings = REQUIRED.get(scheme, {})
    nets = [started(scheme, network(sparse=sparse), seed, **settings) for seed in (0, 0, 1)]
    for (name, a), (_, b), (_, other) in zip(*(weight_layers(net) for net in nets), strict=True):
        assert torch.equal(a.weight, b.weight), name
        assert not torch.equal(a.weight, other.weight), name
        assert float(a.bias.detach().abs().max()) == 0
        assert bool(a.weight.isfinite().all())


def test_models_that_share_layers_share_their_starts() -> None:
    narrow, sparse = started("kaiming-normal", network()), started("kaiming-normal", network(sparse=True))
    assert torch.equal(narrow[0].weight, sparse[0].weight)
    assert torch.equal(narrow[4].weight, sparse[4].weight)


@pytest.mark.parametrize("scheme", ["orthogonal", "lsuv"])
def test_they_share_the_direction_of_orthogonal_starts(scheme: str) -> None:
    whole, shallow = network(), network()
    shallow[2] = nn.Identity()
    directions = [nn.functional.normalize(started(scheme, net)[4].weight.flatten(), dim=0) for net in (whole, shallow)]
    assert torch.allclose(*directions, atol=1e-6)


def test_emergence_scales_its_base() -> None:
    base, scaled = started("xavier-normal", network()), started("emergence", network(), alpha=2.0, base="xavier-normal")
    for layer, factor in zip((0, 2, 4), (0.5, 1.0, 2.0), strict=True):
        assert torch.equal(scaled[layer].weight, base[layer].weight * factor)


@pytest.mark.parametrize("scheme", ["xavier-uniform", "xavier-normal", "orthogonal", "rank"])
def test_gains_are_passed_on(scheme: str) -> None:
    one, three = (started(scheme, network(), gain=gain) for gain in (1.0, 3.0))
    for layer in (0, 2, 4):
        assert torch.allclose(three[layer].weight, 3 * one[layer].weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scheme", ["kaiming-uniform", "kaiming-normal"])
def test_the_last_layer_is_without_the_factor_of_relus(scheme: str) -> None:
    net = started(scheme, network(width=400))
    squares = [float(layer.weight.detach().square().mean() * layer.in_features) for layer in (net[0], net[2], net[4])]
    assert squares == pytest.approx([2.0, 2.0, 1.0], rel=0.15)


def test_rank_is_a_share_of_the_shorter_side_but_of_the_last_layer() -> None:
    net = started("rank", network(), share=0.25)
    assert torch.linalg.matrix_rank(net[0].weight) == 4
    assert torch.linalg.matrix_rank(net[2].weight) == 8
    assert torch.linalg.matrix_rank(net[4].weight) == 4
    assert effective_rank(net[2].weight) < effective_rank(started("kaiming-normal", network())[2].weight)


def test_lsuv_gives_unit_variance() -> None:
    net = started("lsuv", network())
    y = torch.rand(64, 16, generator=torch.Generator().manual_seed(1))
    for layer in net:
        y = layer(y)
        if isinstance(layer, nn.Linear):
            assert float(y.detach().var(correction=0)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("scheme", "settings", "sentence"),
    [
        ("kaimin", {}, "start_: scheme must be one of kaiming-uniform, .*, got 'kaimin'"),
        ("emergence", {"beta": 2}, "start_: emergence has no setting 'beta'; it has alpha, total_ratio, base, largest"),
        ("emergence", {}, "promote_emergence_: exactly one of alpha and total_ratio must be given, got neither"),
        ("emergence", {"alpha": 1.5, "base": "emergence"}, "emergence: base must be one of .*, got 'emergence'"),
        ("rank", {"share": 0.0}, r"rank: share must be in \(0, 1\], got 0.0"),
    ],
)
def test_what_is_wrong_is_said(scheme: str, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        started(scheme, network(), **settings)


def test_a_model_without_weight_layers_is_told() -> None:
    with pytest.raises(ValueError, match="^start_: the model must have a weight layer that .* calls, got ReLU without"):
        started("kaiming-normal", nn.ReLU())


def test_settings_are_those_of_the_function() -> None:
    assert [*settings_of("emergence")] == ["alpha", "total_ratio", "base", "largest"]
