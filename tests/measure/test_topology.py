"""The shape of wirings, against networkx, naive twins and closed forms."""

import itertools
import math
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuropil import measure
from neuropil.connect import Dense, Ensembles, ErdosRenyi, ScaleFree, SmallWorld, SparseConv2d, SparseLinear, Wiring
from neuropil.measure import (
    compare_with_twins,
    degree_statistics,
    find_communities,
    fit_power_law,
    modularity,
    path_statistics,
    random_twin,
    small_world,
    wirings_of,
)
from neuropil.measure.degrees import _sample
from neuropil.measure.graphs import edges, project
from neuropil.measure.random_twins import swapped
from neuropil.randomness import stream

SIZES = [(1, 1, 1.0), (5, 5, 0.4), (12, 7, 0.3), (20, 20, 0.15), (9, 30, 0.5), (80, 80, 0.05)]
SQUARE = [(i, o, density) for i, o, density in SIZES if i == o]


def drawn(i, o, density, seed=0):
    """A random wiring with groups, of which some neurons may have no connection."""
    mask = torch.rand(o, i, generator=stream(seed, "mask")) < density
    mask[0, 0] = True
    out_groups, in_groups = (torch.randint(3, (n,), generator=stream(seed, "groups", n)) for n in (o, i))
    return Wiring.from_mask(mask, out_groups=out_groups.numpy(), in_groups=in_groups.numpy())


def blocked():
    """Wirings of every kind of block, padded ones too."""
    return [
        Ensembles(n_groups=4, p_inter=0.3, block=block, grouping="random").wire(i, 24, generator=stream(1, "wiring"))
        for block, i in ((("group", 1), 24), (("group", "group"), 24), ((2, 3), 24))
    ] + [
        Wiring(5, 7, [0, 1, 2], [1, 0, 2], block=(3, 2), out_order=[3, 1, 2, 0, 4, -1, 6, 5, -1], in_order=[0, 1, 4, -1, 2, 3]),
    ]  # fmt: skip


def single(wiring):
    """The same connections as single synapses."""
    return Wiring.from_mask(wiring.mask(), out_groups=wiring.out_groups, in_groups=wiring.in_groups)


def digraph(wiring):
    graph = nx.DiGraph()
    graph.add_nodes_from(range(wiring.in_features))
    graph.add_edges_from((int(i), int(o)) for o, i in zip(*wiring.connections(), strict=True))
    return graph


def undirected(wiring):
    graph = digraph(wiring).to_undirected()
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return graph


def bipartite(wiring, kind=nx.Graph):
    graph = kind()
    graph.add_nodes_from((("i", n) for n in range(wiring.in_features)), bipartite=0)
    graph.add_nodes_from((("o", n) for n in range(wiring.out_features)), bipartite=1)
    graph.add_edges_from((("i", int(i)), ("o", int(o))) for o, i in zip(*wiring.connections(), strict=True))
    return graph


def ring(n, half):
    """Every neuron joined to ``half`` on either side, both ways, not to itself."""
    near = [(o, (o + d) % n) for o in range(n) for d in (*range(1, half + 1), *range(-half, 0))]
    return Wiring(n, n, *np.array(near).T)


# Degrees


@pytest.mark.parametrize("degrees", [[3], [0, 1], [2, 2, 2], [5, 0, 1, 1, 7, 3]])
def test_degree_statistics_are_those_of_loops(degrees):
    found, n, mean = degree_statistics(torch.tensor(degrees)), len(degrees), sum(degrees) / len(degrees)
    gini = sum(abs(a - b) for a in degrees for b in degrees) / (2 * n * n * mean)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(math.sqrt(sum((k - mean) ** 2 for k in degrees) / n))
    assert found.variation == pytest.approx(found.std / mean)
    assert found.gini == pytest.approx(gini)
    assert found.largest == max(degrees)
    assert found.counts.tolist() == [degrees.count(k) for k in range(max(degrees) + 1)]


