"""What reaches the first neurons: numbers become currents or spikes in time.

An encoder maps samples ``[b, …]`` to sequences ``[t, b, …]``, time first. :class:`MinMax` and
:class:`PopulationEncoder` come before one and have no time; :class:`DeltaEncoder` takes a sequence already.
They compose with ``nn.Sequential``: ``nn.Sequential(MinMax(), RateEncoder(50))``.
"""

from neuropil.units.encode.current import CurrentEncoder
from neuropil.units.encode.delta import DeltaEncoder
from neuropil.units.encode.latency import LatencyEncoder
from neuropil.units.encode.min_max import MinMax
from neuropil.units.encode.population import PopulationEncoder
from neuropil.units.encode.rate import RateEncoder

__all__ = [
    "CurrentEncoder",
    "DeltaEncoder",
    "LatencyEncoder",
    "MinMax",
    "PopulationEncoder",
    "RateEncoder",
]
