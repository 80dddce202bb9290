"""Which connections go and which come while a network learns, and which channels an image needs."""

from neuropil.rewire.apply_wirings import with_wirings
from neuropil.rewire.at_start import grasp, random_masks, snip, synflow
from neuropil.rewire.channel_gates import ChannelPredictor, FixedChannels, RandomChannels, peaks, wanted_channels
from neuropil.rewire.gated_channels import GatedChannels, MaskLoss, gate_channels, gated_layers, split_parameters
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
from neuropil.rewire.pruning import iterative_magnitude, lottery_ticket, magnitude_masks, one_shot
from neuropil.rewire.remove_units import RemovedUnits, remove_units
from neuropil.rewire.rewind import Rewind
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
from neuropil.rewire.schedule import Cubic, Rounds, Schedule, Stages
from neuropil.rewire.top_kast import TopKast, TopKastRewiring

__all__ = [
    "CannistraciHebb",
    "ChannelPredictor",
    "Contribution",
    "Cubic",
    "Event",
    "FixedChannels",
    "GatedChannels",
    "Gradient",
    "Hebbian",
    "Limits",
    "Magnitude",
    "MagnitudeAndGradient",
    "MaskLoss",
    "Mixture",
    "Momentum",
    "Random",
    "RandomChannels",
    "RemovedUnits",
    "Rewind",
    "Rewirer",
    "Rewiring",
    "Rounds",
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
    "gate_channels",
    "gated_layers",
    "gmp",
    "granet",
    "grasp",
    "hebbian",
    "iterative_magnitude",
    "itop",
    "lottery_ticket",
    "magnitude_masks",
    "mest",
    "one_shot",
    "peaks",
    "random_masks",
    "remove_units",
    "rigl",
    "set_",
    "snip",
    "split_parameters",
    "srigl",
    "static",
    "synflow",
    "top_kast",
    "wanted_channels",
    "with_wirings",
]