@pytest.mark.parametrize("exponent", [2.2, 2.5, 3.0])
def test_power_law_is_found_again_and_only_there(exponent):
    uniform = torch.rand(5000, dtype=torch.float64, generator=stream(0, "degrees")).numpy()
    degrees = torch.from_numpy(np.floor(7.5 * (1 - uniform) ** (-1 / (exponent - 1)) + 0.5).astype(np.int64))
    for minimum in (8, None):
        found = fit_power_law(degrees, minimum=minimum, n_samples=20 if minimum else 0, generator=stream(0, "samples"))
        assert found.exponent == pytest.approx(exponent, rel=0.06)
        assert found.distance < 0.03
    found = fit_power_law(degrees, minimum=8, n_samples=20, generator=stream(0, "samples"))
    assert found.p_value > 0.1
    assert found == fit_power_law(degrees, minimum=8, n_samples=20, generator=stream(0, "samples"))
    poisson = ErdosRenyi(density=0.02).wire(1000, 1000, generator=stream(0, "wiring")).fan_out()
    assert fit_power_law(poisson, minimum=8, n_samples=20, generator=stream(0, "samples")).p_value < 0.1


def test_power_law_distance_is_that_of_all_whole_numbers():
    degrees = torch.tensor([2, 2, 3, 5, 5, 9, 14])
    found = fit_power_law(degrees, minimum=2)
    naive = 1 + 7 / sum(math.log(k / 1.5) for k in degrees.tolist())
    gaps = [
        abs((1 - ((k + 0.5) / 1.5) ** (1 - naive)) - sum(d <= k for d in degrees.tolist()) / 7) for k in range(1, 15)
    ]
    assert found.exponent == pytest.approx(naive)
    assert found.distance == pytest.approx(max(gaps))
    assert found.p_value is None


# Groups


@pytest.mark.parametrize(("i", "o", "density"), SIZES)
def test_modularity_is_that_of_networkx(i, o, density):
    wiring = drawn(i, o, density)
    groups = [
        {("i", n) for n in range(i) if wiring.in_groups[n] == g} | {("o", n) for n in range(o) if wiring.out_groups[n] == g}
        for g in range(3)
    ]  # fmt: skip
    assert modularity(wiring) == pytest.approx(nx.community.modularity(bipartite(wiring, nx.DiGraph), groups))
    naive, m = 0.0, wiring.n_connections
    mask, fan_in, fan_out = wiring.mask(), wiring.fan_in(), wiring.fan_out()
    for t, s in itertools.product(range(o), range(i)):
        if wiring.out_groups[t] == wiring.in_groups[s]:
            naive += float(mask[t, s]) - float(fan_in[t] * fan_out[s]) / m
    assert modularity(wiring) == pytest.approx(naive / m)


@pytest.mark.parametrize(("i", "o", "density"), SQUARE)
def test_modularity_of_a_recurrent_wiring_is_newmans(i, o, density):
    wiring = drawn(i, o, density)
    groups = wiring.in_groups
    sets = [{n for n in range(i) if groups[n] == g} for g in range(3)]
    expected = nx.community.modularity(digraph(wiring), sets)
    assert modularity(wiring, out_groups=groups, in_groups=groups) == pytest.approx(expected)


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize("recurrent", [False, True])
def test_separate_groups_are_found(k, recurrent):
    wiring = Ensembles(n_groups=k, p_inter=0.0, grouping="random").wire(48, 48, generator=stream(k, "wiring"))
    assert modularity(wiring) == pytest.approx(1 - 1 / k)
    if recurrent:  # one group a neuron
        wiring = Ensembles(n_groups=k, p_inter=0.0).wire(48, 48)
    found = find_communities(wiring, generator=stream(0, "louvain"), recurrent=recurrent)
    assert found.n_communities == k
    assert found.modularity == pytest.approx(1 - 1 / k)
    pairs = {*zip(found.out_groups.tolist(), wiring.out_groups.tolist(), strict=True)}
    pairs |= {*zip(found.in_groups.tolist(), wiring.in_groups.tolist(), strict=True)}
    assert len(pairs) == k  # the same groups but for their names


