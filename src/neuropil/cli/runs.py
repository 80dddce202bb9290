"""Commands that run something, and the report of what was run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from neuropil.cli.table import print_results

if TYPE_CHECKING:
    from neuropil.compare import Following, Task

RecipeArgument = Annotated[
    str, typer.Argument(help="Name of a bundled recipe (see: neuropil list recipes), or a YAML file.")
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings to replace, such as epochs=5, seeds=3 or arms.mixer.p_inter=0.1.", show_default=False
    ),
]
Out = Annotated[
    str | None, typer.Option(help="Folder to keep it in, or its URL, as s3://bucket/runs.", show_default="runs/RECIPE")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="NEUROPIL_DATA", help="Folder of data sets; default: a cache folder, filled by download."
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each run.")]
On = Annotated[
    str,
    typer.Option(
        help="Which processes do it: local, those of this machine; ray, of a Ray cluster that it belongs to, or of one "
        "made for the occasion; ray://HOST:PORT, of another cluster, with folders on a path that all machines share."
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        help="Follow the runs in tensorboard or mlflow (MLFLOW_TRACKING_URI, or a folder).",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda or cuda:N. Runs at a time share a GPU.")]


def compare(
    recipe: RecipeArgument,
    settings: Settings = None,
    out: Out = None,
    data: DataRoot = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="cores / threads")] = None,
    threads: Threads = 1,
    device: Device = "cpu",
    on: On = "local",
    runs_per_gpu: Annotated[int, typer.Option(min=1, help="With Ray and cuda, runs that share a GPU.")] = 1,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Keep the trained weights of every run.")
    ] = False,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of comparisons: a run that one of them has done is taken over.",
            show_default="the folder that OUT lies in",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="More than 10,000 runs are meant.")] = False,
    track: Track = None,
) -> None:
    """Compare networks: arms × seeds, with the controls that each sparse arm needs; then a table and a report.

    A list where a setting wants one value, such as epochs=[5,10], makes a grid: a comparison at each of them.

    Done runs are never repeated, and half-done ones go on: interrupt it whenever you like and give the same
    command again.
    """
    from neuropil.compare import Following, load_recipe
    from neuropil.compare import compare as compare_
    from neuropil.compare.torchrun import n_processes
    from neuropil.train import working_copy

    if n_processes() > 1:
        raise ValueError("compare must start its runs itself, got torchrun; try torchrun with neuropil run, or --jobs")
    chosen = load_recipe(recipe, settings or ())
    console = Console()
    with (
        working_copy(out or Path("runs") / chosen.name) as folder,
        Following(track or (), folder) as following,
        RunsProgress(console, following) as progress,
    ):
        tasks = compare_(
            chosen,
            folder,
            jobs=jobs,
            threads=threads,
            data_root=data,
            keep_checkpoints=keep_checkpoints,
            show_download=console.is_terminal,
            device=device,
            on=on,
            runs_per_gpu=runs_per_gpu,
            on_progress=progress.update,
            root=root,
            yes=yes,
        )
        following.update(tasks)
        progress.stop()
        _show_results(folder, console)
    failed = [task for task in tasks if task.state == "failed"]
    for task in failed:
        console.print(
            escape(f"failed {_named(task.folder)}: {task.failure}"), style="red", soft_wrap=True, highlight=False
        )
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
    device: Device = "cpu",
    on: On = "local",
    track: Track = None,
) -> None:
    """Do one run of a recipe: one arm, one seed (all of its folds, where the recipe has folds); or go on with it where
    it was interrupted. Keeps its weights.

    Under ``torchrun --nproc-per-node N -m neuropil run …`` N processes do it together, each on its share of every
    batch, and with ``--device cuda`` each on a GPU of its own.
    """
    from neuropil.compare import Following, do_tasks, expand_arms, load_recipe
    from neuropil.compare.arms import run_folder
    from neuropil.compare.comparison import list_tasks
    from neuropil.compare.registry import nearest
    from neuropil.compare.torchrun import do_together, is_lead, n_processes
    from neuropil.train import working_copy

    chosen = load_recipe(recipe, settings or ())
    if chosen.grid:
        key, values = next(iter(chosen.grid.items()))
        raise ValueError(f"run: {key} must be one value, got a grid of {len(values)}; try neuropil compare")
    arms = {found.name: found for found in expand_arms(chosen)}
    name = arm or next(found.name for found in arms.values() if not found.is_control)
    if name not in arms:
        raise ValueError(f"--arm must be one of {', '.join(arms)}, got {name!r}{nearest(name, [*arms])}")
    console = Console()
    given: dict[str, Any] = {
        "threads": threads, "data_root": data, "show_download": console.is_terminal, "device": device
    }  # fmt: skip
    kept = out or Path("runs") / chosen.name
    with (
        # none but the lead touches it
        working_copy(kept if is_lead() else "runs", below=run_folder(Path(), name, seed).as_posix()) as root,
        Following((track or ()) if is_lead() else (), root) as following,
        RunsProgress(console, following, is_shown=is_lead()) as progress,
    ):
        tasks = list_tasks(chosen, [arms[name]], [seed], root)
        if n_processes() > 1:
            do_together(tasks, on_progress=progress.update, **given)
        else:
            do_tasks(tasks, jobs=1, keep_checkpoints=True, on=on, on_progress=progress.update, **given)
        following.update(tasks)
    if not is_lead():
        return
    summaries = []
    for task in tasks:
        if task.failure is not None or task.summary is None:
            raise ValueError(f"{_named(task.folder)}: {task.failure}")
        fold = "" if chosen.folds is None else f", fold {task.recipe['data']['fold']}"
        if task.summary["status"] == "diverged":
            epochs = task.summary["epochs"]
            console.print(f"{name}, seed {seed}{fold}: the loss diverged after {epochs} epochs", highlight=False)
            raise typer.Exit(1)
        summaries.append(task.summary)
    accuracy = "test accuracy" if chosen.folds is None else f"accuracy on {chosen.folds} held-out folds"
    console.print(
        f"{name}, seed {seed}: {accuracy} {_mean_and_spread(summaries)} after {summaries[0]['epochs']} epochs, "
        f"{summaries[0]['parameters']:,} parameters, {_mean(summaries, 'seconds_per_epoch'):.2f} s an epoch"
        f"{_firing(summaries)}",
        highlight=False,
    )
    folder = run_folder(root, name, seed)
    console.print(escape(f"run folder: {_named(folder)}"), soft_wrap=True, highlight=False)


def _named(path: Path) -> str:
    """Return where something lies: its URL, of what was worked on in a copy of a remote folder."""
    from neuropil.train.remote import remote_of

    return remote_of(path) or str(path)


def _mean_and_spread(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Write the accuracy of one run, or the mean of folds ± their population standard deviation, in per cent."""
    from neuropil.compare.statistics import population_deviation

    mean = f"{100 * _mean(summaries, 'test_accuracy'):.2f}"
    if len(summaries) == 1:
        return f"{mean} %"
    return f"{mean} ± {100 * population_deviation([summary['test_accuracy'] for summary in summaries]):.2f} %"


