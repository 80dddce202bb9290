"""What makes two runs the same run: all that their recipes say, but not what they are called."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_NAMES = ("comparison", "arm")


def run_identity(run_recipe: Mapping[str, Any]) -> str:
    """Return what two runs share if and only if they do the same, whatever comparison and arm ask for them.

    It is the start of the SHA-256 of the recipe as JSON with its keys sorted, without the names of comparison and arm.

    Args:
        run_recipe: what :func:`neuropil.compare.run_recipe` gives, or what a run's ``recipe.yaml`` holds.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> run_identity({"comparison": "a", "arm": "x", "seed": 0}) == run_identity({"seed": 0, "arm": "y"})
        True
        >>> run_identity({"seed": 0}) == run_identity({"seed": 1})
        False
    """
    decisive = {key: value for key, value in run_recipe.items() if key not in _NAMES}
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
