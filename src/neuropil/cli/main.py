"""Entry point of the command: what a user got wrong is told in one sentence, never as a traceback."""

import logging
import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from neuropil import __version__
from neuropil.cli import bench, browse, reproduce, results, runs
from neuropil.cli.search import search

app = typer.Typer(
    help="Does a biological principle help, at equal parameters and equal compute, over several seeds, "
    "and is it really faster?\n\nStart with: neuropil compare digits",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("compare")(runs.compare)
app.command("run")(runs.run)
app.command("search")(search)
app.command("report")(runs.report)
app.command("results")(results.results)
app.command("list")(browse.list_)
app.command("show")(browse.show)
app.command("bench")(bench.bench)
app.command("reproduce")(reproduce.reproduce)
data_app = typer.Typer(help="Look after the data sets.", no_args_is_help=True)
data_app.command("check")(browse.check_data)
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"neuropil {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
    ),
) -> None:
    pass


def main() -> None:
    """Run the command; exit status 2 and one sentence for a user's mistake, 130 when interrupted."""
    logging.basicConfig(format="neuropil: %(message)s", level=logging.WARNING)
    try:
        app()
    except ValueError as error:
        if _follows() and not _is_alone(error):
            sys.exit(2)  # the lead says it
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}", 2)
    except runs.Interrupted as stop:
        _fail(str(stop), 130)


def _follows() -> bool:
    """Say whether this is one of the processes of ``torchrun``, and not the first."""
    return "LOCAL_RANK" in os.environ and os.environ.get("RANK", "0") != "0"


def _is_alone(error: ValueError) -> bool:
    from neuropil.train import RankLostError

    return isinstance(error, RankLostError)


def _fail(message: str, status: int) -> None:
    Console(stderr=True).print(f"[bold red]neuropil:[/] {escape(message)}", soft_wrap=True, highlight=False)
    sys.exit(status)
