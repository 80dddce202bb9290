"""Many runs: arms × seeds with their controls, statistics and a report."""

from neuropil.compare.arms import Arm, expand_arms, run_recipe
from neuropil.compare.comparison import compare
from neuropil.compare.execute import execute
from neuropil.compare.parallel import Task, do_tasks
from neuropil.compare.recipe import Recipe, RecipeError, bundled_recipes, load_recipe

__all__ = [
    "Arm",
    "Recipe",
    "RecipeError",
    "Task",
    "bundled_recipes",
    "compare",
    "do_tasks",
    "execute",
    "expand_arms",
    "load_recipe",
    "run_recipe",
]
