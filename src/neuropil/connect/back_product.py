"""The product with the transpose of a layer's weights, or of others along the same wiring."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuropil.connect.kernels import block_product
from neuropil.connect.kernels.block_layout import layout_of
from neuropil.connect.kernels.blocks import is_compiled_for
from neuropil.connect.kernels.synapse_product import COMPILED, gradients

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


@torch.no_grad()
def back_product(layer: "SparseLinear", delta: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return δ W, ``[..., in_features]``, of signals δ at the targets of a sparse layer, without a gradient.

    With the layer's own weights this is the gradient of its input where δ is that of its output. It costs one product,
    as in backpropagation; on a GPU, where a layer has blocks or does not store its matrix, two.

    Args:
        layer: whose wiring the signals go back along.
        delta: ``[..., out_features]``.
        weight: what stands for the layer's weights, shaped like them; default: these, silent ones as zeros.

    Raises:
        ValueError: the signals or the weights have another shape.

    Example:
        >>> from neuropil.connect import SparseLinear, Wiring
        >>> layer = SparseLinear(Wiring.from_mask([[1, 0], [1, 1]]), bias=False)
        >>> layer.copy_dense_weight(torch.tensor([[2.0, 0.0], [3.0, 5.0]]))
        >>> back_product(layer, torch.tensor([1.0, 10.0])).tolist()
        [32.0, 50.0]
    """
    if delta.shape[-1] != layer.out_features:
        raise ValueError(
            f"back_product: delta's last dimension must be out_features={layer.out_features}, got shape "
            f"{tuple(delta.shape)}"
        )
    if weight is None:
        weight = layer.effective_weight()
    elif weight.shape != layer.weight.shape:
        raise ValueError(
            f"back_product: weight must have the shape {tuple(layer.weight.shape)} of the layer's, got "
            f"{tuple(weight.shape)}"
        )
    flat, weight = delta.reshape(-1, layer.out_features), weight.detach()
    return _flat(layer, flat, weight).reshape(*delta.shape[:-1], layer.in_features)


def _flat(layer: "SparseLinear", delta: Tensor, weight: Tensor) -> Tensor:
    if layer.stores_dense:
        return delta @ weight  # zero where nothing connects
    if layer.synapses is not None and delta.device.type == "cpu" and weight.dtype in COMPILED:
        values = weight.reshape(-1)
        return gradients(delta.to(values).contiguous(), None, values, layer.synapses.tensors(), True, False)[0]
    if layer.synapses is None and is_compiled_for(delta, weight):
        layout = layout_of(layer.wiring)
        positions = block_product.by_position(layout, delta)
        return block_product.input_gradient(layout, positions, weight.reshape(-1, layout.rows).contiguous())
    return _by_autograd(layer, delta, weight)


def _by_autograd(layer: "SparseLinear", delta: Tensor, weight: Tensor) -> Tensor:
    with torch.enable_grad():
        x = delta.new_zeros(len(delta), layer.in_features, requires_grad=True)
        y = torch.func.functional_call(layer, {"weight": weight}, (x,))
        return torch.autograd.grad(y, x, delta)[0]
