"""Single synapses from their live weights alone: compiled loops over compressed rows and columns."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from neuropil.connect.kernels.kernel import Kernel, is_single
from neuropil.connect.kernels.synapse_product import COMPILED, synapse_linear
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


def obstacle(wiring: Wiring) -> str | None:
    """Return why the kernel cannot run: it knows single synapses only."""
    return None if is_single(wiring) else f"needs single synapses, got block={wiring.block}"


def is_compiled_for(weight: Tensor) -> bool:
    """Return whether the compiled loops know the place and the type of weights."""
    return weight.device.type == "cpu" and weight.dtype in COMPILED


def checked_input(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return an input in the type of the weights.

    Raises:
        TypeError: it is of another type, and autocast is off.
    """
    weight = layer.weight
    if x.dtype == weight.dtype:
        return x
    if torch.is_autocast_enabled("cpu") and x.is_floating_point():  # what another layer gives
        return x.to(weight.dtype)
    raise TypeError(f"SparseLinear: the input must be of the weights' type, {weight.dtype}, got {x.dtype}")


def product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``.

    On a CPU, weights, sums and output are of float32 or float64, whatever autocast says. Elsewhere, and in other types,
    the product is dense, with a matrix that is made from the weights each time.
    """
    if layer.synapses is None or not is_compiled_for(layer.weight):
        return F.linear(x, layer.dense_weight(), layer.bias)
    return synapse_linear(checked_input(layer, x), layer.effective_weight().view(-1), layer.bias, layer.synapses)


def told(layer: "SparseLinear") -> str:
    """Say how the layer is computed where it is now."""
    if is_compiled_for(layer.weight):
        return "compiled loops over live connections"
    return f"dense, with a matrix made from the live weights each time: {told_limits(layer)}"


def told_limits(layer: "SparseLinear") -> str:
    """Say that a layer is where the compiled loops do not reach."""
    return (
        f"the compiled loops know float32 and float64 on a CPU, and the weights are {layer.weight.dtype} on "
        f"{layer.weight.device.type}"
    )


def stores_dense(wiring: Wiring, input_gradient: str) -> bool:
    """Return False: there is no matrix."""
    return False


SYNAPSES = Kernel("synapses", obstacle, product, stores_dense, told)
