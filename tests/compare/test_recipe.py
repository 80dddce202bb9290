import pytest
import yaml

from neuropil.compare import RecipeError, bundled_recipes, expand_arms, load_recipe
from neuropil.compare.recipe import parse_recipe
from neuropil.compare.registry import read_rewiring

SMALL = {
    "name": "small",
    "question": "Does it run?",
    "model": {"hidden": [16, 16]},
    "arms": {"mixer": {"pattern": "mixer", "n_groups": 4, "p_inter": 0.2}},
}


def test_defaults():
    recipe = parse_recipe(SMALL)
    assert recipe.data.name == "digits"
    assert recipe.seeds == [0, 1, 2]
    assert recipe.training.optimizer == "adam"


def test_seeds_are_a_number_or_a_list():
    assert parse_recipe({**SMALL, "seeds": 2}).seeds == [0, 1]
    assert parse_recipe({**SMALL, "seeds": [7, 3]}).seeds == [7, 3]


def test_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    settings = [
        "epochs=3",
        "training.learning_rate=0.01",
        "seeds=4",
        "hidden=[8, 8]",
        "arms.mixer.p_inter=0",
        "name=other",
    ]
    recipe = load_recipe(path, settings)
    assert recipe.training.epochs == 3
    assert recipe.training.learning_rate == 0.01
    assert recipe.seeds == [0, 1, 2, 3]
    assert recipe.model.hidden == [8, 8]
    assert recipe.arms["mixer"]["p_inter"] == 0
    assert recipe.name == "other"


def test_name_is_the_file_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in SMALL.items() if key != "name"}))
    assert load_recipe(path).name == "mine"


@pytest.mark.parametrize("name", bundled_recipes())
def test_bundled_recipes_are_whole(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.question.endswith("?")
    assert len(recipe.seeds) >= 3
    arms = {arm.name: arm for arm in expand_arms(recipe)}
    for arm in arms.values():
        if not arm.is_dense and not arm.is_control:
            own = {"static"} if arm.rewiring and read_rewiring(arm.rewiring).keeps_density else set()
            assert set(arm.twins) == {"dense-same-width", "dense-same-parameters", "erdos-renyi"} | own
            assert set(arm.twins.values()) <= set(arms)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trainin": {}}, "recipe: trainin is unknown; try 'training'"),
        ({"training": {"epoch": 3}}, "recipe: training.epoch is unknown; try 'epochs'"),
        ({"model": {"hidden": [16, 16], "zzz": 3}}, "recipe: model.zzz is unknown; known are hidden, patches"),
        ({"training": {"epochs": "many"}}, "training.epochs: input should be a valid integer.*, got 'many'"),
        ({"training": {"epochs": 0}}, "training.epochs: input should be greater than or equal to 1, got 0"),
        ({"training": {"optimizer": "adamm"}}, "training.optimizer: input should be 'adam', 'adamw', 'sgd', 'exponentiated-gradient' or 'exponentiated-adam', got 'adamm'"),
        ({"data": {"name": "digit"}}, "data.name must be one of digits, .*, got 'digit'; try 'digits'"),
        ({"data": {"validation": 1.5}}, "data.validation: input should be less than 1, got 1.5"),
        ({"question": None}, "question: input should be a valid string, got None"),
        ({"seeds": 0}, "seeds must be 1 to 10000, or a list, got 0"),
        ({"seeds": [1, 1]}, r"seeds must differ from each other, got \[1, 1\]"),
        ({"arms": {}}, "arms: dictionary should have at least 1 item"),
        ({"arms": {"../x": {"pattern": "dense"}}}, "arms: a name must start with a-z or 0-9, .* got '../x'"),
        ({"arms": {"a": {"pattern": "ensemble"}}}, "arms.a: pattern must be one of .*, got 'ensemble'; try 'ensembles'"),
        ({"arms": {"a": {"pattern": "mixer", "grouping": "index"}}}, "arms.a: mixer has no setting 'grouping'"),
        ({"arms": {"a": {"pattern": "ensembles", "p_iner": 0}}}, "ensembles has no setting 'p_iner'; try 'p_inter'"),
        ({"arms": {"a": {"pattern": "ensembles", "p_inter": 1.5}}}, r"Ensembles: p_inter must lie in \[0, 1\], got 1.5"),
        ({"arms": {"a": {"pattern": "ensembles", "n_groups": "x"}}}, "ensembles: n_groups: input should be a valid integer"),
        ({"arms": {"a": {"pattern": "erdos-renyi"}}}, "erdos-renyi: density is missing"),
        ({"arms": {"a": {"layers": [{"pattern": "dense"}]}}}, "layers must list one pattern for each of the 2 hidden layers"),
    ],
)  # fmt: skip
def test_one_sentence_for_what_is_wrong(change, sentence):
    with pytest.raises(RecipeError, match=sentence) as caught:
        parse_recipe({**SMALL, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("epochs", "a setting must have the form key=value, got 'epochs'"),
        ("epoch=3", "setting 'epoch' is unknown; try 'training.epochs'"),
        ("training.epoch=3", "setting 'training.epoch' is unknown; try 'training.epochs'"),
        ("epochs=[", "epochs: the value must be YAML"),
        ("zzz=1", "setting 'zzz' is unknown; see: neuropil show recipe"),
    ],
)
def test_one_sentence_for_a_wrong_setting(setting, sentence):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("digits", [setting])


def test_ambiguous_setting(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump(
            {**SMALL, "arms": {"a": {"pattern": "mixer", "n_groups": 4}, "b": {"pattern": "mixer", "n_groups": 2}}}
        )
    )
    with pytest.raises(
        RecipeError, match="'n_groups' must be one key, got several; try arms.a.n_groups or arms.b.n_groups"
    ):
        load_recipe(path, ["n_groups=1"])


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(RecipeError, match="must be the path of a YAML file or one of .*, got 'digit'; try 'digits'"):
        load_recipe("digit")
    path = tmp_path / "broken.yaml"
    for content, sentence in (
        (b"a: [", "recipe broken.yaml must be YAML text"),
        (b"\xff\xfe\x00", "recipe broken.yaml must be YAML text"),
        (b"- 1\n", "recipe broken.yaml must hold keys and values, got list"),
        (b"!!python/object/apply:os.system ['true']\n", "recipe broken.yaml must be YAML text"),
    ):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=sentence) as caught:
            load_recipe(path)
        assert "\n" not in str(caught.value)


def test_what_would_be_lost_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("question: why?\narms:\n  a: {pattern: dense}\n  a: {pattern: mixer}\n")
    with pytest.raises(RecipeError, match="the key 'a' stands twice"):
        load_recipe(path)
    path.write_text("question: one?\ntraining:\narms:\n  a.b: {pattern: ensembles, p_inter: 0.1}\n")
    recipe = load_recipe(path, ["epochs=3", "arms.a.b.p_inter=0.2"])
    assert recipe.training.epochs == 3
    assert recipe.arms["a.b"]["p_inter"] == 0.2
