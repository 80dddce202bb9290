"""Keys of a recipe: the last part of one stands for the whole, and a value is put where a whole one leads to."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from neuropil.compare.registry import nearest
from neuropil.compare.sweeps import as_settings

SECTIONS = ("data", "model", "spiking", "training")


class RecipeError(ValueError):
    """A recipe that cannot be read or does not make sense."""


def fields_of(recipe: type[BaseModel], section: Sequence[str]) -> list[str]:
    """Return the names of what a section of a recipe holds; those of the recipe itself where there is none."""
    return list(_model(recipe, section).model_fields)


def setting_types(recipe: type[BaseModel]) -> dict[str, Any]:
    """Return the types of all settings in a recipe's sections, and of ``seeds`` and ``folds``, by key."""
    types = {name: recipe.model_fields[name].annotation for name in ("seeds", "folds")}
    for section in SECTIONS:
        for name, field in _model(recipe, [section]).model_fields.items():
            types[f"{section}.{name}"] = field.annotation
    return types


def _model(recipe: type[BaseModel], section: Sequence[str]) -> Any:
    model: Any = recipe
    for part in section:
        annotation = model.model_fields[part].annotation
        model = next((kind for kind in get_args(annotation) if kind is not type(None)), annotation)
    return model


def replace_setting(recipe: type[BaseModel], content: dict[str, Any], override: str) -> None:
    """Put one ``key=value`` into the contents of a recipe."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"a setting must have the form key=value, got {override!r}; try training.epochs=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{key}: the value must be YAML, got {text!r}") from error
    put_setting(content, full_key(recipe, key, content), value)


def put_setting(content: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into the contents of a recipe, at a whole key.

    Raises:
        RecipeError: there is a plain value where the key leads through.
    """
    *sections, last = _parts(key, content.get("arms"))
    for section in sections:
        if content.get(section) is None:
            content[section] = {}
        content[section] = as_settings(section, content[section])
        content = content[section]
        if not isinstance(content, dict):
            raise RecipeError(f"{key}: {section} must hold keys and values, got {content!r}")
    content[last] = value


def _parts(key: str, arms: Any) -> list[str]:
    """Split a whole key into the names that lead to its value; an arm's name may hold dots."""
    if key.startswith("arms."):
        rest = key.removeprefix("arms.")
        known = [arm for arm in (arms if isinstance(arms, dict) else ()) if rest.startswith(f"{arm}.")]
        arm = max(known, key=len) if known else rest.rpartition(".")[0]
        part, dot, setting = rest[len(arm) + 1 :].partition(".")
        # the settings that are swept or tuned have dots of their own
        inner = [setting] if part in ("sweep", "tune") else setting.split(".")
        return ["arms", arm, part, *(inner if dot else [])]
    return key.split(".")


def full_key(recipe: type[BaseModel], key: str, content: Mapping[str, Any]) -> str:
    """Complete the last part of a key to a whole one, where only one key ends so."""
    known = [name for name in recipe.model_fields if name not in (*SECTIONS, "arms")]
    known += [f"{section}.{name}" for section in SECTIONS for name in fields_of(recipe, [section])]
    # a rate network becomes a spiking one by whole keys only
    if content.get("spiking") is None and not key.startswith("spiking."):
        known = [name for name in known if not name.startswith("spiking.")]
    arms = content.get("arms")
    if isinstance(arms, dict):
        known += [f"arms.{arm}.{name}" for arm, values in arms.items() if isinstance(values, dict) for name in values]
        if any(key.startswith(f"arms.{arm}.") for arm in arms):
            return key
    if key in known or key.startswith("model.start."):
        return key
    ending = [name for name in known if name.rpartition(".")[2] == key]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise RecipeError(f"setting {key!r} must be one key, got several; try {' or '.join(ending)}")
    near = nearest(key, known) or nearest(key, [name.rpartition(".")[2] for name in known])
    raise RecipeError(f"setting {key!r} is unknown{near or '; see: neuropil show recipe'}")
