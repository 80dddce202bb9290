"""Surrogate gradients: what takes the place of the derivative of a spike, which is 0 wherever it exists."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Surrogate(ABC):
    """A stand-in for the derivative of the step S = [x > 0], where x is potential less threshold.

    Each is ``peak · shape(sharpness · x)``, and its shape is 1 at 0. So all are scaled alike, by their peak.

    Compiled kernels know the shapes here. With one of your own, neurons are computed step by step.
    """

    code: ClassVar[int | None] = None  # by which compiled kernels know the shape, if they do

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "code" not in vars(cls) and not vars(cls).keys().isdisjoint(("_shape", "derivative", "spike")):
            cls.code = None  # whoever changes a known shape has another one

    @property
    @abstractmethod
    def peak(self) -> float:
        """Its value at the threshold, where it is largest."""

    @property
    @abstractmethod
    def sharpness(self) -> float:
        """How fast it falls off, per unit of potential."""

    @abstractmethod
    def _shape(self, z: Tensor) -> Tensor:
        """Return the derivative, scaled to 1 at 0, at ``z``, sharpness times potential less threshold."""

    def derivative(self, x: Tensor) -> Tensor:
        """Return dS/dx at x, potential less threshold; same shape and type as x."""
        return self.peak * self._shape(self.sharpness * x)

    def spike(self, x: Tensor) -> Tensor:
        """Return [x > 0] in the type of x, whose gradient is :meth:`derivative`.

        Example:
            >>> x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
            >>> spikes = FastSigmoid(slope=1.0).spike(x)
            >>> spikes.sum().backward()
            >>> spikes.tolist(), x.grad.tolist()
            ([0.0, 0.0, 1.0], [0.25, 1.0, 0.25])
        """
        spikes: Tensor = _Spike.apply(x, self)  # type: ignore[no-untyped-call]
        return spikes


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate.derivative(x), None


def _check_positive(surrogate: Surrogate, name: str) -> None:
    value = getattr(surrogate, name)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{type(surrogate).__name__}: {name} must be a finite number above 0, got {value:g}")


@dataclass(frozen=True)
class ATan(Surrogate):
    """The derivative of an arctangent: α/2 / (1 + (π/2 · α x)²).

    Args:
        alpha: its peak is alpha / 2.

    Reference:
        W. Fang et al., arXiv 2007.05785; the default of snnTorch, and of G2GNet's later code.
    """

    alpha: float = 2.0
    code: ClassVar[int | None] = 0

    def __post_init__(self) -> None:
        _check_positive(self, "alpha")

    @property
    def peak(self) -> float:
        """Its value at the threshold."""
        return self.alpha / 2

    @property
    def sharpness(self) -> float:
        """How fast it falls off."""
        return math.pi / 2 * self.alpha

    def _shape(self, z: Tensor) -> Tensor:
        return 1 / (1 + z * z)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """1 / (1 + k |x|)²: as steep as you like, its peak always 1.

    Args:
        slope: k.

    Reference:
        F. Zenke and S. Ganguli, SuperSpike, arXiv 1705.11146; with k = 25 in snnTorch, and in G2GNet's earlier code.
    """

    slope: float = 25.0
    code: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        _check_positive(self, "slope")

    @property
    def peak(self) -> float:
        """Its value at the threshold."""
        return 1.0

    @property
    def sharpness(self) -> float:
        """How fast it falls off."""
        return self.slope

    def _shape(self, z: Tensor) -> Tensor:
        return 1 / (1 + z.abs()).square()


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The derivative of a sigmoid: k σ(k x) (1 − σ(k x)), whose peak is k / 4.

    Args:
        slope: k; 25 as in snnTorch, 4 in SpikingJelly.
    """

    slope: float = 25.0
    code: ClassVar[int | None] = 2

    def __post_init__(self) -> None:
        _check_positive(self, "slope")

    @property
    def peak(self) -> float:
        """Its value at the threshold."""
        return self.slope / 4

    @property
    def sharpness(self) -> float:
        """How fast it falls off."""
        return self.slope

    def _shape(self, z: Tensor) -> Tensor:
        small = torch.exp(-z.abs())  # never overflows
        return 4 * small / (1 + small).square()


@dataclass(frozen=True)
class Triangle(Surrogate):
    """A triangle: (1 − |x| / w) a / w, and exactly 0 from a distance of w on.

    Args:
        width: w, from the threshold to where it ends.
        area: a.

    Reference:
        SpikingJelly's piecewise quadratic with α = 1 / w. snnTorch's ``triangular`` is another thing. That of e-prop
        (G. Bellec et al., Nature Communications 11, 3625, 2020) has as its width the threshold, and an area of 0.3.
    """

    width: float = 1.0
    area: float = 1.0
    code: ClassVar[int | None] = 3

    def __post_init__(self) -> None:
        _check_positive(self, "width")
        _check_positive(self, "area")

    @property
    def peak(self) -> float:
        """Its value at the threshold."""
        return self.area / self.width

    @property
    def sharpness(self) -> float:
        """How fast it falls off."""
        return 1 / self.width

    def _shape(self, z: Tensor) -> Tensor:
        return (1 - z.abs()).clamp(min=0)


@dataclass(frozen=True)
class Boxcar(Surrogate):
    """A box of area 1: 1 / (2 w) up to a distance of w, and exactly 0 beyond.

    Args:
        width: w, from the threshold to where it ends.
    """

    width: float = 0.5
    code: ClassVar[int | None] = 4

    def __post_init__(self) -> None:
        _check_positive(self, "width")

    @property
    def peak(self) -> float:
        """Its value at the threshold."""
        return 1 / (2 * self.width)

    @property
    def sharpness(self) -> float:
        """How fast it falls off."""
        return 1 / self.width

    def _shape(self, z: Tensor) -> Tensor:
        return (z.abs() <= 1).to(z.dtype)
