"""Swept arms: what they stand for, their names, and the picture of a sweep."""

import base64
import re
from typing import Any

import pytest
import yaml

from neuropil.compare import RecipeError, expand_arms, load_recipe, run_recipe
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.report import describe_setting, write_report
from neuropil.compare.results import load_results
from neuropil.compare.sweep_figures import sweep_curves, sweep_pictures
from neuropil.compare.sweeps import expand_sweeps, list_sweeps

P_INTER = {"p_inter": [0, 0.05, 0.15, 0.25]}


def recipe(**arms: Any) -> Any:
    return parse_recipe({"name": "r", "question": "?", "model": {"hidden": [64, 64]}, "arms": arms})


def test_a_swept_arm_is_as_many_arms_as_values() -> None:
    swept = recipe(full={"pattern": "dense"}, mixer={"pattern": "mixer", "n_groups": 4, "sweep": P_INTER})
    names = ["mixer-0", "mixer-0.05", "mixer-0.15", "mixer-0.25"]
    single = recipe(
        full={"pattern": "dense"},
        **{name: {"pattern": "mixer", "n_groups": 4, "p_inter": p} for name, p in zip(names, P_INTER["p_inter"])},  # noqa: B905
    )
    arms = expand_arms(swept)
    assert arms == expand_arms(single)
    assert [arm.name for arm in arms if not arm.is_control] == ["full", *names]
    assert [run_recipe(swept, arm, 1) for arm in arms] == [run_recipe(single, arm, 1) for arm in arms]


def test_arms_swept_over_the_same_share_their_controls() -> None:
    chosen = recipe(
        index={"pattern": "ensembles", "sweep": P_INTER},
        mixer={"pattern": "mixer", "sweep": P_INTER},
    )
    arms = {arm.name: arm for arm in expand_arms(chosen)}
    assert sum(arm.is_control for arm in arms.values()) == 1 + 4 + 4
    for value in ("0", "0.05", "0.15", "0.25"):
        assert arms[f"index-{value}"].twins == arms[f"mixer-{value}"].twins
    assert arms["index-0"].twins["erdos-renyi"] != arms["index-0.25"].twins["erdos-renyi"]


def test_several_settings_give_every_combination() -> None:
    arm = {"pattern": "mixer", "p_inter": 0.5, "sweep": {"p_inter": [0, 0.05], "n_groups": [4, 8]}}
    expanded = expand_sweeps({"m": arm, "plain": {"pattern": "dense"}})
    assert expanded == {
        "m-0-4": {"pattern": "mixer", "p_inter": 0, "n_groups": 4},
        "m-0-8": {"pattern": "mixer", "p_inter": 0, "n_groups": 8},
        "m-0.05-4": {"pattern": "mixer", "p_inter": 0.05, "n_groups": 4},
        "m-0.05-8": {"pattern": "mixer", "p_inter": 0.05, "n_groups": 8},
        "plain": {"pattern": "dense"},
    }
    assert list_sweeps({"m": arm})[0].keys == ("p_inter", "n_groups")
    assert list_sweeps({"m": arm})[0].values["m-0.05-8"] == (0.05, 8)


@pytest.mark.parametrize(
    ("key", "values", "names"),
    [
        ("p_inter", [0.0, 0.1, 1.0], ["a-0", "a-0.1", "a-1"]),
        ("p_inter", [1 / 3, 1e-7], ["a-0.3333333333333333", "a-1e-07"]),
        ("grouping", ["index", "random"], ["a-index", "a-random"]),
        ("exact", [True, False], ["a-true", "a-false"]),
        ("block", [[1, 1], ["group", 1]], ["a-1-1", "a-group-1"]),
        ("rewiring", [None, "set"], ["a-null", "a-set"]),
    ],
)
def test_names_and_values(key: str, values: list[Any], names: list[str]) -> None:
    chosen = recipe(a={"pattern": "ensembles", "sweep": {key: values}})
    assert [arm.name for arm in expand_arms(chosen) if not arm.is_control] == names
    assert [arm[key] for arm in expand_sweeps(chosen.arms).values()] == values


