"""Which cells have been live, kept as a mask or as a list."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.rewire import explored
from neuropil.rewire.explored import Explored


@pytest.fixture
def lists(monkeypatch):
    monkeypatch.setattr(explored, "_MOST_CELLS", 0)


@given(st.lists(st.sets(st.integers(0, 39)), max_size=5))
def test_a_list_counts_as_a_mask_does(visits):
    mask, most = Explored(40), explored._MOST_CELLS
    try:
        explored._MOST_CELLS = 0
        cells, again = Explored(40), Explored(40)
    finally:
        explored._MOST_CELLS = most
    seen = set()
    for visit in visits:
        seen |= visit
        for one in (mask, cells):
            one.visit(np.array(sorted(visit), dtype=np.int64))
            assert one.n == len(seen)
    assert again.take(cells.to_tensor())
    assert again.n == len(seen)
    assert cells.to_tensor().tolist() == sorted(seen)


def test_what_does_not_fit_is_refused(lists):
    cells = Explored(40)
    for stored in (None, torch.tensor([40]), torch.tensor([-1]), torch.tensor([1, 2], dtype=torch.uint8)):
        assert not cells.take(stored)
    assert cells.n == 0
