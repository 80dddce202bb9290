"""Gathered products as operators that ``torch.compile`` takes as they are."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuropil.connect.kernels import gathered_product as eager
from neuropil.connect.kernels.gathering import Gathering


def gathered_operator(g: Gathering, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return what :func:`~neuropil.connect.kernels.gathered_product.gathered_product` returns, in one operator."""
    y: Tensor = product(x, weight, bias, g.tensors(), g.numbers(), dtype)[0]
    return y


# operators return no views of what they are given: empty tensors stand for sources and weights that are used in place
@torch.library.custom_op("neuropil::gathered_product", mutates_args=())
def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, tensors: Sequence[Tensor], numbers: Sequence[int],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the product, sources in slots and weights in slots."""
    g = Gathering.from_parts(tensors, numbers)
    y, slots, packed = eager.forward(g, x, weight, bias, dtype)
    return y, slots if g.sources is not None else x.new_empty(0), weight.new_empty(0) if g.as_stored else packed


@product.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, tensors: Sequence[Tensor], numbers: Sequence[int],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    g = Gathering.from_parts(tensors, numbers)
    return (
        x.new_empty(x.shape[0], g.out_features, dtype=dtype),
        x.new_empty(0) if g.sources is None else x.new_empty(x.shape[0], g.slots, dtype=dtype),
        weight.new_empty(0) if g.as_stored else weight.new_empty(g.slots, g.rows, dtype=dtype),
    )


@torch.library.custom_op("neuropil::gathered_product_backward", mutates_args=())
def gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, slots: Tensor, packed: Tensor,
    tensors: Sequence[Tensor], numbers: Sequence[int], dtype: torch.dtype, wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of input, weights and bias; empty where they are not wanted."""
    g = Gathering.from_parts(tensors, numbers)
    slots = eager.sources_as_slots(x, dtype) if g.sources is None else slots
    packed = eager.weights_as_slots(g, weight, dtype) if g.as_stored else packed
    found = eager.backward(g, gradient, (x, weight, bias), slots, packed, (wanted[0], wanted[1], wanted[2]))
    of_x, of_weight, of_bias = (x.new_empty(0) if part is None else part for part in found)
    return of_x, of_weight, of_bias


@gradients.register_fake
def _(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, slots: Tensor, packed: Tensor,
    tensors: Sequence[Tensor], numbers: Sequence[int], dtype: torch.dtype, wanted: Sequence[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    given = zip((x, weight, bias), wanted, strict=True)
    return tuple(x.new_empty(0) if part is None or not wants else part.new_empty(part.shape) for part, wants in given)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, tensors, numbers, dtype = inputs
    ctx.save_for_backward(x, weight, bias, *output[1:], *tensors)
    ctx.numbers, ctx.dtype = numbers, dtype


def _backward(ctx: Any, gradient: Tensor, *of_slots: Tensor) -> tuple[Any, ...]:
    x, weight, bias, slots, packed, *tensors = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:3])
    found = gradients(gradient, x, weight, bias, slots, packed, tensors, ctx.numbers, ctx.dtype, wanted)
    return (
        *(part if wants else None for part, wants in zip(found, wanted, strict=True)),
        [None] * len(tensors),
        None,
        None,
    )


product.register_autograd(_backward, setup_context=_keep)
