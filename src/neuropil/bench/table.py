"""Tables for a terminal: what was measured, one screen wide, and below it what could not be, and why."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from neuropil.bench.records import Row

NOISY = 1.3
_NAME_WIDTH = 24  # of all columns of names together: numbers must not crowd them out
Cell = Callable[["Row"], str]


def new_table() -> Table:
    """Return an empty table in the look that all have."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")


def list_table(columns: Mapping[str, Cell], rows: Sequence["Row"], *, names: int = 1) -> Table:
    """Return a table with one line a row that was measured, the first ``names`` columns being names."""
    table = new_table()
    for i, column in enumerate(columns):
        if i < names:
            table.add_column(column, min_width=_NAME_WIDTH // names)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    before: list[str] = []
    for row in rows:
        if row.get("reason") is None:
            cells = [cell(row) for cell in columns.values()]
            table.add_row(*(escape(cell) for cell in [*_said_once(cells[:names], before), *cells[names:]]))
            before = cells[:names]
    return table


def matrix_table(
    rows: Sequence["Row"],
    *,
    names: Mapping[str, Cell],
    across: Cell,
    value: str,
    reference: Callable[["Row"], bool],
    part: Callable[["Row"], object] = lambda row: None,
) -> Table:
    """Return a table of ratios: a line for each contestant, a column for each setting, the fastest one green.

    Args:
        rows: to show, in order; contestants without any ``value`` are left out.
        names: what stands at the left, by header.
        across: what stands at the top.
        value: key of the ratio.
        reference: which rows are a reference's; its line has milliseconds.
        part: what rows have in common that stand together, with an empty line between parts.
    """
    table = new_table()
    settings = list(dict.fromkeys(across(row) for row in rows))
    for name in names:
        table.add_column(name, no_wrap=True)
    for setting in settings:
        table.add_column(setting, justify="right", no_wrap=True)
    parts: dict[object, dict[tuple[str, ...], dict[str, Row]]] = {}
    best: dict[tuple[object, str], float] = {}
    for row in rows:
        if row.get(value) is not None:
            line = tuple(cell(row) for cell in names.values())
            parts.setdefault(part(row), {}).setdefault(line, {})[across(row)] = row
            key = row.get("product"), across(row)
            best[key] = max(best.get(key, 0.0), row[value])
    for i, lines in enumerate(parts.values()):
        if i:
            table.add_row()
        before: tuple[str, ...] = ()
        for line, found in lines.items():
            is_reference = any(reference(row) for row in found.values())
            cells = []
            for setting in settings:
                if setting not in found:
                    cells.append("")
                elif is_reference:
                    cells.append(f"{digits(found[setting]['median_ms'])} ms ")
                else:
                    is_best = found[setting][value] == best[found[setting].get("product"), setting]
                    cells.append(ratio_cell(found[setting], value, is_best))
            table.add_row(*(escape(name) for name in _said_once(line, before)), *cells)
            before = line
    return table


def _said_once(names: Sequence[str], before: Sequence[str]) -> list[str]:
    """Return names, empty where the line above begins with the same ones; the last one is always there."""
    return ["" if i < len(names) - 1 and tuple(names[: i + 1]) == tuple(before[: i + 1]) else name
            for i, name in enumerate(names)]  # fmt: skip


def ratio_cell(row: "Row", value: str, is_best: bool) -> str:
    """Return a ratio, marked where rounds do not agree on it, and where a layer computes so by itself."""
    text = f"{'≈' if is_noisy(row, value) else ''}{times(row[value])}"
    if is_best:
        text = f"[bold green]{text}[/]"
    elif row[value] < 1:
        text = f"[dim]{text}[/]"
    return f"{text}{'*' if row.get('is_automatic') else ' '}"


def is_noisy(row: "Row", value: str) -> bool:
    """Return whether the quartiles of a ratio lie apart."""
    low, high = row.get(f"{value}_lower"), row.get(f"{value}_upper")
    return bool(low and high and high / low > NOISY)


def footer(rows: Sequence["Row"], who: Cell, reference: Callable[["Row"], bool] = lambda row: False) -> list[str]:
    """Return the lines below a table: unrest of the reference, and who could not run, and why."""
    lines = []
    spreads = [row["upper_quartile_ms"] / row["lower_quartile_ms"] for row in rows
               if reference(row) and row.get("lower_quartile_ms")]  # fmt: skip
    if spreads and max(spreads) > NOISY:
        lines.append(
            f"[yellow]The machine was not quiet: the reference's quartiles lie up to {max(spreads):.1f}× apart. "
            "Ratios are taken round by round and suffer less; times do not hold.[/]"
        )
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.get("reason") is not None:
            reasons.setdefault(_shortened(row["reason"]), {})[who(row)] = None
    lines += [f"[dim]– {escape(', '.join(names))}: {escape(reason)}[/]" for reason, names in reasons.items()]
    return lines


def _shortened(reason: str) -> str:
    """Return why a kernel cannot run, without what the line says anyway."""
    found = re.fullmatch(r"SparseLinear: kernel '\w+' (.*?)(, got [^;]*)?(; try .*)?", reason)
    return found[1] if found else reason


def timed(row: "Row", scale: float = 1.0) -> str:
    """Return the median and its quartiles."""
    middle, low, high = (digits(row[key] / scale) for key in ("median_ms", "lower_quartile_ms", "upper_quartile_ms"))
    return f"{middle} ({low}–{high})"


def times(value: Any) -> str:
    """Return a ratio."""
    return "" if value is None else f"{digits(float(value))}×"


def mebibytes(value: Any) -> str:
    """Return bytes in MiB."""
    return "" if value is None else f"{digits(value / 2**20)}"


def digits(value: float) -> str:
    """Return a number with about three digits, thousands apart."""
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 0.1
        else f"{value:.3f}"
    )


def share(density: float) -> str:
    """Return the sparsity that belongs to a density, in per cent."""
    return f"{100 * (1 - density):.4g} %"


__all__ = ["footer", "list_table", "matrix_table"]
