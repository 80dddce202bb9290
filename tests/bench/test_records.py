import pytest

from neuropil.bench.records import Records, describe_machine, read_rows, write_rows


def test_rows_come_back_as_they_were(tmp_path):
    rows = [
        {"kernel": "a, b", "size": 2, "ratio": 0.5, "ok": True, "commit": "1234567", "reason": None},
        {"kernel": "c", "size": 3, "later": 1e-9, "ok": False, "commit": "12e4567", "reason": "why: because"},
    ]
    write_rows(tmp_path / "x.csv", rows, last=["commit"])
    first, second = read_rows(tmp_path / "x.csv")
    assert list(first) == ["kernel", "size", "ratio", "ok", "reason", "later", "commit"]
    assert first == rows[0] | {"later": None}
    assert second == rows[1] | {"ratio": None}
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_csv_is_replaced_only_when_all_have_come(tmp_path):
    path = tmp_path / "deep" / "layers.csv"
    path.parent.mkdir()
    path.write_text("old\n")
    records = Records(path, {"device": "cpu"})
    records.add([{"a": 1}])
    records.add([{"a": 2}, {"a": 3}])
    assert path.read_text() == "old\n"
    assert [row["a"] for row in read_rows(records.partial)] == [1, 2, 3]
    records.finish()
    assert [row["a"] for row in read_rows(path)] == [1, 2, 3]
    assert not records.partial.exists()
    assert read_rows(path)[0]["device"] == "cpu"


def test_nothing_measured_leaves_the_old_file(tmp_path):
    path = tmp_path / "layers.csv"
    path.write_text("old\n")
    Records(path, {}).finish()
    assert path.read_text() == "old\n"


@pytest.mark.parametrize("key", ["processor", "cores", "threads", "date", "commit", "torch", "numba", "load"])
def test_the_machine_is_in_every_row(key):
    assert describe_machine("cpu")[key] not in (None, "")
