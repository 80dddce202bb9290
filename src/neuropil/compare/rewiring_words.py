"""Ways to rewire in plain words."""

import inspect
from collections.abc import Mapping
from typing import Any

from neuropil.compare.registry import REWIRINGS, read_rewiring
from neuropil.rewire import (
    CannistraciHebb,
    Contribution,
    Cubic,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    MagnitudeAndGradient,
    Mixture,
    Momentum,
    Random,
    Rewind,
    Rewiring,
    Rounds,
    Rule,
    Sampled,
    Schedule,
    Sensitivity,
    SignedMagnitude,
    Stages,
)

# as their papers write them; others go by the name that recipes use
_NAMES = {
    "set": "SET",
    "rigl": "RigL",
    "g2g": "G2GNet",
    "hebbian": "Hebbian rule",
    "itop": "ITOP",
    "mest": "MEST",
    "cht": "CHT",
    "chts": "CHTs",
    "srigl": "SRigL",
    "gmp": "GMP",
    "granet": "GraNet",
    "one-shot": "one-shot magnitude",
    "iterative-magnitude": "iterative magnitude",
    "lottery-ticket": "lottery-ticket rewinding",
    "top-kast": "Top-KAST",
}
_TIMES = {1.0: "once", 2.0: "twice", 3.0: "three times", 4.0: "four times", 5.0: "five times"}


def name_rewiring(rewiring: Mapping[str, Any]) -> str:
    """Say which rule rewires an arm, and with which settings of its own.

    Example:
        >>> name_rewiring({"rule": "rigl", "every": 50})
        'rewired by RigL, every = 50'
        >>> name_rewiring({"rule": "gmp", "density": 0.1})
        'pruned by GMP, density = 0.1'
    """
    verb = "pruned" if is_pruning(rewiring) else "rewired"
    settings = [f"{key} = {_plain(value)}" for key, value in rewiring.items() if key != "rule"]
    return ", ".join([f"{verb} by {name_rule(rewiring)}", *settings])


def is_pruning(rewiring: Mapping[str, Any] | None) -> bool:
    """Say whether an arm's wiring only loses connections."""
    found = None if rewiring is None else read_rewiring(rewiring)
    return isinstance(found, Rewiring) and found.grow is None and found.prune is not None


def name_rule(rewiring: Mapping[str, Any]) -> str:
    """Return the name of an arm's rule as its paper writes it.

    Example:
        >>> name_rule({"rule": "rigl", "every": 50})
        'RigL'
    """
    return _NAMES.get(rewiring["rule"], str(rewiring["rule"]))


def compact_rewiring(rewiring: Mapping[str, Any] | None) -> str:
    """Write rule and settings as one short text for a table of numbers; empty where nothing is rewired.

    Example:
        >>> compact_rewiring({"rule": "set", "per_epoch": 2})
        'set per_epoch=2'
    """
    if rewiring is None:
        return ""
    return " ".join(
        [rewiring["rule"], *(f"{key}={_plain(v).replace(' ', '')}" for key, v in rewiring.items() if key != "rule")]
    )


def describe_rewiring(rewiring: Mapping[str, Any]) -> str:
    """Say what a way to rewire does: what goes, what comes, how much, how often, and within which limits.

    Args:
        rewiring: ``{"rule": name, **settings}``, as :attr:`neuropil.compare.Arm.rewiring`.

    Raises:
        ValueError: the name or a setting is unknown or wrong.

    Example:
        >>> describe_rewiring({"rule": "set", "per_epoch": 2})
        'drops the smallest positive and the largest negative weights, grows at random, 30 % twice an epoch'
        >>> describe_rewiring({"rule": "rigl", "until": 0.5})  # doctest: +NORMALIZE_WHITESPACE
        'drops the smallest weights, grows where the gradient is largest, 30 % every 100 steps, falling to 0 along a
        cosine by 50 % of training'
    """
    found = read_rewiring(rewiring)
    if not isinstance(found, Rewiring):  # a way of its own, made of no rules
        return (inspect.getdoc(REWIRINGS[rewiring["rule"]]) or "").partition("\n")[0].rstrip(".").partition(": ")[2]
    if found.schedule is None:
        return "leaves the wiring as it is"
    parts = []
    if found.prune is not None:
        parts.append(f"drops {_dropped(found.prune)}")
    if found.grow is not None:
        parts.append(f"grows {_grown(found.grow)}")
    return "; ".join(
        [", ".join([*parts, *_schedule(found.schedule)]), *_limits(found.limits), *_rewinding(found.rewind)]
    )


def _dropped(rule: Rule) -> str:
    match rule:
        case SignedMagnitude():  # before Magnitude, of which it is one
            return "the smallest positive and the largest negative weights"
        case Magnitude():
            return "the smallest weights"
        case Random():
            return "connections at random"
        case Hebbian():
            return f"those between neurons with the lowest {_hebbian(rule)}"
        case Contribution(centered=centered):
            return f"the smallest |weight · {_correlation(centered, rule.window)}|"
        case Gradient():
            return "those with the smallest gradient"
        case Momentum():
            return "those with the smallest averaged gradient"
        case MagnitudeAndGradient(coefficient=coefficient):
            return f"the smallest |weight| + {coefficient:g} · |gradient|"
        case Sensitivity():
            return "the smallest |weight · gradient|"
        case Mixture(parts=parts):
            return _shared([(_dropped(part), share) for part, share in parts])
        case Sampled(rule=inner, temperature=temperature):
            return f"by lot, most likely {_dropped(inner)} (temperature {_course(temperature)})"
    return f"by {type(rule).__name__}"


