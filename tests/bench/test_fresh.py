import os

import pytest

from neuropil.bench import fresh
from neuropil.bench.fresh import in_fresh_process


@pytest.fixture(autouse=True)
def _imported_for_all(monkeypatch):
    """There is one server for all tests of a session, and whoever starts it says what it imports: what runs need."""
    monkeypatch.setattr(fresh, "_IMPORTED", ["neuropil.compare.execute", "neuropil.connect.merge", "sklearn.datasets"])


def test_work_is_done_elsewhere_and_its_errors_come_back():
    assert in_fresh_process(os.getpid) != os.getpid()
    assert in_fresh_process(divmod, 7, 2) == (3, 1)
    with pytest.raises(ValueError, match="invalid literal"):
        in_fresh_process(int, "x")


def test_a_process_that_dies_is_a_failure_like_others():
    with pytest.raises(RuntimeError):
        in_fresh_process(os._exit, 3)
