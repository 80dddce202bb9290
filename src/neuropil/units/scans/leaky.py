"""Leaky integrators over a whole sequence: a compiled loop with a backward written by hand."""

from typing import Any

import torch
from torch import Tensor

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
    keeps = torch.is_grad_enabled() and decay.requires_grad
    once = read_once(current)
    potentials, end = _scan(once, start.to(current.dtype), decay, len(current), keeps)
    return potentials, end


@torch.library.custom_op("neuropil::leaky_scan", mutates_args=())
def _scan(current: Tensor, start: Tensor, decay: Tensor, steps: int, keeps: bool) -> tuple[Tensor, Tensor]:
    """Return potentials and the last of them. An operator of PyTorch's, so that ``torch.compile`` need not look inside.

    Args:
        keeps: whether potentials and start are kept for the backward pass.
    """
    from neuropil.units.scans import leaky_loops

    compiled: Any = leaky_loops.forward  # whose arguments come in lists
    potentials, _ = _empty_outputs(current, start, decay, steps, keeps)
    arrays: list[Any] = [tensor.contiguous().numpy() for tensor in (current, start, decay)]

    def work(first: int, last: int) -> None:
        compiled(*arrays, first, last, potentials.numpy())

    in_parallel(work, current.shape[1])
    return potentials, potentials[-1].clone()


@_scan.register_fake
def _empty_outputs(current: Tensor, start: Tensor, decay: Tensor, steps: int, keeps: bool) -> tuple[Tensor, Tensor]:
    return current.new_empty(steps, *current.shape[1:]), start.new_empty(start.shape)


@torch.library.custom_op("neuropil::leaky_scan_backward", mutates_args=())
def _backward(
    of_potentials: Tensor | None,
    of_end: Tensor | None,
    potentials: Tensor | None,
    start: Tensor | None,
    decay: Tensor,
    steps: int,
    rows: int,
    constant: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of current, start and decay, the latter 0 where potentials and start were not kept.

    Args:
        of_potentials, of_end: the gradients that come in; None: zeros.
        rows: size of the batch.
        constant: whether the current was one step for all.
    """
    from neuropil.units.scans import leaky_loops

    compiled: Any = leaky_loops.backward  # whose arguments come in lists
    of_current, of_start, _ = _empty_gradients(of_potentials, of_end, potentials, start, decay, steps, rows, constant)
    learns = potentials is not None
    if of_potentials is None:
        of_potentials = decay.new_zeros(steps, rows, len(decay))
    if of_end is None:
        of_end = decay.new_zeros(rows, len(decay))
    kept = (of_current, of_start) if potentials is None or start is None else (potentials, start)  # else not read
    given: list[Any] = [tensor.contiguous().numpy() for tensor in (of_potentials, of_end, *kept, decay)]

    def work(first: int, last: int, sums: Tensor) -> None:
        compiled(*given, learns, first, last, of_current.numpy(), of_start.numpy(), sums.numpy())

    return of_current, of_start, add_up(work, rows, len(decay)).to(decay.dtype)


@_backward.register_fake
def _empty_gradients(
    of_potentials: Tensor | None,
    of_end: Tensor | None,
    potentials: Tensor | None,
    start: Tensor | None,
    decay: Tensor,
    steps: int,
    rows: int,
    constant: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = rows, len(decay)
    return decay.new_empty(1 if constant else steps, *shape), decay.new_empty(shape), decay.new_empty(decay.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    current, start, decay, steps, keeps = inputs
    ctx.save_for_backward(decay, *((output[0], start) if keeps else ()))
    ctx.sizes = steps, len(start), len(current) < steps
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, of_potentials: Tensor | None, of_end: Tensor | None) -> tuple[Tensor | None, ...]:
    decay, *kept = ctx.saved_tensors
    return *_backward(of_potentials, of_end, *(kept or (None, None)), decay, *ctx.sizes), None, None


_scan.register_autograd(_differentiate, setup_context=_keep)
