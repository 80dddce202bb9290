"""Pictures of activity: there, the same every time, and of what the runs have told."""

import base64
import re
from typing import Any

import pytest

from neuropil.compare.activity_figures import accuracy_by_energy, activity_pictures, trace
from neuropil.compare.results import load_results


def svg(uri: str | None) -> str:
    assert uri is not None
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/svg+xml"
    return base64.b64decode(content).decode("utf-8")


@pytest.mark.parametrize("seeds", [1, 3])
def test_each_arm_has_a_picture_the_same_every_time(made_up: Any, seeds: int) -> None:
    results = load_results(made_up.spiking(seeds=seeds))
    pictures = activity_pictures(results)
    assert list(pictures) == ["index", "mixer"]
    assert all(svg(uri).rstrip().endswith("</svg>") for uri in pictures.values())
    assert activity_pictures(results) == pictures
    assert svg(accuracy_by_energy(results)) == svg(accuracy_by_energy(results))


def test_courses_are_those_of_the_runs(made_up: Any) -> None:
    course = trace(load_results(made_up.spiking()).arms["mixer"])
    assert list(course.rates) == ["layer 1", "layer 2", "read-out"]
    assert [curve[1] for curve in course.rates["layer 1"]] == [pytest.approx(10)] * 3
    assert [curve[2] for curve in course.rates["layer 2"]] == [pytest.approx(20 + seed) for seed in range(3)]
    assert course.dead == {"layer 1": [50.0] * 3, "layer 2": [75.0] * 3, "read-out": [0.0] * 3}


def test_unfinished_and_damaged_runs_are_drawn_as_far_as_they_are(made_up: Any) -> None:
    folder = made_up.spiking()
    made_up.remove_summary("mixer", 0)
    made_up.write_activity("mixer", 0, made_up.activity(1))
    made_up.write_activity("mixer", 1, {"epoch": "1"}, {"epoch": 2, "firing_rates": {"hidden.1": "x"}})
    course = trace(load_results(folder).arms["mixer"])
    assert [len(curve) for curve in course.rates["layer 1"]] == [1, 2]
    assert len(course.dead["layer 1"]) == 1
    made_up.write_activity("index", 0, made_up.activity(1, rates=(0.0, 0.0, 0.0)))
    assert set(activity_pictures(load_results(folder))) == {"index", "mixer"}


def test_nothing_is_drawn_of_nothing(made_up: Any) -> None:
    results = load_results(made_up.comparison(spiking={}))
    assert activity_pictures(results) == {}
    assert accuracy_by_energy(results) is None


def test_networks_of_many_layers_and_of_none_that_is_sparse(made_up: Any) -> None:
    folder = made_up.comparison(spiking={}, arms={"wide": {"pattern": "dense"}}, seeds=1)
    names = [*(f"hidden.{i}" for i in range(1, 14, 2)), "output"]
    shares = dict.fromkeys(names, 0.5)
    made_up.write_activity("wide", 0, made_up.activity(2, firing_rates=shares, dead=shares))
    picture = svg(activity_pictures(load_results(folder))["wide"])
    height = re.search(r'height="([\d.]+)pt"', picture)
    assert height is not None
    assert float(height.group(1)) > 200  # nine panels take a second row
