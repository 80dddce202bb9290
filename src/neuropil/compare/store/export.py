"""Tables of runs as files and frames of other libraries."""

import csv
import importlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from neuropil.compare.store.rows import Value
from neuropil.compare.store.table import RunTable, read_runs

# of columns in which nothing is known yet
_EXPECTED: dict[str, type] = {"seed": int, "fold": int, "validation_accuracy": float, "test_accuracy": float}
_LARGEST = 2**63  # integers of this size on are no numbers to frames


def results_frame(
    root: str | os.PathLike[str],
    *filters: str,
    columns: Sequence[str] = ("all",),
    kind: Literal["polars", "pandas"] = "polars",
) -> Any:
    """Return the runs below a root folder as a frame of Polars or Pandas.

    Args:
        root: the folder, see :func:`neuropil.compare.store.read_runs`.
        filters: as on the command line: ``"arm=mixer"``, ``"test_accuracy>=0.9"``.
        columns: names of columns, see :func:`neuropil.compare.store.filters.find_columns`.
        kind: of the frame.

    Raises:
        ValueError: there is no such folder, a filter or column is none, or the library is not installed.
    """
    return frame_of(read_runs(root).where(*filters).select(*columns), kind)


def frame_of(table: RunTable, kind: Literal["polars", "pandas"] = "polars") -> Any:
    """Return a table as a frame: whole numbers, numbers and truths are columns of their kind, the rest is text.

    What is not known is null.

    Raises:
        ValueError: the library is not installed.
    """
    if kind not in ("polars", "pandas"):
        raise ValueError(f"results: kind must be polars or pandas, got {kind!r}")
    library = _import(kind)
    cells = {name: _alike(name, [row.get(name) for row in table.rows]) for name in table.columns}
    if kind == "polars":
        of_kind = {int: library.Int64, float: library.Float64, bool: library.Boolean, str: library.String}
        return library.DataFrame(
            {name: values for name, (_, values) in cells.items()},
            schema={name: of_kind[found] for name, (found, _) in cells.items()},
        )
    names = {int: "Int64", float: "Float64", bool: "boolean", str: "string"}
    return library.DataFrame(
        {name: library.array(values, dtype=names[found]) for name, (found, values) in cells.items()}
    )


def write_table_csv(table: RunTable, path: str | os.PathLike[str]) -> Path:
    """Write a table as CSV, in one go: a reader sees the old file or the new. What is not known stays empty."""
    text = io.StringIO()
    print_csv(table, text)
    return _write(Path(path), text.getvalue().encode(errors="backslashreplace"))


def print_csv(table: RunTable, stream: TextIO) -> None:
    """Write a table as CSV to an open file."""
    writer = csv.DictWriter(stream, table.columns, lineterminator="\n", extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(table.rows)


def write_parquet(table: RunTable, path: str | os.PathLike[str]) -> Path:
    """Write a table as Parquet, in one go, by Polars.

    Raises:
        ValueError: Polars is not installed.
    """
    content = io.BytesIO()
    frame_of(table, "polars").write_parquet(content)
    return _write(Path(path), content.getvalue())


def _write(path: Path, content: bytes) -> Path:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _import(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ValueError(
            f"results: frames and Parquet need {library}, which is not installed; try pip install 'neuropil[frames]'"
        ) from error


def _alike(name: str, values: Sequence[Value]) -> tuple[type, list[Value]]:
    """Return one type for all values of a column, and the values in it."""
    kinds = {type(value) for value in values if value is not None} or {_EXPECTED.get(name, str)}
    if kinds == {bool}:
        return bool, list(values)
    if kinds == {int} and all(value is None or -_LARGEST <= value < _LARGEST for value in values):  # type: ignore[operator]
        return int, list(values)
    if kinds <= {int, float}:
        return float, [None if value is None else float(value) for value in values]
    return str, [value if value is None or isinstance(value, str) else str(value) for value in values]
