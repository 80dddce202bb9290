"""What a claim says, as data: a quantity of a comparison's runs, a relation and a threshold."""

import re
from dataclasses import dataclass
from typing import Literal

from neuropil.compare.registry import nearest

Relation = Literal[">", ">=", "<", "<="]

_TERM = r"(\w+)\(([^()]+)\)"
_CORRELATION = re.compile(r"correlation\((\w+), (\w+)\)")
_QUANTITY = re.compile(rf"{_TERM}(?: - {_TERM})?")
_CONDITION = re.compile(r"(.+?) (>=|<=|>|<) ([+-]?\d+(?:\.\d+)?)")
_EXAMPLE = "accuracy(mixer) - accuracy(dense-256) > 0"


@dataclass(frozen=True)
class Measure:
    """A number that every run has.

    Attributes:
        column: its name in the rows of :func:`neuropil.compare.write_csv`, or of an example's table.
        factor: from there to what conditions speak of: shares become per cent, their differences points.
    """

    column: str
    factor: float = 1.0


MEASURES = {
    "accuracy": Measure("test_accuracy", 100),  # on test images, after the last epoch
    "first_accuracy": Measure("first_validation_accuracy", 100),  # on the validation split, after the first epoch
    "emergence": Measure("emergence"),  # log10, after the last epoch
    "first_emergence": Measure("first_emergence"),  # log10, after the first epoch
    "agreement": Measure("agreement", 100),  # of predicted channels with their targets
    "cut": Measure("cut", 100),  # share of multiply-accumulates that is saved
}


@dataclass(frozen=True)
class Quantity:
    """What is measured.

    Attributes:
        text: as it is written.
        measure: key of ``MEASURES``.
        arm: mean over the seeds of this arm; None: a rank correlation over the runs of all arms.
        other: an arm whose value is taken off, seed by seed; None: none.
        second: the measure that the first one is correlated with, where there is no arm.
    """

    text: str
    measure: str
    arm: str | None
    other: str | None = None
    second: str | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it speaks of; none: all."""
        return tuple(arm for arm in (self.arm, self.other) if arm is not None)

    @property
    def is_signed(self) -> bool:
        """Whether its sign says something: it is a difference or a correlation."""
        return self.other is not None or self.arm is None


@dataclass(frozen=True)
class Condition:
    """A quantity that must lie on one side of a threshold.

    Attributes:
        quantity: what is measured.
        relation: how it must stand to the threshold.
        threshold: in the unit of the quantity; of accuracies per cent, of their differences points.
    """

    quantity: Quantity
    relation: Relation
    threshold: float

    @property
    def text(self) -> str:
        """The condition as it is written."""
        return f"{self.quantity.text} {self.relation} {self.threshold:g}"

    def met_by(self, value: float) -> bool:
        """Say whether a number lies on the right side."""
        if self.relation.startswith(">"):
            return value > self.threshold or (self.relation == ">=" and value == self.threshold)
        return value < self.threshold or (self.relation == "<=" and value == self.threshold)


def read_quantity(text: str) -> Quantity:
    """Read ``MEASURE(ARM)``, ``MEASURE(ARM) - MEASURE(OTHER)`` or ``correlation(MEASURE, MEASURE)``.

    Raises:
        ValueError: it is none of these, or a measure is unknown.

    Example:
        >>> read_quantity("accuracy(mixer) - accuracy(dense-256)").arms
        ('mixer', 'dense-256')
    """
    if correlated := _CORRELATION.fullmatch(text):
        first, second = correlated.groups()
        return Quantity(text, _known(first), None, second=_known(second))
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"quantity must be as {_EXAMPLE.partition(' >')[0]!r}, got {text!r}")
    measure, arm, again, other = found.groups()
    if again not in (None, measure):
        raise ValueError(f"quantity must be a difference of one measure, got {measure} and {again}")
    return Quantity(text, _known(measure), arm, other)


def read_condition(text: str) -> Condition:
    """Read ``QUANTITY RELATION NUMBER``.

    Raises:
        ValueError: it is not that.

    Example:
        >>> condition = read_condition("accuracy(counter-current) >= 92")
        >>> condition.quantity.arm, condition.met_by(93.3)
        ('counter-current', True)
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(f"condition must be as {_EXAMPLE!r}, got {text!r}")
    quantity, relation, threshold = found.groups()
    return Condition(read_quantity(quantity), relation, float(threshold))  # type: ignore[arg-type]


def write_number(value: float, form: str = "g") -> str:
    """Write a number with a true minus sign.

    Example:
        >>> write_number(-0.5), write_number(2.0, "+.2f")
        ('−0.5', '+2.00')
    """
    return format(value, form).replace("-", "−")


def _known(measure: str) -> str:
    if measure not in MEASURES:
        raise ValueError(
            f"measure must be one of {', '.join(MEASURES)}, got {measure!r}{nearest(measure, [*MEASURES])}"
        )
    return measure
