"""A linear map that skips what is zero in its input, forward and in the gradient of its weights."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.connect.kernels.dense_product import dense_product
from neuropil.connect.kernels.event_product_gpu import event_linear_on_gpu, pays_on_gpu
from neuropil.connect.kernels.needed_gradient import dense_layout, needed_gradient
from neuropil.connect.needed import needed_of
from neuropil.threads import in_parallel

# share of the input that is not zero, above which the dense product is faster: see benchmarks/results
MOST_ACTIVE = 0.15
_SUPPORTED = (torch.float32, torch.float64)


class Events(NamedTuple):
    """What is not zero in a matrix ``[r, i]``, row by row: compressed rows.

    Attributes:
        pointers: int64 ``[r + 1]``, where each row begins.
        sources: int32, the columns.
        values: the numbers.
    """

    pointers: NDArray[Any]
    sources: NDArray[Any]
    values: NDArray[Any]


def event_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, input_gradient: str = "full") -> Tensor:
    """Return x Wᵀ + b, as ``F.linear``, in a time that falls with the share of ``x`` that is zero.

    The output and the gradient of the weights are computed from the events alone: the entries of ``x`` that are not
    zero, such as spikes. The gradient of ``x`` is dense, and so is its product. Where more than 15 % of ``x`` is not
    zero, and where Numba does not reach (another device, another type, ``torch.compile``), all products are dense.
    On a GPU, Triton takes its place, in float32 that is not rounded to TF32, for large products, up to 5 % activity.

    Under autocast to bfloat16, what is dense is computed so: each factor rounded to 8 bits (relative error up to 2⁻⁹),
    summed in float32, and the sum rounded likewise. What is computed from events stays in float32, as the output does.

    A zero passes nothing: not even NaN, which in a dense product it becomes when a weight is infinite or NaN.

    Args:
        x: ``[..., in_features]``.
        weight: ``[out_features, in_features]``.
        bias: ``[out_features]`` or None.
        input_gradient: ``full``; ``needed``: only where the neurons that made ``x`` let it pass, 0 elsewhere, see
            :mod:`neuropil.connect.needed`; ``bfloat16``: multiplied in bfloat16, as under autocast, from float32.

    Returns:
        ``[..., out_features]``.

    Raises:
        ValueError: the input has other features than the weight.
    """
    if x.shape[-1] != weight.shape[1]:  # compiled loops do not look where they read
        raise ValueError(
            f"event_linear: the input's last dimension must be in_features={weight.shape[1]}, got shape "
            f"{tuple(x.shape)}"
        )
    narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if narrow and x.dtype == torch.bfloat16:  # what another layer gives under autocast
        x = x.to(weight.dtype)
    if pays_on_gpu(x, weight):
        return event_linear_on_gpu(x, weight, bias)
    if not _is_compiled_for(x, weight):
        return torch.nn.functional.linear(x, weight, bias)
    narrow = narrow and x.dtype == torch.float32  # autocast leaves wider types alone
    widths = narrow, narrow or (input_gradient == "bfloat16" and x.dtype == torch.float32)
    needed = needed_of(x) if input_gradient == "needed" else None
    where = (None, None, 0.0) if needed is None else (needed.potentials, needed.threshold, needed.sharpness)
    arguments = x.reshape(-1, x.shape[-1]), weight, bias, widths, *where
    y: Tensor = _EventLinear.apply(*arguments)  # type: ignore[no-untyped-call]
    return y.reshape(*x.shape[:-1], len(weight))


def _is_compiled_for(x: Tensor, weight: Tensor) -> bool:
    """Return whether the compiled loops can do this product."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    return x.dtype in _SUPPORTED and weight.dtype == x.dtype and x.shape[-1] > 0


def find_events(x: Tensor, *, most: float = 1.0) -> Events | None:
    """Return what is not zero in ``x``, ``[r, i]``; None where that is a larger share than ``most``."""
    from neuropil.connect import event_loops

    rows, n = x.shape
    matrix = x.detach().numpy()
    pointers = np.zeros(rows + 1, dtype=np.int64)
    in_parallel(lambda first, last: event_loops.count_events(matrix, first, last, pointers[1:]), rows)
    np.cumsum(pointers, out=pointers)
    if pointers[-1] > most * rows * n:
        return None
    sources, values = np.empty(pointers[-1], dtype=np.int32), np.empty(pointers[-1], dtype=matrix.dtype)
    in_parallel(lambda first, last: event_loops.list_events(matrix, pointers, first, last, sources, values), rows)
    return Events(pointers, sources, values)


class _EventLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        narrow: tuple[bool, bool],
        potentials: Tensor | None,
        threshold: Tensor | None,
        sharpness: float,
    ) -> Tensor:
        x = x.contiguous()
        events = find_events(x, most=MOST_ACTIVE)
        ctx.events, ctx.has_bias, ctx.narrow = events, bias is not None, narrow
        ctx.sharpness = sharpness
        kept = x if events is None and ctx.needs_input_grad[1] else None
        ctx.save_for_backward(kept, weight, *((potentials, threshold) if ctx.needs_input_grad[0] else (None, None)))
        if events is None:
            return dense_product(x, weight, bias, narrow=narrow[0])
        return forward_by_rows(events, weight.t().contiguous(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, potentials, threshold = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0] and potentials is not None:
            layout, by_source = dense_layout(*weight.shape), weight.t().contiguous()
            where = potentials.reshape(-1, weight.shape[1]), threshold, ctx.sharpness
            of_x = needed_gradient(layout, gradient, by_source, *where)
        if ctx.needs_input_grad[0] and of_x is None:
            of_x = dense_product(gradient, weight.t(), narrow=ctx.narrow[1])
        if ctx.needs_input_grad[1]:
            if ctx.events is None:
                of_weight = dense_product(gradient.t(), x.t(), narrow=ctx.narrow[0])
            else:
                of_weight = weight_gradient_by_rows(ctx.events, gradient, weight.shape[1]).t()
        if ctx.has_bias and ctx.needs_input_grad[2]:
            of_bias = gradient.sum(0)
        return of_x, of_weight, of_bias, None, None, None, None


def forward_by_rows(events: Events, by_source: Tensor, bias: Tensor | None) -> Tensor:
    """Return x Wᵀ + b from the events of x: rows of Wᵀ, ``[in_features, out_features]``, are added."""
    from neuropil.connect import event_loops

    rows, weights = len(events.pointers) - 1, by_source.detach().numpy()
    y = by_source.new_empty(rows, by_source.shape[1])
    start = (torch.zeros_like(by_source[0]) if bias is None else bias.detach().contiguous()).numpy()
    in_parallel(lambda first, last: event_loops.forward(*events, weights, start, first, last, y.numpy()), rows)
    return y


def weight_gradient_by_rows(events: Events, gradient: Tensor, in_features: int) -> Tensor:
    """Return the gradient of Wᵀ, ``[in_features, out_features]``, from the events of x and the output's gradient."""
    from neuropil.connect import event_loops

    by_source = gradient.new_zeros(in_features, gradient.shape[1])
    arrays = gradient.numpy(), by_source.numpy()
    in_parallel(
        lambda first, last: event_loops.weight_gradient(*events, *arrays, first, last), gradient.shape[1], fewest=64
    )
    return by_source
