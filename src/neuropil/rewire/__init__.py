"""Which connections go and which come while a network learns."""

from neuropil.rewire.history import Event
from neuropil.rewire.limits import Limits
from neuropil.rewire.presets import (
    Rewiring,
    cht,
    chts,
    g2g,
    gmp,
    granet,
    hebbian,
    itop,
    mest,
    rigl,
    set_,
    srigl,
    static,
)
from neuropil.rewire.rewirer import Rewirer
from neuropil.rewire.rule import Mixture, Rule, Sampled
from neuropil.rewire.rules import (
    CannistraciHebb,
    Contribution,
    Gradient,
    Hebbian,
    Magnitude,
    MagnitudeAndGradient,
    Momentum,
    Random,
    Sensitivity,
    SignedMagnitude,
)
from neuropil.rewire.schedule import Cubic, Schedule, Stages

__all__ = [
    "CannistraciHebb",
    "Contribution",
    "Cubic",
    "Event",
    "Gradient",
    "Hebbian",
    "Limits",
    "Magnitude",
    "MagnitudeAndGradient",
    "Mixture",
    "Momentum",
    "Random",
    "Rewirer",
    "Rewiring",
    "Rule",
    "Sampled",
    "Schedule",
    "Sensitivity",
    "SignedMagnitude",
    "Stages",
    "cht",
    "chts",
    "g2g",
    "gmp",
    "granet",
    "hebbian",
    "itop",
    "mest",
    "rigl",
    "set_",
    "srigl",
    "static",
]
