"""What is true of a network: pure functions of a model and a batch."""

from neuropil.measure.activity import LayerActivity, layer_activity
from neuropil.measure.cost import Cost, count_parameters, network_cost

__all__ = ["Cost", "LayerActivity", "count_parameters", "layer_activity", "network_cost"]
