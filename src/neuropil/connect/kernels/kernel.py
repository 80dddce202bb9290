"""What a way to compute a sparse layer consists of."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


class Kernel(NamedTuple):
    """One way to compute a sparse layer.

    Attributes:
        name: by which it can be forced.
        obstacle: says why a wiring cannot be computed, or None.
        product: x Wᵀ + b, ``[b, out_features]``, of a layer and its input ``[b, in_features]``.
    """

    name: str
    obstacle: Callable[[Wiring], str | None]
    product: Callable[["SparseLinear", Tensor], Tensor]
