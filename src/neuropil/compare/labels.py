"""Arms and wirings in plain words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from neuropil.compare.arms import Arm
from neuropil.compare.rewiring_words import name_rewiring
from neuropil.compare.rules import rule_name
from neuropil.connect import Dense, Ensembles, ErdosRenyi, Pattern, ScaleFree, SmallWorld
from neuropil.models import mixer

# the twins of a sparse arm (keys of neuropil.models.TWINS), and that of a rewired one, in the order of every table
TWIN_WORDS = {
    "dense-same-width": "dense, same width",
    "dense-same-parameters": "dense, same parameters",
    "erdos-renyi": "Erdős–Rényi, same density",
    "static": "same wiring, static",
}


def describe(pattern: Pattern) -> str:
    """Say in a few words what a wiring is.

    Example:
        >>> describe(Ensembles(n_groups=8, p_inter=0.15, block=("group", 1)))
        'ensembles by index, 8 groups, p′ = 0.15, block (group, 1)'
        >>> describe(ErdosRenyi(density=0.25625, exact=True))
        'Erdős–Rényi, density 0.256'
    """
    match pattern:
        case Dense():
            return "dense"
        case Ensembles(grouping=grouping):
            by = {"index": "by index", "interleaved": "interleaved", "random": "drawn at random"}[grouping]
            return ", ".join([f"ensembles {by}", *_ensemble_settings(pattern)])
        case ErdosRenyi(density=density, block=block):
            return f"Erdős–Rényi, density {density:.3g}{_block(block)}"
        case SmallWorld(density=density, p_rewire=p_rewire):
            return f"small world, density {density:.3g}, rewired {p_rewire:g}"
        case ScaleFree(density=density, exponent=exponent):
            gamma = "∞" if math.isinf(exponent) else f"{exponent:g}"
            return f"scale-free, density {density:.3g}, γ = {gamma}"
    return repr(pattern)


def describe_arm(arm: Arm) -> str:
    """Say in a few words what an arm is; its widths only where it is dense, as sparse arms share those of the recipe.

    Example:
        >>> describe_arm(Arm("narrow", (443, 443), (Dense(), Dense())))
        'dense, width 443'
        >>> describe_arm(Arm("set", (64,), (ErdosRenyi(0.1),), rewiring={"rule": "set", "per_epoch": 2}))
        'Erdős–Rényi, density 0.1, rewired by SET, per_epoch = 2'
    """
    if arm.is_dense:
        widths = list(dict.fromkeys(arm.hidden))
        words = f"dense, width {widths[0]}" if len(widths) == 1 else f"dense, widths {'–'.join(map(str, arm.hidden))}"
    else:
        words = _describe_layers(arm.patterns)
    if not isinstance(arm.readout, Dense):
        words += f", read-out {describe(arm.readout)}"
    if arm.rewiring is not None:
        words += f", {name_rewiring(arm.rewiring)}"
    if arm.start is not None:
        words += f", start {describe_start(arm.start)}"
    learning = {**arm.training, **({"rule": rule_name(arm.training["rule"])} if "rule" in arm.training else {})}
    return ", ".join([words, *(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in learning.items())])


def describe_start(start: str | Mapping[str, Any]) -> str:
    """Say where weights start: the scheme and its settings.

    Example:
        >>> describe_start({"scheme": "emergence", "alpha": 1.5})
        'emergence (alpha = 1.5)'
    """
    if isinstance(start, str):
        return start
    settings = ", ".join(f"{key} = {_plain(value)}" for key, value in start.items() if key != "scheme")
    return f"{start['scheme']} ({settings})" if settings else str(start["scheme"])


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _describe_layers(patterns: Sequence[Pattern]) -> str:
    first = patterns[0]
    if len(patterns) > 1 and isinstance(first, Ensembles):
        settings = {key: value for key, value in vars(first).items() if key != "grouping"}
        if list(patterns) == list(mixer(len(patterns), **settings)):
            return ", ".join(["mixer", *_ensemble_settings(first)])
    words = [describe(pattern) for pattern in patterns]
    return words[0] if len(set(words)) == 1 else "; then ".join(words)


def _ensemble_settings(pattern: Ensembles) -> list[str]:
    settings = [f"{pattern.n_groups} groups"]
    if pattern.p_intra != 1.0:
        settings.append(f"p = {pattern.p_intra:g}")
    settings.append(f"p′ = {pattern.p_inter:g}")
    if pattern.exact:
        settings.append("exact counts")
    block = _block(pattern.block)
    return [*settings, block.removeprefix(", ")] if block else settings


def _block(block: tuple[int | str, int | str]) -> str:
    return "" if tuple(block) == (1, 1) else f", block ({block[0]}, {block[1]})"
