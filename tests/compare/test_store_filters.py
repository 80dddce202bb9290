"""How runs and columns are named, and what files and frames hold."""

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from neuropil.compare import results_frame
from neuropil.compare.store import RunTable, frame_of, write_parquet, write_table_csv
from neuropil.compare.store.filters import find_column, find_columns, keep_rows, sort_rows

COLUMNS = ("arm", "seed", "fold", "state", "epochs", "data.name", "model.hidden", "rewiring.rule", "rewiring.every",
           "training.rule", "training.learning_rate", "training.epochs", "test_accuracy", "changed", "exact")  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"arm": "mixer", "seed": 0, "state": "done", "data.name": "digits", "model.hidden": "[32,32]", "test_accuracy": 0.95,
     "training.learning_rate": 0.0001, "changed": "2026-11-01T00:00:00Z", "exact": True, "fold": None},
    {"arm": "mixer-group", "seed": 1, "state": "failed", "data.name": "digits", "model.hidden": "[64]", "exact": False,
     "training.learning_rate": 0.001, "changed": "2026-11-27T00:00:00Z", "test_accuracy": None, "fold": 0},
    {"arm": "dense-32", "seed": 2, "state": "done", "data.name": "cifar-10", "test_accuracy": 0.9, "rewiring.rule": "set",
     "training.learning_rate": 0.001, "model.hidden": "[[1,1],[2,2]]", "fold": 1},
    {"arm": "odd", "seed": 3, "state": "diverged", "test_accuracy": float("nan")},
]  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "seeds"),
    [
        ([], [0, 1, 2, 3]),
        (["arm=mixer"], [0]),
        (["arm==mixer"], [0]),
        (["arm=mixer*"], [0, 1]),
        (["arm=*-??"], [2]),
        (["arm!=mixer*"], [2, 3]),
        (["arm=mixer,odd"], [0, 3]),
        (["arm!=mixer,odd"], [1, 2]),
        (["seed=0,2"], [0, 2]),
        (["seed=1.0"], [1]),
        (["seed < 2"], [0, 1]),
        (["seed>1", "state=done"], [2]),
        (["test_accuracy>=0.9"], [0, 2]),
        (["test_accuracy<=0.9"], [2]),
        (["test_accuracy=none"], [1]),
        (["test_accuracy!=none"], [0, 2, 3]),
        (["rewiring="], [0, 1, 3]),
        (["data=digits"], [0, 1]),
        (["rewiring=set"], [2]),
        (["learning_rate=1e-4"], [0]),
        (["learning_rate=0.001"], [1, 2]),
        (["hidden=[32,32]"], [0]),
        (["hidden=[32,32],[64]"], [0, 1]),
        (["hidden=[[1,1],[2,2]]"], [2]),
        (["hidden=[3?,3*"], [0]),
        (["changed>=2026-11-27"], [1]),
        (["changed>=2026"], [0, 1]),
        (["exact=true"], [0]),
        (["exact=True"], [0]),
        (["epochs>3"], []),
        (["fold>=0"], [1, 2]),
    ],
)
def test_filters(filters: list[str], seeds: list[int]) -> None:
    assert [row["seed"] for row in keep_rows(ROWS, filters, COLUMNS)] == seeds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tets_accuracy>1", "a name must be that of a column, got 'tets_accuracy'; try 'test_accuracy'"),
        ("lerning_rate=1", "a name must be that of a column, got 'lerning_rate'; try 'training.learning_rate'"),
        ("zzz=1", "a name must be that of a column, got 'zzz'; --columns all shows those there are"),
        ("rule=set", "a name must mean one column, got 'rule'; try rewiring.rule or training.rule"),
        ("mixer", r"a filter must be as arm=mixer or 'test_accuracy>=0.9' \(in quotes\), got 'mixer'"),
        ("=mixer", r"a filter must be as arm=mixer or 'test_accuracy>=0.9' \(in quotes\), got '=mixer'"),
        ("seed>high", "a column of numbers must be compared with a number, got 'seed>high'"),
    ],
)
def test_filters_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^results: {said}$"):
        keep_rows(ROWS, [text], COLUMNS)


