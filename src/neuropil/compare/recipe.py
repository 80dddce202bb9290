"""What a comparison is made of, read from a short YAML file and checked."""

import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from neuropil.compare.grid_axes import check_grid, lift_lists
from neuropil.compare.probes import check_probes, plain_probes
from neuropil.compare.recipe_keys import RecipeError as RecipeError
from neuropil.compare.recipe_keys import fields_of, full_key, replace_setting, setting_types
from neuropil.compare.registry import first_problem, nearest, plain_start, split_arm
from neuropil.compare.rules import plain_rule
from neuropil.compare.significance import Correction
from neuropil.compare.statistics import Interval
from neuropil.compare.sweeps import expand_sweeps, list_sweeps
from neuropil.connect import Ensembles
from neuropil.data import SOURCES
from neuropil.models.conv_encoder import conv_features
from neuropil.models.spiking_ensemble_net import check_encoding

_NAME = "[a-z0-9][a-z0-9._-]*"  # of recipes and arms: they become folders


_MOST_SEEDS = 10_000


# in what arms may differ: how they learn, not how long or from how much
ARM_TRAINING = (
    "rule",
    "optimizer",
    "learning_rate",
    "rate_profile",
    "weight_decay",
    "momentum",
    "schedule",
    "clip_norm",
)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice: one of the two would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice")
        return super().construct_mapping(node, deep=deep)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(_Section):
    """Which data, and how much of the training part is held out for validation."""

    name: str = Field("digits", description="name of the data set, see `neuropil list data`")
    validation: float = Field(
        0.1, gt=0, lt=1, description="share of the training images held out for validation, but for folds"
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SOURCES:
            raise ValueError(f"data.name must be one of {', '.join(SOURCES)}, got {name!r}{nearest(name, [*SOURCES])}")
        return name


class SpikingSection(_Section):
    """The neurons of a spiking network, and how images reach them; without this section, they do not spike."""

    neurons: Literal["fixed", "learned"] = Field(
        "learned",
        description="leaky integrate-and-fire neurons of G2GNet's code: fixed (decay 0.95, threshold 1; gradient of a "
        "fast sigmoid) or learned (from 0.9 and 1 on, one of each a layer; arctangent)",
    )
    output: Literal["spikes", "potentials"] = Field(
        "spikes",
        description="what the neurons of the classes give: spikes, which are counted, or potentials, which are summed",
    )
    steps: int = Field(50, ge=1, description="time steps of an image")
    encoding: Literal["rate", "current", "latency"] = Field(
        "rate",
        description="what pixels become: rate (random spikes), current (the same at every step) or latency (one spike, "
        "the brighter the earlier)",
    )
    scale: float = Field(1.0, gt=0, description="factor on a current; with the other encodings 1")
    frozen: bool = Field(False, description="the patch encoder keeps its first weights; rate and latency need that")
    rate_penalty: bool = Field(
        False,
        description="a penalty draws the rates of hidden neurons towards 0.25, falling to 0.09, ever more strongly",
    )
    rate_warm_up: int = Field(10, ge=0, description="epochs before the rate penalty begins, fewer than there are")


class ModelSection(_Section):
    """The network that every arm shares but for its wiring."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        [1024, 1024, 1024], description="width of each hidden layer; [] after convolutions: none"
    )
    patches: int | None = Field(None, ge=1, description="patch encoder: patches along either side; null: flat pixels")
    patch_channels: int = Field(32, ge=1, description="patch encoder: features of each patch")
    convolutions: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, description="features of each 3 × 3 convolution before the hidden layers; null: none"
    )
    batch_norm: bool = Field(False, description="normalize the input of every activation over the batch")
    activation: Literal["relu", "elu", "tanh", "sigmoid", "hard-sigmoid"] = Field(
        "relu", description="what follows every layer but the read-out"
    )
    bias: bool = Field(True, description="whether neurons have biases")
    start: str | dict[str, Any] = Field(
        "default", description="where weights start: a name, or {scheme: NAME, setting: value, …}"
    )

    @field_validator("start")
    @classmethod
    def _known_start(cls, start: Any) -> Any:
        return plain_start(start)

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if not self.hidden and self.convolutions is None:
            raise ValueError("model.hidden must hold at least one width, but for networks with convolutions, got none")
        return self

    @model_validator(mode="after")
    def _one_encoder(self) -> Self:
        if self.convolutions is not None and self.patches is not None:
            raise ValueError(f"model.patches must be null beside model.convolutions, got {self.patches}")
        return self


class TrainingSection(_Section):
    """How every arm is trained."""

    epochs: int = Field(20, ge=1, description="how often all training images are seen")
    batch_size: int = Field(256, ge=1, description="images in a step")
    optimizer: Literal["adam", "adamw", "sgd", "exponentiated-gradient", "exponentiated-adam"] = Field(
        "adam",
        description="adam, adamw, sgd; exponentiated-gradient or exponentiated-adam, whose steps multiply weights",
    )
    learning_rate: float = Field(1e-3, gt=0, description="learning rate at the start")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay (coupled, but for adamw)")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum, for sgd and exponentiated-gradient")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate over the epochs")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="tf32: factors of products rounded to 10 bits, on a GPU; bfloat16: products under autocast",
    )
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; null: not clipped")
    rate_profile: float = Field(
        1.0,
        gt=0,
        description="factor p of layer-wise learning rates: layer l has learning_rate · p^−s, s = …, −1, (0), 1, … "
        "counted from the middle; above 1 early layers are faster",
    )
    rule: str | dict[str, Any] = Field(
        "backpropagation", description="how weights change: a name, or {name: NAME, setting: value, …}"
    )

    @field_validator("rule")
    @classmethod
    def _known_rule(cls, rule: Any) -> Any:
        return plain_rule(rule)

    @model_validator(mode="after")
    def _rated(self) -> Self:
        if self.rule == "backpropagation":
            return self
        for key, ordinary in (("rate_profile", 1.0), ("precision", "float32")):
            value = getattr(self, key)
            if value != ordinary and (key, value) != ("precision", "tf32"):
                raise ValueError(f"training.{key} {value} needs the rule backpropagation")
        return self

    def replaced(self, settings: Mapping[str, Any]) -> "TrainingSection":
        """Return these settings with those of an arm in their place.

        Raises:
            ValueError: a setting is unknown or wrong, or would give the arm another budget.
        """
        for key in settings:
            if key not in ARM_TRAINING:
                hint = nearest(key, ARM_TRAINING) or f"; an arm may have its own {', '.join(ARM_TRAINING)}"
                raise ValueError(f"training.{key} must be the same for all arms{hint}")
        try:
            return TrainingSection.model_validate({**self.model_dump(), **settings})
        except ValidationError as error:
            raise ValueError(first_problem(error, prefix="training.")) from None


class Recipe(_Section):
    """A question and what answers it: arms × seeds on one data set.

    Sparse arms bring their controls with them: see :func:`neuropil.compare.expand_arms`.
    """

    name: str = Field("recipe", description="name of the comparison", pattern=f"^{_NAME}$")
    question: str = Field(description="what the comparison is to find out")
    source: str = Field("", description="where the claim comes from")
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    spiking: SpikingSection | None = None
    training: TrainingSection = TrainingSection()
    seeds: list[int] = Field([0, 1, 2], min_length=1, description="a number of seeds, or a list of them")
    folds: int | None = Field(
        None,
        ge=2,
        description="cross-validation: parts of the training images, each held out once and scored in place of the "
        "test images, which are not used; null: none",
    )
    fold_order: Literal["stratified", "contiguous"] = Field(
        "stratified", description="stratified: folds drawn at random by class; contiguous: neighbours, not shuffled"
    )
    intra_only: bool = Field(
        False, description="after training, score networks with groups once more, with no connection between groups"
    )
    probes: list[dict[str, Any]] = Field(
        [], description="measures recorded in the course of training, see below and `neuropil list probes`"
    )
    reference: str | None = Field(
        None, description="arm that all others are compared with too, paired by seed, and at equal seconds; null: none"
    )
    interval: Interval = Field(
        "t", description="confidence intervals: t, or bootstrap (supposes no shape; too narrow below some 20 seeds)"
    )
    correction: Correction = Field(
        "holm", description="of p values, for the number of differences of one kind: holm, or none"
    )
    arms: dict[str, dict[str, Any]] = Field(min_length=1, description="wirings to compare, by name")
    controls: dict[str, dict[str, Any]] = Field(
        {}, description="start and training of controls that are added, by name, where they are not those of their arms"
    )
    grid: dict[str, list[Any]] = Field(
        {}, description="settings and lists of their values: the comparison is made at each combination of them"
    )

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if self.spiking is None:
            del content["spiking"]  # a section without content is refused
        for key in ("probes", "controls", "grid"):
            if not content[key]:
                del content[key]
        return content

    @field_validator("grid", mode="before")
    @classmethod
    def _listed(cls, grid: Any) -> dict[str, list[Any]]:
        return check_grid(grid)

    @field_validator("controls")
    @classmethod
    def _own_only(cls, controls: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, description in controls.items():
            for key in description:
                if key not in ("start", "training"):
                    raise ValueError(f"controls.{name}: a control may have its own start and training, got {key!r}")
        return controls

    @field_validator("probes", mode="before")
    @classmethod
    def _measured(cls, probes: Any) -> list[dict[str, Any]]:
        return plain_probes(probes)

    @field_validator("spiking", mode="before")
    @classmethod
    def _said(cls, spiking: Any) -> Any:
        if not isinstance(spiking, Mapping | SpikingSection):
            raise ValueError(  # noqa: TRY004 (pydantic takes no other)
                f"spiking must hold keys and values, got {spiking!r}; try {{}} for the defaults, or leave it out"
            )
        return spiking

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: Any) -> Any:
        if isinstance(seeds, int) and not 1 <= seeds <= _MOST_SEEDS:
            raise ValueError(f"seeds must be 1 to {_MOST_SEEDS}, or a list, got {seeds}")
        return list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0 else seeds

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds must differ from each other, got {seeds}")
        return seeds

    @model_validator(mode="after")
    def _wirable(self) -> Self:
        has_groups = False
        for name, description in expand_sweeps(self.arms).items():
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"arms: a name must start with a-z or 0-9, then '.', '-' and '_' too, got {name!r}")
            try:
                arm = split_arm(description, len(self.model.hidden))
                self.training.replaced(arm.training)
                if self.spiking is not None and arm.start not in (None, "default"):
                    raise ValueError(f"start must be default for spiking neurons, got {description['start']}")
            except ValueError as error:
                raise ValueError(f"arms.{name}: {error}") from error
            has_groups |= any(isinstance(pattern, Ensembles) for pattern in (*arm.patterns, arm.readout))
        if self.intra_only and not has_groups:
            raise ValueError("intra_only needs an arm whose wiring has groups, got none; try ensembles or mixer")
        return self

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        tuned = [name for sweep in list_sweeps(self.arms) for name in sweep.choices]
        known = [*tuned, *expand_sweeps(self.arms)]
        if self.reference is not None and self.reference not in known:
            hint = nearest(self.reference, known) or f"; try {known[0]!r}"
            raise ValueError(f"reference must be an arm of the recipe, got {self.reference!r}{hint}")
        return self

    @model_validator(mode="after")
    def _spikable(self) -> Self:
        spiking, model = self.spiking, self.model
        check_probes(self.probes, spiking=spiking is not None)
        if spiking is None:
            return self
        if model.start != "default":
            raise ValueError(f"model.start must be default for spiking neurons, got {model.start}")
        for key, ordinary in (("convolutions", None), ("batch_norm", False), ("activation", "relu"), ("bias", True)):
            if getattr(model, key) != ordinary:
                raise ValueError(f"model.{key} needs neurons that do not spike, got spiking ones; try model.patches")
        check_encoding("spiking", spiking.encoding, patches=model.patches, frozen=spiking.frozen, scale=spiking.scale)
        if spiking.rate_penalty and self.training.epochs <= spiking.rate_warm_up:
            raise ValueError(
                f"spiking.rate_penalty needs more than spiking.rate_warm_up = {spiking.rate_warm_up} epochs, got "
                f"{self.training.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _convolvable(self) -> Self:
        if self.model.convolutions is not None:
            conv_features(SOURCES[self.data.name].image_shape, self.model.convolutions)
        return self

    @model_validator(mode="after")
    def _foldable(self) -> Self:
        n = SOURCES[self.data.name].n_train
        tuned = [name for name, arm in self.arms.items() if arm.get("tune")]
        if self.folds is not None and tuned:
            raise ValueError(
                f"arms.{tuned[0]}: tune needs the validation split, got folds, which take none; try sweep, or leave "
                "folds out"
            )
        if self.folds is not None and self.folds > n:
            raise ValueError(f"folds must be at most {n}, the training images of {self.data.name}, got {self.folds}")
        return self


def bundled_recipes() -> dict[str, Path]:
    """Return the recipes that come with neuropil, by name."""
    folder = Path(str(resources.files("neuropil") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(recipe: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its bundled name or its path, with some values replaced.

    Args:
        recipe: name of a bundled recipe, or path of a YAML file.
        overrides: ``key=value``, keys as ``training.epochs``, or the last part alone where only one key ends so;
            values as in YAML.

    Raises:
        RecipeError: there is no such recipe, it is not YAML, or a key or value is wrong.

    Example:
        >>> load_recipe("digits", ["epochs=3", "seeds=[0, 1]"]).training.epochs
        3
    """
    path = _find(recipe)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"recipe {path.name} must be YAML text, got: {reason}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {path.name} must hold keys and values, got {type(content).__name__}")
    content.setdefault("name", path.stem)
    for override in overrides:
        replace_setting(Recipe, content, override)
    lift_lists(content, setting_types(Recipe))
    return parse_recipe(content, where=f"recipe {path.name}")


def parse_recipe(content: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Check the contents of a recipe.

    Raises:
        RecipeError: with one sentence for the first thing that is wrong.
    """
    if isinstance(grid := content.get("grid"), Mapping):
        try:
            content = {**content, "grid": {full_key(Recipe, str(key), content): listed for key, listed in grid.items()}}
        except RecipeError as error:
            raise RecipeError(f"{where}: grid: {error}") from None
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        unknown = [problem for problem in error.errors() if problem["type"] == "extra_forbidden"]
        if unknown:
            *section, key = (str(part) for part in unknown[0]["loc"])
            known = fields_of(Recipe, section)
            hint = nearest(key, known) or f"; known are {', '.join(known)}"
            raise RecipeError(f"{where}: {'.'.join([*section, key])} is unknown{hint}") from None
        raise RecipeError(f"{where}: {first_problem(error)}") from None


def _find(recipe: str | os.PathLike[str]) -> Path:
    path, known = Path(recipe), bundled_recipes()
    if path.is_file():
        return path
    name = os.fspath(recipe)
    if name in known:
        return known[name]
    raise RecipeError(
        f"recipe must be the path of a YAML file or one of {', '.join(known)}, got {name!r}{nearest(name, [*known])}"
    )
