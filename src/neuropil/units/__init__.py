"""What a neuron does with its input current; how numbers become spikes before, and answers after.

Encoders are in ``units.encode``, losses in ``units.losses``, and what is read from output spikes in ``units.readouts``.
"""

from neuropil.units import encode, losses, readouts
from neuropil.units.adaptive_lif import AdaptiveLIF, AdaptiveLIFState
from neuropil.units.current_lif import CurrentLIF, CurrentLIFState
from neuropil.units.integrate import IF
from neuropil.units.izhikevich import Izhikevich, IzhikevichState
from neuropil.units.leaky_integrator import LeakyIntegrator, LeakyIntegratorState
from neuropil.units.lif import LIF, LIFState
from neuropil.units.recurrent import Recurrent
from neuropil.units.surrogate import ATan, Boxcar, FastSigmoid, Sigmoid, Surrogate, Triangle
from neuropil.units.unit import Unit, detached

__all__ = [
    "IF",
    "LIF",
    "ATan",
    "AdaptiveLIF",
    "AdaptiveLIFState",
    "Boxcar",
    "CurrentLIF",
    "CurrentLIFState",
    "FastSigmoid",
    "Izhikevich",
    "IzhikevichState",
    "LIFState",
    "LeakyIntegrator",
    "LeakyIntegratorState",
    "Recurrent",
    "Sigmoid",
    "Surrogate",
    "Triangle",
    "Unit",
    "detached",
    "encode",
    "losses",
    "readouts",
]
