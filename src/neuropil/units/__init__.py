"""What a neuron does with its input current."""

from neuropil.units.adaptive_lif import AdaptiveLIF, AdaptiveLIFState
from neuropil.units.current_lif import CurrentLIF, CurrentLIFState
from neuropil.units.integrate import IF
from neuropil.units.izhikevich import Izhikevich, IzhikevichState
from neuropil.units.leaky_integrator import LeakyIntegrator, LeakyIntegratorState
from neuropil.units.lif import LIF, LIFState
from neuropil.units.surrogate import ATan, Boxcar, FastSigmoid, Sigmoid, Surrogate, Triangle
from neuropil.units.unit import Unit

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
    "Sigmoid",
    "Surrogate",
    "Triangle",
    "Unit",
]
