"""Swept and tuned arms: from one arm of a recipe to one for each value of a setting."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sweep:
    """What one arm of a recipe is swept over.

    Attributes:
        arm: its name in the recipe.
        keys: the settings that vary; those of a part of the arm with a dot, as ``training.learning_rate``.
        values: of these, in the same order, by the name of the arm that has them.
        n_tuned: how many keys, at the end, are tuned: of their values the one counts that validation chooses.
    """

    arm: str
    keys: tuple[str, ...]
    values: Mapping[str, tuple[Any, ...]]
    n_tuned: int = 0

    @property
    def choices(self) -> dict[str, dict[str, tuple[Any, ...]]]:
        """Candidates and their tuned values by their names, by the name of the arm that they are candidates for."""
        found: dict[str, dict[str, tuple[Any, ...]]] = {}
        if self.n_tuned:
            for name, values in self.values.items():
                swept, tuned = values[: -self.n_tuned], values[-self.n_tuned :]
                found.setdefault("-".join([self.arm, *map(_part, swept)]), {})[name] = tuned
        return found


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
        words: dict[str, dict[str, Any]] = {}
        for how, example in (("sweep", "p_inter: [0, 0.05, 0.15]"), ("tune", "training.learning_rate: [0.001, 0.01]")):
            settings = description.get(how)
            if settings is None:
                continue
            if not isinstance(settings, Mapping) or not settings:
                raise ValueError(
                    f"arms.{name}: {how} must name settings and list their values, got {settings!r}; try {{{example}}}"
                )
            for key, listed in settings.items():
                if str(key) in words:
                    raise ValueError(f"arms.{name}: {key} must be swept or tuned, got both")
                words[str(key)] = name_values(f"arms.{name}: {how}.{key}", listed)
        if not words:
            continue
        values = {
            "-".join([name, *chosen]): tuple(words[key][word] for key, word in zip(words, chosen, strict=True))
            for chosen in itertools.product(*words.values())
        }
        sweeps.append(Sweep(name, tuple(words), values, n_tuned=len(description.get("tune") or ())))
    return sweeps


def expand_sweeps(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the arms of a recipe with every swept one replaced by those that it stands for.

    A setting that is swept has the place of the one that the arm may name beside.

    Raises:
        ValueError: as in :func:`list_sweeps`, or two arms would have the same name.

    Example:
        >>> arm = {"pattern": "dense", "start": "emergence", "tune": {"start.alpha": [1.2]}}
        >>> expand_sweeps({"a": arm})
        {'a-1.2': {'pattern': 'dense', 'start': {'scheme': 'emergence', 'alpha': 1.2}}}
        >>> expand_sweeps({"er": {"pattern": "erdos-renyi", "sweep": {"density": [0.1, 0.2]}}})
        {'er-0.1': {'pattern': 'erdos-renyi', 'density': 0.1}, 'er-0.2': {'pattern': 'erdos-renyi', 'density': 0.2}}
    """
    sweeps = {sweep.arm: sweep for sweep in list_sweeps(arms)}
    expanded: dict[str, dict[str, Any]] = {}
    for name, description in arms.items():
        own = {key: value for key, value in description.items() if key not in ("sweep", "tune")}
        found = {name: own}
        if name in sweeps:
            keys, values = sweeps[name].keys, sweeps[name].values
            found = {new: with_settings(own, dict(zip(keys, chosen, strict=True))) for new, chosen in values.items()}
        for new, settings in found.items():
            if new in expanded or (new != name and new in arms and new not in sweeps):
                raise ValueError(
                    f"arms.{name}: its sweep makes an arm {new!r}, but there is one already; rename either"
                )
            expanded[new] = settings
    return expanded


def with_settings(description: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm with some settings in their places, those with a dot inside a part of it."""
    arm = dict(description)
    for key, value in values.items():
        part, dot, setting = key.partition(".")
        if not dot:
            arm[key] = value
            continue
        inner = as_settings(part, arm.get(part, {}))
        arm[part] = {**(inner if isinstance(inner, Mapping) else {}), setting: value}
    return arm


def as_settings(part: str, value: Any) -> Any:
    """Return what a recipe says of a part, as keys and values where it is the name alone of a rule or the like.

    Example:
        >>> as_settings("start", "lsuv"), as_settings("training", 3)
        ({'scheme': 'lsuv'}, 3)
    """
    names = {"rewiring": "rule", "start": "scheme", "readout": "pattern"}
    return {names[part]: value} if part in names and isinstance(value, str) else value


def name_values(where: str, values: Any, *, with_settings: bool = False) -> dict[str, Any]:
    """Return the values of one setting by the words that stand for them in names.

    Args:
        where: the setting, for errors.
        values: listed, different from each other.
        with_settings: whether a value may hold keys and values itself.

    Raises:
        ValueError: there is no such list.

    Example:
        >>> name_values("hidden", [[64], [64, 64]])
        {'64': [64], '64-64': [64, 64]}
    """
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where} must be a list of values, got {values!r}; try [0, 0.05, 0.15]")
    words: dict[str, Any] = {}
    for value in values:
        if with_settings and isinstance(value, Mapping):
            words["-".join(f"{key}-{_part(part)}" for key, part in value.items())] = value
            continue
        parts = value if isinstance(value, list) and value else [value]
        if any(isinstance(part, list | Mapping) for part in parts):
            raise ValueError(f"{where}: a value must be a number, a word or a list of them, got {value!r}")
        words[_part(value)] = value
    if len(words) < len(values):
        raise ValueError(f"{where}: the values must differ from each other, got {values!r}")
    return words


def _part(value: Any) -> str:
    """Return what stands for a value in the name of an arm."""
    return "-".join(_word(part) for part in (value if isinstance(value, list) and value else [value]))


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
