"""Drawing cells: how many, which, and where the numbers come from."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.connect.sampling import sample_cells


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 500), st.floats(0.0, 1.0), st.booleans(), st.integers(0, 2**31))
def test_cells_are_different_and_in_range(n_cells: int, probability: float, exact: bool, seed: int) -> None:
    cells = sample_cells(n_cells, probability, exact=exact, generator=seeded(seed))
    assert cells.dtype == torch.int64
    assert len(cells.unique()) == len(cells)
    assert ((cells >= 0) & (cells < n_cells)).all()
    if exact:
        assert len(cells) == round(probability * n_cells)
    assert torch.equal(cells, sample_cells(n_cells, probability, exact=exact, generator=seeded(seed)))


@pytest.mark.parametrize("n_cells", [0, 1, 7])
@pytest.mark.parametrize("exact", [True, False])
def test_none_and_all(n_cells: int, exact: bool) -> None:
    assert sample_cells(n_cells, 0.0, exact=exact).tolist() == []
    assert sorted(sample_cells(n_cells, 1.0, exact=exact).tolist()) == list(range(n_cells))


@pytest.mark.parametrize("n_drawn", [1, 2, 3])  # of 9 cells: drawn again, drawn again, permuted
def test_every_set_is_equally_likely(n_drawn: int) -> None:
    generator, n = seeded(0), 4000
    counts = dict.fromkeys(combinations(range(9), n_drawn), 0)
    for _ in range(n):
        counts[tuple(sorted(sample_cells(9, n_drawn / 9, exact=True, generator=generator).tolist()))] += 1
    expected = n / len(counts)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    degrees = len(counts) - 1
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("probability", [0.05, 0.5])
def test_number_drawn_is_binomial(probability: float) -> None:
    generator, n = seeded(1), 400
    counts = torch.tensor(
        [len(sample_cells(1000, probability, generator=generator)) for _ in range(n)], dtype=torch.float64
    )
    variance = 1000 * probability * (1 - probability)
    assert abs(counts.mean() - 1000 * probability) < 4 * math.sqrt(variance / n)
    assert 0.75 < counts.var() / variance < 1.3


def test_a_sparse_draw_from_a_huge_grid_is_small() -> None:
    cells = sample_cells(10**12, 1e-9, generator=seeded(0))  # laid out it would not fit in memory
    assert 800 < len(cells) < 1200
    assert int(cells.max()) > 10**11


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    for probability in (0.1, 0.9):
        sample_cells(100, probability, generator=seeded(0))
        sample_cells(100, probability, exact=True, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    first = sample_cells(100, 0.3)
    torch.manual_seed(0)
    assert torch.equal(first, sample_cells(100, 0.3))
