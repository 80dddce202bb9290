"""Leaky integrate-and-fire neurons over a whole sequence, by Numba: one pass forward, one backward.

Some rows of neurons go through time together: their potentials stay in the cache from one step to the next, and what is
read and written at a step is one long piece of memory. Rounding follows the plain equation (no fused multiply-add in
the forward pass), so that spikes equal those of other code.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from neuropil.units.scans.slopes import surrogate_slopes

Array = NDArray[Any]
_exact = numba.njit(cache=True, nogil=True)
_contracted = numba.njit(cache=True, nogil=True, fastmath={"contract"})

NO_RESET, SUBTRACT, ZERO = 0, 1, 2
_TOGETHER = 1 << 14  # neurons, of as many rows as that makes, that go through time together


@_exact
def _step(i: Array, decay: Array, threshold: Array, reset: int, delayed: bool, u: Array, p: Array, s: Array) -> None:
    """Take one row of neurons, of potentials ``u``, one step on with currents ``i``; write potentials and spikes."""
    n, none, one = len(i), decay.dtype.type(0), decay.dtype.type(1)
    if delayed and reset == SUBTRACT:
        for j in range(n):
            v = decay[j] * u[j] + i[j]
            v -= threshold[j] if u[j] > threshold[j] else none
            p[j] = v
            s[j] = one if v > threshold[j] else none
            u[j] = v
    elif delayed and reset == ZERO:
        for j in range(n):
            v = decay[j] * (none if u[j] > threshold[j] else u[j]) + i[j]
            p[j] = v
            s[j] = one if v > threshold[j] else none
            u[j] = v
    else:
        for j in range(n):
            v = decay[j] * u[j] + i[j]
            fires = v > threshold[j]
            p[j] = v
            s[j] = one if fires else none
            if reset == SUBTRACT:
                u[j] = v - (threshold[j] if fires else none)
            elif reset == ZERO:
                u[j] = none if fires else v
            else:
                u[j] = v


@_exact
def forward(
    current: Array,
    start: Array,
    decay: Array,
    threshold: Array,
    reset: int,
    delayed: bool,
    first: int,
    last: int,
    begin: int,
    stop: int,
    spikes: Array,
    potentials: Array,
    end: Array,
) -> None:
    """Run rows ``first`` to ``last`` of a batch, neurons ``begin`` to ``stop``.

    Args:
        current: ``[t, b, n]``, or ``[1, b, n]`` where it is the same at every step.
        start: potentials before the first step, ``[b, n]``.
        decay, threshold: ``[n]``.
        reset: a code above.
        delayed: whether a spike resets in the next step, or at once.
        spikes: ``[t, b, n]``, written.
        potentials: those that are compared with the threshold, ``[t, b, n]``, or ``[1, b, n]`` if nobody needs them;
            written.
        end: potentials to go on from, ``[b, n]``, written.
    """
    steps, n = len(spikes), stop - begin
    decay, threshold = decay[begin:stop], threshold[begin:stop]
    constant, keeps = current.shape[0] == 1, potentials.shape[0] == steps
    rows = max(1, _TOGETHER // max(1, n))
    end[first:last, begin:stop] = start[first:last, begin:stop]
    for top in range(first, last, rows):
        for t in range(steps):
            for b in range(top, min(last, top + rows)):
                u = end[b, begin:stop]
                i, s = current[0 if constant else t, b, begin:stop], spikes[t, b, begin:stop]
                p = potentials[t if keeps else 0, b, begin:stop]
                _step(i, decay, threshold, reset, delayed, u, p, s)


@_contracted
def _step_back(
    gs: Array, p: Array, before: Array, is_first: bool, decay: Array, threshold: Array, reset: int, delayed: bool,
    detached: bool, slopes: Array, learns: bool, through_reset: Array, carried: Array, own: Array, kept: Array,
    of_decay: Array, of_threshold: Array,
) -> None:  # fmt: skip
    """Go one step back with one row of neurons.

    Args:
        gs: gradient of the spikes.
        p, before: potentials that were compared with the threshold, at this step and at the one before.
        is_first: whether ``before`` is what the sequence started from, which no spike reset.
        decay, threshold, reset, delayed, detached, learns, of_decay, of_threshold: as in :func:`backward`.
        slopes: of the surrogate at ``p``.
        through_reset: gradient of the spikes through the next step's reset; written.
        carried: gradient of what the next step started from; written.
        own: gradient of the spikes times slope, written.
        kept: gradient of the current, written.
    """
    n, none = len(p), decay.dtype.type(0)
    # short loops over few arrays: those that LLVM makes vectors of
    if delayed:
        if detached:
            for j in range(n):
                own[j] = gs[j] * slopes[j]
        else:
            for j in range(n):
                own[j] = (gs[j] + through_reset[j]) * slopes[j]
        for j in range(n):
            kept[j] = own[j] + carried[j]
        if not detached and reset == SUBTRACT:
            for j in range(n):
                through_reset[j] = -threshold[j] * kept[j]
        elif not detached and reset == ZERO:
            for j in range(n):
                through_reset[j] = -decay[j] * before[j] * kept[j]
        if learns:
            for j in range(n):
                of_threshold[j] -= own[j]
            if reset == SUBTRACT:
                for j in range(n):
                    of_threshold[j] -= kept[j] if before[j] > threshold[j] else none
            if reset == ZERO:
                for j in range(n):
                    of_decay[j] += none if before[j] > threshold[j] else kept[j] * before[j]
            else:
                for j in range(n):
                    of_decay[j] += kept[j] * before[j]
        if reset == ZERO:
            for j in range(n):
                carried[j] = none if before[j] > threshold[j] else decay[j] * kept[j]
        else:
            for j in range(n):
                carried[j] = decay[j] * kept[j]
    else:
        if detached or reset == NO_RESET:
            for j in range(n):
                own[j] = gs[j] * slopes[j]
        elif reset == SUBTRACT:
            for j in range(n):
                own[j] = (gs[j] - threshold[j] * carried[j]) * slopes[j]
        else:
            for j in range(n):
                own[j] = (gs[j] - p[j] * carried[j]) * slopes[j]
        if reset == ZERO:
            for j in range(n):
                kept[j] = own[j] + (none if p[j] > threshold[j] else carried[j])
        else:
            for j in range(n):
                kept[j] = own[j] + carried[j]
        if learns:
            for j in range(n):
                of_threshold[j] -= own[j]
            if reset == SUBTRACT:
                for j in range(n):
                    of_threshold[j] -= carried[j] if p[j] > threshold[j] else none
            for j in range(n):
                u = before[j]
                if not is_first and u > threshold[j]:
                    u = u - threshold[j] if reset == SUBTRACT else none if reset == ZERO else u
                of_decay[j] += kept[j] * u
        for j in range(n):
            carried[j] = decay[j] * kept[j]


@_contracted
def backward(
    of_spikes: Array,
    of_end: Array,
    potentials: Array,
    start: Array,
    decay: Array,
    threshold: Array,
    reset: int,
    delayed: bool,
    detached: bool,
    code: int,
    peak: Any,
    sharpness: Any,
    learns: bool,
    first: int,
    last: int,
    of_current: Array,
    of_start: Array,
    of_decay: Array,
    of_threshold: Array,
) -> None:
    """Go back through rows ``first`` to ``last`` of a batch.

    Args:
        of_spikes: gradient of the spikes, ``[t, b, n]``.
        of_end: gradient of the potentials that a sequence ended with, ``[b, n]``.
        potentials, start, decay, threshold, reset, delayed: as in :func:`forward`.
        detached: whether no gradient flows through the reset.
        code, peak, sharpness: the surrogate.
        learns: whether gradients of decay and threshold are wanted.
        of_current: ``[t, b, n]``, or ``[1, b, n]`` for the sum over time; written.
        of_start: ``[b, n]``, written.
        of_decay, of_threshold: ``[n]``, doubles, added to.
    """
    steps, _, n = potentials.shape
    none = decay.dtype.type(0)
    constant = of_current.shape[0] == 1
    slopes = np.empty(n, decay.dtype)
    rows = max(1, _TOGETHER // max(1, n))
    resets = np.empty((rows, n), decay.dtype)  # gradients of the spikes that reset the potential, delayed
    own, kept = np.empty(n, decay.dtype), np.empty(n, decay.dtype)
    of_start[first:last] = of_end[first:last]
    for top in range(first, last, rows):
        bottom = min(last, top + rows)
        resets[:] = none
        for t in range(steps - 1, -1, -1):
            for b in range(top, bottom):
                carried = of_start[b]  # gradient of what the next step starts from
                through_reset = resets[b - top]
                p, gs = potentials[t, b], of_spikes[t, b]
                before = potentials[t - 1, b] if t > 0 else start[b]
                g = of_current[0 if constant else t, b]
                surrogate_slopes(code, peak, sharpness, p, threshold, slopes)
                _step_back(
                    gs, p, before, t == 0, decay, threshold, reset, delayed, detached, slopes, learns, through_reset,
                    carried, own, kept, of_decay, of_threshold,
                )  # fmt: skip
                if constant and t < steps - 1:
                    for j in range(n):
                        g[j] += kept[j]
                else:
                    for j in range(n):
                        g[j] = kept[j]
        if delayed and not detached:
            # what the sequence started from may have been above threshold, and so reset the first step
            for b in range(top, bottom):
                through_reset, carried = resets[b - top], of_start[b]
                surrogate_slopes(code, peak, sharpness, start[b], threshold, slopes)
                for j in range(n):
                    own[j] = through_reset[j] * slopes[j]
                    carried[j] += own[j]
                if learns:
                    for j in range(n):
                        of_threshold[j] -= own[j]
