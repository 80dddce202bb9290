"""Commands that run something, and the report of what was run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from neuropil.cli.table import print_results

if TYPE_CHECKING:
    from neuropil.compare import Task

RecipeArgument = Annotated[
    str, typer.Argument(help="Name of a bundled recipe (see: neuropil list recipes), or a YAML file.")
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings to replace, such as epochs=5, seeds=3 or arms.mixer.p_inter=0.1.", show_default=False
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder to keep it in.", show_default="runs/RECIPE")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="NEUROPIL_DATA", help="Folder of data sets; default: a cache folder, filled by download."
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each run.")]


def compare(
    recipe: RecipeArgument,
    settings: Settings = None,
    out: Out = None,
    data: DataRoot = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="cores / threads")] = None,
    threads: Threads = 1,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Keep the trained weights of every run.")
    ] = False,
) -> None:
    """Compare networks: arms × seeds, with the controls that each sparse arm needs; then a table and a report.

    Done runs are never repeated, and half-done ones go on: interrupt it whenever you like and give the same
    command again.
    """
    from neuropil.compare import compare as compare_
    from neuropil.compare import load_recipe

    chosen = load_recipe(recipe, settings or ())
    folder = out or Path("runs") / chosen.name
    console = Console()
    with _Progress(console) as progress:
        tasks = compare_(
            chosen,
            folder,
            jobs=jobs,
            threads=threads,
            data_root=data,
            keep_checkpoints=keep_checkpoints,
            show_download=console.is_terminal,
            on_progress=progress.update,
        )
    _show_results(folder, console)
    failed = [task for task in tasks if task.state == "failed"]
    for task in failed:
        console.print(escape(f"failed {task.folder}: {task.failure}"), style="red", soft_wrap=True, highlight=False)
    if failed:
        raise typer.Exit(1)


def run(
    recipe: RecipeArgument,
    settings: Settings = None,
    arm: Annotated[
        str | None, typer.Option(help="Arm of the recipe, or one of its controls.", show_default="the first")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of wiring, weights and data order.")] = 0,
    out: Out = None,
    data: DataRoot = None,
    threads: Threads = 1,
) -> None:
    """Do one run of a recipe: one arm, one seed; or go on with it where it was interrupted. Keeps its weights."""
    from neuropil.compare import Task, do_tasks, expand_arms, load_recipe, run_recipe
    from neuropil.compare.registry import nearest

    chosen = load_recipe(recipe, settings or ())
    arms = {found.name: found for found in expand_arms(chosen)}
    name = arm or next(iter(chosen.arms))
    if name not in arms:
        raise ValueError(f"--arm must be one of {', '.join(arms)}, got {name!r}{nearest(name, [*arms])}")
    folder = (out or Path("runs") / chosen.name) / name / f"seed-{seed}"
    task = Task(run_recipe(chosen, arms[name], seed), folder)
    console = Console()
    with _Progress(console) as progress:
        do_tasks(
            [task],
            jobs=1,
            threads=threads,
            data_root=data,
            keep_checkpoints=True,
            show_download=console.is_terminal,
            on_progress=progress.update,
        )
    if task.failure is not None or task.summary is None:
        raise ValueError(f"{folder}: {task.failure}")
    summary = task.summary
    if summary["status"] == "diverged":
        console.print(f"{name}, seed {seed}: the loss diverged after {summary['epochs']} epochs", highlight=False)
        raise typer.Exit(1)
    console.print(
        f"{name}, seed {seed}: test accuracy {100 * summary['test_accuracy']:.2f} % after {summary['epochs']} epochs, "
        f"{summary['parameters']:,} parameters, {summary['seconds_per_epoch']:.2f} s an epoch",
        highlight=False,
    )
    console.print(escape(f"run folder: {folder}"), soft_wrap=True, highlight=False)


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison, as runs/digits.")],
) -> None:
    """Make table, CSV and report of a comparison again from its run folders, finished or not."""
    _show_results(folder, Console())


def _show_results(folder: Path, console: Console) -> None:
    from neuropil.compare import load_results, write_csv, write_report

    results = load_results(folder)
    print_results(results, console)
    write_csv(results, folder / "results.csv")
    written = write_report(folder)
    console.print(escape(f"report: {written}"), soft_wrap=True, highlight=False)


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """The user has interrupted a command whose work is kept."""


class _Progress:
    """A bar over all epochs of all runs; silent where nobody watches."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt:
            raise Interrupted

    def update(self, tasks: "Sequence[Task]") -> None:
        """Show how far all runs are."""
        done = sum(task.state == "done" for task in tasks)
        self._bar.update(
            self._task,
            description=f"{done} of {len(tasks)} runs",
            completed=sum(task.epochs_done for task in tasks),
            total=sum(task.recipe["training"]["epochs"] for task in tasks),
        )
