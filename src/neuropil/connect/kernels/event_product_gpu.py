"""Event-driven products on a GPU: where they pay, and their gradients."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Measured on an H200, 4096³: an event costs what 11 entries do densely in float32, but 90 in TF32 and bfloat16, which
# few networks are silent enough for. Looking whether it pays makes the host wait, so the product must be large.
_MOST_ACTIVE = 0.05
_LEAST_WORK = 2**33
_HAS_TRITON = find_spec("triton") is not None


def pays_on_gpu(x: Tensor, weight: Tensor) -> bool:
    """Return whether a product ``[..., i]`` · ``[o, i]``ᵀ is computed from events, and so faster."""
    if not x.is_cuda or torch.compiler.is_compiling() or not _HAS_TRITON:
        return False
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or torch.is_autocast_enabled("cuda"):
        return False
    if x.numel() * len(weight) < _LEAST_WORK or torch.get_float32_matmul_precision() != "highest":
        return False
    if torch.cuda.is_current_stream_capturing():  # a graph is for what does not depend on numbers
        return False
    return float(torch.count_nonzero(x)) <= _MOST_ACTIVE * x.numel()


def event_linear_on_gpu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x Wᵀ + b, as :func:`~neuropil.connect.kernels.event_product.event_linear`, always from events."""
    y: Tensor = _EventLinear.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return y.reshape(*x.shape[:-1], len(weight))


class _EventLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        from neuropil.connect.kernels.events_triton import event_product

        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        y = event_product(x, weight.t())
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from neuropil.connect.kernels.events_triton import event_product

        x, weight = ctx.saved_tensors
        of_x = gradient @ weight if ctx.needs_input_grad[0] else None
        of_weight = event_product(x.t(), gradient).t() if ctx.needs_input_grad[1] else None
        return of_x, of_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None
