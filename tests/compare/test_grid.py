import csv
import re

import pytest
import yaml
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare import (
    RecipeError,
    compare,
    execute,
    expand_arms,
    expand_grid,
    load_results,
    run_recipe,
    sharing,
    write_overview,
)  # fmt: skip
from neuropil.compare import grid as grid_module
from neuropil.compare.grid import check_size
from neuropil.compare.recipe import load_recipe, parse_recipe

SMALL = {
    "name": "small",
    "question": "Is there a best point?",
    "model": {"hidden": [16, 16]},
    "training": {"epochs": 1, "batch_size": 256},
    "seeds": 1,
    "arms": {"mixer": {"pattern": "mixer", "n_groups": 4, "p_inter": 0.2}},
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


@pytest.fixture
def asked(monkeypatch):
    """Do tasks in this process; give the folders of those that were to be done."""
    asked = []

    def do(tasks, **_):
        for task in tasks:
            if task.summary is None:
                asked.append("/".join(task.folder.parts[-3:-1]))
                execute(task.recipe, task.folder)
            task.state = "done"

    monkeypatch.setattr(sharing, "do_tasks", do)
    return asked


@pytest.mark.parametrize(
    ("setting", "grid"),
    [
        ("epochs=[5, 10]", {"training.epochs": [5, 10]}),
        ("hidden=[[64], [64, 64]]", {"model.hidden": [[64], [64, 64]]}),
        ("hidden=[64, 64]", {}),
        ("seeds=[3, 4]", {}),
        ("seeds=[[3, 4], [5]]", {"seeds": [[3, 4], [5]]}),
        ("folds=[2, 5]", {"folds": [2, 5]}),
        ("start=[default, kaiming]", {"model.start": ["default", "kaiming"]}),
        ("arms.mixer.p_inter=[0.1, 0.2]", {"arms.mixer.p_inter": [0.1, 0.2]}),
        ("arms.mixer.block=[group, 1]", {}),
        ("arms.mixer.block=[[group, 1], [1, 1]]", {"arms.mixer.block": [["group", 1], [1, 1]]}),
        ("arms.mixer.training={learning_rate: [0.1, 0.2]}", {"arms.mixer.training.learning_rate": [0.1, 0.2]}),
        ("arms.mixer.rewiring={rule: set, per_epoch: [1, 2]}", {"arms.mixer.rewiring.per_epoch": [1, 2]}),
        ("grid={learning_rate: [0.1, 0.2]}", {"training.learning_rate": [0.1, 0.2]}),
        ("probes=[norms]", {}),
    ],
)
def test_a_list_in_the_place_of_one_value_is_a_grid(recipe, setting, grid):
    found = load_recipe(recipe, [setting])
    assert found.grid == grid
    for key, values in grid.items():
        for value, point in zip(values, expand_grid(found).values(), strict=True):
            assert value_at(point.model_dump(), key) == value


def value_at(content, key):
    for part in key.split("."):
        content = content[part]
    return content


def test_points_are_all_combinations_with_names_that_are_folders(recipe):
    found = load_recipe(recipe, ["epochs=[5, 10]", "arms.mixer.p_inter=[0.1, 0.25]", "rule=[backpropagation, pepita]"])
    points = expand_grid(found)
    assert len(points) == 8
    assert [*points][:2] == ["epochs=5,rule=backpropagation,p_inter=0.1", "epochs=5,rule=backpropagation,p_inter=0.25"]
    last = points["epochs=10,rule=pepita,p_inter=0.25"]
    assert (last.training.epochs, last.training.rule, last.arms["mixer"]["p_inter"]) == (10, "pepita", 0.25)
    assert last.question == "Is there a best point? (epochs 10, rule pepita, p inter 0.25)"
    assert not last.grid
    long = parse_recipe({**SMALL, "grid": {"model.hidden": [[16] * 60, [16] * 61]}})
    assert len(names := [*expand_grid(long)]) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9._,=+-]{1,200}", name) for name in (*names, *points))


def test_a_grid_is_kept_in_the_recipe(recipe):
    found = load_recipe(recipe, ["epochs=[5, 10]"])
    assert parse_recipe(found.model_dump()) == found
    assert "grid" not in load_recipe(recipe).model_dump()


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ({"training.epohcs": [1, 2]}, "setting 'training.epohcs' is unknown; try 'training.epochs'"),
        ({"arms.mixr.p_inter": [1]}, "setting 'arms.mixr.p_inter' is unknown; try 'arms.mixer.p_inter'"),
        ({"training.epochs": []}, r"grid.training.epochs must be a list of values, got \[\]"),
        ({"training.epochs": 5}, "grid.training.epochs must be a list of values, got 5"),
        ({"training.epochs": [5, 5]}, r"grid.training.epochs: the values must differ from each other, got \[5, 5\]"),
        ({"name": ["a", "b"]}, "grid: name must be a setting of data, model, spiking, training or arms"),
        ([1], r"grid must name settings and list their values, got \[1\]"),
    ],
)
def test_what_is_no_grid(grid, sentence):
    with pytest.raises(RecipeError, match=sentence):
        parse_recipe({**SMALL, "grid": grid})


def test_a_point_that_makes_no_sense_is_found_before_any_run(asked, tmp_path):
    recipe = parse_recipe({**SMALL, "grid": {"arms.mixer.p_inter": [0.1, 2]}})
    with pytest.raises(RecipeError, match=r"small, at p inter 2: arms.mixer: Ensembles: p_inter must lie in \[0, 1\]"):
        compare(recipe, tmp_path / "c")
    recipe = parse_recipe({**SMALL, "grid": {"arms.mixer.p_iter": [0.1, 0.2]}})
    with pytest.raises(RecipeError, match="mixer has no setting 'p_iter'; try 'p_inter'"):
        compare(recipe, tmp_path / "c")
    assert asked == []
    assert not (tmp_path / "c").exists()


