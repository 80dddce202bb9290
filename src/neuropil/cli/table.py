"""The table of a comparison, laid out for a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from neuropil.compare import Results

_WIDE = 160  # from this many characters on, cost and differences stand side by side
_N_DIFFERENCES = 3
_ONLY_WHERE_WIDE = "multiply-accumulates"


def print_results(results: "Results", console: Console) -> None:
    """Print what each arm costs and reaches, its differences to its twins, and what they allow one to say."""
    from neuropil.compare import findings, table_rows

    header, rows = table_rows(results)
    controls = [arm.arm.is_control for arm in results.arms.values()]
    split = len(header) - _N_DIFFERENCES
    everything = list(range(len(header)))
    narrow = [i for i in everything[:split] if not header[i].startswith(_ONLY_WHERE_WIDE)]
    parts = [everything] if console.width >= _WIDE else [narrow, [0, *everything[split:]]]
    for columns in parts:
        _print_table([header[i] for i in columns], [[row[i] for i in columns] for row in rows], controls, console)
    for finding in findings(results):
        console.print(f"[bold]{escape(finding.arm)}[/]: {escape(finding.summary)}", highlight=False)


def _print_table(header: list[str], rows: list[list[str]], controls: list[bool], console: Console) -> None:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for i, title in enumerate(header):
        breakable = title.startswith(("seconds", "peak"))
        table.add_column(title.replace(", ", ",\n"), justify="left" if i == 0 else "right", no_wrap=not breakable)
    for row, control in zip(rows, controls, strict=True):
        empty = all(cell in ("", "–") for cell in row[1:])
        if not empty:
            # the first line of a cell: the second one explains or gives a range, which the report has room for
            cells = [row[0].partition("\n")[0], *(cell if "[" in cell else cell.partition("\n")[0] for cell in row[1:])]
            table.add_row(*(escape(cell) for cell in cells), style="dim" if control else None)
    console.print(table)
    console.print()
