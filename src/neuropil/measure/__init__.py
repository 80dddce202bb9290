"""What is true of a network: pure functions of a model and a batch."""

from neuropil.measure.ablation import intra_only
from neuropil.measure.activity import LayerActivity, layer_activity
from neuropil.measure.communities import Communities, find_communities, modularity
from neuropil.measure.cost import Cost, count_parameters, network_cost
from neuropil.measure.curvature import Sharpness, ascent_sharpness, sharpness
from neuropil.measure.degrees import DegreeStatistics, PowerLaw, degree_statistics, fit_power_law
from neuropil.measure.path_emergence import Emergence, emergence, emergence_of_units
from neuropil.measure.paths import PathStatistics, path_statistics, wirings_of
from neuropil.measure.random_twins import TwinComparison, compare_with_twins, random_twin
from neuropil.measure.representations import ActivationChange, activation_change, hidden_activations
from neuropil.measure.small_worlds import SmallWorldness, bipartite_clustering, clustering, path_length, small_world
from neuropil.measure.statement import LayerStatement, SparsityStatement, sparsity_statement
from neuropil.measure.synaptic import ACCUMULATE_JOULES, MULTIPLY_ACCUMULATE_JOULES, SynapticWork, synaptic_work
from neuropil.measure.tangent import KernelDrift, kernel_alignment, kernel_drift, tangent_kernel, target_alignment
from neuropil.measure.topology import (
    algebraic_connectivity,
    hub_density,
    normalized_rich_club,
    reciprocity,
    rich_club,
    spectral_gap,
)
from neuropil.measure.weights import (
    ParameterChange,
    ParameterNorm,
    Snapshot,
    WeightChange,
    gradient_norms,
    snapshot,
    weight_change,
)

__all__ = [
    "ACCUMULATE_JOULES",
    "MULTIPLY_ACCUMULATE_JOULES",
    "ActivationChange",
    "Communities",
    "Cost",
    "DegreeStatistics",
    "Emergence",
    "KernelDrift",
    "LayerActivity",
    "LayerStatement",
    "ParameterChange",
    "ParameterNorm",
    "PathStatistics",
    "PowerLaw",
    "Sharpness",
    "SmallWorldness",
    "Snapshot",
    "SparsityStatement",
    "SynapticWork",
    "TwinComparison",
    "WeightChange",
    "activation_change",
    "algebraic_connectivity",
    "ascent_sharpness",
    "bipartite_clustering",
    "clustering",
    "compare_with_twins",
    "count_parameters",
    "degree_statistics",
    "emergence",
    "emergence_of_units",
    "find_communities",
    "fit_power_law",
    "gradient_norms",
    "hidden_activations",
    "hub_density",
    "intra_only",
    "kernel_alignment",
    "kernel_drift",
    "layer_activity",
    "modularity",
    "network_cost",
    "normalized_rich_club",
    "path_length",
    "path_statistics",
    "random_twin",
    "reciprocity",
    "rich_club",
    "sharpness",
    "small_world",
    "snapshot",
    "sparsity_statement",
    "spectral_gap",
    "synaptic_work",
    "tangent_kernel",
    "target_alignment",
    "weight_change",
    "wirings_of",
]
