"""The command that asks whether it is really faster."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from neuropil.cli.runs import Interrupted

if TYPE_CHECKING:
    from neuropil.bench import Settings
    from neuropil.bench.records import Records, Row


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            help="layers, networks, events, rewiring, neurons, scale, measures, rules; default: all of them.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes and few rounds: under a minute.")] = False,
    size: Annotated[str | None, typer.Option(help="Neurons of a layer, as 1024,2048.")] = None,
    batch: Annotated[str | None, typer.Option(help="Samples at a time, as 256.")] = None,
    density: Annotated[str | None, typer.Option(help="Shares of connections, as 0.25,0.1,0.01 (layers).")] = None,
    block: Annotated[str | None, typer.Option(help="Blocks, as 1x1,groupx1,64x64.")] = None,
    kernel: Annotated[str | None, typer.Option(help="Kernels, as blocks,events.", show_default="all")] = None,
    precision: Annotated[str, typer.Option(help="float32, float64, bfloat16, tf32, or several of them.")] = "float32",
    steps: Annotated[int | None, typer.Option(help="Time steps of what spikes.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds that are counted.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the processor.", show_default="all that may be used")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tables and pictures.", show_default="benchmarks/results in the source tree, else bench"
        ),
    ] = None,
) -> None:
    """Is it really faster? Time layers, networks, events, rewiring, neurons, sheer size, measures and rules.

    All contestants of a table take turns in one process; ratios are taken round by round. With --quick, results go to
    the folder bench.
    """
    from neuropil.bench import default_folder, make_settings, new_records
    from neuropil.bench.present import machine_line
    from neuropil.bench.run import prepare
    from neuropil.bench.suites import SUITES

    settings = make_settings(
        device=device, threads=threads, size=size, batch=batch, precision=precision, density=density, block=block,
        kernel=kernel, steps=steps, rounds=rounds, quick=quick,
    )  # fmt: skip
    folder = out or default_folder(settings)
    prepare(settings)
    all_records = {name: new_records(name, settings, folder) for name in suites or SUITES}
    console = Console()
    console.print(machine_line(next(iter(all_records.values())).machine), style="dim", highlight=False)
    written: list[Path] = []
    for name, records in all_records.items():
        try:
            written += _run(name, settings, records, console)
        except KeyboardInterrupt:
            kept = f"; what was measured of {name} is in {records.partial}" if records.rows else ""
            raise Interrupted(f"interrupted{kept}") from None
        finally:
            _show(name, records.rows, console)
    console.print("\nwritten: " + ", ".join(map(str, written)), style="dim", highlight=False)


def _run(name: str, settings: "Settings", records: "Records", console: Console) -> list[Path]:
    """Run a suite, and say how far it is where somebody watches."""
    from neuropil.bench import run_suite

    with console.status(f"{name} …") as status:
        return run_suite(name, settings, records, on_rows=lambda _: status.update(f"{name}: {len(records.rows)} rows"))


def _show(name: str, rows: "Sequence[Row]", console: Console) -> None:
    """Print the machine, and the tables of what was measured on it."""
    from neuropil.bench.present import SHOW

    for part in SHOW[name](rows):
        console.print(part, highlight=False)
