"""Izhikevich's neurons over a whole sequence: a compiled loop with a backward written by hand."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.threads import in_parallel
from neuropil.units.scans.add_up import add_up
from neuropil.units.scans.constant import read_once
from neuropil.units.surrogate import Surrogate


def scan(
    current: Tensor,
    start: tuple[Tensor, Tensor],
    numbers: tuple[Tensor, Tensor, Tensor, Tensor],
    dt: float,
    detached: bool,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes ``[t, b, n]``, and the potentials and recoveries to go on from, ``[b, n]``.

    Memory: potentials are kept for the backward pass, and recoveries if the numbers need a gradient.

    Args:
        current: ``[t, b, n]``, float32 or float64, on the CPU; expanded over time (stride 0), it is read once.
        start: potentials and recoveries before the first step, ``[b, n]``.
        numbers: a, b, c and d, ``[n]``.
        dt: milliseconds a step.
        detached: whether no gradient flows through the reset.
        surrogate: stands in for the derivative of a spike.
    """
    start = (start[0].to(current.dtype), start[1].to(current.dtype))
    keeps = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (current, *start, *numbers))
    return _Scan.apply(read_once(current), *start, *numbers, len(current), dt, detached, surrogate, keeps)  # type: ignore[no-any-return, no-untyped-call]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        start: Tensor,
        start_recovery: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        d: Tensor,
        steps: int,
        dt: float,
        detached: bool,
        surrogate: Surrogate,
        keeps: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from neuropil.units.scans import izhikevich_loops

        compiled: Any = izhikevich_loops.forward  # whose arguments come in lists
        given = [tensor.detach().contiguous() for tensor in (current, start, start_recovery, a, b, c, d)]
        learns = any(ctx.needs_input_grad[3:7])
        shape = current.shape[1:]
        spikes = current.new_empty(steps, *shape)
        potentials = current.new_empty(steps if keeps else 1, *shape)
        recoveries = current.new_empty(steps if keeps and learns else 1, *shape)
        end, end_recovery = torch.empty_like(given[1]), torch.empty_like(given[2])
        arrays: list[Any] = [tensor.numpy() for tensor in given]
        written = [tensor.numpy() for tensor in (spikes, potentials, recoveries, end, end_recovery)]
        step = arrays[0].dtype.type(dt)

        def work(first: int, last: int) -> None:
            compiled(*arrays, step, first, last, *written)

        in_parallel(work, shape[0])
        ctx.save_for_backward(potentials, recoveries, given[1], *given[3:])
        ctx.settings = (step, detached, surrogate, learns, len(current) < steps)
        ctx.set_materialize_grads(False)
        return spikes, end, end_recovery

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_spikes: Tensor | None, of_end: Tensor | None, of_end_recovery: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        from neuropil.units.scans import izhikevich_loops

        compiled: Any = izhikevich_loops.backward  # whose arguments come in lists
        potentials, recoveries, start, *numbers = ctx.saved_tensors
        step, detached, surrogate, learns, constant = ctx.settings
        incoming = (
            torch.zeros_like(potentials) if of_spikes is None else of_spikes,
            torch.zeros_like(start) if of_end is None else of_end,
            torch.zeros_like(start) if of_end_recovery is None else of_end_recovery,
        )
        of_current = torch.empty_like(potentials[:1] if constant else potentials)
        of_start, of_start_recovery = torch.empty_like(start), torch.empty_like(start)
        given: list[Any] = [t.contiguous().numpy() for t in (*incoming, potentials, recoveries, start, *numbers)]
        number = given[0].dtype.type

        def work(first: int, last: int, sums: Tensor) -> None:
            compiled(
                *given, step, detached,
                surrogate.code, number(surrogate.peak), number(surrogate.sharpness), learns, first, last,
                of_current.numpy(), of_start.numpy(), of_start_recovery.numpy(), sums.numpy(),
            )  # fmt: skip

        of_numbers = add_up(work, len(start), 4, start.shape[1]).to(start.dtype)
        return of_current, of_start, of_start_recovery, *of_numbers, None, None, None, None, None
