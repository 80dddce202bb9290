"""Tables for a terminal: what was measured, one screen wide, and below it what could not be, and why."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from neuropil.bench.records import Row

NOISY = 1.3
Cell = Callable[["Row"], str]


def new_table(title: str) -> Table:
    """Return an empty table in the look that all have."""
    return Table(
        title=escape(title), title_style="bold", title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False,
        header_style="dim",
    )  # fmt: skip


def list_table(title: str, columns: dict[str, Cell], rows: Sequence["Row"], *, names: int = 1) -> Table:
    """Return a table with one line a row that was measured, the first ``names`` columns being names."""
    table = new_table(title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < names else "right", no_wrap=i >= names)
    before: list[str] | None = None
    for row in rows:
        if row.get("reason") is None:
            cells = [cell(row) for cell in columns.values()]
            shown = [*cells]
            if before is not None:  # a name that stands above is not said again
                for i in range(names - 1):
                    if cells[: i + 1] == before[: i + 1]:
                        shown[i] = ""
            table.add_row(*(escape(cell) for cell in shown))
            before = cells
    return table


def matrix_table(
    title: str,
    rows: Sequence["Row"],
    *,
    names: dict[str, Cell],
    across: Cell,
    value: str,
    reference: Callable[["Row"], bool],
) -> Table:
    """Return a table of ratios: a line for each contestant, a column for each setting, the fastest one bold.

    Args:
        title: above it.
        rows: to show; those without ``value`` are left out, where no other setting has it either.
        names: what stands at the left, by header.
        across: what stands at the top.
        value: key of the ratio.
        reference: which rows are the reference's, whose milliseconds close the table.
    """
    table = new_table(title)
    settings = list(dict.fromkeys(across(row) for row in rows))
    for name in names:
        table.add_column(name)
    for setting in settings:
        table.add_column(setting, justify="right", no_wrap=True)
    lines: dict[tuple[str, ...], dict[str, "Row"]] = {}
    for row in rows:
        if row.get(value) is not None:
            lines.setdefault(tuple(cell(row) for cell in names.values()), {})[across(row)] = row
    best = {
        setting: max((line[setting][value] for line in lines.values() if setting in line), default=0.0)
        for setting in settings
    }
    before: tuple[str, ...] = ("",) * len(names)
    for line_name, line in lines.items():
        if any(reference(row) for row in line.values()):
            continue
        cells = [ratio_cell(line[s], value, line[s][value] == best[s]) if s in line else "" for s in settings]
        shown = ["" if line_name[: i + 1] == before[: i + 1] else name for i, name in enumerate(line_name)]
        table.add_row(*(escape(name) for name in shown), *cells)
        before = line_name
    base = {across(row): row for row in rows if reference(row) and row.get("median_ms") is not None}
    if base:
        row = next(iter(base.values()))
        label = next((name for name in (cell(row) for cell in reversed(names.values())) if name), "")
        cells = [milliseconds(base[s]["median_ms"]) if s in base else "" for s in settings]
        table.add_section()
        table.add_row(*[""] * (len(names) - 1), escape(f"{label}, ms"), *cells, style="dim")
    return table


def ratio_cell(row: "Row", value: str, is_best: bool) -> str:
    """Return a ratio, marked where rounds do not agree on it."""
    text = f"{'≈' if is_noisy(row, value) else ''}{times(row[value])}"
    if is_best:
        return f"[bold green]{text}[/]"
    return f"[dim]{text}[/]" if row[value] < 1 else text


def is_noisy(row: "Row", value: str) -> bool:
    """Return whether the quartiles of a ratio lie apart."""
    low, high = row.get(f"{value}_lower"), row.get(f"{value}_upper")
    return bool(low and high and high / low > NOISY)


def footer(rows: Sequence["Row"], who: Callable[["Row"], str], reference: Callable[["Row"], bool]) -> list[str]:
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
            reasons.setdefault(row["reason"], {})[who(row)] = None
    lines += [f"[dim]– {escape(', '.join(names))}: {escape(reason)}[/]" for reason, names in reasons.items()]
    return lines


def milliseconds(value: Any) -> str:
    """Return a time in milliseconds with three digits."""
    return "" if value is None else digits(float(value))


def timed(row: "Row", scale: float = 1.0) -> str:
    """Return the median and its quartiles."""
    middle, low, high = (
        digits(row[key] / scale) for key in ("median_ms", "lower_quartile_ms", "upper_quartile_ms")
    )
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
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3f}"


def share(density: float) -> str:
    """Return the sparsity that belongs to a density, in per cent."""
    return f"{100 * (1 - density):.4g} %"


__all__ = ["footer", "list_table", "matrix_table"]