def test_neurons_without_a_connection_are_no_community():
    found = find_communities(Wiring(4, 4, [0, 0, 1, 1], [0, 1, 0, 1]), generator=torch.Generator())
    assert len(found.in_groups) == len(found.out_groups) == 4
    assert found.n_communities == len({*found.in_groups[:2].tolist(), *found.out_groups[:2].tolist()})


def test_samples_of_a_power_law_follow_it_and_the_data_below():
    """What p-values rest on."""
    below = np.array([1, 2, 2, 3])
    drawn = _sample(below.repeat(10_000), 60_000, 2.5, 6, stream(0, "power law"))
    assert len(drawn) == 100_000
    assert (drawn >= 6).mean() == pytest.approx(0.6, abs=0.01)
    tail = drawn[drawn >= 6]
    for k in (6, 7, 10, 30):
        assert (tail >= k).mean() == pytest.approx(((k - 0.5) / 5.5) ** -1.5, abs=0.01)
    assert (drawn[drawn < 6] == 2).mean() == pytest.approx(0.5, abs=0.02)


def test_the_lattice_of_a_complete_graph_has_as_many_neighbours_as_can_be_even():
    four, five = (small_world(Dense().wire(n, n), generator=torch.Generator(), n_twins=1) for n in (4, 5))
    assert (four.lattice_clustering, five.lattice_clustering, five.omega) == (0.0, 1.0, 0.0)


def test_found_communities_are_at_least_as_good_as_those_put_in():
    wiring = Ensembles(n_groups=4, p_inter=0.1, p_intra=0.7).wire(64, 64, generator=stream(0, "wiring"))
    one, other = (find_communities(wiring, generator=stream(0, "louvain")) for _ in range(2))
    assert one.modularity >= modularity(wiring) - 1e-12
    assert torch.equal(one.out_groups, other.out_groups)
    assert torch.equal(one.in_groups, other.in_groups)
    assert one.modularity == modularity(wiring, out_groups=one.out_groups.numpy(), in_groups=one.in_groups.numpy())


# Clustering and paths within a layer


@pytest.mark.parametrize(("i", "o", "density"), SQUARE)
def test_clustering_and_path_length_are_those_of_networkx(i, o, density):
    wiring = drawn(i, o, density)
    graph = undirected(wiring)
    assert measure.clustering(wiring) == pytest.approx(nx.average_clustering(graph))
    lengths = [d for u, to in nx.all_pairs_shortest_path_length(graph) for v, d in to.items() if u != v]
    found = measure.path_length(wiring)
    assert math.isnan(found) if not lengths else found == pytest.approx(sum(lengths) / len(lengths))


@pytest.mark.parametrize(("i", "o", "density"), SIZES)
def test_bipartite_clustering_is_that_of_networkx(i, o, density):
    wiring = drawn(i, o, density)
    expected = nx.bipartite.robins_alexander_clustering(bipartite(wiring))
    assert measure.bipartite_clustering(wiring) == pytest.approx(expected)


def test_products_by_parts_are_those_at_once(monkeypatch):
    wiring = drawn(40, 40, 0.3)
    expected = measure.clustering(wiring), measure.bipartite_clustering(wiring), measure.path_length(wiring)
    monkeypatch.setattr("neuropil.measure.graphs._ENTRIES_AT_ONCE", 100)
    monkeypatch.setattr("neuropil.measure.small_worlds._SOURCES_AT_ONCE", 100)
    found = measure.clustering(wiring), measure.bipartite_clustering(wiring), measure.path_length(wiring)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "half"), [(20, 1), (20, 2), (31, 5), (9, 4), (10, 4), (12, 5)])
