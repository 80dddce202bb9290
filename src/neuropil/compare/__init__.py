"""Many runs: arms × seeds with their controls, statistics and a report."""

from neuropil.compare.arms import Arm, expand_arms, run_recipe
from neuropil.compare.arms_csv import write_arms_csv
from neuropil.compare.comparison import compare
from neuropil.compare.execute import execute
from neuropil.compare.following import Following
from neuropil.compare.grid import expand_grid
from neuropil.compare.identity import run_identity
from neuropil.compare.overview import write_overview
from neuropil.compare.parallel import Task, do_tasks
from neuropil.compare.recipe import Recipe, RecipeError, bundled_recipes, load_recipe
from neuropil.compare.report import write_report
from neuropil.compare.results import Results, load_results, write_csv
from neuropil.compare.search import SearchResult, search
from neuropil.compare.sentences import findings
from neuropil.compare.store import RunTable, find_runs, read_runs, results_frame
from neuropil.compare.table import table_rows

__all__ = [
    "Arm",
    "Following",
    "Recipe",
    "RecipeError",
    "Results",
    "RunTable",
    "SearchResult",
    "Task",
    "bundled_recipes",
    "compare",
    "do_tasks",
    "execute",
    "expand_arms",
    "expand_grid",
    "find_runs",
    "findings",
    "load_recipe",
    "load_results",
    "read_runs",
    "results_frame",
    "run_identity",
    "run_recipe",
    "search",
    "table_rows",
    "write_arms_csv",
    "write_csv",
    "write_overview",
    "write_report",
]
