"""What is true of a network: pure functions of a model and a batch."""

from neuropil.measure.ablation import intra_only
from neuropil.measure.activity import LayerActivity, layer_activity
from neuropil.measure.cost import Cost, count_parameters, network_cost
from neuropil.measure.synaptic import (
    ACCUMULATE_JOULES,
    MULTIPLY_ACCUMULATE_JOULES,
    SynapticWork,
    synaptic_work,
)

__all__ = [
    "ACCUMULATE_JOULES",
    "MULTIPLY_ACCUMULATE_JOULES",
    "Cost",
    "LayerActivity",
    "SynapticWork",
    "count_parameters",
    "intra_only",
    "layer_activity",
    "network_cost",
    "synaptic_work",
]
