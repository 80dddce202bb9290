"""What is true of a network: pure functions of a model and a batch, or of its wirings alone."""

from neuropil.measure.ablation import intra_only
from neuropil.measure.activity import LayerActivity, layer_activity
from neuropil.measure.communities import Communities, find_communities, modularity
from neuropil.measure.cost import Cost, count_parameters, network_cost
from neuropil.measure.degrees import DegreeStatistics, PowerLaw, degree_statistics, fit_power_law
from neuropil.measure.paths import PathStatistics, path_statistics, wirings_of
from neuropil.measure.random_twins import TwinComparison, compare_with_twins, random_twin
from neuropil.measure.small_worlds import SmallWorldness, bipartite_clustering, clustering, path_length, small_world
from neuropil.measure.synaptic import (
    ACCUMULATE_JOULES,
    MULTIPLY_ACCUMULATE_JOULES,
    SynapticWork,
    synaptic_work,
)
from neuropil.measure.topology import (
    algebraic_connectivity,
    hub_density,
    normalized_rich_club,
    reciprocity,
    rich_club,
    spectral_gap,
)

__all__ = [
    "ACCUMULATE_JOULES",
    "MULTIPLY_ACCUMULATE_JOULES",
    "Communities",
    "Cost",
    "DegreeStatistics",
    "LayerActivity",
    "PathStatistics",
    "PowerLaw",
    "SmallWorldness",
    "SynapticWork",
    "TwinComparison",
    "algebraic_connectivity",
    "bipartite_clustering",
    "clustering",
    "compare_with_twins",
    "count_parameters",
    "degree_statistics",
    "find_communities",
    "fit_power_law",
    "hub_density",
    "intra_only",
    "layer_activity",
    "modularity",
    "network_cost",
    "normalized_rich_club",
    "path_length",
    "path_statistics",
    "random_twin",
    "reciprocity",
    "rich_club",
    "small_world",
    "spectral_gap",
    "synaptic_work",
    "wirings_of",
]
