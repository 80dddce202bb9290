"""Event-driven products of a layer of blocks: output and gradient of the weights from what is not zero in the input."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.connect.kernels import block_product
from neuropil.connect.kernels.block_layout import BlockLayout
from neuropil.connect.kernels.event_product import Events, find_events
from neuropil.connect.kernels.needed_gradient import needed_gradient
from neuropil.connect.needed import Needed
from neuropil.threads import in_parallel

# share of the input that is not zero, above which products with copied columns are faster
MOST_ACTIVE = 0.25


def event_blocks(
    layout: BlockLayout,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    needed: Needed | None = None,
    narrow: bool = False,
    narrow_input_gradient: bool = False,
) -> Tensor:
    """Return x Wᵀ + b, ``[r, o]``, from ``[r, i]``: on a CPU, in float32 or float64.

    Args:
        layout: of the wiring.
        x: the input.
        weight: the stored weights, ``[n_blocks, columns, rows]``.
        bias: ``[o]`` or None.
        needed: of which entries of the input the gradient is needed; None: of all.
        narrow: multiply in bfloat16 what is not computed from events.
        narrow_input_gradient: likewise, the gradient of the input only.
    """
    widths = narrow, narrow or (narrow_input_gradient and x.dtype == torch.float32)
    if needed is None:
        arguments: tuple[Any, ...] = x, weight, bias, layout, widths, None, None, 0.0
        return _EventBlocks.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]
    potentials = needed.potentials.reshape(-1, layout.n_sources)
    arguments = x, weight, bias, layout, widths, potentials, needed.threshold, needed.sharpness
    return _EventBlocks.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]


class _EventBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layout: BlockLayout,
        narrow: tuple[bool, bool],
        potentials: Tensor | None,
        threshold: Tensor | None,
        sharpness: float,
    ) -> Tensor:
        x = x.contiguous()
        flat = weight.detach().reshape(-1, layout.rows)
        events = find_events(x, most=MOST_ACTIVE)
        copied = None
        if events is not None:
            y = _forward(layout, events, flat, bias)
        else:
            y, copied = block_product.multiply(layout, x, flat, narrow=narrow[0])
            if bias is not None:
                y += bias
        ctx.layout, ctx.events, ctx.narrow, ctx.sharpness = layout, events, narrow, sharpness
        learns, passes_on = ctx.needs_input_grad[1], ctx.needs_input_grad[0]
        ctx.save_for_backward(
            weight,
            x if events is None and learns and not copied else None,
            *((potentials, threshold) if passes_on else (None, None)),
            *(copied if learns and copied else []),
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, x, potentials, threshold, *copied = ctx.saved_tensors
        layout: BlockLayout = ctx.layout
        flat = weight.reshape(-1, layout.rows)
        of_x = of_weight = of_bias = None
        positions = block_product.by_position(layout, gradient)
        if ctx.needs_input_grad[0] and potentials is not None:
            of_x = needed_gradient(layout, positions, flat, potentials, threshold, ctx.sharpness)
        if ctx.needs_input_grad[0] and of_x is None:
            of_x = block_product.input_gradient(layout, positions, flat, narrow=ctx.narrow[1])
        if ctx.needs_input_grad[1]:
            if ctx.events is not None:
                of_weight = _weight_gradient(layout, ctx.events, positions)
            else:
                of_weight = block_product.weight_gradient(layout, x, positions, copied or None, narrow=ctx.narrow[0])
            of_weight = of_weight.view_as(weight)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(0)
        return of_x, of_weight, of_bias, None, None, None, None, None


def _forward(layout: BlockLayout, events: Events, weight: Tensor, bias: Tensor | None) -> Tensor:
    from neuropil.connect import block_event_loops

    rows = len(events.pointers) - 1
    y = weight.new_empty(rows, layout.n_positions)
    start = weight.new_zeros(1, layout.shape[0]) if bias is None else bias.detach().reshape(1, -1)
    start = block_product.by_position(layout, start)[0]
    compiled: Any = block_event_loops.forward  # whose arguments come in lists
    given = (*events, layout.cuts, layout.columns, *layout.spans, weight.numpy(), start.numpy(), layout.n_sources)
    in_parallel(lambda first, last: compiled(*given, first, last, y.numpy()), rows)
    return block_product.permuted(y, layout.to_targets) if layout.targets is None else y


def _weight_gradient(layout: BlockLayout, events: Events, gradient: Tensor) -> Tensor:
    from neuropil.connect import block_event_loops

    of_weight = gradient.new_zeros(len(layout.sources), layout.rows)
    compiled: Any = block_event_loops.weight_gradient
    given = (*events, layout.cuts, layout.columns, *layout.spans, gradient.numpy(), layout.n_sources)
    out = of_weight.numpy()
    if layout.n >= torch.get_num_threads():
        in_parallel(lambda first, last: compiled(*given, first, last, 0, layout.rows, out), layout.n)
    else:
        in_parallel(lambda first, last: compiled(*given, 0, layout.n, first, last, out), layout.rows, fewest=64)
    return of_weight
