"""What is true of a network: pure functions of a model and a batch."""

from neuropil.measure.ablation import intra_only
from neuropil.measure.activity import LayerActivity, dead_units, layer_activity
from neuropil.measure.alignment import LinearAlignment, hsic, linear_cka, minibatch_cka, rbf_cka
from neuropil.measure.communities import Communities, find_communities, modularity
from neuropil.measure.cost import Cost, count_parameters, network_cost
from neuropil.measure.criticality import BranchingRatio, branching_ratio
from neuropil.measure.curvature import Sharpness, ascent_sharpness, sharpness
from neuropil.measure.degrees import DegreeStatistics, PowerLaw, degree_statistics, fit_power_law
from neuropil.measure.dimensionality import participation_ratio
from neuropil.measure.dissimilarity import dissimilarity_matrix, representational_similarity, shared_neighbors
from neuropil.measure.energy import (
    ACCUMULATE_JOULES,
    DRAM_JOULES_PER_BYTE,
    MULTIPLY_ACCUMULATE_JOULES,
    SRAM_JOULES_PER_BYTE,
)
from neuropil.measure.linear_probes import ProbeAccuracy, linear_predictability, linear_probe
from neuropil.measure.open_channels import ChannelCost, ChannelUse, channel_cost
from neuropil.measure.outputs import layer_outputs
from neuropil.measure.path_emergence import Emergence, emergence, emergence_of_units
from neuropil.measure.paths import PathStatistics, path_statistics, wirings_of
from neuropil.measure.random_twins import TwinComparison, compare_with_twins, random_twin
from neuropil.measure.representations import ActivationChange, activation_change
from neuropil.measure.seconds import forward_seconds
from neuropil.measure.small_worlds import SmallWorldness, bipartite_clustering, clustering, path_length, small_world
from neuropil.measure.sparseness import hoyer_sparseness, lifetime_sparseness, population_sparseness, treves_rolls
from neuropil.measure.statement import LayerStatement, SparsityStatement, sparsity_statement
from neuropil.measure.synaptic import SynapticWork, synaptic_work
from neuropil.measure.tangent import KernelDrift, kernel_alignment, kernel_drift, tangent_kernel, target_alignment
from neuropil.measure.topology import (
    algebraic_connectivity,
    hub_density,
    normalized_rich_club,
    reciprocity,
    rich_club,
    spectral_gap,
)
from neuropil.measure.traffic import MemoryTraffic, memory_traffic
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
    "DRAM_JOULES_PER_BYTE",
    "MULTIPLY_ACCUMULATE_JOULES",
    "SRAM_JOULES_PER_BYTE",
    "ActivationChange",
    "BranchingRatio",
    "ChannelCost",
    "ChannelUse",
    "Communities",
    "Cost",
    "DegreeStatistics",
    "Emergence",
    "KernelDrift",
    "LayerActivity",
    "LayerStatement",
    "LinearAlignment",
    "MemoryTraffic",
    "ParameterChange",
    "ParameterNorm",
    "PathStatistics",
    "PowerLaw",
    "ProbeAccuracy",
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
    "branching_ratio",
    "channel_cost",
    "clustering",
    "compare_with_twins",
    "count_parameters",
    "dead_units",
    "degree_statistics",
    "dissimilarity_matrix",
    "emergence",
    "emergence_of_units",
    "find_communities",
    "fit_power_law",
    "forward_seconds",
    "gradient_norms",
    "hoyer_sparseness",
    "hsic",
    "hub_density",
    "intra_only",
    "kernel_alignment",
    "kernel_drift",
    "layer_activity",
    "layer_outputs",
    "lifetime_sparseness",
    "linear_cka",
    "linear_predictability",
    "linear_probe",
    "memory_traffic",
    "minibatch_cka",
    "modularity",
    "network_cost",
    "normalized_rich_club",
    "participation_ratio",
    "path_length",
    "path_statistics",
    "population_sparseness",
    "random_twin",
    "rbf_cka",
    "reciprocity",
    "representational_similarity",
    "rich_club",
    "shared_neighbors",
    "sharpness",
    "small_world",
    "snapshot",
    "sparsity_statement",
    "spectral_gap",
    "synaptic_work",
    "tangent_kernel",
    "target_alignment",
    "treves_rolls",
    "weight_change",
    "wirings_of",
]