def _firing(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Say how often hidden neurons fire; nothing where they do not spike, or where the run is too old to tell."""
    from neuropil.compare.sentences import percent

    if not all("hidden_firing_rate" in summary for summary in summaries):
        return ""
    return f", hidden neurons fire in {percent(_mean(summaries, 'hidden_firing_rate'))} of time steps"


def _mean(summaries: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [float(summary[key]) for summary in summaries]
    return sum(values) / len(values)


def report(
    folder: Annotated[str, typer.Argument(help="Folder of a comparison, as runs/digits, or its URL.")],
) -> None:
    """Make table, CSV and report of a comparison again from its run folders, finished or not."""
    from neuropil.train import working_copy

    with working_copy(folder, checkpoints="none") as here:
        _show_results(here, Console())


def _show_results(folder: Path, console: Console) -> None:
    from neuropil.compare import load_results, write_arms_csv, write_csv, write_report
    from neuropil.compare.grid import is_grid

    if is_grid(folder):
        _show_grid(folder, console)
        return
    results = load_results(folder)
    print_results(results, console)
    write_csv(results, folder / "results.csv")
    write_arms_csv(results, folder / "arms.csv")
    written = write_report(folder)
    console.print(escape(f"report: {_named(written)}"), soft_wrap=True, highlight=False)


def _show_grid(folder: Path, console: Console) -> None:
    """Print the accuracy of all arms at all points of a grid, and write overview, tables and reports."""
    from neuropil.cli.table import print_table
    from neuropil.compare import load_results, write_overview
    from neuropil.compare.grid import load_grid
    from neuropil.compare.overview import overview_tables

    grid, points = load_grid(folder)
    first, *_ = overview_tables(grid, {name: load_results(folder / name) for name in points})
    print_table(first.header, first.rows, console)
    written = write_overview(folder)
    console.print(escape(f"report: {written}"), soft_wrap=True, highlight=False)


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """The user has interrupted a command whose work is kept."""


class RunsProgress:
    """A bar over all epochs of all runs, or all trials, silent where nobody watches; and what else follows them."""

    def __init__(self, console: Console, following: "Following | None" = None, *, is_shown: bool = True) -> None:
        self._following = following
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (is_shown and console.is_terminal),
        )
        self._task = self._bar.add_task("starting", total=None, unit="epochs")

    def __enter__(self) -> "RunsProgress":
        self._bar.start()
        return self

    def stop(self) -> None:
        """Take the bar down as it is."""
        self._bar.stop()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt:
            raise Interrupted("interrupted; the same command goes on where this one stopped")

    def update_trials(self, arm: str, done: int, total: int) -> None:
        """Show how many trials of a search have ended."""
        self._bar.update(self._task, description=f"last of {arm}", completed=done, total=total, unit="trials")

    def update(self, tasks: "Sequence[Task]") -> None:
        """Show how far all runs are."""
        if self._following is not None:
            self._following.update(tasks)
        done = sum(task.state == "done" for task in tasks)
        self._bar.update(
            self._task,
            description=f"{done} of {len(tasks)} runs",
            unit="epochs",
            completed=sum(task.epochs_done for task in tasks),
            total=sum(task.recipe["training"]["epochs"] for task in tasks),
        )
