"""Gathered products on a GPU: what a row of blocks reads side by side in one buffer, then one batched product."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuropil.connect.kernels.gathering import Gathering

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def product_type(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """Return the type in which a product is computed; None: not by what is here."""
    if x.dtype not in _FLOATS or weight.dtype not in _FLOATS:
        return None
    if torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, weight.dtype):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if x.dtype == weight.dtype else None


def gathered_product(g: Gathering, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, computed in ``dtype``.

    Args:
        g: the wiring, laid out.
        x: ``[b, in_features]``.
        weight: as a layer stores it, ``[n_blocks, columns, rows]``.
        bias: ``[out_features]`` or None.
        dtype: see :func:`product_type`.
    """
    if torch.compiler.is_compiling():
        from neuropil.connect.kernels.gathered_operator import gathered_operator

        return gathered_operator(g, x, weight, bias, dtype)
    y: Tensor = _GatheredProduct.apply(g, x, weight, bias, dtype)  # type: ignore[no-untyped-call]
    return y


class _GatheredProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Gathering, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        y, slots, packed = forward(g, x, weight, bias, dtype)
        ctx.save_for_backward(x, weight, bias, slots if any(ctx.needs_input_grad[2:4]) else None, packed)
        ctx.gathering = g
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, weight, bias, slots, packed = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:4]
        if torch.is_grad_enabled():  # somebody will ask for the gradient of gradients
            given = [part for part, wants in zip((x, weight, bias), wanted, strict=True) if wants]
            y = differentiable(ctx.gathering, x, weight, bias, packed.dtype)
            found = iter(torch.autograd.grad(y, given, gradient, create_graph=True))
            return None, *(next(found) if wants else None for wants in wanted), None
        return None, *backward(ctx.gathering, gradient, (x, weight, bias), slots, packed, wanted), None


def forward(
    g: Gathering, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the product, and the sources and weights in slots that :func:`backward` needs."""
    from neuropil.connect.kernels.blocks_triton import Weights, run_gather

    b, weights = len(x), None
    if g.as_stored:
        packed = weights_as_slots(g, weight, dtype)
    else:
        packed = weight.new_empty((g.slots, g.rows), dtype=dtype)
        weights = Weights(weight.contiguous(), bias, packed, g.stored, g.own, g.order)
    if g.sources is None:
        slots = sources_as_slots(x, dtype)
        if weights is not None:
            run_gather(None, None, slots, weights)
    else:
        slots = x.new_empty((b, g.slots), dtype=dtype)
        run_gather(x if x.stride(1) == 1 else x.contiguous(), g.sources, slots, weights)
    y = x.new_empty((b, g.n_rows * g.rows), dtype=dtype)
    for sources, matrix, targets in _matrices(g, slots, packed, y):
        torch.bmm(sources, matrix, out=targets)
    if g.position is not None:
        products, y = y, y.new_empty((b, g.out_features))
        run_gather(products, g.position, y, None)
    if bias is not None and not g.holds_bias:
        y += bias.to(dtype)
    return y, slots, packed


def backward(
    g: Gathering,
    gradient: Tensor,
    given: tuple[Tensor, Tensor, Tensor | None],
    slots: Tensor,
    packed: Tensor,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of what was ``given``, input, weights and bias, where they are ``wanted``."""
    from neuropil.connect.kernels.blocks_triton import Weights, run_gather, run_sum

    x, weight, bias = given
    of_x = of_slots = of_weight = of_bias = weights = None
    gradient = gradient.contiguous()
    b = len(gradient)
    if bias is not None and wanted[2] and not g.holds_bias:
        of_bias = gradient.sum(0).to(bias.dtype)
    if g.order is not None:
        of_y, gradient = gradient, gradient.new_empty((b, len(g.order)))
        run_gather(of_y, g.order, gradient, None)
    if wanted[0]:
        of_slots = gradient.new_empty((b, g.slots))
        for sources, matrix, targets in _matrices(g, of_slots, packed, gradient):
            torch.bmm(targets, matrix.mT, out=sources)
        of_x = of_slots.to(x.dtype) if g.sources is None else x.new_empty(x.shape)
    if wanted[1] or (wanted[2] and g.holds_bias):
        of_packed = packed.new_empty(packed.shape)
        for sources, matrix, targets in _matrices(g, slots, of_packed, gradient):
            torch.bmm(sources.mT, targets, out=matrix)
        if g.as_stored:
            of_weight = of_packed.to(weight.dtype).view(weight.shape)
        else:
            of_weight = weight.new_empty(weight.shape)
            if g.holds_bias and bias is not None:
                of_bias = bias.new_empty(bias.shape)
            weights = Weights(of_weight, of_bias, of_packed, g.stored, g.own, g.order)
    adds = g.sources is not None and of_x is not None
    if adds or weights is not None:
        run_sum(of_slots if adds else None, g.readers, g.pointers, x if of_x is None else of_x, weights)
    return of_x, of_weight if wanted[1] else None, of_bias if wanted[2] else None


def sources_as_slots(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sources where nothing need be gathered."""
    return x.to(dtype).contiguous()


def weights_as_slots(g: Gathering, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weights where slots are stored weights."""
    return weight.reshape(-1, g.rows).to(dtype)


def differentiable(g: Gathering, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the product as PyTorch's own operations give it, as often differentiable as one likes."""
    sources = torch.arange(g.slots, device=x.device) if g.sources is None else g.sources
    slots = F.pad(x, (0, 1)).index_select(1, torch.where(sources < 0, x.shape[1], sources)).to(dtype)
    stored = F.pad(weight.reshape(-1, g.rows), (0, 0, 0, 1))
    packed = stored.index_select(0, torch.where(g.stored < 0, len(stored) - 1, g.stored)).to(dtype)
    y = torch.cat([slots[:, first:last] @ packed[first:last] for first, last in pairwise(g.edges)], 1)
    if g.position is not None:
        y = y.index_select(1, g.position)
    return y if bias is None else y + bias.to(dtype)


def _matrices(g: Gathering, slots: Tensor, packed: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return views of what is multiplied: sources ``[n, b, k]``, weights ``[n, k, o]`` and targets ``[n, b, o]``.

    All rows of blocks in one, where they are equally wide; else one by one.
    """
    if width := g.width:
        b, n, o = len(slots), g.n_rows, g.rows
        return [(
            slots.as_strided((n, b, width), (width, n * width, 1)),
            packed.view(n, width, o),
            targets.as_strided((n, b, o), (o, n * o, 1)),
        )]  # fmt: skip
    return [
        (slots[None, :, first:last], packed[None, first:last], targets[None, :, i * g.rows : (i + 1) * g.rows])
        for i, (first, last) in enumerate(pairwise(g.edges))
    ]
