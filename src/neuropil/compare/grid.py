"""A grid: one recipe for each combination of some settings' values, all of them one comparison."""

import math
from collections.abc import Mapping
from pathlib import Path

import yaml

from neuropil.compare.arms import expand_arms
from neuropil.compare.grid_axes import list_points, short_keys
from neuropil.compare.recipe import Recipe, RecipeError, load_recipe, parse_recipe
from neuropil.compare.recipe_keys import put_setting
from neuropil.compare.sweeps import expand_sweeps
from neuropil.train.whole_files import write_whole

MOST_RUNS = 10_000  # that are begun without a word


def expand_grid(recipe: Recipe) -> dict[str, Recipe]:
    """Return the recipe of each point of a recipe's grid, by the point's name; without a grid, there is none.

    Points differ in the settings of the grid, and their question says in which.

    Raises:
        RecipeError: a point's recipe does not make sense.

    Example:
        >>> from neuropil.compare import load_recipe
        >>> points = expand_grid(load_recipe("digits", ["epochs=[5, 10]", "hidden=[[64], [64, 64]]"]))
        >>> [*points][-1], points["hidden=64,epochs=5"].training.epochs
        ('hidden=64-64,epochs=10', 5)
    """
    if not recipe.grid:
        return {}
    return {name: _point(recipe, values) for name, values in list_points(recipe.grid).items()}


def _point(recipe: Recipe, values: Mapping[str, object]) -> Recipe:
    content = recipe.model_dump()
    del content["grid"]
    short = short_keys(recipe.grid)
    words = ", ".join(f"{short[key].replace('_', ' ')} {value}" for key, value in values.items())
    content["question"] = f"{recipe.question} ({words})"
    for key, value in values.items():
        put_setting(content, key, value)
    return parse_recipe(content, where=f"recipe {recipe.name}, at {words}")


def check_size(recipe: Recipe, *, yes: bool = False) -> None:
    """Refuse a comparison of more runs than ``MOST_RUNS`` unless ``yes`` says that it is meant; no point is built.

    Raises:
        ValueError: it is that large.
    """
    if yes:
        return
    n_units = math.prod(len(values) for key, values in recipe.grid.items() if key not in ("seeds", "folds"))
    seeds = recipe.grid.get("seeds", [recipe.seeds])
    n_units *= sum(seed if isinstance(seed, int) else len(seed) for seed in seeds)
    n_units *= sum(fold or 1 for fold in recipe.grid.get("folds", [recipe.folds]))
    least = n_units * len(expand_sweeps(recipe.arms))
    if least <= MOST_RUNS:  # then the controls are worth a look, which draws wirings
        first = _point(recipe, {key: values[0] for key, values in recipe.grid.items()}) if recipe.grid else recipe
        least = n_units * len(expand_arms(first))
        if least <= MOST_RUNS:
            return
        count = f"about {least:,}"
    else:
        count = f"{least:,} and more with their controls"
    raise ValueError(
        f"compare: more than {MOST_RUNS:,} runs must be confirmed, got {count}; try --yes (yes=True), or fewer values"
    )


def place_points(recipe: Recipe, folder: Path) -> dict[Path, Recipe]:
    """Return the comparisons that a recipe asks for, by their folders: one for each point of its grid, or itself.

    Raises:
        RecipeError: a point does not make sense, or the folder holds a comparison where a grid is to be, or a grid
            where a comparison is.
    """
    if recipe.grid and (folder / "comparison.yaml").exists():
        raise RecipeError(f"compare: {folder} must be a grid's, got one of a comparison without; try another folder")
    if not recipe.grid:
        if is_grid(folder):
            raise RecipeError(f"compare: {folder} must be a comparison's, got one of a grid; try another folder")
        return {folder: recipe}
    return {folder / name: point for name, point in expand_grid(recipe).items()}


def write_recipes(recipe: Recipe, folder: Path, places: Mapping[Path, Recipe]) -> None:
    """Write a recipe, and those of the points of its grid, to the folders of :func:`place_points`."""
    for place, point in places.items():
        place.mkdir(parents=True, exist_ok=True)
        _write(place / "comparison.yaml", point)
    if recipe.grid:
        _write(folder / "grid.yaml", recipe)


def is_grid(folder: Path) -> bool:
    """Say whether a folder is that of a comparison with a grid."""
    return (folder / "grid.yaml").is_file()


def load_grid(folder: Path) -> tuple[Recipe, dict[str, Recipe]]:
    """Return the recipe of a grid's folder, and those of its points by their names, which are those of sub-folders.

    Raises:
        ValueError: the folder is not that of a grid, or ``grid.yaml`` is damaged.
    """
    recipe = load_recipe(folder / "grid.yaml")
    return recipe, expand_grid(recipe)


def _write(path: Path, recipe: Recipe) -> None:
    write_whole(path, yaml.safe_dump(recipe.model_dump(), sort_keys=False, allow_unicode=True))
