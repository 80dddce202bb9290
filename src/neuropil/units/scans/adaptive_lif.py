"""Neurons with an adaptive threshold over a whole sequence: a compiled loop with a backward written by hand."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.threads import in_parallel
from neuropil.units.scans.add_up import add_up
from neuropil.units.scans.constant import read_once
from neuropil.units.scans.lif import RESETS, Dynamics


def scan(
    current: Tensor, start: tuple[Tensor, Tensor], numbers: tuple[Tensor, Tensor, Tensor, Tensor], dynamics: Dynamics
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes ``[t, b, n]``, and the potentials and adaptations to go on from, ``[b, n]``.

    Memory: potentials and adaptations are kept for the backward pass, two numbers a neuron and step.

    Args:
        current: ``[t, b, n]``, float32 or float64, on the CPU; expanded over time (stride 0), it is read once.
        start: potentials and adaptations before the first step, ``[b, n]``.
        numbers: decay, threshold, strength and persistence of the adaptation, ``[n]``.
        dynamics: see there.
    """
    start = (start[0].to(current.dtype), start[1].to(current.dtype))
    keeps = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (current, *start, *numbers))
    return _Scan.apply(read_once(current), *start, *numbers, len(current), dynamics, keeps)  # type: ignore[no-any-return, no-untyped-call]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        start: Tensor,
        start_adaptation: Tensor,
        decay: Tensor,
        threshold: Tensor,
        strength: Tensor,
        persistence: Tensor,
        steps: int,
        dynamics: Dynamics,
        keeps: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from neuropil.units.scans import adaptive_lif_loops

        compiled: Any = adaptive_lif_loops.forward  # whose arguments come in lists
        given = [
            tensor.detach().contiguous()
            for tensor in (current, start, start_adaptation, decay, threshold, strength, persistence)
        ]
        spikes = current.new_empty(steps, *current.shape[1:])
        potentials, adaptations = (current.new_empty(steps if keeps else 1, *current.shape[1:]) for _ in range(2))
        end, end_adaptation = torch.empty_like(given[1]), torch.empty_like(given[2])
        arrays: list[Any] = [tensor.numpy() for tensor in given]
        written = [tensor.numpy() for tensor in (spikes, potentials, adaptations, end, end_adaptation)]
        reset = RESETS.index(dynamics.reset)

        def work(first: int, last: int) -> None:
            compiled(*arrays, reset, dynamics.delayed, first, last, *written)

        in_parallel(work, current.shape[1])
        ctx.save_for_backward(potentials, adaptations, *given[1:])
        ctx.dynamics, ctx.constant = dynamics, len(current) < steps
        ctx.set_materialize_grads(False)
        return spikes, end, end_adaptation

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_spikes: Tensor | None, of_end: Tensor | None, of_end_adaptation: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        from neuropil.units.scans import adaptive_lif_loops

        compiled: Any = adaptive_lif_loops.backward  # whose arguments come in lists
        potentials, adaptations, start, *others = ctx.saved_tensors
        dynamics: Dynamics = ctx.dynamics
        incoming = (
            torch.zeros_like(potentials) if of_spikes is None else of_spikes,
            torch.zeros_like(start) if of_end is None else of_end,
            torch.zeros_like(start) if of_end_adaptation is None else of_end_adaptation,
        )
        of_current = torch.empty_like(potentials[:1] if ctx.constant else potentials)
        of_start, of_start_adaptation = torch.empty_like(start), torch.empty_like(start)
        given: list[Any] = [t.contiguous().numpy() for t in (*incoming, potentials, adaptations, start, *others)]
        number = given[0].dtype.type
        surrogate, learns = dynamics.surrogate, any(ctx.needs_input_grad[3:7])

        def work(first: int, last: int, sums: Tensor) -> None:
            compiled(
                *given, RESETS.index(dynamics.reset), dynamics.delayed, dynamics.detached,
                surrogate.code, number(surrogate.peak), number(surrogate.sharpness), learns, first, last,
                of_current.numpy(), of_start.numpy(), of_start_adaptation.numpy(), sums.numpy(),
            )  # fmt: skip

        of_numbers = add_up(work, len(start), 4, start.shape[1]).to(start.dtype)
        return of_current, of_start, of_start_adaptation, *of_numbers, None, None, None
