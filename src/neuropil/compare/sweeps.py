"""Swept arms: from one arm of a recipe to one for each value of a setting."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sweep:
    """What one arm of a recipe is swept over.

    Attributes:
        arm: its name in the recipe.
        keys: the settings that vary.
        values: of these, in the same order, by the name of the arm that has them.
    """

    arm: str
    keys: tuple[str, ...]
    values: Mapping[str, tuple[Any, ...]]


def list_sweeps(arms: Mapping[str, Mapping[str, Any]]) -> list[Sweep]:
    """Return the sweeps of a recipe's arms, in their order.

    Several settings give every combination of their values, the last one varying fastest.

    Raises:
        ValueError: a sweep does not name settings with lists of different values.

    Example:
        >>> sweep = {"p_inter": [0, 0.05], "n_groups": [4, 8]}
        >>> [*list_sweeps({"mixer": {"pattern": "mixer", "sweep": sweep}})[0].values]
        ['mixer-0-4', 'mixer-0-8', 'mixer-0.05-4', 'mixer-0.05-8']
    """
    sweeps = []
    for name, description in arms.items():
        sweep = description.get("sweep")
        if sweep is None:
            continue
        if not isinstance(sweep, Mapping) or not sweep:
            raise ValueError(
                f"arms.{name}: sweep must name settings and list their values, got {sweep!r}; try "
                "{p_inter: [0, 0.05, 0.15]}"
            )
        words = {str(key): _words(name, str(key), values) for key, values in sweep.items()}
        values = {
            "-".join([name, *chosen]): tuple(words[key][word] for key, word in zip(words, chosen, strict=True))
            for chosen in itertools.product(*words.values())
        }
        sweeps.append(Sweep(name, tuple(words), values))
    return sweeps


def expand_sweeps(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the arms of a recipe with every swept one replaced by those that it stands for.

    A setting that is swept has the place of the one that the arm may name beside.

    Raises:
        ValueError: as in :func:`list_sweeps`, or two arms would have the same name.

    Example:
        >>> expand_sweeps({"er": {"pattern": "erdos-renyi", "sweep": {"density": [0.1, 0.2]}}})
        {'er-0.1': {'pattern': 'erdos-renyi', 'density': 0.1}, 'er-0.2': {'pattern': 'erdos-renyi', 'density': 0.2}}
    """
    sweeps = {sweep.arm: sweep for sweep in list_sweeps(arms)}
    expanded: dict[str, dict[str, Any]] = {}
    for name, description in arms.items():
        own = {key: value for key, value in description.items() if key != "sweep"}
        found = {name: own}
        if name in sweeps:
            keys, values = sweeps[name].keys, sweeps[name].values
            found = {new: own | dict(zip(keys, chosen, strict=True)) for new, chosen in values.items()}
        for new, settings in found.items():
            if new in expanded or (new != name and new in arms and new not in sweeps):
                raise ValueError(
                    f"arms.{name}: its sweep makes an arm {new!r}, but there is one already; rename either"
                )
            expanded[new] = settings
    return expanded


def _words(arm: str, key: str, values: Any) -> dict[str, Any]:
    """Return the values of one setting by the words that stand for them in names."""
    if not isinstance(values, list) or not values:
        raise ValueError(f"arms.{arm}: sweep.{key} must be a list of values, got {values!r}; try [0, 0.05, 0.15]")
    words: dict[str, Any] = {}
    for value in values:
        parts = value if isinstance(value, list) and value else [value]
        if any(isinstance(part, list | Mapping) for part in parts):
            raise ValueError(
                f"arms.{arm}: sweep.{key}: a value must be a number, a word or a list of them, got {value!r}"
            )
        words["-".join(_word(part) for part in parts)] = value
    if len(words) < len(values):
        raise ValueError(f"arms.{arm}: sweep.{key}: the values must differ from each other, got {values!r}")
    return words


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