def _grown(rule: Rule) -> str:
    match rule:
        case Random():
            return "at random"
        case Hebbian():
            return f"between neurons with the highest {_hebbian(rule)}"
        case Gradient():
            return "where the gradient is largest"
        case Momentum():
            return "where the averaged gradient is largest"
        case CannistraciHebb(order=order):
            return f"where the wiring itself predicts a connection (CH{order}-L3n)"
        case Mixture(parts=parts):
            return _shared([(_grown(part), share) for part, share in parts])
        case Sampled(rule=inner):
            return f"by lot, most likely {_grown(inner)}"
    return f"by {type(rule).__name__}"


def _hebbian(rule: Hebbian) -> str:
    words = _correlation(rule.centered, rule.window)
    return f"|{words}|" if rule.absolute else words


def _correlation(centered: bool, window: int) -> str:
    steps = "" if window == 1 else f" over {window} steps"
    return f"{'Pearson' if centered else 'Hebbian'} correlation{steps}"


def _shared(parts: list[tuple[str, float]]) -> str:
    total = sum(share for _, share in parts)
    if len({share for _, share in parts}) == 1:
        return f"in equal parts {_listed([words for words, _ in parts])}"
    return _listed([f"{_percent(share / total)} {words}" for words, share in parts])


def _schedule(schedule: Schedule) -> list[str]:
    when = _when(schedule)
    words = []
    if schedule.fraction is not None:
        words.append(f"{_percent(schedule.fraction)} {when}")
        end = _percent(schedule.final_fraction) if schedule.final_fraction else "0"
        if schedule.anneal != "constant":
            along = {"cosine": "along a cosine", "linear": "evenly"}[schedule.anneal]
            by = "" if schedule.until == 1 else f" by {_percent(schedule.until)} of training"
            words.append(f"falling to {end} {along}{by}")
        elif schedule.until < 1:
            words.append(f"until {_percent(schedule.until)} of training")
    match schedule.density:
        case Cubic(to=to, start=start, until=until, scope=scope):
            if schedule.fraction is None:
                words.append(when)
            what = _thinned(scope)
            begin = f"between {_percent(start)} and" if start else "until"
            words.append(f"thinning {what} to a density of {to:g} {begin} {_percent(until)} of training")
        case Rounds(to=to, n=n, scope=scope):
            rounds = "at one go" if n == 1 else f"in {n} rounds"
            words.append(f"{rounds} {when}, thinning {_thinned(scope)} to a density of {to:g}")
        case Stages(stages=stages):
            (first, extra), *later = stages
            more = "".join(f", then {_percent(extra)} until {_percent(until)}" for until, extra in later)
            words.append(
                f"with {_percent(extra)} of all possible connections more until {_percent(first)} of training{more}"
            )
    return words


def _thinned(scope: str) -> str:
    return "all layers out by one threshold" if scope == "global" else "each layer out"


def _when(schedule: Schedule) -> str:
    if schedule.at is not None:
        return f"after {_listed([_percent(share) for share in schedule.at])} of training"
    if isinstance(schedule.density, Rounds) and schedule.density.n == 1 and schedule.every is not None:
        return f"after {schedule.every:,} steps"
    if schedule.every is not None:
        return "after every step" if schedule.every == 1 else f"every {schedule.every:,} steps"
    assert schedule.per_epoch is not None
    epochs = 1 / schedule.per_epoch
    if epochs > 1 and abs(epochs - round(epochs)) < 1e-9:
        return f"every {round(epochs)} epochs"
    return f"{_TIMES.get(schedule.per_epoch, f'{schedule.per_epoch:g} times')} an epoch"


def _limits(limits: Limits) -> list[str]:
    words = []
    if limits.within == "keep":
        words.append("the share of connections within groups stays")
    elif limits.within is not None:
        words.append(f"{_percent(limits.within)} of the connections are to lie within groups")
    if limits.constant_fan_in:
        words.append("all neurons of a layer keep the same fan-in")
    if limits.ablation is not None:
        words.append(f"a neuron goes with fewer than {_percent(limits.ablation)} of its fan-in salient")
    if limits.chain_removal:
        words.append("what leads to no output or comes from no input goes as well")
    if limits.stop_overlap is not None:
        words.append(f"a layer settles once more than {_percent(limits.stop_overlap)} of what it drops comes back")
    return words


def _rewinding(rewind: Rewind | None) -> list[str]:
    if rewind is None:
        return []
    if rewind.to == 0:
        moment = "the start"
    else:
        moment = f"step {rewind.to:,}" if isinstance(rewind.to, int) else f"{_percent(rewind.to)} of training"
    redrawn = ", in the last round to redrawn weights instead" if rewind.redraw else ""
    words = f"after each round all weights go back to those of {moment}{redrawn}"
    return [f"{words}, and a falling learning rate starts anew", "what is left learns in the last part alone"]


def _course(temperature: tuple[float, float]) -> str:
    start, end = temperature
    return f"{start:g}" if start == end else f"{start:g} to {end:g}"


def _listed(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plain(value: Any) -> str:
    """Write a setting as a recipe does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
