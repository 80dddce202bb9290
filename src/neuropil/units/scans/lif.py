"""Leaky integrate-and-fire neurons over a whole sequence: compiled loops with a backward written by hand."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.connect.needed import tell_needed
from neuropil.threads import in_parallel
from neuropil.units.scans.add_up import add_up
from neuropil.units.scans.constant import read_once
from neuropil.units.surrogate import Boxcar, Surrogate, Triangle

_BOUNDED = (Triangle.code, Boxcar.code)
RESETS = ("none", "subtract", "zero")  # their places are the codes of the compiled loops


class Dynamics(NamedTuple):
    """What is not a number of a leaky integrate-and-fire neuron.

    Attributes:
        reset: one of ``RESETS``.
        delayed: whether a spike resets the potential in the next step, or at once.
        detached: whether no gradient flows through the reset.
        surrogate: stands in for the derivative of a spike.
    """

    reset: str
    delayed: bool
    detached: bool
    surrogate: Surrogate


def scan(
    current: Tensor,
    start: Tensor,
    decay: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    kernel: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return spikes ``[t, b, n]``, and the potential to go on from, ``[b, n]``.

    Memory: potentials are kept for the backward pass, one number a neuron and step, where anything needs a gradient.

    Args:
        current: ``[t, b, n]``, float32 or float64; expanded over time (stride 0), it is read once.
        start: potential before the first step, ``[b, n]``.
        decay, threshold: ``[n]``.
        dynamics: see there.
        kernel: ``numba`` or ``triton``; None: the one for the current's device.
    """
    start = start.to(current.dtype)
    kernel = kernel or ("triton" if current.is_cuda else "numba")
    keeps = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (current, start, decay, threshold))
    once = read_once(current)
    potentials = current.new_empty(len(current) if keeps else 1, *current.shape[1:])
    spikes, end = _Scan.apply(  # type: ignore[no-untyped-call]
        once, start, decay, threshold, len(current), dynamics, kernel, potentials
    )
    if keeps and kernel == "numba" and dynamics.surrogate.code in _BOUNDED:
        tell_needed(spikes, potentials, threshold.detach().contiguous(), dynamics.surrogate.sharpness)
    return spikes, end


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        start: Tensor,
        decay: Tensor,
        threshold: Tensor,
        steps: int,
        dynamics: Dynamics,
        kernel: str,
        potentials: Tensor,
    ) -> tuple[Tensor, Tensor]:
        current, start = current.contiguous(), start.contiguous()
        decay, threshold = decay.contiguous(), threshold.contiguous()
        spikes = current.new_empty(steps, *current.shape[1:])
        end = torch.empty_like(start)
        if kernel == "triton":
            from neuropil.units.scans.lif_triton import run_forward
        else:
            run_forward = _run_forward
        run_forward(current, start, decay, threshold, dynamics, spikes, potentials, end)
        ctx.save_for_backward(potentials, start, decay, threshold)
        ctx.dynamics, ctx.constant, ctx.kernel = dynamics, len(current) < steps, kernel
        ctx.set_materialize_grads(False)
        return spikes, end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_spikes: Tensor | None, of_end: Tensor | None) -> tuple[Tensor | None, ...]:
        potentials, start, decay, threshold = ctx.saved_tensors
        of_spikes = torch.zeros_like(potentials) if of_spikes is None else of_spikes.contiguous()
        of_end = torch.zeros_like(start) if of_end is None else of_end.contiguous()
        of_current = torch.empty_like(potentials[:1] if ctx.constant else potentials)
        of_start = torch.empty_like(start)
        learns = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        if ctx.kernel == "triton":
            from neuropil.units.scans.lif_triton import run_backward
        else:
            run_backward = _run_backward
        of_decay, of_threshold = run_backward(
            of_spikes, of_end, potentials, start, decay, threshold, ctx.dynamics, of_current, of_start, learns
        )
        return of_current, of_start, of_decay, of_threshold, None, None, None, None


def _run_forward(
    current: Tensor,
    start: Tensor,
    decay: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    spikes: Tensor,
    potentials: Tensor,
    end: Tensor,
) -> None:
    """Run a sequence on a CPU."""
    from neuropil.units.scans import lif_loops

    compiled: Any = lif_loops.forward  # whose arguments come in lists
    arrays: list[Any] = [
        tensor.detach().numpy() for tensor in (current, start, decay, threshold, spikes, potentials, end)
    ]
    reset = RESETS.index(dynamics.reset)

    def work(first: int, last: int) -> None:
        compiled(*arrays[:4], reset, dynamics.delayed, first, last, *arrays[4:])

    in_parallel(work, current.shape[1])


def _run_backward(
    of_spikes: Tensor,
    of_end: Tensor,
    potentials: Tensor,
    start: Tensor,
    decay: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    of_current: Tensor,
    of_start: Tensor,
    learns: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Go back through a sequence on a CPU, and return the gradients of decay and threshold."""
    from neuropil.units.scans import lif_loops

    compiled: Any = lif_loops.backward  # whose arguments come in lists
    given: list[Any] = [tensor.numpy() for tensor in (of_spikes, of_end, potentials, start, decay, threshold)]
    number = given[0].dtype.type
    surrogate = dynamics.surrogate

    def work(first: int, last: int, sums: Tensor) -> None:
        compiled(
            *given, RESETS.index(dynamics.reset), dynamics.delayed, dynamics.detached,
            surrogate.code, number(surrogate.peak), number(surrogate.sharpness), learns, first, last,
            of_current.numpy(), of_start.numpy(), *sums.numpy(),
        )  # fmt: skip

    of_decay, of_threshold = add_up(work, potentials.shape[1], 2, len(decay)).to(decay.dtype)
    return of_decay, of_threshold
