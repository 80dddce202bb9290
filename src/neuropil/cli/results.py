"""The command that shows every run below a folder as one table."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from neuropil.compare import RunTable

# shown as far as there is room for them, and where something is known
_SHOWN = (
    "comparison", "arm", "seed", "fold", "state", "epochs", "test_accuracy", "validation_accuracy", "parameters",
    "density", "seconds_per_epoch", "changed",
)  # fmt: skip
_CONSTANT = ("comparison", "data.name", "environment.commit")  # said in one line where they are the same for all
_COLOURS = {"done": "green", "running": "cyan", "unfinished": "yellow", "failed": "red", "diverged": "red"}
_MOST_REASONS = 10


def results(
    filters: Annotated[
        list[str] | None,
        typer.Argument(
            help="Which runs: arm=mixer, 'test_accuracy>=0.9', data=digits, state=failed, comparison=rewiring-*, "
            "seed=0,1,2, fold=none; all of them must hold. Those with < or > need quotes.",
            show_default=False,
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder below which the runs lie.")] = Path("runs"),
    columns: Annotated[
        str | None,
        typer.Option(help="Columns, as arm,seed,learning_rate or arm,training.*; or all.", show_default="a choice"),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="Columns to sort by, as -test_accuracy,arm; a minus: falling.", show_default=False),
    ] = None,
    csv: Annotated[
        str | None, typer.Option(help="Write them to a CSV file; - writes to the standard output.", show_default=False)
    ] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write them to a Parquet file.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows to print; 0: all.")] = 50,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every run folder again.")] = False,
) -> None:
    """Show every run below a folder as one table, whatever comparison it belongs to; write it to a file.

    A column may be called by its last part where only one ends so: learning_rate is training.learning_rate. Files get
    all columns where --columns names none. Runs may be at work meanwhile; an index in the folder makes the next call
    fast, and may be removed at any time.
    """
    from neuropil.compare import read_runs
    from neuropil.compare.store.export import print_csv, write_parquet, write_table_csv

    console = Console()
    with Console(stderr=True).status("reading run folders …") as status:

        def tell(n: int, total: int) -> None:
            status.update(f"reading run folders that are new or have changed: {n:,} of {total:,}")

        found = read_runs(root, rebuild=rebuild, on_progress=tell)
    if not found.rows and not found.problems:
        raise ValueError(f"results: the root must be a folder of runs, got {root}, which holds none; try --root FOLDER")
    chosen = found.where(*filters or ())
    if sort is not None:
        chosen = chosen.sorted_by(*_names(sort))
    kept = chosen if columns is None else chosen.select(*_names(columns))
    written = [] if parquet is None else [write_parquet(kept, parquet)]
    if csv == "-":
        print_csv(kept, sys.stdout)
        console = Console(stderr=True)
    else:
        written += [] if csv is None else [write_table_csv(kept, csv)]
        _print(kept, len(found.rows), console, chosen=columns is not None, limit=limit)
    for problem in found.problems:
        what = f"{problem.path or '.'}: {problem.reason}"
        console.print(escape(what), style="yellow", soft_wrap=True, highlight=False)
    if written:
        console.print("written: " + escape(", ".join(map(str, written))), style="dim", soft_wrap=True, highlight=False)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _print(table: "RunTable", n_all: int, console: Console, *, chosen: bool, limit: int) -> None:
    """Print how many runs there are, their table, and why some of them failed."""
    rows = table.rows
    n = f"{len(rows):,}" if len(rows) == n_all else f"{len(rows):,} of {n_all:,}"
    states = Counter(str(row["state"]) for row in rows)
    told = ", ".join(f"[{_COLOURS[state]}]{states[state]:,} {state}[/]" for state in _COLOURS if states[state])
    console.print(f"[bold]{n} runs[/] below {escape(str(table.root))}" + (f": {told}" if told else ""), highlight=False)
    if not rows:
        return
    shown = [*table.columns]
    if not chosen:
        same = {
            name: rows[0].get(name)
            for name in _CONSTANT
            if rows[0].get(name) is not None and all(row.get(name) == rows[0].get(name) for row in rows)
        }
        if same:
            said = ", ".join(f"{name} {value}" for name, value in same.items())
            console.print(f"all of them: {escape(said)}", style="dim", highlight=False)
        shown = [name for name in _SHOWN if name not in same and any(row.get(name) is not None for row in rows)]
    visible = rows[: limit or None]
    drawn = _table(visible, shown)
    unlimited = console.options.update(width=10_000)
    while not chosen and len(shown) > 1 and console.measure(drawn, options=unlimited).maximum > console.width:
        shown = shown[:-1]
        drawn = _table(visible, shown)
    console.print()
    console.print(drawn)
    if len(visible) < len(rows):
        more = f"… and {len(rows) - len(visible):,} more; --limit 0 prints all, --csv FILE keeps all"
        console.print(more, style="dim", highlight=False)
    reasons = Counter(f"{row['state']}: {row['reason']}" for row in rows if row.get("reason") is not None)
    for reason, times in reasons.most_common(_MOST_REASONS):
        console.print(
            escape(f"{reason} ({times:,} run{'' if times == 1 else 's'})"),
            style="red", soft_wrap=True, highlight=False,
        )  # fmt: skip


def _table(rows: Sequence["dict[str, int | float | bool | str | None]"], columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in columns:
        numbers = all(isinstance(row.get(name), int | float | None) for row in rows)
        # broken where a name may be: it stays what a filter calls it
        table.add_column(
            escape(name.replace("_", "_\n").replace(".", ".\n")),
            justify="right" if numbers else "left",
            overflow="fold",
            vertical="bottom",
        )
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in columns))
    return table


def _cell(name: str, value: int | float | bool | str | None) -> str:
    if value is None:
        return ""
    if name == "state":
        return f"[{_COLOURS.get(str(value), 'default')}]{value}[/]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value))
