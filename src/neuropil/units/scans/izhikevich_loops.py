"""Izhikevich's neurons over a whole sequence, by Numba; see :mod:`neuropil.units.scans.lif_loops`."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from neuropil.units.scans.slopes import surrogate_slopes

Array = NDArray[Any]
_exact = numba.njit(cache=True, nogil=True)
_contracted = numba.njit(cache=True, nogil=True, fastmath={"contract"})


@_exact
def forward(
    current: Array,
    start: Array,
    start_recovery: Array,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    dt: Any,
    first: int,
    last: int,
    spikes: Array,
    potentials: Array,
    recoveries: Array,
    end: Array,
    end_recovery: Array,
) -> None:
    """Run rows ``first`` to ``last`` of a batch.

    Args:
        current: ``[t, b, n]``, or ``[1, b, n]`` where it is the same at every step.
        start, start_recovery: state before the first step, ``[b, n]``.
        a, b, c, d: ``[n]``.
        dt: milliseconds a step, of the type of the current.
        first, last: rows to do.
        spikes: ``[t, b, n]``, written.
        potentials: before the reset, ``[t, b, n]``, or ``[1, b, n]`` if nobody needs them; written.
        recoveries: those that a step starts from, likewise.
        end, end_recovery: what to go on from, ``[b, n]``, written.
    """
    steps, _, n = spikes.shape
    number = a.dtype.type
    none, one, peak = number(0), number(1), number(30)
    square, slope, constant = number(0.04), number(5), number(140)
    same = current.shape[0] == 1
    keeps, keeps_recoveries = potentials.shape[0] == steps, recoveries.shape[0] == steps
    for r in range(first, last):
        v, u = end[r], end_recovery[r]
        v[:] = start[r]
        u[:] = start_recovery[r]
        for t in range(steps):
            i, s = current[0 if same else t, r], spikes[t, r]
            p, q = potentials[t if keeps else 0, r], recoveries[t if keeps_recoveries else 0, r]
            for j in range(n):
                before = v[j]
                h = before + dt * (square * before * before + slope * before + constant - u[j] + i[j])
                w = u[j] + dt * (a[j] * (b[j] * before - u[j]))
                fires = h > peak
                p[j] = h
                q[j] = u[j]
                s[j] = one if fires else none
                v[j] = c[j] if fires else h
                u[j] = w + d[j] if fires else w


@_contracted
def backward(
    of_spikes: Array,
    of_end: Array,
    of_end_recovery: Array,
    potentials: Array,
    recoveries: Array,
    start: Array,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    dt: Any,
    detached: bool,
    code: int,
    peak: Any,
    sharpness: Any,
    learns: bool,
    first: int,
    last: int,
    of_current: Array,
    of_start: Array,
    of_start_recovery: Array,
    of_numbers: Array,
) -> None:
    """Go back through rows ``first`` to ``last`` of a batch.

    Args:
        of_spikes: gradient of the spikes, ``[t, b, n]``.
        of_end, of_end_recovery: gradients of what a sequence ended with, ``[b, n]``.
        potentials, recoveries: as written by :func:`forward`; recoveries are read only if ``learns``.
        start, a, b, c, d, dt: as in :func:`forward`.
        detached: whether no gradient flows through the reset.
        code, peak, sharpness: the surrogate.
        learns: whether gradients of the numbers are wanted.
        first, last: rows to do.
        of_current: ``[t, b, n]``, or ``[1, b, n]`` for the sum over time; written.
        of_start, of_start_recovery: ``[b, n]``, written.
        of_numbers: of a, b, c and d, ``[4, n]``, doubles, added to.
    """
    steps, _, n = potentials.shape
    number = a.dtype.type
    none, one, top = number(0), number(1), number(30)
    double_square, slope = number(0.08), number(5)
    same = of_current.shape[0] == 1
    tops = np.full(n, top)
    slopes = np.empty(n, a.dtype)
    inner = np.empty(n, a.dtype)  # gradient of the potential before the reset
    for r in range(first, last):
        gv, gu = of_start[r], of_start_recovery[r]  # gradients of what the next step starts from
        gv[:] = of_end[r]
        gu[:] = of_end_recovery[r]
        for t in range(steps - 1, -1, -1):
            gs, p = of_spikes[t, r], potentials[t, r]
            g = of_current[0 if same else t, r]
            before = potentials[t - 1, r] if t > 0 else start[r]
            reset_before = t > 0
            surrogate_slopes(code, peak, sharpness, p, tops, slopes)
            for j in range(n):
                of_spike = gs[j]
                of_spike += none if detached else (c[j] - p[j]) * gv[j] + d[j] * gu[j]
                inner[j] = of_spike * slopes[j] + (none if p[j] > top else gv[j])
            if learns:
                of_a, of_b, of_c, of_d = of_numbers[0], of_numbers[1], of_numbers[2], of_numbers[3]
                q = recoveries[t, r]
                for j in range(n):
                    v = c[j] if reset_before & (before[j] > top) else before[j]
                    of_a[j] += dt * gu[j] * (b[j] * v - q[j])
                for j in range(n):
                    v = c[j] if reset_before & (before[j] > top) else before[j]
                    of_b[j] += dt * gu[j] * a[j] * v
                for j in range(n):
                    of_c[j] += gv[j] if p[j] > top else none
                for j in range(n):
                    of_d[j] += gu[j] if p[j] > top else none
            if same and t < steps - 1:
                for j in range(n):
                    g[j] += dt * inner[j]
            else:
                for j in range(n):
                    g[j] = dt * inner[j]
            for j in range(n):
                v = c[j] if reset_before & (before[j] > top) else before[j]
                gv[j] = inner[j] * (one + dt * (double_square * v + slope)) + dt * a[j] * b[j] * gu[j]
                gu[j] = gu[j] - dt * (inner[j] + a[j] * gu[j])
