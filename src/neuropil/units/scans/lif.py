"""Leaky integrate-and-fire neurons over a whole sequence: compiled loops with a backward written by hand."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropil.connect.needed import tell_needed
from neuropil.threads import in_parallel
from neuropil.units.scans.add_up import add_up
from neuropil.units.scans.constant import read_once
from neuropil.units.surrogate import Boxcar, Surrogate, Triangle

_BOUNDED = (Triangle.code, Boxcar.code)
RESETS = ("none", "subtract", "zero")  # their places are the codes of the compiled loops


class Slope(NamedTuple):
    """What compiled loops must know of a surrogate, see :class:`neuropil.units.surrogate.Surrogate`."""

    code: int | None
    peak: float
    sharpness: float


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
    surrogate: Surrogate | Slope


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
    spikes, end, potentials = _scan(
        read_once(current), start, decay, threshold, len(current), keeps, kernel, *_plain(dynamics)
    )
    if keeps and kernel == "numba" and dynamics.surrogate.code in _BOUNDED and not torch.compiler.is_compiling():
        tell_needed(spikes, potentials, threshold.detach().contiguous(), dynamics.surrogate.sharpness)
    return spikes, end


def _plain(dynamics: Dynamics) -> tuple[str, bool, bool, int, float, float]:
    """Return dynamics as arguments of an operator."""
    code, surrogate = dynamics.surrogate.code, dynamics.surrogate
    return *dynamics[:3], -1 if code is None else code, surrogate.peak, surrogate.sharpness


@torch.library.custom_op("neuropil::lif_scan", mutates_args=())
def _scan(
    current: Tensor,
    start: Tensor,
    decay: Tensor,
    threshold: Tensor,
    steps: int,
    keeps: bool,
    kernel: str,
    reset: str,
    delayed: bool,
    detached: bool,
    code: int,
    peak: float,
    sharpness: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, the potential to go on from, and all potentials, or those of one step unless it ``keeps`` them.

    An operator of PyTorch's, so that ``torch.compile`` need not look inside. The current may be ``[1, b, n]``, the same
    at all ``steps``.
    """
    dynamics = Dynamics(reset, delayed, detached, Slope(code, peak, sharpness))
    current, start = current.contiguous(), start.contiguous()
    spikes, end, potentials = _empty_outputs(current, start, steps, keeps)
    if kernel == "triton":
        from neuropil.units.scans.lif_triton import run_forward
    else:
        run_forward = _run_forward
    run_forward(current, start, decay.contiguous(), threshold.contiguous(), dynamics, spikes, potentials, end)
    return spikes, end, potentials


@_scan.register_fake
def _scan_of_fakes(
    current: Tensor, start: Tensor, decay: Tensor, threshold: Tensor, steps: int, keeps: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_outputs(current, start, steps, keeps)


def _empty_outputs(current: Tensor, start: Tensor, steps: int, keeps: bool) -> tuple[Tensor, Tensor, Tensor]:
    spikes = current.new_empty(steps, *current.shape[1:])
    return spikes, start.new_empty(start.shape), current.new_empty(steps if keeps else 1, *current.shape[1:])


@torch.library.custom_op("neuropil::lif_scan_backward", mutates_args=())
def _backward(
    of_spikes: Tensor | None,
    of_end: Tensor | None,
    potentials: Tensor,
    start: Tensor,
    decay: Tensor,
    threshold: Tensor,
    constant: bool,
    learns: bool,
    kernel: str,
    reset: str,
    delayed: bool,
    detached: bool,
    code: int,
    peak: float,
    sharpness: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of current, start, decay and threshold; those of the latter two are 0 unless it ``learns``.

    Args:
        of_spikes, of_end: the gradients that come in; None: zeros.
        constant: whether the current was one step for all.
    """
    dynamics = Dynamics(reset, delayed, detached, Slope(code, peak, sharpness))
    start, decay, threshold = start.contiguous(), decay.contiguous(), threshold.contiguous()
    of_spikes = torch.zeros_like(potentials) if of_spikes is None else of_spikes.contiguous()
    of_end = torch.zeros_like(start) if of_end is None else of_end.contiguous()
    of_current, of_start, of_decay, of_threshold = _empty_gradients(potentials, start, decay, constant)
    if kernel == "triton":
        from neuropil.units.scans.lif_triton import run_backward
    else:
        run_backward = _run_backward
    given = of_spikes, of_end, potentials, start, decay, threshold, dynamics, of_current, of_start, learns
    for written, found in zip((of_decay, of_threshold), run_backward(*given), strict=True):
        written.zero_() if found is None else written.copy_(found)
    return of_current, of_start, of_decay, of_threshold


@_backward.register_fake
def _backward_of_fakes(
    of_spikes: Tensor | None,
    of_end: Tensor | None,
    potentials: Tensor,
    start: Tensor,
    decay: Tensor,
    threshold: Tensor,
    constant: bool,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(potentials, start, decay, constant)


def _empty_gradients(
    potentials: Tensor, start: Tensor, decay: Tensor, constant: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_current = potentials.new_empty(1 if constant else len(potentials), *start.shape)
    return of_current, start.new_empty(start.shape), decay.new_empty(decay.shape), decay.new_empty(decay.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    current, start, decay, threshold, steps, _, *others = inputs
    ctx.save_for_backward(output[2], start, decay, threshold)
    ctx.others = len(current) < steps, others
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])


def _differentiate(ctx: Any, of_spikes: Tensor | None, of_end: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    constant, others = ctx.others
    learns = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
    gradients = _backward(of_spikes, of_end, *ctx.saved_tensors, constant, learns, *others)
    return *gradients, *[None] * 9


_scan.register_autograd(_differentiate, setup_context=_keep)


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
    _, rows, n = current.shape
    by_row = rows >= torch.get_num_threads()

    def work(first: int, last: int) -> None:
        part = (first, last, 0, n) if by_row else (0, rows, first, last)
        compiled(*arrays[:4], reset, dynamics.delayed, *part, *arrays[4:])

    if by_row:
        in_parallel(work, rows)
    else:  # few samples: neurons are shared out
        in_parallel(work, n, fewest=256)


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
