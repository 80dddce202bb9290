"""The table in the terminal: nothing of it is cut off, however many twins there are."""

import io
from typing import Any

import pytest
from rich.console import Console

from neuropil.cli.table import print_results
from neuropil.compare.results import load_results


def printed(folder: Any, width: int) -> str:
    out = io.StringIO()
    print_results(load_results(folder), Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_difference_is_shown_whole(made_up: Any, width: int) -> None:
    text = printed(made_up.rewired(), width)
    differences = text[text.index("− dense,") :]
    assert "…" not in differences
    assert max(len(line) for line in text.splitlines()) <= width
    for title in ("same width", "same parameters", "same density", "static"):
        assert title in text
    row = next(line for line in reversed(text.splitlines()) if line.startswith("mixer-set "))
    assert row.count("−") + row.count("+") >= 1
    assert text.count("− same wiring,") == 1


def test_one_table_where_there_is_room(made_up: Any) -> None:
    folder = made_up.rewired()
    assert [printed(folder, width).count("− dense,") for width in (177, 178)] == [2, 2]
    assert [printed(folder, width).count("mixer-set ") for width in (177, 178)] == [2, 1]


def test_no_static_column_without_rewiring(made_up: Any) -> None:
    assert "static" not in printed(made_up.comparison(), 200)