@pytest.mark.parametrize(
    ("arms", "sentence"),
    [
        ({"a": {"sweep": [0, 1]}}, r"arms.a: sweep must name settings and list their values, got \[0, 1\]; try \{p_inter"),
        ({"a": {"sweep": {}}}, "arms.a: sweep must name settings and list their values, got {}"),
        ({"a": {"sweep": {"p_inter": 0.1}}}, r"arms.a: sweep.p_inter must be a list of values, got 0.1; try \[0"),
        ({"a": {"sweep": {"p_inter": []}}}, r"arms.a: sweep.p_inter must be a list of values, got \[\]"),
        ({"a": {"sweep": {"p_inter": [{}]}}}, "arms.a: sweep.p_inter: a value must be a number, a word or a list of them"),
        ({"a": {"sweep": {"p_inter": [0, 0.0]}}}, r"arms.a: sweep.p_inter: the values must differ from each other, got \[0"),
        ({"a": {"sweep": {"p_iner": [0]}}}, "arms.a-0: mixer has no setting 'p_iner'; try 'p_inter'"),
        ({"a": {"sweep": {"p_inter": [0, 2]}}}, r"arms.a-2: Ensembles: p_inter must lie in \[0, 1\], got 2"),
        ({"a": {"sweep": {"grouping": ["Index"]}}}, "arms: a name must start with a-z or 0-9, .* got 'a-Index'"),
        ({"a": {"sweep": {"layers": [[{}]]}}}, "arms.a: sweep.layers: a value must be a number"),
        ({"a-0": {}, "a": {"sweep": {"p_inter": [0]}}}, "arms.a: its sweep makes an arm 'a-0', but there is one already"),
        ({"a": {"sweep": {"p_inter": [0]}}, "a-0": {}}, "arms.a: its sweep makes an arm 'a-0', but there is one already"),
        (
            {"a": {"sweep": {"p_inter": [0], "n_groups": [4]}}, "a-0": {"sweep": {"n_groups": [4]}}},
            "arms.a-0: its sweep makes an arm 'a-0-4', but there is one already",
        ),
    ],
)  # fmt: skip
def test_sweeps_that_make_no_sense(arms: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence) as caught:
        recipe(**{name: {"pattern": "mixer", **arm} for name, arm in arms.items()})
    assert "\n" not in str(caught.value)


def test_the_name_of_a_control_is_taken() -> None:
    with pytest.raises(RecipeError, match=r"arms\.dense-64: this name belongs to a control that is added"):
        expand_arms(recipe(dense={"pattern": "ensembles", "sweep": {"n_groups": [64, 8]}}))


def test_overrides(tmp_path: Any) -> None:
    path = tmp_path / "mine.yaml"
    arms = {"mixer": {"pattern": "mixer", "p_inter": 0.3}, "a.b": {"pattern": "ensembles", "sweep": P_INTER}}
    path.write_text(yaml.safe_dump({"question": "?", "model": {"hidden": [16, 16]}, "arms": arms}, sort_keys=False))
    found = load_recipe(path, ["arms.mixer.sweep.p_inter=[0,.1]", "arms.a.b.sweep.n_groups=[2, 4]"])
    expanded = expand_sweeps(found.arms)
    assert list(expanded)[:2] == ["mixer-0", "mixer-0.1"]
    assert len(expanded) == 2 + 4 * 2
    assert expanded["mixer-0.1"] == {"pattern": "mixer", "p_inter": 0.1}
    found = load_recipe(path, ["arms.mixer.sweep={p_inter: [0.2]}", "arms.a.b.sweep=null"])
    assert list(expand_sweeps(found.arms)) == ["mixer-0.2", "a.b"]
    with pytest.raises(RecipeError, match=r"arms.mixer: sweep.p_inter must be a list of values, got 0.1"):
        load_recipe(path, ["arms.mixer.sweep.p_inter=0.1"])


def test_bundled_arms_can_be_swept() -> None:
    names = [arm.name for arm in expand_arms(load_recipe("digits", ["arms.mixer.sweep.p_inter=[0,.1]"]))]
    assert {"mixer-0", "mixer-0.1"} <= set(names)
    assert "mixer" not in names


