"""Leaky integrate-and-fire neurons over a whole sequence, by Numba: one pass forward, one backward.

Rows of neurons are contiguous, and a row's potential stays in the cache from one time step to the next. Rounding
follows the plain equation (no fused multiply-add in the forward pass), so that spikes equal those of other code.
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
    none = decay.dtype.type(0)
    one = decay.dtype.type(1)
    constant, keeps = current.shape[0] == 1, potentials.shape[0] == steps
    for b in range(first, last):
        u = end[b, begin:stop]
        u[:] = start[b, begin:stop]
        for t in range(steps):
            i, s = current[0 if constant else t, b, begin:stop], spikes[t, b, begin:stop]
            p = potentials[t if keeps else 0, b, begin:stop]
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
    through_reset = np.zeros(n, decay.dtype)  # gradient of the spikes that reset the potential, delayed
    kept = np.empty(n, decay.dtype)  # potential before a step
    own = np.empty(n, decay.dtype)  # gradient of the spikes times slope
    for b in range(first, last):
        carried = of_start[b]  # gradient of what the next step starts from
        carried[:] = of_end[b]
        through_reset[:] = none
        for t in range(steps - 1, -1, -1):
            p, gs = potentials[t, b], of_spikes[t, b]
            before = potentials[t - 1, b] if t > 0 else start[b]
            g = of_current[0 if constant else t, b]
            surrogate_slopes(code, peak, sharpness, p, threshold, slopes)
            if delayed:
                if detached:
                    for j in range(n):
                        own[j] = gs[j] * slopes[j]
                else:
                    for j in range(n):
                        own[j] = (gs[j] + through_reset[j]) * slopes[j]
                if learns:
                    for j in range(n):
                        total = own[j] + carried[j]
                        reset_now = before[j] > threshold[j]
                        of_threshold[j] -= own[j]
                        if reset == SUBTRACT and reset_now:
                            of_threshold[j] -= total
                        if not (reset == ZERO and reset_now):
                            of_decay[j] += total * before[j]
                if not detached:
                    for j in range(n):
                        total = own[j] + carried[j]
                        if reset == SUBTRACT:
                            through_reset[j] = -threshold[j] * total
                        elif reset == ZERO:
                            through_reset[j] = -decay[j] * before[j] * total
                if constant and t < steps - 1:
                    for j in range(n):
                        g[j] += own[j] + carried[j]
                else:
                    for j in range(n):
                        g[j] = own[j] + carried[j]
                if reset == ZERO:
                    for j in range(n):
                        total = own[j] + carried[j]
                        carried[j] = none if before[j] > threshold[j] else decay[j] * total
                else:
                    for j in range(n):
                        carried[j] = decay[j] * (own[j] + carried[j])
            else:
                for j in range(n):
                    fires = p[j] > threshold[j]
                    of_spike = gs[j]
                    onwards = carried[j]
                    if reset == SUBTRACT and not detached:
                        of_spike -= threshold[j] * onwards
                    elif reset == ZERO:
                        if not detached:
                            of_spike -= p[j] * onwards
                        onwards = none if fires else onwards
                    own[j] = of_spike * slopes[j]
                    kept[j] = own[j] + onwards
                if learns:
                    for j in range(n):
                        u = before[j]
                        if t > 0 and u > threshold[j]:
                            if reset == SUBTRACT:
                                u -= threshold[j]
                            elif reset == ZERO:
                                u = none
                        of_decay[j] += kept[j] * u
                        of_threshold[j] -= own[j]
                        if reset == SUBTRACT and p[j] > threshold[j]:
                            of_threshold[j] -= carried[j]
                if constant and t < steps - 1:
                    for j in range(n):
                        g[j] += kept[j]
                else:
                    for j in range(n):
                        g[j] = kept[j]
                for j in range(n):
                    carried[j] = decay[j] * kept[j]
        if delayed and not detached:
            # what the sequence started from may have been above threshold, and so reset the first step
            surrogate_slopes(code, peak, sharpness, start[b], threshold, slopes)
            for j in range(n):
                own[j] = through_reset[j] * slopes[j]
                carried[j] += own[j]
            if learns:
                for j in range(n):
                    of_threshold[j] -= own[j]
