"""Pictures of rewiring: there, the same every time, and of what the events say."""

import base64
from typing import Any

import pytest

from neuropil.compare.results import load_results
from neuropil.compare.rewiring_figures import rewiring_pictures, trace
from neuropil.rewire.groups import Groups, Modularity


def svg(uri: str) -> str:
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/svg+xml"
    return base64.b64decode(content).decode("utf-8")


@pytest.mark.parametrize("seeds", [1, 3])
def test_each_rewired_arm_has_a_picture_the_same_every_time(made_up: Any, seeds: int) -> None:
    results = load_results(made_up.rewired(seeds=seeds))
    pictures = rewiring_pictures(results)
    assert set(pictures) == {"mixer-set", "er-rigl", "er-gmp"}
    assert all(svg(uri).rstrip().endswith("</svg>") for uri in pictures.values())
    assert rewiring_pictures(results) == pictures


def test_nothing_is_drawn_of_nothing(made_up: Any) -> None:
    assert rewiring_pictures(load_results(made_up.comparison())) == {}
    other = type(made_up)(made_up.folder.parent / "rewired")
    folder = other.rewired()
    for file in folder.glob("*/*/rewiring.jsonl"):
        file.unlink()
    assert rewiring_pictures(load_results(folder)) == {}


def test_bars_are_shares_of_what_there_was(made_up: Any) -> None:
    results = load_results(made_up.rewired())
    course = trace(results, results.arms["mixer-set"])
    assert [bar.came for bar in course.bars] == [pytest.approx((5 / 200, 15 / 200))] * 4
    assert [bar.went for bar in course.bars] == [pytest.approx((15 / 200, 5 / 200))] * 4
    plain = trace(results, results.arms["er-rigl"])
    assert [bar.came for bar in plain.bars] == [pytest.approx((20 / 200,))] * 4
    assert (plain.modularity, plain.static) == ({}, None)


def test_what_went_counts_to_what_there_was(made_up: Any) -> None:
    folder = made_up.rewired(seeds=1)
    made_up.write_events("er-gmp", 0, groups=False, went=100, came=0, n_blocks=300)
    results = load_results(folder)
    course = trace(results, results.arms["er-gmp"])
    assert {bar.went for bar in course.bars} == {(0.25,)}
    assert {bar.came for bar in course.bars} == {(0.0,)}


def test_curves_begin_with_the_wiring_that_training_starts_with(made_up: Any) -> None:
    results = load_results(made_up.rewired())
    arm = results.arms["mixer-set"]
    course = trace(results, arm)
    wirings = [p.wire(*size) for p, size in zip(arm.arm.patterns, [(64, 32), (32, 32)], strict=True)]
    x, y = course.explored["layer 1"]
    assert x[0] == 0.0
    assert 0.2 < y[0] < 0.3  # density 0.256, but for chance
    assert y[1:] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.8])
    x, y = course.modularity["layer 2"]
    assert y[1:] == pytest.approx([0.375, 0.35, 0.325, 0.3, 0.3])
    expected = [Modularity(Groups.of(wiring), wiring.cells()).value for wiring in wirings]
    assert course.static == pytest.approx(sum(expected) / 2, abs=0.05)
    assert course.without_input["layer 1"][1] == [0.0] * 6


def test_events_lie_in_the_epoch_that_their_record_names(made_up: Any) -> None:
    results = load_results(made_up.rewired(training={"epochs": 2, "batch_size": 64}))  # 970 images: 16 steps
    x, _ = trace(results, results.arms["mixer-set"]).explored["layer 1"]
    assert x == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    results = load_results(type(made_up)(made_up.folder.parent / "more").rewired())  # of 4 steps by its recipe
    x, _ = trace(results, results.arms["mixer-set"]).explored["layer 1"]
    assert x == [0.0, 1.0, 1.0, 2.0, 2.0, 2.0]


def test_many_events_share_bars(made_up: Any) -> None:
    folder = made_up.rewired(seeds=1, training={"epochs": 2, "batch_size": 8})
    records = [
        {"epoch": 1 + (step > 122), "step": step, "layer": "hidden.0", "dropped": 3, "went": 2, "came": 2,
         "went_within": None, "came_within": None, "n_blocks": 20, "density": 0.25, "explored": 0.5,
         "modularity": None, "neurons_without_input": step % 3}
        for step in range(1, 245)
    ]  # fmt: skip
    made_up.write_lines("er-rigl", 0, records)
    results = load_results(folder)
    course = trace(results, results.arms["er-rigl"])
    assert 20 < len(course.bars) <= 40
    assert all(bar.came == pytest.approx((0.1,)) for bar in course.bars)
    assert rewiring_pictures(results)["er-rigl"]


def test_foreign_layers_are_passed_over(made_up: Any) -> None:
    folder = made_up.rewired(seeds=1)
    made_up.write_events("er-rigl", 0, groups=False, layer="elsewhere")
    results = load_results(folder)
    assert trace(results, results.arms["er-rigl"]) is None
    assert set(rewiring_pictures(results)) == {"mixer-set", "er-gmp"}


def test_seeds_that_came_less_far(made_up: Any) -> None:
    folder = made_up.rewired()
    made_up.write_events("mixer-set", 1, n=1)
    (made_up.run("mixer-set", 2) / "rewiring.jsonl").unlink()
    results = load_results(folder)
    assert len(trace(results, results.arms["mixer-set"]).bars) == 4
    assert "mixer-set" in rewiring_pictures(results)


@pytest.mark.parametrize("values", [{"went": 0, "came": 0, "went_within": 0, "came_within": 0}, {"n_blocks": 0}])
def test_events_that_changed_nothing(made_up: Any, values: dict[str, int]) -> None:
    folder = made_up.rewired(seeds=1)
    made_up.write_events("mixer-set", 0, **values)
    assert "mixer-set" in rewiring_pictures(load_results(folder))


def test_a_sparse_read_out_is_called_so(made_up: Any) -> None:
    arms = {
        "er": {
            "pattern": "erdos-renyi", "density": 0.3, "readout": {"pattern": "erdos-renyi", "density": 0.5},
            "rewiring": "set",
        }
    }  # fmt: skip
    folder = made_up.comparison(arms=arms, seeds=1)
    made_up.write_events("er", 0, groups=False, layer="readout")
    results = load_results(folder)
    assert list(trace(results, results.arms["er"]).explored) == ["read-out"]
