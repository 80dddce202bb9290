"""Event-driven products: what is zero in the input costs nothing, forward and in the gradient of the weights."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuropil.connect.kernels.block_events import event_blocks
from neuropil.connect.kernels.block_layout import layout_of
from neuropil.connect.kernels.blocks import gathered_product, is_compiled_for
from neuropil.connect.kernels.event_product import event_linear
from neuropil.connect.kernels.kernel import Kernel
from neuropil.connect.needed import needed_of
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


def obstacle(wiring: Wiring) -> str | None:
    """Return None: this kernel computes every wiring."""
    return None


def product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``."""
    if layer.wiring.block == (1, 1):
        return event_linear(x, layer.dense_weight(), layer.bias, input_gradient=layer.input_gradient)
    narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if narrow and x.dtype == torch.bfloat16:  # what another layer gives under autocast
        x = x.to(layer.weight.dtype)
    if not is_compiled_for(x, layer.weight, under_autocast=True):
        return gathered_product(layer, x)
    return event_blocks(
        layout_of(layer.wiring),
        x,
        layer.effective_weight(),
        layer.bias,
        needed=needed_of(x) if layer.input_gradient == "needed" else None,
        narrow=narrow and x.dtype == torch.float32,
        narrow_input_gradient=layer.input_gradient == "bfloat16",
    )


EVENTS = Kernel("events", obstacle, product)
