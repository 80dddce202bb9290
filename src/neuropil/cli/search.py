"""The command that tunes settings of each arm before it compares the arms."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from neuropil.cli.runs import DataRoot, Device, RecipeArgument, RunsProgress, Settings, Threads
from neuropil.cli.table import print_results, print_table


def search(
    recipe: RecipeArgument,
    settings: Settings = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="Setting of an arm to tune: training.learning_rate=0.0001..0.1:log, or start.alpha=[1,1.25]; "
            "repeat it for more. Bounds without a point: whole numbers."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each arm.")] = 20,
    arms: Annotated[
        list[str] | None, typer.Option(help="An arm to tune; repeat it for more.", show_default="all")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each trial.", show_default="those of the recipe")
    ] = None,
    pruner: Annotated[str, typer.Option(help="How trials that fall behind are stopped: median, halving, none.")] = (
        "median"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the values that are tried.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to keep it in.", show_default="runs/RECIPE-search")] = None,
    data: DataRoot = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time in the comparison.", show_default="cores / threads")
    ] = None,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """Tune settings of each arm on the validation split, with the same trials for all; then compare them on the test
    set.

    The same command given twice, at the same time, shares the work; given again, it goes on where it was interrupted.
    """
    from neuropil.compare import load_recipe, load_results
    from neuropil.compare import search as search_
    from neuropil.compare.registry import nearest
    from neuropil.compare.search_report import search_table

    pruners = ("median", "halving", "none")
    if pruner not in pruners:
        raise ValueError(f"--pruner must be one of {', '.join(pruners)}, got {pruner!r}{nearest(pruner, pruners)}")
    chosen = load_recipe(recipe, settings or ())
    folder = out or Path("runs") / f"{chosen.name}-search"
    console = Console()
    with RunsProgress(console) as progress:
        result = search_(
            chosen,
            folder,
            dict(_read_choice(text) for text in tune or ()),
            trials=trials,
            arms=arms,
            epochs=epochs,
            seed=seed,
            pruner=pruner,  # type: ignore[arg-type]
            jobs=jobs,
            threads=threads,
            data_root=data,
            show_download=console.is_terminal,
            device=device,
            on_trial=progress.update_trials,
            on_progress=progress.update,
        )
    table = search_table(result.arms)
    print_table(table.header, table.rows, console)
    print_results(load_results(folder / "tuned"), console)
    console.print(escape(f"report: {folder / 'report.html'}"), soft_wrap=True, highlight=False)
    failed = [task for task in result.tasks if task.state == "failed"]
    for task in failed:
        console.print(escape(f"failed {task.folder}: {task.failure}"), style="red", soft_wrap=True, highlight=False)
    if failed:
        raise typer.Exit(1)


def _read_choice(text: str) -> tuple[str, object]:
    """Split what --tune says into a setting and its choice."""
    key, equals, choice = text.partition("=")
    if not key or not equals:
        raise ValueError(f"--tune must be SETTING=CHOICE, got {text!r}; try training.learning_rate=0.0001..0.1:log")
    try:
        return key, yaml.safe_load(choice)
    except yaml.YAMLError as error:
        raise ValueError(f"--tune {key}: the choice must be YAML, got {choice!r}; try [0.001, 0.01]") from error
