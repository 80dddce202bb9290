"""Where weights start: schemes that know the connections each neuron really has.

Functions that end in an underscore change a layer, or a model, in place, and draw from a generator if they draw. Those
for a layer work on ``nn.Linear``, ``nn.Conv2d`` and :class:`neuropil.connect.SparseLinear` of any wiring; those for a
model find its layers by :func:`weight_layers`.
"""

from neuropil.initialize.critical import critical_gain, critical_normal_
from neuropil.initialize.depth_to_width import DepthToWidth, depth_to_width
from neuropil.initialize.emergence_promoting import EmergenceProfile, LayerScale, middle_exponents, promote_emergence_
from neuropil.initialize.fan_in import (
    kaiming_normal_,
    kaiming_uniform_,
    reset_,
    xavier_normal_,
    xavier_uniform_,
)
from neuropil.initialize.layers import weight_layers
from neuropil.initialize.log_normal import log_normal_
from neuropil.initialize.lsuv import LayerVariance, lsuv_
from neuropil.initialize.orthogonal import orthogonal_
from neuropil.initialize.rank import RankReached, effective_rank, rank_controlled_
from neuropil.initialize.starts import STARTS, settings_of, start_

__all__ = [
    "STARTS",
    "DepthToWidth",
    "EmergenceProfile",
    "LayerScale",
    "LayerVariance",
    "RankReached",
    "critical_gain",
    "critical_normal_",
    "depth_to_width",
    "effective_rank",
    "kaiming_normal_",
    "kaiming_uniform_",
    "log_normal_",
    "lsuv_",
    "middle_exponents",
    "orthogonal_",
    "promote_emergence_",
    "rank_controlled_",
    "reset_",
    "settings_of",
    "start_",
    "weight_layers",
    "xavier_normal_",
    "xavier_uniform_",
]
