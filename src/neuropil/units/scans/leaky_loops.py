"""Leaky integrators over a whole sequence, by Numba; see :mod:`neuropil.units.scans.lif_loops`."""

from typing import Any

import numba
from numpy.typing import NDArray

Array = NDArray[Any]
_exact = numba.njit(cache=True, nogil=True)
_contracted = numba.njit(cache=True, nogil=True, fastmath={"contract"})


@_exact
def forward(current: Array, start: Array, decay: Array, first: int, last: int, potentials: Array) -> None:
    """Run rows ``first`` to ``last`` of a batch.

    Args:
        current: ``[t, b, n]``, or ``[1, b, n]`` where it is the same at every step.
        start: potentials before the first step, ``[b, n]``.
        decay: ``[n]``.
        first, last: rows to do.
        potentials: ``[t, b, n]``, written.
    """
    steps, _, n = potentials.shape
    constant = current.shape[0] == 1
    for b in range(first, last):
        for t in range(steps):
            before = potentials[t - 1, b] if t > 0 else start[b]
            i, u = current[0 if constant else t, b], potentials[t, b]
            for j in range(n):
                u[j] = decay[j] * before[j] + i[j]


@_contracted
def backward(
    of_potentials: Array,
    of_end: Array,
    potentials: Array,
    start: Array,
    decay: Array,
    learns: bool,
    first: int,
    last: int,
    of_current: Array,
    of_start: Array,
    of_decay: Array,
) -> None:
    """Go back through rows ``first`` to ``last`` of a batch.

    Args:
        of_potentials: gradient of the potentials, ``[t, b, n]``.
        of_end: gradient of the last potentials as the state to go on from, ``[b, n]``.
        potentials, start: as in :func:`forward`; read only if the decay learns.
        decay: ``[n]``.
        learns: whether the gradient of the decay is wanted.
        first, last: rows to do.
        of_current: ``[t, b, n]``, or ``[1, b, n]`` for the sum over time; written.
        of_start: ``[b, n]``, written.
        of_decay: ``[n]``, doubles, added to.
    """
    steps, _, n = of_potentials.shape
    constant = of_current.shape[0] == 1
    for b in range(first, last):
        carried = of_start[b]  # gradient of what the next step starts from
        carried[:] = of_end[b]
        for t in range(steps - 1, -1, -1):
            given, g = of_potentials[t, b], of_current[0 if constant else t, b]
            for j in range(n):
                carried[j] += given[j]
            if constant and t < steps - 1:
                for j in range(n):
                    g[j] += carried[j]
            else:
                for j in range(n):
                    g[j] = carried[j]
            if learns:
                before = potentials[t - 1, b] if t > 0 else start[b]
                for j in range(n):
                    of_decay[j] += carried[j] * before[j]
            for j in range(n):
                carried[j] *= decay[j]
