"""What is true of a network: pure functions of a model and a batch."""

from neuropil.measure.ablation import intra_only
from neuropil.measure.activity import LayerActivity, layer_activity
from neuropil.measure.cost import Cost, count_parameters, network_cost
from neuropil.measure.path_emergence import Emergence, emergence, emergence_of_units
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
    "Emergence",
    "LayerActivity",
    "SynapticWork",
    "count_parameters",
    "emergence",
    "emergence_of_units",
    "intra_only",
    "layer_activity",
    "network_cost",
    "synaptic_work",
]
