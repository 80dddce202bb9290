"""Neurons with an adaptive threshold over a whole sequence, by Numba; see :mod:`neuropil.units.scans.lif_loops`.

Thresholds are computed with the same rounding forward and backward, so that both agree on who spiked.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from neuropil.units.scans.slopes import surrogate_slopes

Array = NDArray[Any]
_exact = numba.njit(cache=True, nogil=True)

SUBTRACT, ZERO = 1, 2  # 0: no reset


@_exact
def forward(
    current: Array,
    start: Array,
    start_adaptation: Array,
    decay: Array,
    threshold: Array,
    strength: Array,
    persistence: Array,
    reset: int,
    delayed: bool,
    first: int,
    last: int,
    spikes: Array,
    potentials: Array,
    adaptations: Array,
    end: Array,
    end_adaptation: Array,
) -> None:
    """Run rows ``first`` to ``last`` of a batch.

    Args:
        current: ``[t, b, n]``, or ``[1, b, n]`` where it is the same at every step.
        start, start_adaptation: potentials and adaptations before the first step, ``[b, n]``.
        decay, threshold, strength, persistence: ``[n]``; the latter two are of the adaptation.
        reset: a code above.
        delayed: whether a spike resets in the next step, or at once.
        first, last: rows to do.
        spikes: ``[t, b, n]``, written.
        potentials, adaptations: those that a spike was decided by, ``[t, b, n]``, or ``[1, b, n]`` if nobody needs
            them; written.
        end, end_adaptation: what to go on from, ``[b, n]``, written.
    """
    steps, _, n = spikes.shape
    none = decay.dtype.type(0)
    one = decay.dtype.type(1)
    constant, keeps = current.shape[0] == 1, potentials.shape[0] == steps
    subtracts, zeroes = reset == SUBTRACT, reset == ZERO
    for b in range(first, last):
        u, a = end[b], end_adaptation[b]
        u[:] = start[b]
        a[:] = start_adaptation[b]
        for t in range(steps):
            i, s = current[0 if constant else t, b], spikes[t, b]
            p, q = potentials[t if keeps else 0, b], adaptations[t if keeps else 0, b]
            if delayed:
                for j in range(n):
                    fired = u[j] > threshold[j] + strength[j] * a[j]
                    a[j] = persistence[j] * a[j] + (one if fired else none)
                    v = decay[j] * (none if zeroes & fired else u[j]) + i[j]
                    v -= threshold[j] if subtracts & fired else none
                    s[j] = one if v > threshold[j] + strength[j] * a[j] else none
                    u[j] = v
                    p[j] = v
                    q[j] = a[j]
            else:
                for j in range(n):
                    v = decay[j] * u[j] + i[j]
                    fires = v > threshold[j] + strength[j] * a[j]
                    s[j] = one if fires else none
                    p[j] = v
                    q[j] = a[j]
                    a[j] = persistence[j] * a[j] + (one if fires else none)
                    u[j] = none if zeroes & fires else v - (threshold[j] if subtracts & fires else none)


@_exact
def backward(
    of_spikes: Array,
    of_end: Array,
    of_end_adaptation: Array,
    potentials: Array,
    adaptations: Array,
    start: Array,
    start_adaptation: Array,
    decay: Array,
    threshold: Array,
    strength: Array,
    persistence: Array,
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
    of_start_adaptation: Array,
    of_numbers: Array,
) -> None:
    """Go back through rows ``first`` to ``last`` of a batch.

    Args:
        of_spikes: gradient of the spikes, ``[t, b, n]``.
        of_end, of_end_adaptation: gradients of what a sequence ended with, ``[b, n]``.
        potentials, adaptations: as written by :func:`forward`, ``[t, b, n]``.
        start, start_adaptation, decay, threshold, strength, persistence, reset, delayed: as in :func:`forward`.
        detached: whether no gradient flows through the reset; through the adaptation it always does.
        code, peak, sharpness: the surrogate.
        learns: whether gradients of the numbers are wanted.
        first, last: rows to do.
        of_current: ``[t, b, n]``, or ``[1, b, n]`` for the sum over time; written.
        of_start, of_start_adaptation: ``[b, n]``, written.
        of_numbers: of decay, threshold, strength and persistence, ``[4, n]``, doubles, added to.
    """
    steps, _, n = potentials.shape
    none = decay.dtype.type(0)
    constant = of_current.shape[0] == 1
    subtracts, zeroes = reset == SUBTRACT, reset == ZERO
    subtracts_through, zeroes_through = subtracts & (not detached), zeroes & (not detached)
    silent = np.zeros(n, decay.dtype)
    levels = np.empty(n, decay.dtype)  # thresholds, adapted
    slopes = np.empty(n, decay.dtype)
    own = np.empty(n, decay.dtype)  # gradient of the spikes times slope
    later = np.empty(n, decay.dtype)  # gradient of the potential of the step after, before any reset
    leak = np.empty(n, decay.dtype)  # what of it comes by the decay
    kept = np.empty(n, decay.dtype)  # gradient of the potential of this step
    for b in range(first, last):
        by = of_start_adaptation[b]  # gradient of the adaptation of the step after
        by[:] = none
        leak[:] = none
        if not delayed:
            by[:] = of_end_adaptation[b]
            leak[:] = of_end[b]
        later[:] = none
        # with a delayed reset, what the sequence started from may have spiked, which acts in the first step
        for t in range(steps - 1, -2 if delayed else -1, -1):
            gs = of_spikes[t, b] if t >= 0 else silent
            p = potentials[t, b] if t >= 0 else start[b]
            q = adaptations[t, b] if t >= 0 else start_adaptation[b]
            for j in range(n):
                levels[j] = threshold[j] + strength[j] * q[j]
            surrogate_slopes(code, peak, sharpness, p, levels, slopes)
            for j in range(n):
                of_spike = gs[j] + by[j]
                of_spike -= threshold[j] * (later[j] if delayed else leak[j]) if subtracts_through else none
                of_spike -= p[j] * leak[j] if zeroes_through else none
                own[j] = of_spike * slopes[j]
                kept[j] = own[j] + (none if zeroes & (p[j] > levels[j]) else leak[j])
            if learns:
                of_decay, of_threshold, of_strength, of_persistence = (
                    of_numbers[0],
                    of_numbers[1],
                    of_numbers[2],
                    of_numbers[3],
                )
                for j in range(n):
                    fires = p[j] > levels[j]
                    u = p[j] - (threshold[j] if subtracts & fires & (not delayed) else none)
                    of_decay[j] += later[j] * (none if zeroes & fires else u)
                for j in range(n):
                    fires = p[j] > levels[j]
                    of_threshold[j] -= own[j] + ((later[j] if delayed else leak[j]) if subtracts & fires else none)
                for j in range(n):
                    of_strength[j] -= own[j] * q[j]
                for j in range(n):
                    of_persistence[j] += by[j] * q[j]
            for j in range(n):
                by[j] = persistence[j] * by[j] - strength[j] * own[j]
            if delayed and t == steps - 1:
                for j in range(n):
                    kept[j] += of_end[b, j]
                    by[j] += of_end_adaptation[b, j]
            if t >= 0:
                g = of_current[0 if constant else t, b]
                if constant and t < steps - 1:
                    for j in range(n):
                        g[j] += kept[j]
                else:
                    for j in range(n):
                        g[j] = kept[j]
            for j in range(n):
                later[j] = kept[j]
                leak[j] = decay[j] * kept[j]
        if delayed:
            of_start[b] = kept
        else:
            of_start[b] = leak
            if learns:
                for j in range(n):
                    of_numbers[0, j] += later[j] * start[b, j]
