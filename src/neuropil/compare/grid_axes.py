"""The axes of a grid: settings of a recipe that have a list of values where one is wanted."""

import inspect
import itertools
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from neuropil.compare.registry import ARRANGEMENTS, PATTERNS, REWIRINGS
from neuropil.compare.sweeps import as_settings, name_values
from neuropil.initialize import STARTS, settings_of

_WHOLE = ("name", "question", "source", "arms", "controls", "grid", "probes")  # what no grid can be over
_EXAMPLE = "{training.learning_rate: [0.001, 0.01]}"
_LONGEST_NAME = 150  # of a point: it becomes a folder, and files have names up to 255 bytes


def check_grid(grid: Any) -> dict[str, list[Any]]:
    """Return a grid as it is, if it names settings and lists different values of each.

    Raises:
        ValueError: it does not, or a setting cannot be one of a grid.
    """
    if not isinstance(grid, Mapping):
        raise ValueError(f"grid must name settings and list their values, got {grid!r}; try {_EXAMPLE}")  # noqa: TRY004
    for key, listed in grid.items():
        if key in _WHOLE:
            raise ValueError(f"grid: {key} must be a setting of data, model, spiking, training or arms; try {_EXAMPLE}")
        name_values(f"grid.{key}", listed, with_settings=True)
    return {str(key): [*listed] for key, listed in grid.items()}


def list_points(grid: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Return the value of every setting at each point of a grid, by the point's name, the last setting fastest.

    Names hold letters, digits and ``._,=+-`` alone: they become folders.

    Example:
        >>> [*list_points({"training.epochs": [5, 10], "model.hidden": [[64], [64, 64]]})]
        ['epochs=5,hidden=64', 'epochs=5,hidden=64-64', 'epochs=10,hidden=64', 'epochs=10,hidden=64-64']
    """
    short = short_keys(grid)
    words = [name_values(f"grid.{key}", listed, with_settings=True) for key, listed in grid.items()]
    points: dict[str, dict[str, Any]] = {}
    for number, chosen in enumerate(itertools.product(*(each.items() for each in words))):
        name = ",".join(f"{short[key]}={word}" for key, (word, _) in zip(grid, chosen, strict=True))
        name = re.sub(r"[^A-Za-z0-9._,=+-]", "-", name)
        if name in points or len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]},point={number}"
        points[name] = {key: value for key, (_, value) in zip(grid, chosen, strict=True)}
    return points


def short_keys(grid: Mapping[str, Any]) -> dict[str, str]:
    """Return the last part of each key, or all of it where two end alike."""
    last = [key.rpartition(".")[2] for key in grid]
    return {key: part if last.count(part) == 1 else key for key, part in zip(grid, last, strict=True)}


def lift_lists(content: dict[str, Any], annotations: Mapping[str, Any]) -> None:
    """Move lists of values that stand where a recipe wants one of them into its grid; the first one stays there.

    Args:
        content: of a recipe, changed in place.
        annotations: types of the settings of its sections, by their keys.
    """
    lifted: dict[str, list[Any]] = {}
    for key, annotation in annotations.items():
        *sections, last = key.split(".")
        place: Any = content
        for section in sections:
            place = place.get(section) if isinstance(place, Mapping) else None
        if isinstance(place, dict) and _is_axis(place.get(last), annotation):
            lifted[key] = place[last]
            place[last] = place[last][0]
    arms = content.get("arms")
    for name, description in arms.items() if isinstance(arms, dict) else ():
        if isinstance(description, dict):
            _lift_from_arm(f"arms.{name}", description, annotations, lifted)
    if lifted:
        grid = content.get("grid") or {}
        content["grid"] = {**grid, **lifted} if isinstance(grid, Mapping) else grid


def arm_setting_types(description: Mapping[str, Any], annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of the settings that an arm has, by key, those of its parts with a dot.

    Args:
        description: of the arm; what it says of its parts decides which settings these have.
        annotations: as for :func:`lift_lists`, of which those of the training are an arm's too.
    """
    parts = {part: as_settings(part, description.get(part)) for part in ("readout", "rewiring", "start")}
    named = {part: inner for part, inner in parts.items() if isinstance(inner, Mapping)}
    types_ = {key: annotation for key, annotation in annotations.items() if key.startswith("training.")}
    types_ |= _pattern_types(description.get("pattern"))
    for part, find, name in (
        ("readout", _pattern_types, "pattern"),
        ("rewiring", _rewiring_types, "rule"),
        ("start", _start_types, "scheme"),
    ):
        if part in named:
            types_ |= {f"{part}.{key}": annotation for key, annotation in find(named[part].get(name)).items()}
    return types_


def _lift_from_arm(
    where: str, description: dict[str, Any], annotations: Mapping[str, Any], lifted: dict[str, list[Any]]
) -> None:
    """Do so with the settings of an arm's wiring, read-out, rewiring, start and training."""
    for key, annotation in arm_setting_types(description, annotations).items():
        part, dot, setting = key.partition(".")
        place = description.get(part) if dot else description
        name = setting if dot else part
        if isinstance(place, dict) and _is_axis(place.get(name), annotation):
            lifted[f"{where}.{key}"] = place[name]
            place[name] = place[name][0]


def _is_axis(value: Any, annotation: Any) -> bool:
    """Say whether a value is a list of what a setting of this type takes: of lists, where it takes a list."""
    if not isinstance(value, list) or not value:
        return False
    return not _takes_list(annotation) or all(isinstance(item, list) for item in value)


def _takes_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, Annotated):
        return any(_takes_list(part) for part in get_args(annotation))
    return (origin or annotation) in (list, tuple, Any)


def _pattern_types(name: Any) -> dict[str, Any]:
    known = {**PATTERNS, **{arrangement: cls for arrangement, (cls, _) in ARRANGEMENTS.items()}}
    return get_type_hints(known[name]) if isinstance(name, str) and name in known else {}


def _rewiring_types(name: Any) -> dict[str, Any]:
    known = isinstance(name, str) and name in REWIRINGS
    return {key: one.annotation for key, one in inspect.signature(REWIRINGS[name]).parameters.items()} if known else {}


def _start_types(name: Any) -> dict[str, Any]:
    known = isinstance(name, str) and name in STARTS
    return {key: one.annotation for key, one in settings_of(name).items()} if known else {}
