"""Leaky integrate-and-fire neurons over a whole sequence, by Triton: on a GPU, what Numba does on a CPU.

Each neuron of each sample is a column. A thread takes a few columns through time with their potentials in registers,
and asks for what it needs of the next steps before it computes the present one: otherwise it would wait for memory
in every step. The equations, the rounding and the names are those of :mod:`neuropil.units.scans.lif_loops`.
"""

import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.units.scans.lif import Dynamics

# two columns a thread, whose loads are then 8 bytes wide: measured on an H200, 84 % of the bandwidth of a copy
_BLOCK = 256
_WARPS = 4


def run_forward(
    current: Tensor,
    start: Tensor,
    decay: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    spikes: Tensor,
    potentials: Tensor,
    end: Tensor,
) -> None:
    """Run a sequence; all tensors are contiguous, and shaped as in :func:`lif_loops.forward`."""
    columns = end.numel()
    with torch.cuda.device_of(end):  # type: ignore[no-untyped-call]
        forward[(triton.cdiv(columns, _BLOCK),)](
            current, start, decay, threshold, spikes, potentials, end, len(spikes), columns, len(decay),
            constant=len(current) < len(spikes), keeps=len(potentials) == len(spikes), reset=dynamics.reset,
            delayed=dynamics.delayed, block=_BLOCK, num_warps=_WARPS,
            enable_fp_fusion=False,  # spikes equal those of other code
        )  # fmt: skip


