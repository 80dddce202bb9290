"""What rules have in common in refusing settings."""

from typing import Any, get_args


def check_choice(who: str, name: str, value: object, choices: Any) -> None:
    """Raise a ``ValueError`` unless a setting is one of those that a ``Literal`` lists."""
    if value not in get_args(choices):
        raise ValueError(f"{who}: {name} must be one of {', '.join(get_args(choices))}, got {value!r}")
