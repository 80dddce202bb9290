"""Any pair of a prune rule and a growth rule, by name."""

from typing import Literal, get_args

from neuropil.rewire.limits import Limits
from neuropil.rewire.rewiring import Rewiring, Within, schedule_of
from neuropil.rewire.rule import Rule
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
from neuropil.rewire.schedule import Anneal

PruneName = Literal[
    "magnitude", "signed-magnitude", "random", "hebbian", "correlation", "absolute-correlation", "contribution",
    "magnitude-and-gradient", "sensitivity", "gradient", "momentum",
]  # fmt: skip
GrowName = Literal[
    "random", "hebbian", "correlation", "absolute-correlation", "gradient", "momentum", "ch2", "ch3"
]  # fmt: skip
_RULES: dict[str, Rule] = {
    "magnitude": Magnitude(),
    "signed-magnitude": SignedMagnitude(),
    "random": Random(),
    "hebbian": Hebbian(),
    "correlation": Hebbian(centered=True),
    "absolute-correlation": Hebbian(centered=True, absolute=True),
    "contribution": Contribution(),
    "magnitude-and-gradient": MagnitudeAndGradient(),
    "sensitivity": Sensitivity(),
    "gradient": Gradient(),
    "momentum": Momentum(),
    "ch2": CannistraciHebb(2),
    "ch3": CannistraciHebb(3),
}


def drop_grow(
    *,
    prune: PruneName = "magnitude",
    grow: GrowName = "random",
    every: int | None = None,
    per_epoch: float | None = None,
    fraction: float = 0.1,
    anneal: Anneal = "constant",
    until: float = 1.0,
    regrow: bool = True,
    within: Within = None,
    constant_fan_in: bool = False,
) -> Rewiring:
    """Any pair of a prune rule and a growth rule, by name.

    Args:
        prune: what goes: magnitude, signed-magnitude, random, hebbian (cosine), correlation (centred),
            absolute-correlation, contribution, magnitude-and-gradient, sensitivity, gradient or momentum.
        grow: what comes: random, hebbian, correlation, absolute-correlation, gradient, momentum, ch2 or ch3.
        every, per_epoch: steps between events, or events in an epoch; default: one an epoch.
        fraction: share of connections replaced by the first event.
        anneal: how that share falls.
        until: share of training after which the wiring stays.
        regrow: whether what was dropped may come back at once.
        within: share of connections within groups; see :class:`Limits`.
        constant_fan_in: every neuron has the same number of connections.

    Raises:
        ValueError: a rule is unknown.
    """
    for name, value, known in (("prune", prune, get_args(PruneName)), ("grow", grow, get_args(GrowName))):
        if value not in known:
            raise ValueError(f"drop_grow: {name} must be one of {', '.join(known)}, got {value!r}")
    schedule = schedule_of(every, per_epoch, fraction, default=1.0, anneal=anneal, until=until)
    limits = Limits(regrow=regrow, within=within, constant_fan_in=constant_fan_in)
    return Rewiring(_RULES[prune], _RULES[grow], schedule, limits)