def run_backward(
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
    """Go back through a sequence; all tensors are contiguous, and shaped as in :func:`lif_loops.backward`.

    Returns:
        The gradients of decay and threshold, ``[n]``, the same ones every time; None where no one ``learns``.
    """
    columns = of_start.numel()
    # each column adds up its own, and one sum over the batch follows: atomic additions would come in any order
    of_numbers = potentials.new_empty(2, *of_start.shape, dtype=torch.float64) if learns else None
    surrogate = dynamics.surrogate
    with torch.cuda.device_of(of_start):  # type: ignore[no-untyped-call]
        backward[(triton.cdiv(columns, _BLOCK),)](
            of_spikes, of_end, potentials, start, decay, threshold, of_current, of_start, of_numbers,
            len(potentials), columns, len(decay), _bits(surrogate.peak), _bits(surrogate.sharpness),
            constant=len(of_current) < len(potentials), reset=dynamics.reset, delayed=dynamics.delayed,
            detached=dynamics.detached, code=surrogate.code, learns=learns, block=_BLOCK,
            num_warps=_WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    if of_numbers is None:
        return None, None
    of_decay, of_threshold = of_numbers.sum(1).to(decay.dtype)
    return of_decay, of_threshold


def _bits(number: float) -> int:
    """Return the bits of a double as an integer: kernels would take a number as a float32."""
    bits: int = struct.unpack("<q", struct.pack("<d", number))[0]
    return bits


@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def forward(
    current: tl.tensor,
    start: tl.tensor,
    decay: tl.tensor,
    threshold: tl.tensor,
    spikes: tl.tensor,
    potentials: tl.tensor,
    end: tl.tensor,
    steps: tl.tensor,
    columns: tl.tensor,
    n: tl.tensor,
    constant: tl.constexpr,
    keeps: tl.constexpr,
    reset: tl.constexpr,
    delayed: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Run a block of columns.

    Args:
        current, start, decay, threshold, spikes, potentials, end: as in :func:`lif_loops.forward`.
        steps, columns, n: t, b · n, n.
        constant: whether the current is the same at every step, and given once.
        keeps: whether potentials are written.
        reset: none, subtract or zero.
        delayed: whether a spike resets in the next step, or at once.
        block: columns a program.
    """
    column = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    live = column < columns
    beta = tl.load(decay + column % n)
    theta = tl.load(threshold + column % n)
    u = tl.load(start + column, mask=live)
    i = tl.load(current + column, mask=live)
    at = column  # within [t, b, n], whose size may be beyond 32 bits
    if not constant:
        next1 = tl.load(current + at + columns, mask=live & (steps > 1))
        next2 = tl.load(current + at + columns + columns, mask=live & (steps > 2))
    for t in range(steps):
        if not constant:
            next3 = tl.load(current + (at + columns + columns) + columns, mask=live & (t + 3 < steps))
        if delayed and reset == "zero":
            u = tl.where(u > theta, 0.0, u)
        v = beta * u + i
        if delayed and reset == "subtract":
            v -= tl.where(u > theta, theta, 0.0)
        fires = v > theta
        if keeps:
            tl.store(potentials + at, v, mask=live)
        tl.store(spikes + at, fires.to(v.dtype), mask=live)
        u = v
        if not delayed:
            if reset == "subtract":
                u = v - tl.where(fires, theta, 0.0)
            elif reset == "zero":
                u = tl.where(fires, 0.0, v)
        if not constant:
            i, next1, next2 = next1, next2, next3
        at += columns
    tl.store(end + column, u, mask=live)


@triton.jit(do_not_specialize=["steps", "peak", "sharpness"])  # type: ignore[untyped-decorator]
def backward(
    of_spikes: tl.tensor,
    of_end: tl.tensor,
    potentials: tl.tensor,
    start: tl.tensor,
    decay: tl.tensor,
    threshold: tl.tensor,
    of_current: tl.tensor,
    of_start: tl.tensor,
    of_numbers: tl.tensor,
    steps: tl.tensor,
    columns: tl.tensor,
    n: tl.tensor,
    peak: tl.tensor,
    sharpness: tl.tensor,
    constant: tl.constexpr,
    reset: tl.constexpr,
    delayed: tl.constexpr,
    detached: tl.constexpr,
    code: tl.constexpr,
    learns: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Go back through a block of columns.

    Args:
        of_spikes, of_end, potentials, start, decay, threshold, of_current, of_start: as in :func:`lif_loops.backward`.
        of_numbers: gradients of decay and threshold, ``[2, b, n]``, doubles; written where ``learns``.
        steps, columns, n, constant, reset, delayed, block: as in :func:`forward`.
        peak, sharpness, code: the surrogate; the numbers as bits of doubles.
        detached: whether no gradient flows through the reset.
        learns: whether gradients of decay and threshold are wanted.
    """
    column = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    live = column < columns
    beta = tl.load(decay + column % n)
    theta = tl.load(threshold + column % n)
    high = peak.to(tl.int64).to(tl.float64, bitcast=True).to(beta.dtype)
    steep = sharpness.to(tl.int64).to(tl.float64, bitcast=True).to(beta.dtype)
    first = tl.load(start + column, mask=live)
    carried = tl.load(of_end + column, mask=live)  # gradient of what the next step starts from
    at = column + (steps.to(tl.int64) - 1) * columns
    v = tl.load(potentials + at, mask=live)
    v1 = tl.load(potentials + at - columns, mask=live & (steps > 1))
    v2 = tl.load(potentials + at - 2 * columns, mask=live & (steps > 2))
    of_spike = tl.load(of_spikes + at, mask=live)
    of_spike1 = tl.load(of_spikes + at - columns, mask=live & (steps > 1))
    of_spike2 = tl.load(of_spikes + at - 2 * columns, mask=live & (steps > 2))
    through = tl.zeros([block], beta.dtype)  # gradient of the spikes that reset the potential, delayed
    total = tl.zeros([block], beta.dtype)
    of_decay = tl.zeros([block], tl.float64)
    of_threshold = tl.zeros([block], tl.float64)
    for t in range(steps - 1, -1, -1):
        v3 = tl.load(potentials + at - 3 * columns, mask=live & (t > 2))
        of_spike3 = tl.load(of_spikes + at - 3 * columns, mask=live & (t > 2))
        before = tl.where(t > 0, v1, first)
        slope = surrogate_slope(v - theta, high, steep, code)
        if delayed:
            was_above = before > theta
            own = (of_spike + through) * slope
            now = own + carried
            if not detached:
                if reset == "subtract":
                    through = -theta * now
                elif reset == "zero":
                    through = -beta * before * now
            carried = beta * now
            if reset == "zero":
                carried = tl.where(was_above, 0.0, carried)
            if learns:
                of_threshold -= own
                if reset == "subtract":
                    of_threshold -= tl.where(was_above, now, 0.0)
                if reset == "zero":
                    of_decay += tl.where(was_above, 0.0, now * before)
                else:
                    of_decay += now * before
        else:
            fires = v > theta
            onwards = carried
            if reset == "subtract" and not detached:
                of_spike -= theta * carried
            elif reset == "zero":
                if not detached:
                    of_spike -= v * carried
                onwards = tl.where(fires, 0.0, carried)
            own = of_spike * slope
            now = own + onwards
            if learns:
                u = before
                reset_before = (t > 0) & (before > theta)
                if reset == "subtract":
                    u = before - tl.where(reset_before, theta, 0.0)
                    of_threshold -= tl.where(fires, carried, 0.0)
                elif reset == "zero":
                    u = tl.where(reset_before, 0.0, before)
                of_decay += now * u
                of_threshold -= own
            carried = beta * now
        if constant:
            total += now
        else:
            tl.store(of_current + at, now, mask=live)
        v, v1, v2 = v1, v2, v3
        of_spike, of_spike1, of_spike2 = of_spike1, of_spike2, of_spike3
        at -= columns
    if constant:
        tl.store(of_current + column, total, mask=live)
    if delayed and not detached:
        # what the sequence started from may have been above threshold, and so reset the first step
        own = through * surrogate_slope(first - theta, high, steep, code)
        carried += own
        of_threshold -= own
    tl.store(of_start + column, carried, mask=live)
    if learns:
        tl.store(of_numbers + column, of_decay, mask=live)
        tl.store(of_numbers + columns + column, of_threshold, mask=live)


@triton.jit  # type: ignore[untyped-decorator]
def surrogate_slope(x: tl.tensor, peak: tl.tensor, sharpness: tl.tensor, code: tl.constexpr) -> tl.tensor:
    """Return dS/dx at x, potential less threshold, for the code of a surrogate."""
    z = sharpness * tl.abs(x)
    if code == 0:
        slope = peak / (1.0 + z * z)
    elif code == 1:
        slope = peak / ((1.0 + z) * (1.0 + z))
    elif code == 2:
        small = tl.exp(-z)
        slope = peak * 4.0 * small / ((1.0 + small) * (1.0 + small))
    elif code == 3:
        slope = peak * tl.maximum(1.0 - z, 0.0)
    else:
        slope = tl.where(z <= 1.0, peak, 0.0)
    return slope
