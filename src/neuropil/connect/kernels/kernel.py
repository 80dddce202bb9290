"""What a way to compute a sparse layer consists of."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


def told_nothing(layer: "SparseLinear") -> str:
    """Return no words."""
    return ""


def is_single(wiring: Wiring) -> bool:
    """Return whether the blocks of a wiring are single synapses."""
    return wiring.block == (1, 1)


def always(wiring: Wiring, input_gradient: str) -> bool:
    """Return True."""
    return True


class Kernel(NamedTuple):
    """One way to compute a sparse layer.

    Attributes:
        name: by which it can be forced.
        obstacle: says why a wiring cannot be computed, or None.
        product: x Wᵀ + b, ``[b, out_features]``, of a layer and its input ``[b, in_features]``.
        stores_dense: says whether single synapses are stored as a dense matrix, of a wiring and the way of its input
            gradient; larger blocks never are.
        told: says in words how a layer is computed where it is now, for :meth:`SparseLinear.explain`.
    """

    name: str
    obstacle: Callable[[Wiring], str | None]
    product: Callable[["SparseLinear", Tensor], Tensor]
    stores_dense: Callable[[Wiring, str], bool] = always
    told: Callable[["SparseLinear"], str] = told_nothing
