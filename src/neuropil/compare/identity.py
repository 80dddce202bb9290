"""What makes two runs the same one, whatever comparison asks for them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_NAMES = ("comparison", "arm")  # what a run is called decides nothing that it gives


def run_identity(run_recipe: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that runs have in common if, and only if, their recipes decide the same.

    They are the first digits of the SHA-256 of the recipe as JSON, its keys sorted, without the names of comparison
    and arm. Whole numbers are the same with and without a point, lists and tuples are the same.

    Args:
        run_recipe: what :func:`neuropil.compare.run_recipe` gives, or what a run folder's ``recipe.yaml`` holds.

    Example:
        >>> a = {"comparison": "digits", "arm": "mixer", "seed": 0, "training": {"epochs": 5, "learning_rate": 1.0}}
        >>> b = {"training": {"learning_rate": 1, "epochs": 5}, "seed": 0, "comparison": "mnist", "arm": "m"}
        >>> run_identity(a)
        '59fb4dc418ef0493'
        >>> run_identity(a) == run_identity(b), run_identity(a) == run_identity({**a, "seed": 1})
        (True, False)
    """
    decisive = {key: value for key, value in run_recipe.items() if key not in _NAMES}
    text = json.dumps(_canonical(decisive), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
