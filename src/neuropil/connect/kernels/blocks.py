"""Gathered products: for each row of blocks, one dense product with the sources that it reads."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from neuropil.connect.kernels.gathered_product import gathered_product, product_type
from neuropil.connect.kernels.kernel import Kernel
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


def obstacle(wiring: Wiring) -> str | None:
    """Return why the kernel cannot run: it works on the stored blocks, and single synapses are not stored so."""
    return "needs blocks larger than one synapse, got block=(1, 1)" if wiring.block == (1, 1) else None


def product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``.

    Neurons come first while it runs (``[neurons, b]``), so that gathering a source copies one contiguous row.
    Row i of the block grid reads k_i columns; its weights are stored as one matrix ``[k_i, rows]``.
    """
    g = layer._gathering
    if g is not None and g.stored.device == x.device and (dtype := product_type(x, layer.weight)):
        return gathered_product(g, x, layer.effective_weight(), layer.bias, dtype)
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


def told(layer: "SparseLinear") -> str:
    """Say how the layer is computed."""
    return "one dense product for each row of blocks"


BLOCKS = Kernel("blocks", obstacle, product, told=told)
