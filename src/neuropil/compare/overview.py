"""Pages and tables above several comparisons: that of a grid, with links to the reports of its points."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from neuropil.compare.grid import load_grid
from neuropil.compare.grid_axes import list_points, short_keys
from neuropil.compare.recipe import Recipe
from neuropil.compare.report import describe_progress, write_report
from neuropil.compare.results import COLUMNS, ArmResult, Results, load_results, write_csv
from neuropil.compare.table import NONE, accuracy_text, difference_text
from neuropil.train.whole_files import write_whole


@dataclass(frozen=True)
class OverviewTable:
    """A table of an overview.

    Attributes:
        title: its heading.
        header: of the columns.
        rows: of text, as many cells as the header has; a second line of a cell explains.
        links: where the first cell of each row leads to; empty for nowhere.
        note: what there is to say of it.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    links: Sequence[str] = ()
    note: str = ""


def write_overview(folder: str | os.PathLike[str]) -> Path:
    """Write the report and table of each point of a grid, and an overview of all: ``report.html``, ``results.csv``.

    The table of the whole has the columns of :func:`neuropil.compare.write_csv`, after one for each setting of the
    grid.

    Args:
        folder: what :func:`neuropil.compare.compare` has written for a recipe with a grid, finished or not.

    Returns:
        The path of the overview's report.

    Raises:
        ValueError: the folder is not that of a grid.
    """
    folder = Path(folder)
    recipe, points = load_grid(folder)
    results = {name: load_results(folder / name) for name in points}
    for name, found in results.items():
        write_csv(found, folder / name / "results.csv")
        write_report(folder / name)
    _write_csv(recipe, folder)
    tables = overview_tables(recipe, results)
    n_runs = sum(len(found.runs) for found in results.values())
    done = sum(run.state == "done" for found in results.values() for run in found.runs)
    axes = "; ".join(f"{key} = {', '.join(map(str, values))}" for key, values in recipe.grid.items())
    paragraphs = [
        f"A grid of {len(points)} points: {axes}. Each point is a comparison of its own, with controls, statistics and "
        "a report.",
        f"{done} of {n_runs} runs are done." if done < n_runs else f"All {n_runs} runs are done.",
        "Who takes the best of many points has chosen by the test set: a choice among points needs the validation "
        "split, as tune and neuropil search use it.",
    ]
    path = folder / "report.html"
    write_page(path, f"neuropil grid · {recipe.name}", recipe.question, paragraphs, tables)
    return path


def overview_tables(recipe: Recipe, results: Mapping[str, Results]) -> list[OverviewTable]:
    """Return the tables of a grid: accuracy of all arms at all points, then each arm by itself.

    Args:
        recipe: with the grid.
        results: of each of its points, by name.
    """
    settings = {name: [str(value) for value in values.values()] for name, values in list_points(recipe.grid).items()}
    header = [key.replace("_", " ") for key in short_keys(recipe.grid).values()]
    links = [f"{name}/report.html" for name in results]
    arms = list(dict.fromkeys(name for found in results.values() for name in _own(found)))
    rows = [
        [*settings[name], *(accuracy_text(_own(found)[arm].accuracy if arm in _own(found) else None) for arm in arms),
         describe_progress(found).removesuffix(".").removeprefix("All ").removesuffix(" runs are done")]
        for name, found in results.items()
    ]  # fmt: skip
    tables = [
        OverviewTable(
            "Accuracy at each point",
            [*header, *arms, "runs"],
            rows,
            links,
            "Per cent, mean over seeds ± half of its 95 % interval; arms of the recipe, their controls in the reports "
            "that the points lead to.",
        )
    ]
    for arm in arms:
        tables.append(OverviewTable(arm, *_arm_rows(arm, header, settings, results), links))
    return tables


def _own(results: Results) -> dict[str, ArmResult]:
    """Return the arms that the recipe names, by name."""
    return {name: arm for name, arm in results.arms.items() if not arm.arm.is_control}


def _arm_rows(
    arm: str, header: Sequence[str], settings: Mapping[str, list[str]], results: Mapping[str, Results]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of one arm: what it reaches, costs and how it differs from its twins, point by point."""
    twins: dict[str, str] = {}
    for found in results.values():
        twins |= {kind: words for kind, words in found.twin_words.items() if arm in found.arms
                  and kind in found.arms[arm].differences}  # fmt: skip
    rows = []
    for name, found in results.items():
        own = found.arms.get(arm)
        differences = {} if own is None else own.differences
        rows.append(
            [
                *settings[name],
                accuracy_text(None if own is None else own.accuracy),
                *(difference_text(differences[kind].accuracy if kind in differences else None) for kind in twins),
                NONE if own is None or own.parameters is None else f"{own.parameters:,.0f}",
                NONE if own is None or own.density is None else f"{own.density:.3f}",
                NONE if own is None or own.seconds_per_epoch is None else f"{own.seconds_per_epoch.median:.3g}",
            ]
        )
    titles = ["accuracy (%)", *(f"− {words}" for words in twins.values()), "parameters", "density", "seconds an epoch"]
    return [*header, *titles], rows


def _write_csv(recipe: Recipe, folder: Path) -> None:
    """Put the tables of all points below each other, the settings of the grid before them."""
    keys = list(recipe.grid)
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*keys, *COLUMNS])
        for name, values in list_points(recipe.grid).items():
            with (folder / name / "results.csv").open(encoding="utf-8", newline="") as part:
                _, *rows = csv.reader(part)
            writer.writerows([*values.values(), *row] for row in rows)


def write_page(path: Path, kicker: str, title: str, paragraphs: Sequence[str], tables: Sequence[OverviewTable]) -> None:
    """Write a page of paragraphs and tables: one HTML file that needs no other, no network and no script."""
    import jinja2

    template = resources.files("neuropil.compare").joinpath("overview.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(template).render(kicker=kicker, title=title, paragraphs=paragraphs, tables=tables)
    write_whole(path, page)
