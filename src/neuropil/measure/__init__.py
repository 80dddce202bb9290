"""What is true of a network: pure functions of a model and a batch."""

from neuropil.measure.ablation import intra_only
from neuropil.measure.activity import LayerActivity, layer_activity
from neuropil.measure.cost import Cost, count_parameters, network_cost
from neuropil.measure.curvature import Sharpness, ascent_sharpness, sharpness
from neuropil.measure.representations import ActivationChange, activation_change, hidden_activations
from neuropil.measure.statement import LayerStatement, SparsityStatement, sparsity_statement
from neuropil.measure.synaptic import (
    ACCUMULATE_JOULES,
    MULTIPLY_ACCUMULATE_JOULES,
    SynapticWork,
    synaptic_work,
)
from neuropil.measure.tangent import (
    KernelDrift,
    kernel_alignment,
    kernel_drift,
    tangent_kernel,
    target_alignment,
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
    "Cost",
    "KernelDrift",
    "LayerActivity",
    "LayerStatement",
    "ParameterChange",
    "ParameterNorm",
    "Sharpness",
    "Snapshot",
    "SparsityStatement",
    "SynapticWork",
    "WeightChange",
    "activation_change",
    "ascent_sharpness",
    "count_parameters",
    "gradient_norms",
    "hidden_activations",
    "intra_only",
    "kernel_alignment",
    "kernel_drift",
    "layer_activity",
    "network_cost",
    "sharpness",
    "snapshot",
    "sparsity_statement",
    "synaptic_work",
    "tangent_kernel",
    "target_alignment",
    "weight_change",
]
