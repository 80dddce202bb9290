"""What every wiring pattern offers, and the check of sizes against groups that they share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from neuropil.connect.wiring import Wiring

Block = tuple[int | str, int | str]


class Pattern(ABC):
    """A rule that says who connects to whom, for layers of any size.

    A pattern is an immutable value with its settings; :meth:`wire` draws one :class:`Wiring` from it.
    """

    @abstractmethod
    def wire(self, in_features: int, out_features: int, *, generator: torch.Generator | None = None) -> Wiring:
        """Draw a wiring from ``in_features`` source to ``out_features`` target neurons.

        Args:
            in_features: number of source neurons.
            out_features: number of target neurons.
            generator: where random numbers come from; default: PyTorch's default generator. Give it a stream
                of its own (:func:`neuropil.randomness.stream`), never the one that draws the weights.

        Raises:
            ValueError: the pattern does not fit the sizes, or leaves the layer without any connection.
        """

    @abstractmethod
    def expected_density(self, in_features: int, out_features: int) -> float:
        """Return the expected density, in [0, 1], of a wiring between layers of these sizes."""


@dataclass(frozen=True)
class Dense(Pattern):
    """Every source neuron connects to every target neuron: one block.

    Example:
        >>> Dense().wire(3, 2)
        Wiring(3 → 2, block=(2, 3), density=1, n_connections=6)
    """

    def wire(self, in_features: int, out_features: int, *, generator: torch.Generator | None = None) -> Wiring:
        """Return the wiring; nothing is drawn."""
        return Wiring(in_features, out_features, [0], [0], block=(out_features, in_features))

    def expected_density(self, in_features: int, out_features: int) -> float:
        """Return 1."""
        return 1.0


def check_probability(owner: str, name: str, value: float) -> None:
    """Raise a ``ValueError`` unless ``value`` lies in [0, 1]."""
    if not isinstance(value, float | int) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{owner}: {name} must lie in [0, 1], got {value!r}")


def nearest_multiple(n: int, divisor: int) -> int:
    """Return the positive multiple of ``divisor`` that is nearest to ``n``."""
    return max(1, round(n / divisor)) * divisor
