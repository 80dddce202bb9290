"""Event-driven products: what is zero in the input costs nothing, forward and in the gradient of the weights."""

from typing import TYPE_CHECKING

from torch import Tensor

from neuropil.connect.kernels.event_product import event_linear
from neuropil.connect.kernels.event_synapses import event_synapse_linear
from neuropil.connect.kernels.kernel import Kernel
from neuropil.connect.kernels.synapses import checked_input, is_compiled_for, told_limits
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear

# density of single synapses from which a dense matrix is faster: see benchmarks/results
DENSE_FROM = 0.2


def obstacle(wiring: Wiring) -> str | None:
    """Return None: this kernel computes every wiring."""
    return None


def product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``."""
    if layer.synapses is not None and is_compiled_for(layer.weight):
        return event_synapse_linear(
            checked_input(layer, x), layer.effective_weight().view(-1), layer.bias, layer.synapses
        )
    return event_linear(x, layer.dense_weight(), layer.bias)


def stores_dense(wiring: Wiring) -> bool:
    """Return whether single synapses are so many that rows of a dense matrix are added faster than they are."""
    return wiring.density >= DENSE_FROM


def told(layer: "SparseLinear") -> str:
    """Say how the layer is computed where it is now."""
    if not is_compiled_for(layer.weight):
        return f"dense, zeros included: {told_limits(layer)}"
    if layer.synapses is None:
        return "events times rows of the dense matrix; dense where more than 15 % of the input is not zero"
    return "connections of active sources; all connections where more than 8 % of the input is not zero"


EVENTS = Kernel("events", obstacle, product, stores_dense, told)
