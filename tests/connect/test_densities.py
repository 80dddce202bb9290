"""layer_densities: the formulas of ER and ERK, and the exact total."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropil.connect.densities import layer_densities

linear = st.tuples(st.integers(1, 300), st.integers(1, 300))
convolution = st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 5), st.integers(1, 5))


def naive_densities(shapes, density: float, method: str) -> list[float]:
    """Find ε by bisection: connections grow with it, and min(1, ·) makes layers dense by itself."""

    def of(epsilon: float) -> list[float]:
        dims = [shape[:2] if method == "er" else shape for shape in shapes]
        return [min(1.0, epsilon * sum(d) / math.prod(d)) for d in dims]

    sizes = [math.prod(shape) for shape in shapes]
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        too_many = sum(d * n for d, n in zip(of(middle), sizes, strict=True)) > density * sum(sizes)
        low, high = (low, middle) if too_many else (middle, high)
    return of(low)


@given(
    st.lists(linear | convolution, min_size=1, max_size=6),
    st.floats(0.0, 1.0),
    st.sampled_from(["uniform", "er", "erk"]),
)
def test_total_is_exact_and_no_layer_exceeds_one(shapes, density: float, method: str) -> None:
    densities = layer_densities(shapes, density, method)
    sizes = [math.prod(shape) for shape in shapes]
    assert len(densities) == len(shapes)
    assert all(0.0 <= d <= 1.0 for d in densities)
    assert sum(d * n for d, n in zip(densities, sizes, strict=True)) == pytest.approx(density * sum(sizes))
    if method != "uniform":
        assert densities == pytest.approx(naive_densities(shapes, density, method), abs=1e-6)


@given(st.lists(linear, min_size=1, max_size=6), st.floats(0.0, 1.0), st.randoms(use_true_random=False))
def test_order_of_layers_plays_no_part(shapes, density: float, random) -> None:
    order = list(range(len(shapes)))
    random.shuffle(order)
    densities = layer_densities(shapes, density, "er")
    shuffled = layer_densities([shapes[i] for i in order], density, "er")
    assert shuffled == pytest.approx([densities[i] for i in order])
    assert layer_densities(shapes, density, "erk") == densities


def test_golden_values() -> None:
    assert layer_densities([(4, 4), (8, 2, 3, 3)], 0.3) == [0.3, 0.3]
    # (10, 10): 20 / 100; (20, 20): 40 / 400; ε (20 + 40) = 0.12 · 500, so ε = 1
    assert layer_densities([(10, 10), (20, 20)], 0.12, "er") == pytest.approx([0.2, 0.1])
    # twice that; then ε = 7.5, at which the first would be 1.5: it is dense, the other has 450 − 100 of 400
    assert layer_densities([(10, 10), (20, 20)], 0.24, "er") == pytest.approx([0.4, 0.2])
    assert layer_densities([(10, 10), (20, 20)], 0.9, "er") == pytest.approx([1.0, 0.875])
    # (4, 4, 3, 3): ER 8 / 16, ERK 14 / 144; (4, 4): 8 / 16 both; 0.1 of 144 + 16: 16 connections
    assert layer_densities([(4, 4, 3, 3), (4, 4)], 0.1, "er") == pytest.approx([0.1, 0.1])
    assert layer_densities([(4, 4, 3, 3), (4, 4)], 0.1, "erk") == pytest.approx([14 / 22 * 16 / 144, 8 / 22])


@pytest.mark.parametrize("method", ["uniform", "er", "erk"])
def test_none_and_all(method: str) -> None:
    shapes = [(300, 784), (10, 300), (64, 3, 3, 3), (1, 1)]
    assert layer_densities(shapes, 0.0, method) == [0.0] * 4
    assert layer_densities(shapes, 1.0, method) == pytest.approx([1.0] * 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(2, 2)], 1.5), "layer_densities: density must lie in [0, 1], got 1.5"),
        (([(2, 2)], 0.5, "rigl"), "layer_densities: method must be one of uniform, er, erk, got 'rigl'"),
        (([], 0.5), "layer_densities: shapes must name at least one layer, got none"),
        (
            ([(2, 2), (3,)], 0.5),
            "layer_densities: each shape must be (out, in) or (out, in, *kernel), all positive",
        ),
        (([(2, 0)], 0.5, "er"), "all positive, got (2, 0)"),
    ],
)
def test_errors(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        layer_densities(*arguments)
