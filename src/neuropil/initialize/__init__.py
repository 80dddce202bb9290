"""Where weights start: schemes that know the connections each neuron really has.

Every function changes one layer in place, draws from a generator and returns the layer's weights. Works on
``nn.Linear``, ``nn.Conv2d`` and :class:`neuropil.connect.SparseLinear` of any wiring.
"""

from neuropil.initialize.fan_in import (
    kaiming_normal_,
    kaiming_uniform_,
    reset_,
    xavier_normal_,
    xavier_uniform_,
)
from neuropil.initialize.orthogonal import orthogonal_

__all__ = [
    "kaiming_normal_",
    "kaiming_uniform_",
    "orthogonal_",
    "reset_",
    "xavier_normal_",
    "xavier_uniform_",
]
