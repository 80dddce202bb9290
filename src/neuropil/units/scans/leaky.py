"""Leaky integrators over a whole sequence: a compiled loop with a backward written by hand."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.threads import in_parallel
from neuropil.units.scans.add_up import add_up
from neuropil.units.scans.constant import read_once


def scan(current: Tensor, start: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """Return potentials ``[t, b, n]``, and the last of them as the state to go on from, ``[b, n]``.

    Memory: nothing is kept for the backward pass unless the decay needs a gradient, and then the potentials.

    Args:
        current: ``[t, b, n]``, float32 or float64, on the CPU; expanded over time (stride 0), it is read once.
        start: potential before the first step, ``[b, n]``.
        decay: ``[n]``.
    """
    start = start.to(current.dtype)
    return _Scan.apply(read_once(current), start, decay, len(current))  # type: ignore[no-any-return, no-untyped-call]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, start: Tensor, decay: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        from neuropil.units.scans import leaky_loops

        compiled: Any = leaky_loops.forward  # whose arguments come in lists
        current, start, decay = current.contiguous(), start.contiguous(), decay.contiguous()
        potentials = current.new_empty(steps, *current.shape[1:])
        arrays: list[Any] = [tensor.detach().numpy() for tensor in (current, start, decay, potentials)]

        def work(first: int, last: int) -> None:
            compiled(*arrays[:3], first, last, arrays[3])

        in_parallel(work, current.shape[1])
        learns = ctx.needs_input_grad[2]
        ctx.save_for_backward(decay, *((potentials, start) if learns else ()))
        ctx.sizes = (steps, len(current) < steps, start.shape)
        ctx.set_materialize_grads(False)
        return potentials, potentials[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_potentials: Tensor | None, of_end: Tensor | None) -> tuple[Tensor | None, ...]:
        from neuropil.units.scans import leaky_loops

        compiled: Any = leaky_loops.backward  # whose arguments come in lists
        decay, *kept = ctx.saved_tensors
        steps, constant, shape = ctx.sizes
        if of_potentials is None:
            of_potentials = decay.new_zeros(steps, *shape)
        if of_end is None:
            of_end = decay.new_zeros(shape)
        of_current = decay.new_empty(1 if constant else steps, *shape)
        of_start = decay.new_empty(shape)
        potentials, start = kept or (of_current, of_start)  # which are not read unless the decay learns
        given: list[Any] = [t.contiguous().numpy() for t in (of_potentials, of_end, potentials, start, decay)]

        def work(first: int, last: int, sums: Tensor) -> None:
            compiled(*given, bool(kept), first, last, of_current.numpy(), of_start.numpy(), sums.numpy())

        of_decay = add_up(work, shape[0], len(decay)).to(decay.dtype)
        return of_current, of_start, of_decay, None
