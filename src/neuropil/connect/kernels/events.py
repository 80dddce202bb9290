"""Event-driven products: what is zero in the input costs nothing, forward and in the gradient of the weights."""

from typing import TYPE_CHECKING

from torch import Tensor

from neuropil.connect.kernels.event_product import event_linear
from neuropil.connect.kernels.kernel import Kernel
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


def obstacle(wiring: Wiring) -> str | None:
    """Return None: this kernel computes every wiring."""
    return None


def product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``."""
    return event_linear(x, layer.dense_weight(), layer.bias)


EVENTS = Kernel("events", obstacle, product)
