"""The published claims that can be checked here, and what each check is, as data."""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neuropil.compare.arms import Arm, expand_arms
from neuropil.compare.recipe import Recipe, load_recipe
from neuropil.compare.registry import first_problem, nearest
from neuropil.compare.reproduce.conditions import Condition, read_condition, write_number
from neuropil.compare.sweeps import list_sweeps


class Claim(BaseModel):
    """One published claim and its smallest honest check.

    Attributes:
        name: what it goes by.
        claim: in one sentence.
        source: paper, and what of it.
        recipe: the bundled recipe that is run; None where an example of the source tree is.
        settings: of that recipe, replaced as on the command line.
        arms: of that recipe, those that are run; None: all. Their controls come with them.
        example: a command line of an example that writes a table, where no recipe can do it.
        data: of that example; of a recipe it is the recipe's.
        minutes: what it takes on two cores, about.
        single_run: the published figure is that of one run, so a verdict may rest on one, and says so.
        conditions: each with the published figure, or None; all must hold.
        recorded: file in ``results/`` that holds the runs of this very check.
        note: what must be known beside the verdict.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    claim: str
    source: str
    recipe: str | None = None
    settings: tuple[str, ...] = ()
    arms: tuple[str, ...] | None = None
    example: str | None = None
    data: str | None = None
    minutes: float = Field(gt=0)
    single_run: bool = False
    conditions: dict[str, str | float | None] = Field(min_length=1)
    recorded: str | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_check(self) -> Self:
        if (self.recipe is None) == (self.example is None):
            raise ValueError(f"claim {self.name} must have either a recipe or an example")
        if (self.data is None) != (self.example is None):
            raise ValueError(f"claim {self.name}: data belongs to an example, and only there")
        self.judged()
        return self

    def judged(self) -> tuple[Condition, ...]:
        """Return the conditions, read."""
        return tuple(map(read_condition, self.conditions))

    def published(self, condition: Condition) -> str:
        """Return the published figure of a condition, an empty text where there is none."""
        given = {read_condition(text).text: figure for text, figure in self.conditions.items()}[condition.text]
        if given is None or isinstance(given, str):
            return given or ""
        return write_number(given, "+g" if condition.quantity.is_signed else "g")

    def comparison(self) -> Recipe:
        """Return the comparison that is run: the recipe with the claim's settings and arms.

        Raises:
            ValueError: there is no recipe, or it lacks an arm.
        """
        if self.recipe is None:
            raise ValueError(
                f"reproduce: {self.name} is checked by an example of the source tree; "
                f"try `python {self.example} FILE`, then `neuropil reproduce {self.name} --from FILE`"
            )
        return _comparison(self.recipe, self.settings, self.arms)

    def all_arms(self) -> tuple[Arm, ...]:
        """Return the arms of the comparison that is run, controls too; none where there is no recipe."""
        if self.recipe is None:
            return ()
        return _all_arms(self.recipe, self.settings, self.arms)

    def needed_arms(self) -> list[Arm]:
        """Return the arms that the verdict rests on, of tuned ones all candidates; all where a correlation is judged.

        Raises:
            ValueError: a condition names an arm that the comparison does not have.
        """
        arms = {arm.name: arm for arm in self.all_arms()}
        if any(condition.quantity.arm is None for condition in self.judged()):
            return [*arms.values()]
        tuned = {
            name: [*candidates]
            for sweep in list_sweeps(self.comparison().arms)
            for name, candidates in sweep.choices.items()
        }
        needed: dict[str, Arm] = {}
        for name in (name for condition in self.judged() for name in condition.quantity.arms):
            if name not in arms and name not in tuned:
                known = [*arms, *tuned]
                raise ValueError(f"claim {self.name}: recipe {self.recipe} has no arm {name!r}{nearest(name, known)}")
            needed |= {candidate: arms[candidate] for candidate in tuned.get(name, [name])}
        return [*needed.values()]

    def data_name(self) -> str:
        """Return the name of the data set."""
        return self.data or self.comparison().data.name


@cache
def _comparison(recipe: str, settings: tuple[str, ...], arms: tuple[str, ...] | None) -> Recipe:
    """Return a recipe with some values replaced, and only some of its arms."""
    whole = load_recipe(recipe, settings)
    if arms is None:
        return whole
    for arm in arms:
        if arm not in whole.arms:
            raise ValueError(f"reproduce: recipe {recipe} has no arm {arm!r}{nearest(arm, [*whole.arms])}")
    return whole.model_copy(update={"arms": {arm: whole.arms[arm] for arm in arms}})


@cache
def _all_arms(recipe: str, settings: tuple[str, ...], arms: tuple[str, ...] | None) -> tuple[Arm, ...]:
    return tuple(expand_arms(_comparison(recipe, settings, arms)))


@cache
def all_claims() -> dict[str, Claim]:
    """Return every claim by its name, in the order of the files that hold them.

    Raises:
        ValueError: a claim is not as it must be.
    """
    found: dict[str, Claim] = {}
    for path in sorted(Path(str(resources.files("neuropil") / "claims")).glob("*.yaml")):
        for name, content in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            found[name] = read_claim(name, content)
    return found


def read_claim(name: str, content: dict[str, Any]) -> Claim:
    """Read one claim.

    Raises:
        ValueError: it is not as it must be, in one sentence.
    """
    try:
        return Claim.model_validate({"name": name, **content})
    except ValidationError as error:
        raise ValueError(f"claim {name}: {first_problem(error)}") from None


def find_claim(name: str) -> Claim:
    """Return a claim by its name.

    Raises:
        ValueError: there is none of this name.
    """
    claims = all_claims()
    if name not in claims:
        raise ValueError(
            f"reproduce: NAME must be a claim that `neuropil reproduce --list` shows, got {name!r}"
            f"{nearest(name, [*claims])}"
        )
    return claims[name]
