"""Gathered products: for each row of blocks, one dense product with the sources that it reads."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuropil.connect.kernels import block_product
from neuropil.connect.kernels.block_layout import BlockLayout, layout_of
from neuropil.connect.kernels.gathered_product import gathered_product, product_type
from neuropil.connect.kernels.kernel import Kernel
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear

# below so many multiplications, calls take longer than what they save: a layer of 512 neurons, 25 % dense, 64 samples
_FEWEST_PRODUCTS = 2**22
_SUPPORTED = (torch.float32, torch.float64)


def obstacle(wiring: Wiring) -> str | None:
    """Return why the kernel cannot run: it works on the stored blocks, and single synapses are not stored so."""
    return "needs blocks larger than one synapse, got block=(1, 1)" if wiring.block == (1, 1) else None


def product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``."""
    gathering = layer._gathering
    if gathering is not None and gathering.stored.device == x.device and (dtype := product_type(x, layer.weight)):
        return gathered_product(gathering, x, layer.effective_weight(), layer.bias, dtype)
    if not is_compiled_for(x, layer.weight) or len(x) * layer.weight.numel() < _FEWEST_PRODUCTS:
        return traceable_product(layer, x)
    arguments = x, layer.effective_weight(), layer.bias, layout_of(layer.wiring)
    return _BlockLinear.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]


def is_compiled_for(x: Tensor, weight: Tensor, *, under_autocast: bool = False) -> bool:
    """Return whether products with copied columns, compiled by Numba, can compute this."""
    if torch.compiler.is_compiling() or x.device.type != "cpu" or weight.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu") and not under_autocast:
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return x.dtype in _SUPPORTED and weight.dtype == x.dtype


def traceable_product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``, in PyTorch's own operations.

    Neurons come first while it runs (``[neurons, b]``), so that gathering a source copies one contiguous row.
    Row i of the block grid reads k_i columns; its weights are stored as one matrix ``[k_i, rows]``.
    """
    batch, rows, n_columns = x.shape[0], layer.wiring.block[0], layer._columns_per_row
    sources = x.t()
    if layer._gather is not None:
        if layer._reads_nobody:
            sources = F.pad(sources, (0, 0, 0, 1))  # the neuron behind the last one is always silent
        sources = sources.index_select(0, layer._gather)
    weight = layer.effective_weight().reshape(-1, rows)
    if len(set(n_columns)) == 1:
        stacked = (len(n_columns), n_columns[0])
        products = torch.bmm(weight.view(*stacked, rows).transpose(1, 2), sources.reshape(*stacked, batch))
        targets = products.reshape(len(n_columns) * rows, batch)
    else:
        pairs = zip(torch.split(weight, n_columns), torch.split(sources, n_columns), strict=True)
        targets = torch.cat([torch.mm(w.t(), s) for w, s in pairs])
    if layer._scatter is not None:
        targets = targets.index_select(0, layer._scatter)
    y = targets.t().contiguous()
    return y if layer.bias is None else y + layer.bias.to(y.dtype)


class _BlockLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layout: BlockLayout) -> Tensor:
        given = x.contiguous()
        y, copied = block_product.multiply(layout, given, weight.detach().reshape(-1, layout.rows))
        if bias is not None:
            y += bias
        learns = ctx.needs_input_grad[1]
        ctx.layout = layout
        ctx.save_for_backward(x, weight, bias, *(copied if learns and copied else []))
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, *copied = ctx.saved_tensors
        layout: BlockLayout = ctx.layout
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted
            wanted = [t for t, is_wanted in zip((x, weight, bias), ctx.needs_input_grad[:3], strict=True) if is_wanted]
            found = iter(torch.autograd.grad(_traced(layout, x, weight, bias), wanted, gradient, create_graph=True))
            return *(next(found) if is_wanted else None for is_wanted in ctx.needs_input_grad[:3]), None
        of_x = of_weight = of_bias = None
        positions = block_product.by_position(layout, gradient)
        if ctx.needs_input_grad[0]:
            of_x = block_product.input_gradient(layout, positions, weight.reshape(-1, layout.rows))
        if ctx.needs_input_grad[1]:
            of_weight = block_product.weight_gradient(
                layout, None if copied else x.contiguous(), positions, copied or None
            )
            of_weight = of_weight.view_as(weight)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(0)
        return of_x, of_weight, of_bias, None


def _traced(layout: BlockLayout, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x Wᵀ + b in operations that can be differentiated again."""
    sources = torch.split(torch.from_numpy(layout.sources.astype("int64")), layout.sizes)
    weights = torch.split(weight.reshape(-1, layout.rows), layout.sizes)
    products = []
    for piece, (w, columns) in enumerate(zip(weights, sources, strict=True)):
        if piece in layout.nobody:
            w = w.index_fill(0, layout.nobody[piece], 0)
        products.append(x.index_select(1, columns) @ w)
    y = torch.cat(products, 1).index_select(1, torch.from_numpy(layout.to_targets))
    return y if bias is None else y + bias


def told(layer: "SparseLinear") -> str:
    """Say how the layer is computed where it is now."""
    return f"one dense product for each row of blocks, {_how(layer)}"


def _how(layer: "SparseLinear") -> str:
    if layer.weight.is_cuda:
        return "in PyTorch's own operations" if layer._gathering is None else "sources gathered by Triton"
    if layer.weight.device.type == "cpu" and layer.weight.dtype in _SUPPORTED:
        return "sources copied by compiled loops, or taken where they lie"
    return "in PyTorch's own operations"


BLOCKS = Kernel("blocks", obstacle, product, told=told)
