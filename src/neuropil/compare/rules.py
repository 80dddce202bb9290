"""The names that recipes use for rules of learning, and how they become rules of a network."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from neuropil import learn
from neuropil.compare.registry import nearest, read_settings
from neuropil.learn import LearningRule

RULES: dict[str, type[LearningRule]] = {
    "backpropagation": learn.Backpropagation,
    "counter-current": learn.CounterCurrent,
    "feedback-alignment": learn.FeedbackAlignment,
    "direct-feedback-alignment": learn.DirectFeedbackAlignment,
    "sign-symmetry": learn.SignSymmetry,
    "kolen-pollack": learn.KolenPollack,
    "target-propagation": learn.DifferenceTargetPropagation,
    "equilibrium-propagation": learn.EquilibriumPropagation,
    "predictive-coding": learn.PredictiveCoding,
    "forward-forward": learn.ForwardForward,
    "pepita": learn.Pepita,
    "noprop": learn.NoProp,
    "readout-only": learn.ReadoutOnly,
    "oja": learn.Oja,
    "sanger": learn.Sanger,
    "winner-take-all": learn.WinnerTakeAll,
    "krotov-hopfield": learn.KrotovHopfield,
    "soft-hebb": learn.SoftHebb,
}
SPIKING_RULES: dict[str, type[LearningRule]] = {"e-prop": learn.EProp}  # of neurons that spike
ALL_RULES = {**RULES, **SPIKING_RULES}
# what comes from elsewhere in a recipe, or not at all
_GIVEN = frozenset({"model", "optimizer", "clip_norm", "generator", "loss", "penalties", "autocast"})


def settings_of_rule(name: str) -> dict[str, inspect.Parameter]:
    """Return the settings of a rule, by name."""
    parameters = inspect.signature(ALL_RULES[name]).parameters
    return {key: parameter for key, parameter in parameters.items() if key not in _GIVEN}


def plain_rule(description: Any) -> str | dict[str, Any]:
    """Return what a recipe says of a rule: its name, or ``{"name": name, **settings}`` where it has settings.

    Raises:
        ValueError: the name or a setting is unknown or of the wrong type.
    """
    settings = dict(description) if isinstance(description, Mapping) else {"name": description}
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in ALL_RULES:
        raise ValueError(f"rule must be one of {', '.join(ALL_RULES)}, got {name!r}{nearest(name, [*ALL_RULES])}")
    settings = read_settings(f"rule {name}", settings, settings_of_rule(name))
    return {"name": name, **settings} if settings else name


def build_rule(training: Mapping[str, Any], net: nn.Module, generator: torch.Generator) -> LearningRule:
    """Attach the rule of a run to its network, with the recipe's optimizer.

    Args:
        training: that section of the run's recipe.
        net: what learns.
        generator: the rule's own stream of chance.

    Raises:
        ValueError: the rule cannot train the network.
    """
    description = training.get("rule", "backpropagation")
    settings = dict(description) if isinstance(description, Mapping) else {"name": description}
    cls = ALL_RULES[settings.pop("name")]
    given: dict[str, Any] = {"optimizer": lambda parameters: make_optimizer(parameters, training)}
    if "generator" in inspect.signature(cls).parameters:
        given["generator"] = generator
    return cls(net, clip_norm=training["clip_norm"], **given, **settings)


def make_optimizer(parameters: Any, training: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the optimizer that a recipe names, for parameters or groups of them."""
    settings = {"lr": training["learning_rate"], "weight_decay": training["weight_decay"]}
    if training["optimizer"] == "exponentiated-gradient":
        return learn.ExponentiatedGradient(parameters, momentum=training["momentum"], **settings)
    if training["optimizer"] == "exponentiated-adam":
        return learn.ExponentiatedAdam(parameters, **settings)
    settings["fused"] = True
    if training["optimizer"] == "sgd":
        return torch.optim.SGD(parameters, momentum=training["momentum"], **settings)
    if training["optimizer"] == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    return torch.optim.Adam(parameters, **settings)


def trains_spikes(description: str | Mapping[str, Any]) -> bool:
    """Return whether a rule trains networks that spike; backpropagation, through time, does."""
    name = description if isinstance(description, str) else description["name"]
    return name == "backpropagation" or name in SPIKING_RULES


def rule_name(description: str | Mapping[str, Any]) -> str:
    """Return a rule's name and settings in short, for tables: ``sign-symmetry form=fixed``."""
    if isinstance(description, str):
        return description
    return " ".join([str(description["name"]), *(f"{k}={v}" for k, v in description.items() if k != "name")])
