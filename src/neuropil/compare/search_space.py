"""The settings that a search tunes, and the values that it may give them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuropil.compare.sweeps import name_values

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SPAN = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
_DIGITS = 3  # of a value that is drawn: more would decide nothing
_EDGE = 0.05  # a value within this share of its range from an end is at the edge
_FEWEST = 3  # values of a list that has an edge


@dataclass(frozen=True)
class Span:
    """All numbers between two bounds, as ``0.0001..0.1:log``.

    Attributes:
        low, high: the bounds, included.
        log: whether equal factors, rather than equal distances, are equally likely.
        whole: whether only whole numbers are meant: those whose bounds are written without a point.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        low, high = (f"{bound:g}" if self.whole else repr(float(bound)) for bound in (self.low, self.high))
        return f"{low}..{high}{':log' if self.log else ''}"

    def rounded(self, value: float) -> float:
        """Return a value with three digits, within the bounds.

        Example:
            >>> Span(0.0001, 0.1).rounded(0.0123456)
            0.0123
        """
        if self.whole:
            return int(value)
        return min(self.high, max(self.low, float(f"{value:.{_DIGITS}g}")))

    def place(self, value: float) -> float:
        """Return where a value lies between the bounds, from 0 to 1."""
        low, high, value = (math.log(x) for x in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value)  # fmt: skip
        return (value - low) / (high - low)


Choice = Span | list[Any]


def read_space(space: Mapping[str, Any]) -> dict[str, Choice]:
    """Return what a search may choose from, by setting: a span, or a list of different values.

    Args:
        space: by setting, as ``training.learning_rate``, a :class:`Span`, its text, or a list of values.

    Raises:
        ValueError: there is nothing to tune, or a choice is neither.

    Example:
        >>> read_space({"training.learning_rate": "1e-4..0.1:log", "start.alpha": [1, 1.25]})
        {'training.learning_rate': Span(low=0.0001, high=0.1, log=True, whole=False), 'start.alpha': [1, 1.25]}
    """
    if not space:
        raise ValueError("search needs a setting to tune, got none; try --tune training.learning_rate=0.0001..0.1:log")
    return {str(key): _read_choice(str(key), choice) for key, choice in space.items()}


def _read_choice(key: str, choice: Any) -> Choice:
    if isinstance(choice, str) and (found := _SPAN.fullmatch(choice.replace(" ", ""))):
        whole = not any(re.search(r"[.eE]", bound) for bound in (found[1], found[2]))
        choice = Span(float(found[1]), float(found[2]), log=found[3] is not None, whole=whole)
    if isinstance(choice, Span):
        if not choice.low < choice.high or (choice.log and choice.low <= 0):
            above = " above 0" if choice.log else ""
            raise ValueError(f"search: {key} must go from a lower to a higher number{above}, got {choice}")
        return choice
    if not isinstance(choice, Sequence) or isinstance(choice, str):
        raise ValueError(  # noqa: TRY004
            f"search: {key} must be LOW..HIGH or a list of values, got {choice!r}; try 0.0001..0.1:log or [0.001, 0.01]"
        )
    name_values(f"search: {key}", [*choice])
    return [*choice]


def plain_space(space: Mapping[str, Choice]) -> dict[str, Any]:
    """Return a space as plain values, as :func:`read_space` takes them."""
    return {key: str(choice) if isinstance(choice, Span) else choice for key, choice in space.items()}


def corner_values(choice: Choice) -> list[Any]:
    """Return values that are tried before a search begins: the bounds of a span, all of a list."""
    return [choice.rounded(choice.low), choice.rounded(choice.high)] if isinstance(choice, Span) else choice


def is_at_edge(choice: Choice, value: Any) -> bool:
    """Say whether a value is at an end of its choice, so that a better one may lie beyond.

    Example:
        >>> is_at_edge(Span(0.001, 1.0, log=True), 0.9), is_at_edge([1, 2, 3], 2), is_at_edge(["adam", "sgd"], "sgd")
        (True, False, False)
    """
    if isinstance(choice, Span):
        return not _EDGE < choice.place(value) < 1 - _EDGE
    numbers = sorted(one for one in choice if isinstance(one, int | float) and not isinstance(one, bool))
    return len(numbers) >= _FEWEST and value in (numbers[0], numbers[-1])
