"""Event-driven products: what is zero in the input costs nothing, forward and in the gradient of the weights."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuropil.connect.kernels import blocks, event_product, synapses
from neuropil.connect.kernels.block_events import MOST_ACTIVE, event_blocks
from neuropil.connect.kernels.block_layout import layout_of
from neuropil.connect.kernels.event_product import event_linear
from neuropil.connect.kernels.event_synapses import BY_ROWS_FROM, event_synapse_linear, most_active
from neuropil.connect.kernels.kernel import Kernel, is_single
from neuropil.connect.needed import needed_of
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear

# density of single synapses from which dense products are faster where too much is active: see benchmarks/results
DENSE_FROM = 0.4


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


def stores_dense(wiring: Wiring, input_gradient: str) -> bool:
    """Return whether dense products are faster, or wanted for the gradient of the input of not too few connections."""
    return wiring.density >= (BY_ROWS_FROM if input_gradient == "bfloat16" else DENSE_FROM)


def told(layer: "SparseLinear") -> str:
    """Say how the layer is computed where it is now."""
    if not synapses.is_compiled_for(layer.weight):
        kind = "dense, zeros" if is_single(layer.wiring) else "all blocks, zeros"
        return f"{kind} included: {synapses.told_limits(layer)}"
    if not is_single(layer.wiring):
        return f"blocks of active sources; all blocks where more than {_percent(MOST_ACTIVE)}"
    if layer.synapses is None:
        return f"events times rows of the dense matrix; dense where more than {_percent(event_product.MOST_ACTIVE)}"
    density = layer.wiring.density
    how = "rows of a matrix, made anew each time," if density >= BY_ROWS_FROM else "connections"
    return f"{how} of active sources; all connections where more than {_percent(most_active(density))}"


def _percent(most: float) -> str:
    return f"{100 * most:g} % of the input is not zero"


EVENTS = Kernel("events", obstacle, product, stores_dense, told)
