"""The table of a comparison, laid out for a terminal."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from neuropil.compare import Results

_WIDE = 160  # from this many characters on, cost and three differences stand side by side
_DIFFERENCE_WIDTH = 18  # of each one more
_ACTIVITY_WIDTH = 20  # of its columns, which take the place of multiply-accumulates
_ONLY_WHERE_WIDE = "multiply-accumulates"


def print_results(results: "Results", console: Console) -> None:
    """Print what each arm costs and reaches, its differences to its twins, and what they allow one to say."""
    from neuropil.compare import findings, table_rows
    from neuropil.compare.activity_words import describe_silence
    from neuropil.compare.table import ACTIVITY, DIFFERENCE, difference_note, table_note
    from neuropil.compare.tuned import N_OWN, tuned_table

    header, rows = table_rows(results)
    controls = [arm.arm.is_control for arm in results.arms.values()]

    def table(columns: list[int]) -> Table:
        return _table([header[i] for i in columns], [[row[i] for i in columns] for row in rows], controls)

    unlimited = console.options.update(width=10_000)
    differences = [i for i, title in enumerate(header) if title.startswith(DIFFERENCE)]
    activity = [i for i, title in enumerate(header) if title.startswith(ACTIVITY)]
    if console.width >= _WIDE + _DIFFERENCE_WIDTH * (len(differences) - 3) + (_ACTIVITY_WIDTH if activity else 0):
        tables = [table([*range(len(header))])]
    else:
        cost = [i for i, title in enumerate(header) if i not in differences and not title.startswith(_ONLY_WHERE_WIDE)]
        tables = [table(cost)]
        if activity and console.measure(tables[0], options=unlimited).maximum > console.width:
            tables = [table([i for i in cost if i not in activity]), table([0, *activity])]
        elif console.measure(tables[0], options=unlimited).minimum > console.width:
            tables = _in_parts(cost[1:], table, console)
        tables += _in_parts(differences, table, console)
    for part in tables:
        console.print(part)
        console.print()
    for note in (table_note(results) if results.recipe.folds is not None else None, difference_note(results)):
        if note is not None:
            console.print(note, style="dim", highlight=False)
            console.print()
    tuned_header, tuned_rows = tuned_table(results)

    def tuned(columns: list[int]) -> Table:
        chosen = [[row[i] for i in columns] for row in tuned_rows]
        return _table([tuned_header[i] for i in columns], chosen, [False] * len(chosen))

    for columns in ([*range(1, N_OWN)], [*range(N_OWN, len(tuned_header))]) if tuned_rows else ():
        for part in _in_parts(columns, tuned, console):
            console.print(part)
            console.print()
    for finding in findings(results):
        console.print(f"[bold]{escape(finding.arm)}[/]: {escape(finding.summary)}", highlight=False)
    if (silence := describe_silence(results)) is not None:
        console.print(escape(silence), style="yellow", highlight=False)


def print_table(header: list[str], rows: list[list[str]], console: Console) -> None:
    """Print a table in as many parts as the width of the terminal asks for, the first column in each."""

    def part(columns: list[int]) -> Table:
        return _table([header[i] for i in columns], [[row[i] for i in columns] for row in rows], [False] * len(rows))

    for each in _in_parts([*range(1, len(header))], part, console):
        console.print(each)
        console.print()


def _in_parts(columns: list[int], table: Callable[[list[int]], Table], console: Console) -> list[Table]:
    """Return tables of as many columns each, beside the first one, as there is room for."""
    unlimited = console.options.update(width=10_000)
    parts = []
    while columns:
        n = len(columns)
        while n > 1 and console.measure(table([0, *columns[:n]]), options=unlimited).maximum > console.width:
            n -= 1
        parts.append(table([0, *columns[:n]]))
        columns = columns[n:]
    return parts


def _table(header: list[str], rows: list[list[str]], controls: list[bool]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for i, title in enumerate(header):
        # names of arms stand in the titles of tuned ones
        breakable = title.startswith(("seconds", "peak", "synaptic", "chosen")) or " of " in title
        words = [*title.split(), *([] if title.startswith("chosen") else (row[i].partition("\n")[0] for row in rows))]
        table.add_column(
            title.replace(", ", ",\n"),
            justify="left" if i == 0 else "right",
            no_wrap=not breakable,
            min_width=max(map(len, words)) if breakable else None,
        )
    for row, control in zip(rows, controls, strict=True):
        empty = all(cell in ("", "–") for cell in row[1:])
        if not empty:
            # the first line of a cell: the second one explains or gives a range, which the report has room for
            cells = [row[0].partition("\n")[0], *(cell if "[" in cell else cell.partition("\n")[0] for cell in row[1:])]
            table.add_row(*(escape(cell) for cell in cells), style="dim" if control else None)
    return table
