"""Separate random streams, each derived from a run's seed by its name.

Masks, weights, data order and noise must not share a stream: a mask drawn from the numbers that also become
the weights keeps, for example, only the most negative weights.
"""

import hashlib

import torch


def stream(seed: int, *names: str | int) -> torch.Generator:
    """Return the generator that belongs to ``seed`` and a path of names.

    The same seed and names always give the same numbers; any other name gives unrelated ones.

    Args:
        seed: the run's seed, any integer.
        names: what the numbers are for, from the general to the particular.

    Example:
        >>> a, b = stream(0, "weights", 1), stream(0, "weights", 1)
        >>> bool(torch.rand((), generator=a) == torch.rand((), generator=b))
        True
        >>> bool(torch.rand((), generator=stream(0, "wiring", 1)) == torch.rand((), generator=a))
        False
    """
    return torch.Generator().manual_seed(derived_seed(seed, *names))


def derived_seed(seed: int, *names: str | int) -> int:
    """Return the integer, in [0, 2^63), that seeds :func:`stream` with the same arguments."""
    path = "/".join(str(part).replace("\\", "\\\\").replace("/", "\\/") for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1