def test_columns_by_name() -> None:
    assert find_column("epochs", COLUMNS) == "epochs"
    assert find_column("every", COLUMNS) == "rewiring.every"
    assert find_columns(["seed", "training.*", "data", "seed"], COLUMNS) == [
        "seed", "training.rule", "training.learning_rate", "training.epochs", "data.name"
    ]  # fmt: skip
    assert find_columns(["all"], COLUMNS) == [*COLUMNS]
    with pytest.raises(ValueError, match="^results: a name must be that of a column, got 'x.\\*', which none is like$"):
        find_columns(["x.*"], COLUMNS)


def test_order() -> None:
    def seeds(*by: str) -> list[int]:
        return [row["seed"] for row in sort_rows(ROWS, by, COLUMNS)]

    assert seeds("-seed") == [3, 2, 1, 0]
    assert seeds("test_accuracy") == [3, 2, 0, 1]  # no number first, not known last
    assert seeds("-test_accuracy") == [0, 2, 3, 1]
    assert seeds("state", "-seed") == [3, 2, 0, 1]
    assert seeds("learning_rate", "arm") == [0, 2, 1, 3]


@pytest.fixture
def some() -> RunTable:
    return RunTable(Path("root"), COLUMNS, tuple(ROWS))


def test_csv(some: RunTable, tmp_path: Path) -> None:
    path = write_table_csv(some, tmp_path / "runs.csv")
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [*read[0]] == [*COLUMNS]
    for row, written in zip(ROWS, read, strict=True):
        assert written == {name: "" if row.get(name) is None else str(row[name]) for name in COLUMNS}
    assert [*tmp_path.iterdir()] == [path]
    with pytest.raises(OSError, match="No such file"):
        write_table_csv(some, tmp_path / "missing" / "runs.csv")


def test_frames_and_parquet(some: RunTable, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = frame_of(some)
    assert frame.columns == [*COLUMNS]
    kinds = {"arm": polars.String, "seed": polars.Int64, "test_accuracy": polars.Float64, "exact": polars.Boolean,
             "fold": polars.Int64, "epochs": polars.String}  # fmt: skip
    assert {name: frame.schema[name] for name in kinds} == kinds
    assert frame["arm"].to_list() == [row["arm"] for row in ROWS]
    assert frame["fold"].to_list() == [None, 0, 1, None]
    assert polars.read_parquet(write_parquet(some, tmp_path / "runs.parquet")).equals(frame)
    mixed = RunTable(Path("root"), ("a", "b", "fold"), ({"a": 1, "b": 1}, {"a": 0.5, "b": "[1,2]"}, {"a": 2**64}))
    assert frame_of(mixed).to_dict(as_series=False) == {
        "a": [1.0, 0.5, 2.0**64], "b": ["1", "[1,2]", None], "fold": [None] * 3
    }  # fmt: skip
    assert frame_of(RunTable(Path("root"), COLUMNS, ())).shape == (0, len(COLUMNS))


def test_pandas_frames_hold_the_same(some: RunTable) -> None:
    pytest.importorskip("pandas")
    frame = frame_of(some, "pandas")
    assert frame["seed"].tolist() == [0, 1, 2, 3]
    assert (str(frame["fold"].dtype), str(frame["exact"].dtype)) == ("Int64", "boolean")
    assert frame["fold"].isna().tolist() == [True, False, False, True]
    assert frame["test_accuracy"].iloc[0] == 0.95
    assert frame[frame["arm"] == "mixer"].shape[0] == 1


def test_results_frame_reads_a_root(made_up: Any) -> None:
    pytest.importorskip("polars")
    root = made_up.comparison(arms={"mixer": {"pattern": "mixer", "n_groups": 8}}, seeds=2)
    frame = results_frame(root, "arm=mixer", columns=["seed", "test_accuracy"])
    assert frame.rows() == [(0, made_up.accuracy("mixer", 0)), (1, made_up.accuracy("mixer", 1))]


@pytest.mark.parametrize("kind", ["polars", "pandas"])
def test_a_missing_library_is_one_sentence(some: RunTable, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    said = f"^results: frames and Parquet need {kind}, which is not installed; try pip install 'neuropil\\[frames\\]'$"
    with pytest.raises(ValueError, match=said):
        frame_of(some, kind)
    with pytest.raises(ValueError, match="^results: kind must be polars or pandas, got 'arrow'$"):
        frame_of(some, "arrow")  # type: ignore[arg-type]
