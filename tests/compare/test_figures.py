"""Pictures: there, the same every time, and of what they claim to show."""

import base64
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropil.compare import figures, scatter
from neuropil.compare.arms import run_recipe
from neuropil.compare.execute import build_network
from neuropil.compare.results import load_results

DRAWN = [
    figures.learning_curves,
    figures.differences,
    figures.accuracy_by_parameters,
    figures.accuracy_by_operations,
    figures.accuracy_by_time,
]


def svg(uri: str | None) -> str:
    assert uri is not None
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/svg+xml"
    return base64.b64decode(content).decode("utf-8")


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize("seeds", [1, 3])
def test_pictures_are_drawn_the_same_every_time(made_up: Any, draw: Any, seeds: int) -> None:
    results = load_results(made_up.comparison(seeds=seeds))
    picture = svg(draw(results))
    assert picture.rstrip().endswith("</svg>")
    assert svg(draw(results)) == picture


@pytest.mark.parametrize("draw", DRAWN)
def test_nothing_is_drawn_of_nothing(made_up: Any, draw: Any) -> None:
    folder = made_up.comparison()
    for file in (*folder.glob("*/*/summary.json"), *folder.glob("*/*/metrics.jsonl")):
        file.unlink()
    assert draw(load_results(folder)) is None


def test_unfinished_runs_are_drawn_as_far_as_they_are(made_up: Any) -> None:
    folder = made_up.comparison()
    made_up.remove_summary("index", 0)
    (made_up.run("index", 1) / "metrics.jsonl").unlink()
    (made_up.run("index", 2) / "metrics.jsonl").write_text('{"epoch": 1, "validation_accuracy": NaN}\n{"epoch": "2"}\n')
    made_up.write_metrics("mixer", 0, [0.5])
    results = load_results(folder)
    assert all(draw(results) for draw in DRAWN)


def test_many_arms(made_up: Any) -> None:
    names = {f"arm-{k}": {"pattern": "ensembles", "n_groups": 8, "p_inter": 0.05 * k} for k in range(4)}
    results = load_results(made_up.comparison(arms=names, seeds=1))
    assert len(results.arms) >= 9
    assert all(draw(results) for draw in DRAWN)


def test_dense_arms_alone(made_up: Any) -> None:
    results = load_results(made_up.comparison(arms={"wide": {"pattern": "dense"}}))
    assert figures.learning_curves(results)
    assert figures.accuracy_by_time(results)
    assert figures.differences(results) is None
    assert figures.wiring_pictures(results) == {}


def test_wirings_are_those_that_the_run_starts_with(made_up: Any) -> None:
    results = load_results(made_up.comparison(seeds=[4, 5]))
    arm = results.arms["mixer"]
    net = build_network(run_recipe(results.recipe, arm.arm, 4), (1, 8, 8), 10)
    assert figures.rebuild_wirings(results, arm) == {
        layer: sparse.wiring for layer, sparse in enumerate(net.sparse_layers(), start=1)
    }


def test_dense_layers_have_no_wiring(made_up: Any) -> None:
    arms = {"half": {"layers": [{"pattern": "dense"}, {"pattern": "ensembles"}]}}
    results = load_results(made_up.comparison(arms=arms))
    assert list(figures.rebuild_wirings(results, results.arms["half"])) == [2]


def test_every_sparse_arm_has_a_picture_of_its_wirings(made_up: Any) -> None:
    results = load_results(made_up.comparison())
    pictures = figures.wiring_pictures(results)
    assert set(pictures) == {name for name, arm in results.arms.items() if not arm.arm.is_dense}
    assert all(uri.startswith("data:image/png;base64,iVBOR") for uri in pictures.values())


def test_no_global_state_of_matplotlib_is_touched(made_up: Any) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.learning_curves(load_results(made_up.comparison()))
    assert dict(matplotlib.rcParams) == before


@given(st.lists(st.floats(0, 1), max_size=14), st.floats(0.01, 0.1))
def test_names_are_moved_apart_and_keep_their_order(heights: list[float], least: float) -> None:
    moved = scatter.spread_apart(heights, least)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    for below, above in itertools.pairwise(moved[i] for i in order):
        assert above - below >= least - 1e-9


def test_names_far_apart_stay() -> None:
    assert scatter.spread_apart([0.1, 0.9, 0.5], 0.1) == [0.1, 0.9, 0.5]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    def dominates(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one[0] <= other[0] and one[1] >= other[1] and one != other

    front = scatter.pareto_front(points)
    assert set(front) == {i for i, point in enumerate(points) if not any(dominates(each, point) for each in points)}
    assert len(front) == len(set(front))
    assert [points[i] for i in front] == sorted(points[i] for i in front)


def test_dominated_arms_are_paler(made_up: Any) -> None:
    # dense-32 costs most and is best, index is beaten by mixer at the same cost
    picture = svg(figures.accuracy_by_operations(load_results(made_up.comparison())))
    assert picture.count("opacity: 0.45") >= 2
    alone = svg(figures.accuracy_by_operations(load_results(type(made_up)(made_up.folder.parent / "b").comparison(
        arms={"wide": {"pattern": "dense"}}))))  # fmt: skip
    assert picture.count("opacity: 0.45") > alone.count("opacity: 0.45") == 1  # of the line itself
