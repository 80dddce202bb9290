"""Which runs, which columns, in which order: as a user writes it."""

import re
from collections.abc import Callable, Iterable, Sequence

from neuropil.compare.registry import nearest
from neuropil.compare.store.rows import Row, Value

_FILTER = re.compile(r"(?P<name>[^<>=!]+)(?P<operator><=|>=|!=|==?|<|>)(?P<value>.*)", re.DOTALL)
_ORDER: dict[str, Callable[[float | str, float | str], bool]] = {
    "<": lambda a, b: a < b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}
_NAMING = ("name", "rule", "scheme", "pattern", "measure")  # the setting that says what a section is
_COMMAS = re.compile(r",(?![^\[{]*[\]}])")  # but those within a list


def find_column(name: str, columns: Sequence[str]) -> str:
    """Return the column that a name means: that one, or the only one that ends so, as ``learning_rate``.

    The name of a section means what says its kind: ``data`` is ``data.name``, ``rewiring`` is ``rewiring.rule``.

    Raises:
        ValueError: there is none, or there are several.

    Example:
        >>> columns = ["arm", "data.name", "training.epochs"]
        >>> [find_column(name, columns) for name in ("arm", "data", "training.epochs")]
        ['arm', 'data.name', 'training.epochs']
    """
    if name in columns:
        return name
    endings = [name, *(f"{name}.{naming}" for naming in _NAMING)]
    for ending in endings:
        meant = [column for column in columns if column == ending or column.endswith(f".{ending}")]
        if len(meant) > 1:
            raise ValueError(f"results: a name must mean one column, got {name!r}; try {' or '.join(meant)}")
        if meant:
            return meant[0]
    parts = {column.rpartition(".")[2]: column for column in reversed(columns)}
    near = nearest(name, columns) or nearest(name, [*parts])
    raise ValueError(
        f"results: a name must be that of a column, got {name!r}{near or '; --columns all shows those there are'}"
    )


def find_columns(names: Iterable[str], columns: Sequence[str]) -> list[str]:
    """Return the columns that names mean, in their order; ``training.*`` means several, and ``all`` means all.

    Raises:
        ValueError: as in :func:`find_column`; or no column is like that.
    """
    found: list[str] = []
    for name in names:
        if name in columns or ("*" not in name and "?" not in name and name != "all"):
            found.append(find_column(name, columns))
            continue
        like = _like("*" if name == "all" else name)
        meant = [column for column in columns if like.fullmatch(column)]
        if not meant:
            raise ValueError(f"results: a name must be that of a column, got {name!r}, which none is like")
        found += meant
    return [*dict.fromkeys(found)]


def keep_rows(rows: Sequence[Row], filters: Sequence[str], columns: Sequence[str]) -> list[Row]:
    """Return the rows that all filters let through.

    A filter is a column, one of ``= != < <= > >=``, and a value: ``arm=mixer``, ``test_accuracy>=0.9``,
    ``comparison=*p-inter*`` (``*`` any text, ``?`` any character), ``seed=0,1,2`` (any of these), ``fold=none`` (not
    known). Numbers are compared as numbers, text with ``<`` and so on by its letters; what is not known is neither
    less nor more than anything.

    Args:
        rows: to choose from.
        filters: as above.
        columns: that there are, see :func:`find_column`.

    Raises:
        ValueError: a filter is none, a column is unknown, or one of numbers is compared with a word.

    Example:
        >>> rows = [{"arm": "mixer", "seed": 0}, {"arm": "index", "seed": 1}]
        >>> keep_rows(rows, ["arm=m*"], ["arm", "seed"]), keep_rows(rows, ["seed>0"], ["arm", "seed"])
        ([{'arm': 'mixer', 'seed': 0}], [{'arm': 'index', 'seed': 1}])
    """
    kept = list(rows)
    for text in filters if rows else ():  # without any run, nobody knows what columns there are
        parts = _FILTER.fullmatch(text)
        if parts is None:
            raise ValueError(
                f"results: a filter must be as arm=mixer or 'test_accuracy>=0.9' (in quotes), got {text!r}"
            )
        column = find_column(parts["name"].strip(), columns)
        passes = _test(parts["operator"], parts["value"].strip(), [row.get(column) for row in rows], text)
        kept = [row for row in kept if passes(row.get(column))]
    return kept


def sort_rows(rows: Sequence[Row], by: Sequence[str], columns: Sequence[str]) -> list[Row]:
    """Return rows in the order of some columns, falling where a minus stands before the name; the unknown comes last.

    Raises:
        ValueError: as in :func:`find_column`.
    """
    ordered = list(rows)
    for name in reversed(by):
        falls = name.startswith("-")
        column = find_column(name.removeprefix("-"), columns)
        known = [row for row in ordered if row.get(column) is not None]
        known.sort(key=lambda row: _place(row[column]), reverse=falls)
        ordered = known + [row for row in ordered if row.get(column) is None]
    return ordered


def _place(value: Value) -> tuple[bool, float, str]:
    """Return what values are sorted by: numbers first, those that are none before all others."""
    if isinstance(value, int | float):
        return False, value if value == value else float("-inf"), ""
    return True, 0.0, str(value)


def _test(operator: str, value: str, cells: Sequence[Value], text: str) -> Callable[[Value], bool]:
    """Return what says of a cell whether it passes a filter."""
    if operator in _ORDER:
        compare, number = _ORDER[operator], _number(value)
        of_numbers = any(map(_is_number, cells))
        if of_numbers and number is None:
            raise ValueError(f"results: a column of numbers must be compared with a number, got {text!r}")
        if number is not None and (of_numbers or not any(isinstance(cell, str) for cell in cells)):
            return lambda cell: _is_number(cell) and compare(cell, number)  # type: ignore[arg-type]
        return lambda cell: isinstance(cell, str) and compare(cell, value)
    options = [_equal(option.strip()) for option in dict.fromkeys([value, *_COMMAS.split(value)])]
    wanted = operator != "!="
    return lambda cell: any(option(cell) for option in options) is wanted


def _equal(value: str) -> Callable[[Value], bool]:
    number, like, nothing = _number(value), _like(value), value.lower() in ("", "none", "null")

    def equal(cell: Value) -> bool:
        if cell is None:
            return nothing
        if number is not None and _is_number(cell):
            return cell == number
        if isinstance(cell, bool):
            return value.lower() == str(cell).lower()
        return like.fullmatch(str(cell)) is not None

    return equal


def _like(pattern: str) -> re.Pattern[str]:
    """Return a pattern in which only ``*`` and ``?`` stand for something else."""
    parts = [{"*": ".*", "?": "."}.get(part, re.escape(part)) for part in re.split(r"([*?])", pattern)]
    return re.compile("".join(parts), re.DOTALL)


def _is_number(cell: Value) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