def test_ring_lattice(n, half):
    wiring = ring(n, half)
    if 3 * half < n:
        assert measure.clustering(wiring) == pytest.approx(3 * (half - 1) / (2 * (2 * half - 1)))
    away = [-(-min(d, n - d) // half) for d in range(1, n)]
    assert measure.path_length(wiring) == pytest.approx(sum(away) / len(away))
    found = small_world(wiring, generator=stream(0, "twins"), n_twins=2)
    assert found.lattice_clustering == pytest.approx(measure.clustering(wiring))


def test_path_length_from_some_is_near_that_from_all():
    wiring = SmallWorld(density=0.02, p_rewire=0.1).wire(400, 400, generator=stream(0, "wiring"))
    some = measure.path_length(wiring, n_sources=50, generator=stream(0, "sources"))
    assert some == pytest.approx(measure.path_length(wiring), rel=0.05)
    assert measure.path_length(wiring, n_sources=400, generator=stream(0, "sources")) == measure.path_length(wiring)


def test_small_worlds_lie_between_lattice_and_chance():
    lattice, middle, chance = (
        small_world(
            SmallWorld(density=0.04, p_rewire=p).wire(300, 300, generator=stream(0, "wiring")),
            generator=stream(0, "twins"),
            n_twins=3,
        )
        for p in (0.0, 0.1, 1.0)
    )
    assert lattice.omega < -0.5 < middle.omega < chance.omega
    assert chance.omega > 0.6
    assert abs(chance.sigma - 1) < 0.3
    assert middle.sigma > 3
    assert lattice.path_length > 2 * middle.path_length


@pytest.mark.parametrize("side", ["targets", "sources"])
def test_projection_is_that_of_networkx(side):
    wiring = drawn(15, 25, 0.1)
    letter = side[0].replace("t", "o").replace("s", "i")
    graph = bipartite(wiring)
    expected = nx.bipartite.projected_graph(graph, [n for n in graph if n[0] == letter])
    u, v = project(wiring, side).nonzero()
    assert {(int(a), int(b)) for a, b in zip(u, v, strict=True) if a < b} == {
        (min(a[1], b[1]), max(a[1], b[1])) for a, b in expected.edges
    }
    found = small_world(wiring, generator=stream(0, "twins"), side=side, n_twins=2)
    assert found.clustering == pytest.approx(nx.average_clustering(expected))


# Paths through layers


def naive_paths(chain):
    product, joined, means = torch.eye(chain[0].in_features, dtype=torch.float64), [], []
    for wiring in chain:
        product = wiring.mask().double() @ product
        joined.append(float((product > 0).double().mean()))
        means.append(float(product.mean()))
    return product, joined, means


@pytest.mark.parametrize("sizes", [(1, 1), (5, 9), (70, 30, 20), (130, 3, 64, 10)])
def test_paths_are_those_of_dense_products(sizes):
    chain = [drawn(i, o, 0.1, seed) for seed, (i, o) in enumerate(itertools.pairwise(sizes))]
    product, joined, means = naive_paths(chain)
    found = path_statistics(chain)
    assert found.joined == pytest.approx(joined)
    assert found.mean_paths == pytest.approx(means)
    assert found.reached[-1] == pytest.approx(float((product.sum(1) > 0).double().mean()))
    assert found.inputs_heard == pytest.approx(float((product.sum(0) > 0).double().mean()))
    some = path_statistics(chain, n_inputs=sizes[0], generator=stream(0, "inputs"))
    assert some == found


def test_paths_of_a_model():
    sparse = SparseLinear(Ensembles(n_groups=4, p_inter=0.0, block=("group", 1)).wire(16, 8))
    chain = wirings_of(nn.Sequential(sparse, nn.ReLU(), nn.Sequential(nn.Linear(8, 3))))
    assert [wiring.shape for wiring in chain] == [(8, 16), (3, 8)]
    found = path_statistics(chain)
    assert found.joined == (0.25, 1.0)
    assert found.mean_paths == (0.25, 2.0)


def test_paths_from_some_inputs_are_near_those_from_all():
    chain = [drawn(500, 400, 0.02), drawn(400, 300, 0.02)]
    some = path_statistics(chain, n_inputs=100, generator=stream(0, "inputs")).joined[-1]
    assert some == pytest.approx(path_statistics(chain).joined[-1], rel=0.2)


# Single figures


@pytest.mark.parametrize(("i", "o", "density"), SQUARE)
def test_reciprocity_and_rich_club_are_those_of_networkx(i, o, density):
    wiring = drawn(i, o, density)
    graph = digraph(wiring)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    found = measure.reciprocity(wiring)
    assert math.isnan(found) if not graph.edges else found == pytest.approx(nx.overall_reciprocity(graph))
    if graph.edges:
        club = measure.rich_club(wiring).tolist()
        expected = nx.rich_club_coefficient(undirected(wiring), normalized=False)
        assert {k: value for k, value in enumerate(club) if not math.isnan(value)} == pytest.approx(expected)


def test_reciprocity_of_symmetric_and_one_way_wirings():
    assert measure.reciprocity(ring(12, 2)) == 1.0
    assert measure.reciprocity(Wiring(5, 5, [1, 2, 3, 4, 0], [0, 1, 2, 3, 4])) == 0.0
    assert math.isnan(measure.reciprocity(Wiring(3, 3, [0, 1], [0, 1])))


def test_a_planted_rich_club_stands_out():
    hubs = [(a, b) for a in range(8) for b in range(8) if a != b]
    leaves = [(8 + n, n % 8) for n in range(120)]
    among = [(8 + n, 8 + (n + 1) % 120) for n in range(120)]
    joined = Wiring(128, 128, *np.array(hubs + leaves + among).T)
    found = measure.normalized_rich_club(joined, generator=stream(0, "twins"), n_twins=5)
    assert float(measure.rich_club(joined)[5]) == 1.0
    assert float(found[5]) > 1.3


@pytest.mark.parametrize("richness", [0.0, 1.0, 1.5, 9.0])
def test_hub_density_is_that_of_the_mask(richness):
    wiring = drawn(20, 30, 0.2)
    mask = wiring.mask().double()
    hubs = mask[mask.sum(1) > richness * mask.sum(1).mean()][:, mask.sum(0) > richness * mask.sum(0).mean()]
    found = measure.hub_density(wiring, richness=richness)
    assert math.isnan(found) if hubs.numel() == 0 else found == pytest.approx(float(hubs.mean()))


@pytest.mark.parametrize(("i", "o", "density"), [*SIZES, (200, 150, 0.06), (3, 200, 0.9)])
def test_spectral_gap_and_connectivity_are_those_of_dense_algebra(i, o, density):
    wiring = drawn(i, o, density)
    mask = wiring.mask().double()
    mask = mask[mask.sum(1) > 0][:, mask.sum(0) > 0]
    scaled = mask / mask.sum(1, keepdim=True).sqrt() / mask.sum(0, keepdim=True).sqrt()
    singular = [*torch.linalg.svdvals(scaled).tolist(), 0.0]
    assert singular[0] == pytest.approx(1)
    assert measure.spectral_gap(wiring) == pytest.approx(1 - singular[1], abs=1e-6)
    graphs = [(bipartite(wiring), False)] + [(undirected(wiring), True)] * (i == o)
    for graph, recurrent in graphs:
        expected = sorted(np.linalg.eigvalsh(nx.laplacian_matrix(graph).toarray().astype(float)).tolist())
        expected = expected[1] if len(expected) > 1 else 0.0
        assert measure.algebraic_connectivity(wiring, recurrent=recurrent) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("i", "o"), [(4, 3), (100, 70), (64, 200)])
def test_complete_wirings(i, o):
    wiring = Dense().wire(i, o)
    assert modularity(wiring, out_groups=[0] * o, in_groups=[0] * i) == 0.0
    assert measure.spectral_gap(wiring) == pytest.approx(1, abs=1e-5)
    assert measure.algebraic_connectivity(wiring) == pytest.approx(min(i, o))
    assert measure.bipartite_clustering(wiring) == 1.0
    assert random_twin(wiring, generator=stream(0, "twin")) == single(wiring)  # no other has these degrees
    assert path_statistics([wiring]).joined == (1.0,)


def test_what_falls_apart_has_no_gap_however_large():
    wiring = Ensembles(n_groups=8, p_inter=0.0).wire(512, 256)
    assert measure.spectral_gap(wiring) == 0.0
    assert measure.algebraic_connectivity(wiring) == 0.0
    regular = random_twin(wiring, generator=stream(0, "twin"))
    assert measure.spectral_gap(regular) == pytest.approx(1 - 1 / math.sqrt(64) - 1 / math.sqrt(32), abs=0.06)


# Twins


def assert_same_degrees(one, other):
    assert torch.equal(one.fan_in(), other.fan_in())
    assert torch.equal(one.fan_out(), other.fan_out())
    assert one.n_connections == other.n_connections


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(
    "wiring",
    [drawn(30, 30, 0.2), SmallWorld(density=0.05, p_rewire=0.0).wire(200, 200), ScaleFree(density=0.1).wire(60, 60, generator=stream(0, "w"))],
    ids=["random", "ring", "hubs"],
)  # fmt: skip
def test_twins_keep_degrees_and_nothing_else(wiring, recurrent, seed):
    twin = random_twin(wiring, generator=stream(seed, "twin"), recurrent=recurrent)
    assert_same_degrees(wiring, twin)  # a double connection would be refused by Wiring
    assert twin != wiring
    assert twin == random_twin(wiring, generator=stream(seed, "twin"), recurrent=recurrent)
    assert twin != random_twin(wiring, generator=stream(seed, "another"), recurrent=recurrent)
    if recurrent:
        assert torch.equal(twin.mask().diagonal(), wiring.mask().diagonal())
    assert (twin.n_groups, twin.block) == (wiring.n_groups, (1, 1))


@pytest.mark.parametrize("wiring", blocked(), ids=lambda wiring: str(wiring.block))
def test_twins_of_blocks_keep_degrees(wiring):
    assert_same_degrees(wiring, random_twin(wiring, generator=stream(0, "twin")))
    if not wiring.is_padded:
        twin = random_twin(wiring, generator=stream(0, "twin"), blocks=True)
        assert_same_degrees(wiring, twin)
        assert (twin.block, twin.n_blocks) == (wiring.block, wiring.n_blocks)


@pytest.mark.parametrize("wiring", [drawn(30, 30, 0.1), ring(40, 3)])
def test_twins_of_graphs_keep_degrees(wiring):
    before = edges(wiring)
    u, v = swapped(before, wiring.in_features, generator=stream(0, "twin"), apart=True, undirected=True)
    n = wiring.in_features
    assert np.array_equal(np.bincount([*u, *v], minlength=n), np.bincount([*before[0], *before[1]], minlength=n))
    assert (u != v).all()
    found = {frozenset(pair) for pair in zip(u.tolist(), v.tolist(), strict=True)}
    assert len(found) == len(u)
    assert found != {frozenset(pair) for pair in zip(before[0].tolist(), before[1].tolist(), strict=True)}


@pytest.mark.parametrize(
    ("pairs", "recurrent"),
    [([(0, 0), (0, 1), (1, 0), (2, 2)], False), ([(0, 1), (1, 0), (2, 3), (3, 2)], True)],
)
def test_twins_are_equally_likely(pairs, recurrent):
    """Every wiring of the same degrees comes as often as any other."""
    wiring = Wiring(4, 4, *np.array(pairs).T)
    cells = [(o, i) for o in range(4) for i in range(4)]
    possible = set()
    for chosen in itertools.combinations(cells, len(pairs)):
        other = Wiring(4, 4, *np.array(chosen).T)
        alike = torch.equal(other.fan_in(), wiring.fan_in()) and torch.equal(other.fan_out(), wiring.fan_out())
        if alike and not (recurrent and any(o == i for o, i in chosen)):
            possible.add(chosen)
    n, generator = 200 * len(possible), stream(0, "twins")
    counts = dict.fromkeys(possible, 0)
    for _ in range(n):
        twin = random_twin(wiring, generator=generator, swaps=20, recurrent=recurrent)
        counts[tuple(sorted(zip(*(side.tolist() for side in twin.connections()), strict=True)))] += 1
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi_square < 3 * len(possible) + 10


def test_comparison_is_that_of_its_twins():
    wiring = drawn(30, 20, 0.2)
    found = compare_with_twins(measure.bipartite_clustering, wiring, n_twins=6, generator=stream(0, "twins"))
    generator = stream(0, "twins")
    twins = [measure.bipartite_clustering(random_twin(wiring, generator=generator)) for _ in range(6)]
    assert found.twins == tuple(twins)
    assert found.value == measure.bipartite_clustering(wiring)
    assert found.mean == pytest.approx(np.mean(twins))
    assert found.std == pytest.approx(np.std(twins, ddof=1))
    assert found.z == pytest.approx((found.value - found.mean) / found.std)
    assert found.ratio == pytest.approx(found.value / found.mean)
    same = compare_with_twins(lambda w: w.density, wiring, n_twins=3, generator=stream(0, "twins"))
    assert (same.std, same.ratio) == (0.0, 1.0)
    assert math.isnan(same.z)
    assert abs(compare_with_twins(modularity, random_twin(wiring, generator=generator), generator=generator).z) < 4


# Of all


SCALARS = [measure.bipartite_clustering, measure.spectral_gap, measure.algebraic_connectivity, measure.hub_density]
RECURRENT = [measure.clustering, measure.path_length, measure.reciprocity]


@pytest.mark.parametrize("wiring", blocked(), ids=lambda wiring: str(wiring.block))
def test_blocks_are_measured_by_their_connections(wiring):
    other = single(wiring)
    figures = SCALARS + RECURRENT * (wiring.in_features == wiring.out_features) + [modularity] * (wiring.n_groups > 0)
    for figure in figures:
        assert figure(wiring) == pytest.approx(figure(other), abs=1e-12, nan_ok=True), figure.__name__
    assert path_statistics([wiring]) == path_statistics([other])
    one, two = (find_communities(w, generator=stream(0, "louvain")) for w in (wiring, other))
    assert torch.equal(one.out_groups, two.out_groups)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_names_of_neurons_do_not_matter(n, seed):
    wiring = drawn(n, n, min(1.0, 3 / n), seed)
    order = torch.randperm(n, generator=stream(seed, "order"))
    labels = wiring.out_groups[order], wiring.in_groups[order]
    other = Wiring.from_mask(wiring.mask()[order][:, order], out_groups=labels[0], in_groups=labels[1])
    for figure in [*SCALARS, *RECURRENT, modularity]:
        assert figure(wiring) == pytest.approx(figure(other), abs=1e-7, nan_ok=True), figure.__name__
    torch.testing.assert_close(measure.rich_club(wiring), measure.rich_club(other), equal_nan=True)
    assert degree_statistics(wiring.fan_in()).gini == degree_statistics(other.fan_in()).gini
    assert path_statistics([wiring, wiring]).joined == pytest.approx(path_statistics([other, other]).joined)
    assert_same_degrees(wiring, random_twin(wiring, generator=stream(seed, "twin"), recurrent=True))


def test_networkx_is_loaded_only_where_it_is_needed():
    code = (
        "import sys, torch; before = {*sys.modules}; import neuropil.measure;"
        "assert not {'scipy', 'networkx', 'numba'} & ({*sys.modules} - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


LAYER, PLAIN = drawn(4, 6, 0.5), Wiring(4, 6, [0], [0])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: measure.reciprocity(LAYER), "reciprocity: wiring must be square, a layer's with itself, got 4 sources and 6 targets"),
        (lambda: measure.clustering(LAYER), "clustering: wiring must be square"),
        (lambda: measure.path_length(LAYER), "path_length: wiring must be square"),
        (lambda: measure.rich_club(LAYER), "rich_club: wiring must be square"),
        (lambda: measure.normalized_rich_club(LAYER, generator=torch.Generator()), "normalized_rich_club: wiring must be square"),
        (lambda: measure.algebraic_connectivity(LAYER, recurrent=True), "algebraic_connectivity: wiring must be square"),
        (lambda: small_world(LAYER, generator=torch.Generator()), "small_world: wiring must be square"),
        (lambda: small_world(LAYER, generator=torch.Generator(), side="out"), "small_world: side must be recurrent, targets or sources, got 'out'"),
        (lambda: small_world(LAYER, generator=torch.Generator(), side="targets", n_twins=0), "small_world: n_twins must be at least 1, got 0"),
        (lambda: find_communities(LAYER, generator=torch.Generator(), recurrent=True), "find_communities: wiring must be square"),
        (lambda: random_twin(LAYER, generator=torch.Generator(), recurrent=True), "random_twin: wiring must be square"),
        (lambda: random_twin(LAYER, generator=torch.Generator(), swaps=-1), "random_twin: swaps must be at least 0, got -1"),
        (lambda: random_twin(LAYER, generator=torch.Generator(), swaps=float("nan")), "random_twin: swaps must be at least 0, got nan"),
        (lambda: find_communities(LAYER, generator=torch.Generator(), resolution=0.0), "find_communities: resolution must be finite and above 0, got 0.0; try 1.0"),
        (lambda: fit_power_law(torch.tensor([4, 5]), n_samples=-3), "fit_power_law: n_samples must be at least 0, got -3"),
        (lambda: measure.hub_density(LAYER, richness=float("nan")), "hub_density: richness must be at least 0, got nan"),
        (lambda: random_twin(blocked()[-1], generator=torch.Generator(), blocks=True), "random_twin: blocks must be of equal size to be swapped"),
        (lambda: compare_with_twins(modularity, LAYER, n_twins=0, generator=torch.Generator()), "compare_with_twins: n_twins must be at least 1, got 0"),
        (lambda: modularity(PLAIN), "modularity: out_groups must be given where neurons carry no group labels, got none; try find_communities"),
        (lambda: modularity(PLAIN, out_groups=[0] * 6), "modularity: groups must be given for both sides or for neither, got one side only"),
        (lambda: modularity(PLAIN, out_groups=[0] * 5, in_groups=[0] * 4), "modularity: out_groups must be 6 integers of at least −1"),
        (lambda: degree_statistics(torch.zeros(3, dtype=torch.int64)), "degree_statistics: degrees must hold at least one connection, got 3 of 0"),
        (lambda: degree_statistics(torch.ones(3)), "degree_statistics: degrees must be a vector of integers, got float32"),
        (lambda: fit_power_law(torch.tensor([4, 4])), "fit_power_law: degrees must take at least two values from 1 on"),
        (lambda: fit_power_law(torch.tensor([4, 5]), n_samples=3), "fit_power_law: generator must be given to draw 3 samples, got none"),
        (lambda: path_statistics([]), "path_statistics: a chain must have at least one linear layer, got none"),
        (lambda: path_statistics([LAYER, LAYER]), "got 6 targets in layer 0 and 4 sources in layer 1"),
        (lambda: path_statistics([LAYER], n_inputs=2), "path_statistics: generator must be given to draw 2 inputs, got none"),
        (lambda: wirings_of(nn.ReLU()), "wirings_of: a chain must have at least one linear layer, got none"),
        (lambda: measure.path_length(ring(5, 1), n_sources=2), "path_length: generator must be given to draw 2 neurons, got none"),
        (lambda: measure.hub_density(LAYER, richness=-1), "hub_density: richness must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, sentence):
    with pytest.raises(ValueError, match=".") as error:
        call()
    assert sentence in str(error.value)


def test_convolutions_are_left_out_of_the_chain():
    convolution = SparseConv2d(ErdosRenyi(0.5).wire(4, 8), 4, 3)
    linear = SparseLinear(ErdosRenyi(0.5).wire(32, 5))
    assert wirings_of(nn.Sequential(convolution, nn.Flatten(), linear)) == [linear.wiring]
