"""The command that runs published claims again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from neuropil.cli.runs import DataRoot, Device, RunsProgress, Threads

if TYPE_CHECKING:
    from neuropil.compare.reproduce import Claim, Judgement, Rows

_COLOURS = {"holds": "green", "does not hold": "red", "cannot be judged": "yellow"}


def reproduce(
    name: Annotated[str | None, typer.Argument(help="Name of a claim, see --list.", show_default=False)] = None,
    recorded: Annotated[
        Path | None,
        typer.Option("--from", help="Judge runs that were recorded before: a results.csv, as results/digits.csv."),
    ] = None,
    list_claims: Annotated[
        bool, typer.Option("--list", help="Show all claims: time on two cores, data, last verdict.")
    ] = False,
    page: Annotated[bool, typer.Option("--page", help="Write docs/reproductions.md from the latest outcomes.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to keep the runs in.", show_default="runs/reproduce/NAME")
    ] = None,
    data: DataRoot = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="cores / threads")] = None,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """Run a published claim's smallest honest check, and say whether it holds, does not, or cannot be judged.

    The outcome becomes a row of results/reproductions.csv. Interrupt it whenever you like and give the same command
    again: done runs are never repeated.
    """
    from neuropil.compare.reproduce import find_claim, judge, make_row, root_folder, write_record

    console = Console()
    if sum([name is not None, list_claims, page]) != 1:
        raise ValueError("reproduce: one of NAME, --list and --page must be given; try neuropil reproduce --list")
    root = root_folder()
    table = root / "results" / "reproductions.csv"
    if list_claims:
        _list(table, console)
    if page:
        _write_page(root, table, console)
    if name is None:
        return
    claim = find_claim(name)
    if recorded is None:
        rows, made_from = _run(claim, out, data, jobs, threads, device, console), "runs"
    else:
        rows, made_from = _read(claim, recorded, root)
    judgement = judge(claim, rows)
    _show(judgement, console)
    write_record(table, make_row(judgement, rows, made_from))
    console.print(escape(f"written: {table}"), style="dim", soft_wrap=True, highlight=False)


def _run(
    claim: "Claim",
    out: Path | None,
    data: Path | None,
    jobs: int | None,
    threads: int,
    device: str,
    console: Console,
) -> "Rows":
    """Do what is not done yet of a claim's check."""
    from neuropil.compare import compare, write_report
    from neuropil.compare.reproduce import rows_of_folder

    recipe = claim.comparison()
    folder = out or Path("runs") / "reproduce" / claim.name
    console.print(
        escape(f"{claim.name}: {recipe.data.name}, about {claim.minutes:g} minutes on two cores"),
        style="dim", soft_wrap=True, highlight=False,
    )  # fmt: skip
    with RunsProgress(console) as progress:
        tasks = compare(
            recipe, folder, jobs=jobs, threads=threads, data_root=data, show_download=console.is_terminal,
            device=device, on_progress=progress.update,
        )  # fmt: skip
    for task in tasks:
        if task.state == "failed":
            console.print(escape(f"failed {task.folder}: {task.failure}"), style="red", soft_wrap=True, highlight=False)
    console.print(escape(f"report: {write_report(folder)}"), style="dim", soft_wrap=True, highlight=False)
    return rows_of_folder(folder, claim)


def _read(claim: "Claim", path: Path, root: Path) -> "tuple[Rows, str]":
    """Return runs that were recorded, and the name of their file, seen from the source tree if it lies there."""
    from neuropil.compare.reproduce import read_rows

    inside = path.resolve().is_relative_to(root.resolve())
    return read_rows(path, claim), (path.resolve().relative_to(root.resolve()).as_posix() if inside else path.name)


def _show(judgement: "Judgement", console: Console) -> None:
    from neuropil.compare.reproduce.record import describe_findings, group_findings

    claim = judgement.claim
    console.print(f"[bold]{claim.name}[/]: [bold {_COLOURS[judgement.verdict]}]{judgement.verdict}[/]", highlight=False)
    console.print(escape(claim.claim), highlight=False)
    console.print(escape(claim.source), style="dim", highlight=False)
    table = Table("measured", "", "published", box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[0].overflow = "fold"
    for quantity, found in group_findings(judgement.findings).items():
        table.add_row(escape(quantity), escape(describe_findings(found)), escape(found[0].published or "–"))
    console.print(table, highlight=False)
    if claim.note:
        console.print(escape(claim.note), highlight=False)


def _list(path: Path, console: Console) -> None:
    from neuropil.compare.reproduce import all_claims, read_record

    rows = read_record(path)
    table = Table("claim", "minutes", "data", "last verdict", box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[1].justify = "right"
    for claim in all_claims().values():
        verdict = rows[claim.name]["verdict"] if claim.name in rows else ""
        said = f"[{_COLOURS[verdict]}]{verdict}[/]" if verdict in _COLOURS else "–"
        table.add_row(claim.name, f"{claim.minutes:g}", claim.data_name(), said)
    console.print(table, highlight=False)
    console.print("minutes: about, on two cores; run one: neuropil reproduce NAME", style="dim", highlight=False)


def _write_page(root: Path, table: Path, console: Console) -> None:
    from neuropil.compare.reproduce import read_record, render_page

    rows = read_record(table)
    if not rows:
        raise ValueError(f"reproduce: --page needs outcomes in {table}, got none; try neuropil reproduce NAME first")
    path = root / "docs" / "reproductions.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(rows), encoding="utf-8")
    console.print(escape(f"written: {path}"), soft_wrap=True, highlight=False)
