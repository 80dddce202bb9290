"""Event-driven products: what is zero in the input costs nothing, forward and in the gradient of the weights."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuropil.connect.kernels import blocks, synapses
from neuropil.connect.kernels.block_events import MOST_ACTIVE, event_blocks
from neuropil.connect.kernels.block_layout import layout_of
from neuropil.connect.kernels.event_product import event_linear
from neuropil.connect.kernels.event_synapses import event_synapse_linear
from neuropil.connect.kernels.kernel import Kernel, is_single
from neuropil.connect.needed import needed_of
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
    if layer.synapses is not None and synapses.is_compiled_for(layer.weight):
        x = synapses.checked_input(layer, x)
        return event_synapse_linear(x, layer.effective_weight().view(-1), layer.bias, layer.synapses)
    if is_single(layer.wiring):
        return event_linear(x, layer.dense_weight(), layer.bias, input_gradient=layer.input_gradient)
    narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if narrow and x.dtype == torch.bfloat16:  # what another layer gives under autocast
        x = x.to(layer.weight.dtype)
    if not blocks.is_compiled_for(x, layer.weight, under_autocast=True):
        return blocks.product(layer, x)
    return event_blocks(
        layout_of(layer.wiring),
        x,
        layer.effective_weight(),
        layer.bias,
        needed=needed_of(x) if layer.input_gradient == "needed" else None,
        narrow=narrow and x.dtype == torch.float32,
        narrow_input_gradient=layer.input_gradient == "bfloat16",
    )


def stores_dense(wiring: Wiring) -> bool:
    """Return whether single synapses are so many that rows of a dense matrix are added faster than they are."""
    return wiring.density >= DENSE_FROM


def told(layer: "SparseLinear") -> str:
    """Say how the layer is computed where it is now."""
    if not synapses.is_compiled_for(layer.weight):
        kind = "dense, zeros" if is_single(layer.wiring) else "all blocks, zeros"
        return f"{kind} included: {synapses.told_limits(layer)}"
    if not is_single(layer.wiring):
        return f"blocks of active sources; all blocks where more than {100 * MOST_ACTIVE:g} % of the input is not zero"
    if layer.synapses is None:
        return "events times rows of the dense matrix; dense where more than 15 % of the input is not zero"
    return "connections of active sources; all connections where more than 8 % of the input is not zero"


EVENTS = Kernel("events", obstacle, product, stores_dense, told)
