"""The reference: a dense product with a weight matrix that is zero where nothing connects."""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from neuropil.connect.kernels.kernel import Kernel
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear


def obstacle(wiring: Wiring) -> str | None:
    """Return None: this kernel computes every wiring."""
    return None


def product(layer: "SparseLinear", x: Tensor) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, from ``[b, in_features]``, at the cost of a dense layer and the mask."""
    return F.linear(x, layer.dense_weight(), layer.bias)


def told(layer: "SparseLinear") -> str:
    """Say how the layer is computed."""
    return "dense, with a mask"


MASKED = Kernel("masked", obstacle, product, told=told)