def test_many_runs_must_be_meant(monkeypatch):
    rates = [float(f"0.{n:03}") for n in range(1, 101)]
    huge = parse_recipe({**SMALL, "seeds": 10, "grid": {"learning_rate": rates, "weight_decay": rates}})
    many = parse_recipe({**SMALL, "seeds": 3000})
    swept = parse_recipe(
        {**SMALL, "seeds": 5000, "arms": {"m": {**SMALL["arms"]["mixer"], "sweep": {"n_groups": [2, 4, 8]}}}}
    )
    with pytest.raises(ValueError, match="10,000 runs must be confirmed, got about 12,000; try --yes"):
        check_size(many)
    folds = parse_recipe({**SMALL, "grid": {"folds": [500, 800]}})
    check_size(folds)  # 1,300 of 4 arms

    def refuse(_):
        raise AssertionError("wirings were drawn")

    monkeypatch.setattr(grid_module, "expand_arms", refuse)
    with pytest.raises(ValueError, match="must be confirmed, got 100,000 and more with their controls; try --yes"):
        check_size(huge)
    with pytest.raises(ValueError, match="got 15,000 and more"):
        check_size(swept)
    check_size(huge, yes=True)


def test_compare_does_each_run_once_and_gives_an_overview(recipe, asked, tmp_path):
    words = ["compare", str(recipe), "arms.mixer.p_inter=[0.1, 0.4]", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    points = [tmp_path / "out" / name for name in ("p_inter=0.1", "p_inter=0.4")]
    runs = [len(load_results(point).runs) for point in points]
    assert runs == [4, 4]
    assert len(asked) == 7  # the dense network of the same width is one run
    assert "p_inter=0.1/dense-16" in asked
    assert "p_inter=0.4/dense-16" not in asked
    page = (tmp_path / "out" / "report.html").read_text()
    links = re.findall(r'href="([^"]*)"', page)
    assert {link.replace("%3D", "=") for link in links} == {f"{point.name}/report.html" for point in points}
    assert all((point / "report.html").is_file() and (point / "results.csv").is_file() for point in points)
    assert "All 8 runs are done." in page
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["arms.mixer.p_inter"] for row in rows] == ["0.1"] * 4 + ["0.4"] * 4
    assert {row["status"] for row in rows} == {"done"}
    accuracies = {row["arms.mixer.p_inter"]: float(row["test_accuracy"]) for row in rows if row["arm"] == "mixer"}
    for p_inter, accuracy in accuracies.items():
        assert re.search(rf"^{p_inter} .* {100 * accuracy:.2f} ", done.output, flags=re.M)
        assert f"<td>{100 * accuracy:.2f}" in page

    other = parse_recipe(SMALL)
    with pytest.raises(RecipeError, match="must be a comparison's, got one of a grid; try another folder"):
        compare(other, tmp_path / "out")
    with pytest.raises(RecipeError, match="must be a grid's, got one of a comparison without; try another folder"):
        compare(load_recipe(recipe, ["epochs=[1, 2]"]), points[0])


def test_an_unfinished_grid_has_an_overview(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(sharing, "do_tasks", lambda tasks, **_: None)
    monkeypatch.setattr("neuropil.compare.overview.write_report", lambda folder: folder)
    compare(load_recipe(recipe, ["epochs=[1, 2]", "weight_decay=[0, 0.1]"]), tmp_path / "c")
    page = write_overview(tmp_path / "c").read_text()
    assert "0 of 16 runs are done." in page
    assert page.count("Of 4 runs, 4 missing") == 4


def test_run_does_one_point(recipe, tmp_path):
    done = CliRunner().invoke(app, ["run", str(recipe), "epochs=[1, 2]", "--out", str(tmp_path / "r")])
    assert "run: training.epochs must be one value, got a grid of 2" in str(done.exception)


def test_controls_may_have_settings_of_their_own():
    arms = {"mixer": {**SMALL["arms"]["mixer"], "training": {"learning_rate": 0.1}}, "dense": {"pattern": "dense"}}
    controls = {"erdos-renyi-0.4": {"training": {"learning_rate": 0.3}, "start": "kaiming"}}
    alone = {arm.name: arm for arm in expand_arms(parse_recipe({**SMALL, "arms": arms}))}
    assert alone["mixer"].twins["dense-same-width"] == "dense-16"  # which learns as the mixer does
    recipe = parse_recipe({**SMALL, "arms": arms, "controls": controls})
    found = {arm.name: arm for arm in expand_arms(recipe)}
    assert found["mixer"].twins["dense-same-width"] == "dense"  # whose own rate is as good as the controls'
    random = found["mixer"].twins["erdos-renyi"]
    made = run_recipe(recipe, found[random], 0)
    assert (random, made["training"]["learning_rate"], made["model"]["start"]) == ("erdos-renyi-0.4", 0.3, "kaiming")
    for wrong, sentence in (
        ({"erdos-renyi-0.5": {}}, "controls.erdos-renyi-0.5 must be a control that is added; try 'erdos-renyi-0.4'"),
        (
            {"erdos-renyi-0.4": {"training": {"epochs": 1}}},
            "controls.erdos-renyi-0.4: training.epochs must be the same",
        ),
    ):
        with pytest.raises(RecipeError, match=sentence):
            expand_arms(parse_recipe({**SMALL, "arms": arms, "controls": wrong}))
    with pytest.raises(RecipeError, match="a control may have its own start and training, got 'pattern'"):
        parse_recipe({**SMALL, "controls": {"dense-16": {"pattern": "dense"}}})
