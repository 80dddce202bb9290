"""How many directed paths lead from some units of a layered network to others, and how many there could be."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuropil.connect import Wiring

_LARGEST = 512  # counts are kept below 2 to this power, and scaled by a power of two beyond it


@dataclass(frozen=True)
class Transition:
    """What connects one layer of units to the next.

    Attributes:
        step: maps a float64 number for each source, ``[n_in]``, to the sum over each target's sources, ``[n_out]``.
        n_in, n_out: units on either side.
        n_weights: weights of it; one that several connections share counts once.
        full: whether every target reads every source, once.
    """

    step: Callable[[Tensor], Tensor]
    n_in: int
    n_out: int
    n_weights: int
    full: bool = False


def full_transition(n_in: int, n_out: int, n_weights: int | None = None) -> Transition:
    """Return the transition in which every target reads every source."""
    n_weights = n_in * n_out if n_weights is None else n_weights
    return Transition(lambda v: v.sum().expand(n_out), n_in, n_out, n_weights, full=True)


def edge_transition(
    targets: Tensor, sources: Tensor, n_in: int, n_out: int, n_weights: int | None = None
) -> Transition:
    """Return the transition that consists of connections, each given once by its target and its source."""

    def step(v: Tensor) -> Tensor:
        return v.new_zeros(n_out).index_add(0, targets, v.index_select(0, sources))

    full = len(targets) == n_in * n_out
    return Transition(step, n_in, n_out, len(targets) if n_weights is None else n_weights, full)


def wiring_transition(wiring: Wiring) -> Transition:
    """Return the transition of a wiring, a block at a time: all targets of a block have its sources alike."""
    rows, columns = wiring.block
    block_rows, block_columns, targets, sources = (
        torch.from_numpy(index.astype(np.int64))
        for index in (wiring.block_rows, wiring.block_columns, wiring.out_order, wiring.in_order)
    )
    to, real = wiring.out_features, targets >= 0

    def step(v: Tensor) -> Tensor:
        # where a block reaches past the neurons that exist, -1, stands a 0
        of_columns = torch.cat([v, v.new_zeros(1)])[sources].view(-1, columns).sum(1)
        of_rows = v.new_zeros(wiring.grid[0]).index_add(0, block_rows, of_columns[block_columns])
        return v.new_zeros(to).index_copy(0, targets[real], of_rows.repeat_interleave(rows)[real])

    n = wiring.n_connections
    return Transition(step, wiring.in_features, to, n, n == wiring.in_features * to)


def paths_from_to(starts: Sequence[Tensor], ends: Sequence[Tensor], transitions: Sequence[Transition]) -> int:
    """Count the directed paths from a starting unit to an ending unit of a later layer.

    One sweep, first layer to last, carries for each unit the number v of paths that start at or before its layer and
    arrive there: v ← M v + starts, and every step adds ends · M v to the count. A sweep the other way has marked
    the units that lead to no end; they are left out, so that no v is larger than the count, and what is lost
    when very large v are scaled is below 1e-290 of it.

    Args:
        starts: for each layer, which units paths begin at, bool ``[n_i]``.
        ends: for each layer, which units paths end at, bool ``[n_i]``.
        transitions: what connects each layer to the next.

    Returns:
        The number, exact below 2^53; beyond, rounded as sums in float64 are.
    """
    useful = [torch.zeros_like(ends[-1])]
    for end, transition in zip(reversed(ends[1:]), reversed(transitions), strict=True):
        with torch.enable_grad():
            v = torch.zeros(transition.n_in, dtype=torch.float64, requires_grad=True)
            (back,) = torch.autograd.grad(transition.step(v), v, (useful[0] | end).double())
        useful.insert(0, back > 0)
    total, exponent = 0, 0
    v = (starts[0] & useful[0]).double()
    with torch.no_grad():
        for start, end, leads_on, transition in zip(starts[1:], ends[1:], useful[1:], transitions, strict=True):
            v = transition.step(v)
            numerator, denominator = float(v[end].sum()).as_integer_ratio()
            total += (numerator << exponent) // denominator
            v = torch.where(leads_on, v + start.double() * 2.0**-exponent, 0.0)
            excess = math.frexp(float(v.max()))[1] - _LARGEST
            if excess > 0:
                v, exponent = v * 2.0**-excess, exponent + excess
    return total


def paths_if_full(n_units: Sequence[int], n_active: Sequence[int], *, quoted: bool = False) -> int:
    """Return Σ_{i<j} (n_i − a_i) a_j Π_k n_k, exactly; k runs over i < k < j, or, as quoted, over all k > i."""
    total = arriving = 0
    product = math.prod(n_units)
    for n, a in zip(n_units, n_active, strict=True):
        total += arriving * a
        if quoted:
            product //= n
            arriving += (n - a) * product
        else:
            arriving = arriving * n + n - a
    return total


def most_paths_if_full(n_units: Sequence[int], *, quoted: bool = False) -> int:
    """Return the maximum of :func:`paths_if_full` over all numbers of active units, exactly.

    E is affine in each a_k alone, so some maximum has every layer wholly active or wholly inactive. In such a one let
    layer k be active and k + 1 inactive, A_k the growth of E with a_k/n_k that earlier inactive layers give, and B_k
    its loss to later active ones. Neither layer gains by changing: A_k ≥ B_k and A_{k+1} ≤ B_{k+1}. Neither
    adds a term to the other: A_{k+1} = n_{k+1} A_k, B_k = n_k B_{k+1}. So A_k ≥ B_k ≥ n_k n_{k+1} A_k, which leaves
    A_k = B_k, and making layer k inactive changes nothing. (Quoted: with Q_k = Π_{l>k} n_l, A_k = n_k S_k and
    B_k = n_k Q_k T_k, where S and T are the same for both layers; S ≥ Q_k T = n_{k+1} Q_{k+1} T ≥ n_{k+1} S.)
    Repeated, this ends with all layers before some place inactive and all from there on active: one of N − 1 cases.
    """
    cases = range(1, len(n_units))
    return max(paths_if_full(n_units, [0] * s + list(n_units[s:]), quoted=quoted) for s in cases)
