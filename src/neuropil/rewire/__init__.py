"""Which connections go and which come while a network learns."""

from neuropil.rewire.apply_wirings import with_wirings
from neuropil.rewire.at_start import grasp, random_masks, snip, synflow
from neuropil.rewire.history import Event
from neuropil.rewire.limits import Limits
from neuropil.rewire.pairs import drop_grow
from neuropil.rewire.presets import (
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
    top_kast,
)
from neuropil.rewire.rewirer import Rewirer
from neuropil.rewire.rewiring import Rewiring
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
from neuropil.rewire.top_kast import TopKast, TopKastRewiring

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
    "TopKast",
    "TopKastRewiring",
    "cht",
    "chts",
    "drop_grow",
    "g2g",
    "gmp",
    "granet",
    "grasp",
    "hebbian",
    "itop",
    "mest",
    "random_masks",
    "rigl",
    "set_",
    "snip",
    "srigl",
    "static",
    "synflow",
    "top_kast",
    "with_wirings",
]
