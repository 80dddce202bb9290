"""Gathered products on a GPU: what a row of blocks reads side by side in one buffer, then one batched product."""

import os
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.connect.kernels.gathering import Gathering

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def product_type(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """Return the type in which the product is computed; None: Triton cannot compute it, PyTorch must."""
    if torch.compiler.is_compiling() or x.dtype not in _FLOATS or weight.dtype not in _FLOATS:
        return None
    if not (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1") or find_spec("triton") is None:
        return None
    narrows = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, weight.dtype)
    if narrows:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if x.dtype == weight.dtype else None


def gathered_product(layer: "SparseLinear", x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, of a layer stored in blocks, computed in ``dtype``."""
    gathering: Gathering | None = layer.__dict__.get("_gathering")
    if gathering is None or gathering.wiring is not layer.wiring or gathering.device != x.device:
        gathering = Gathering.of(layer.wiring, bias=layer.bias is not None, device=x.device)
        layer.__dict__["_gathering"] = gathering
    y: Tensor = _GatheredProduct.apply(x, layer.effective_weight(), layer.bias, gathering, dtype)  # type: ignore[no-untyped-call]
    return y


class _GatheredProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, gathering: Gathering, dtype: torch.dtype
    ) -> Tensor:
        from neuropil.connect.kernels import blocks_triton

        g, b = gathering, len(x)
        if g.sources is None:
            slots = x.to(dtype).contiguous()
        else:
            slots = x.new_empty(b, g.slots, dtype=dtype)
            blocks_triton.run_gather(x if x.stride(1) == 1 else x.contiguous(), g.sources, slots)
        shape = weight.shape
        weight = weight.reshape(-1, g.rows)
        if g.as_stored:
            packed = weight.to(dtype)
        else:
            packed = weight.new_empty(g.slots, g.rows, dtype=dtype)
            blocks_triton.run_pack(weight, bias, g.stored, g.own, g.order, packed, back=False)
        y = slots.new_empty(b, g.n_rows * g.rows)
        for sources, weights, targets in _matrices(g, slots, packed, y):
            torch.bmm(sources, weights, out=targets)
        if g.position is not None:
            products, y = y, y.new_empty(b, len(g.position))
            blocks_triton.run_gather(products, g.position, y)
        if bias is not None and not g.holds_bias:
            y += bias.to(dtype)
        ctx.save_for_backward(slots if ctx.needs_input_grad[1] or ctx.needs_input_grad[2] else None, packed)
        ctx.gathering, ctx.shape, ctx.types = g, shape, [None if t is None else t.dtype for t in (x, weight, bias)]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from neuropil.connect.kernels import blocks_triton

        (slots, packed), g = ctx.saved_tensors, ctx.gathering
        of_x = of_weight = of_bias = None
        gradient = gradient.contiguous()
        if ctx.needs_input_grad[2] and not g.holds_bias:
            of_bias = gradient.sum(0).to(ctx.types[2])
        if g.order is not None:
            of_y, gradient = gradient, gradient.new_empty(len(gradient), len(g.order))
            blocks_triton.run_gather(of_y, g.order, gradient)
        if ctx.needs_input_grad[0]:
            of_slots = gradient.new_empty(len(gradient), g.slots)
            for sources, weights, targets in _matrices(g, of_slots, packed, gradient):
                torch.bmm(targets, weights.mT, out=sources)
            if g.sources is None:
                of_x = of_slots.to(ctx.types[0])
            else:
                of_x = of_slots.new_empty(len(gradient), len(g.pointers) - 1, dtype=ctx.types[0])
                blocks_triton.run_sum(of_slots, g.readers, g.pointers, of_x)
        if ctx.needs_input_grad[1] or (ctx.needs_input_grad[2] and g.holds_bias):
            of_packed = torch.empty_like(packed)
            for sources, weights, targets in _matrices(g, slots, of_packed, gradient):
                torch.bmm(sources.mT, targets, out=weights)
            if g.as_stored:
                of_weight = of_packed.to(ctx.types[1])
            else:
                of_weight = of_packed.new_empty(ctx.shape, dtype=ctx.types[1])
                of_bias = gradient.new_empty(g.wiring.out_features, dtype=ctx.types[2]) if g.holds_bias else None
                blocks_triton.run_pack(of_weight, of_bias, g.stored, g.own, g.order, of_packed, back=True)
            of_weight = of_weight.view(ctx.shape)
        return of_x, of_weight, of_bias, None, None


def _matrices(g: Gathering, slots: Tensor, packed: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return views of what is multiplied: sources ``[n, b, k]``, weights ``[n, k, o]`` and targets ``[n, b, o]``.

    All rows of blocks in one, where they are equally wide; else one by one.
    """
    b = len(slots)
    if g.width:
        return [(
            slots.view(b, g.n_rows, g.width).transpose(0, 1),
            packed.view(g.n_rows, g.width, g.rows),
            targets.view(b, g.n_rows, g.rows).transpose(0, 1),
        )]  # fmt: skip
    return [
        (slots[None, :, first:last], packed[None, first:last], targets[None, :, i * g.rows : (i + 1) * g.rows])
        for i, (first, last) in enumerate(pairwise(g.edges))
        if last > first
    ]