SWEPT = {
    "index": {"pattern": "ensembles", "n_groups": 8, "sweep": {"p_inter": [0.25, 0, 0.1]}},
    "mixer": {"pattern": "mixer", "n_groups": 8, "sweep": {"p_inter": [0, 0.1, 0.25]}},
    "few": {"pattern": "mixer", "sweep": {"n_groups": [4, 8]}},
    "words": {"pattern": "ensembles", "p_inter": 0.4, "sweep": {"grouping": ["index", "interleaved", "random"]}},
}


def test_curves_of_a_sweep(made_up: Any) -> None:
    results = load_results(made_up.comparison(arms=SWEPT))
    (curves,) = sweep_curves(results).values()
    assert [(curve.label, curve.kind) for curve in curves] == [
        ("index", "arm"),
        ("mixer", "arm"),
        ("dense, same parameters", "dense-same-parameters"),
        ("Erdős–Rényi, same density", "erdos-renyi"),
    ]
    index = curves[0]
    assert [value for value, _ in index.points] == [0.0, 0.1, 0.25]
    assert [accuracy for _, accuracy in index.points] == [
        results.arms[f"index-{value}"].accuracy for value in ("0", "0.1", "0.25")
    ]
    twins = [results.arms[f"mixer-{value}"].arm.twins["erdos-renyi"] for value in ("0", "0.1", "0.25")]
    control = next(curve for curve in curves if curve.kind == "erdos-renyi")
    assert [accuracy for _, accuracy in control.points] == [results.arms[twin].accuracy for twin in twins]


def test_controls_of_different_densities_have_lines_of_their_own(made_up: Any) -> None:
    arms = {"a": SWEPT["mixer"], "b": {**SWEPT["mixer"], "n_groups": 4}}
    (curves,) = sweep_curves(load_results(made_up.comparison(arms=arms, seeds=1))).values()
    assert [curve.label for curve in curves] == [
        "a", "b", "dense, same parameters (a)", "dense, same parameters (b)", "Erdős–Rényi, same density (a)",
        "Erdős–Rényi, same density (b)",
    ]  # fmt: skip


def test_an_arm_that_is_its_own_control_is_drawn_once(made_up: Any) -> None:
    arms = {"er": {"pattern": "erdos-renyi", "exact": True, "sweep": {"density": [0.1, 0.2, 0.4]}}}
    (curves,) = sweep_curves(load_results(made_up.comparison(arms=arms, seeds=1))).values()
    assert [curve.label for curve in curves] == ["er", "dense, same parameters"]


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_report_has_a_picture_of_each_sweep(made_up: Any, seeds: int) -> None:
    folder = made_up.comparison(arms=SWEPT, seeds=seeds)
    results = load_results(folder)
    ((key, picture),) = sweep_pictures(results)
    assert key == "p_inter"
    assert base64.b64decode(picture.partition(",")[2]).rstrip().endswith(b"</svg>")
    assert sweep_pictures(results) == [(key, picture)]
    html = write_report(folder).read_text()
    assert '">Sweep</h2>' in html
    assert 'alt="Test accuracy against p_inter, of swept arms and their controls"' in html
    assert "words-random" in html


def test_a_sweep_is_drawn_as_far_as_it_is_done(made_up: Any) -> None:
    folder = made_up.comparison(arms={"mixer": SWEPT["mixer"]})
    for seed in range(3):
        made_up.remove_summary("mixer-0.1", seed)
    (curves,) = sweep_curves(load_results(folder)).values()
    assert [value for value, _ in curves[0].points] == [0, 0.25]
    assert sweep_pictures(load_results(folder))
    for summary in folder.glob("*/*/summary.json"):
        summary.unlink()
    assert sweep_pictures(load_results(folder)) == []


def test_no_sweep_no_section(made_up: Any) -> None:
    html = write_report(made_up.comparison()).read_text()
    assert not re.search("sweep|swept", re.sub(r"base64,[^\"]*", "", html), flags=re.IGNORECASE)


def test_the_setting_names_what_is_rewired_in_a_sweep() -> None:
    arms = {"a": {"pattern": "mixer", "sweep": {"rewiring": ["set", "rigl"]}}}
    assert "(a-set by SET, a-rigl by RigL)" in describe_setting(recipe(**arms))
