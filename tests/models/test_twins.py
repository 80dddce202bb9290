"""The controls of a comparison: equal in parameters, in density, or in width."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neuropil.connect import Dense, Ensembles, ErdosRenyi, SparseLinear
from neuropil.measure import count_parameters
from neuropil.models import TWINS, ensemble_net, matched_widths, mixer, twin_arguments, twins


@pytest.fixture(scope="module")
def published():
    """512 features, three layers of 1,024, p_inter = 0.15, and its twins."""
    net = ensemble_net((3, 32, 32), 10, pattern=mixer(3), patches=4, seed=1)
    return net, twins(net)


def n_parameters(sizes):
    return sum((i + 1) * o for i, o in itertools.pairwise(sizes))


def test_published_widths(published):
    _, controls = published
    assert tuple(controls) == tuple(TWINS) == ("dense-same-width", "dense-same-parameters", "erdos-renyi")
    assert [twin.arguments["hidden"] for twin in controls.values()] == [(1024,) * 3, (469,) * 3, (1024,) * 3]


def test_same_parameters_within_one_percent(published):
    net, controls = published
    assert count_parameters(controls["dense-same-parameters"]) == pytest.approx(count_parameters(net), rel=0.01)
    # drawn exactly, the random twin's number is the expected one
    assert count_parameters(controls["erdos-renyi"]) == pytest.approx(count_parameters(net), rel=0.005)


def test_erdos_renyi_twin_has_exactly_the_expected_connections(published):
    net, controls = published
    density = (1 + 7 * 0.15) / 8
    for layer, twin in zip(net.sparse_layers(), controls["erdos-renyi"].sparse_layers(), strict=True):
        assert twin.wiring.n_connections == round(density * 1024 * layer.in_features)
        assert twin.wiring.n_groups == 0
        assert twin.wiring.block == (1, 1)
    counts = [layer.wiring.n_connections for layer in controls["erdos-renyi"].sparse_layers()]
    assert counts == [134_349, 268_698, 268_698]


def test_dense_twins_are_plain(published):
    _, controls = published
    for name in ("dense-same-width", "dense-same-parameters"):
        assert controls[name].sparse_layers() == []
        assert all(type(layer) in (nn.Linear, nn.ReLU) for layer in controls[name].hidden)


def test_twins_share_the_start_of_encoder_and_readout(published):
    net, controls = published
    for name, twin in controls.items():
        parts = ["encoder"] if name == "dense-same-parameters" else ["encoder", "readout"]
        for part in parts:
            for a, b in zip(getattr(net, part).parameters(), getattr(twin, part).parameters(), strict=True):
                assert torch.equal(a, b), (name, part)


def test_another_seed_draws_everything_anew():
    first, second = (twins(ensemble_net((1, 8, 8), 10, hidden=[64, 64], patches=4, seed=s)) for s in (0, 1))
    for name in TWINS:
        a, b = first[name], second[name]
        for one, other in zip(a.parameters(), b.parameters(), strict=True):
            assert not torch.equal(one, other)
        assert a.arguments["hidden"] == b.arguments["hidden"]
    one, other = (controls["erdos-renyi"].sparse_layers() for controls in (first, second))
    assert all(x.wiring != y.wiring for x, y in zip(one, other, strict=True))
    assert [x.wiring.n_connections for x in one] == [y.wiring.n_connections for y in other]


def test_settings_other_than_wiring_and_width_are_kept():
    net = ensemble_net((1, 8, 8), 7, hidden=[32], patches=2, patch_channels=4, kernel="masked", seed=3)
    for name, arguments in twin_arguments(**net.arguments).items():
        kept = {key for key in net.arguments if arguments[key] == net.arguments[key]}
        changed = {
            "dense-same-width": {"pattern"},
            "dense-same-parameters": {"pattern", "hidden"},
            "erdos-renyi": {"pattern", "kernel"},
        }[name]
        assert net.arguments.keys() - kept == changed, name


@pytest.mark.parametrize("pattern", [Ensembles(), Ensembles(grouping="random"), Ensembles(block=("group", 1))])
def test_grouping_and_block_play_no_part(pattern):
    reference = twin_arguments(**ensemble_net((1, 8, 8), 10, hidden=[64]).arguments)
    found = twin_arguments(**ensemble_net((1, 8, 8), 10, hidden=[64], pattern=pattern).arguments)
    assert found == reference


def test_block_kernel_is_not_forced_on_the_random_twin():
    net = ensemble_net((1, 8, 8), 10, hidden=[64], pattern=Ensembles(block=("group", 1)), kernel="blocks")
    assert twins(net)["erdos-renyi"].sparse_layers()[0].kernel != "blocks"


def test_dense_layers_stay_dense_in_every_twin():
    net = ensemble_net((1, 8, 8), 10, hidden=[32, 32], pattern=[Dense(), Ensembles()])
    random = twins(net)["erdos-renyi"]
    assert isinstance(random.hidden[0], nn.Linear)
    assert isinstance(random.hidden[2], SparseLinear)
    everything = ensemble_net((1, 8, 8), 10, hidden=[32, 32], pattern=Dense())
    assert {tuple(t.arguments["hidden"]) for t in twins(everything).values()} == {(32, 32)}


def test_layers_of_different_density_get_random_twins_of_each_density():
    net = ensemble_net((1, 8, 8), 10, hidden=[64, 64], pattern=[ErdosRenyi(0.5), ErdosRenyi(0.05)])
    counts = [layer.wiring.n_connections for layer in twins(net)["erdos-renyi"].sparse_layers()]
    assert counts == [2048, round(0.05 * 4096)]


@given(
    hidden=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    in_features=st.integers(1, 60),
    n_classes=st.integers(1, 12),
    share=st.integers(0, 100),
)
def test_matched_width_is_the_nearest_of_all(hidden, in_features, n_classes, share):
    n_wanted = n_parameters([in_features, *hidden, n_classes]) * share // 100
    found = matched_widths(hidden, in_features=in_features, n_classes=n_classes, n_parameters=n_wanted)

    def miss(widths):
        return abs(n_parameters([in_features, *widths, n_classes]) - n_wanted)

    candidates = [
        tuple(max(1, round(width * first / max(hidden))) for width in hidden) for first in range(1, max(hidden) + 1)
    ]
    assert found in candidates
    assert miss(found) == min(miss(widths) for widths in candidates)


def test_proportions_are_kept():
    widths = matched_widths([800, 400, 200], in_features=100, n_classes=10, n_parameters=100_000)
    assert widths[0] == pytest.approx(2 * widths[1], abs=1)
    assert widths[0] == pytest.approx(4 * widths[2], abs=2)
    assert n_parameters([100, *widths, 10]) == pytest.approx(100_000, rel=0.01)
