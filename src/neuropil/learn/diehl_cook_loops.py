"""The network of Diehl and Cook through time, by Numba: conductances, spikes, traces and synapses, step by step."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
STEP = 0.5  # milliseconds

# rows of a network's state: potentials (mV), conductances, steps of rest that are left, traces of what has spiked
V_E, EXCITATION_E, INHIBITION_E, REST_E, V_I, EXCITATION_I, REST_I, FAST, SLOW = range(9)
N_ROWS = 9
REST_POTENTIAL_E, REST_POTENTIAL_I = -65.0, -60.0
THRESHOLD_E, RESET_E, TIME_E, REFRACTORY_E = -52.0, -65.0, 100.0, 5.0
THRESHOLD_I, RESET_I, TIME_I, REFRACTORY_I = -40.0, -45.0, 10.0, 2.0
INHIBITED_E = -100.0  # reversal of inhibition; that of excitation is 0
TIME_EXCITATION, TIME_INHIBITION = 1.0, 2.0
E_TO_I, I_TO_E = 10.4, 17.0
OFFSET = 20.0  # of the adaptive threshold, which starts there
TIME_PRE, TIME_FAST, TIME_SLOW = 20.0, 20.0, 40.0
TIME_THRESHOLD = 1e7


@numba.njit(cache=True, nogil=True)
def _approach(v: float, conductance: float, pull: float, share: float) -> float:
    """Return v + share (pull − conductance v), Euler's rule, or the equilibrium where that would be overshot."""
    return v + share * (pull - conductance * v) if share * conductance <= 1 else pull / conductance


@numba.njit(cache=True, nogil=True)
def present(
    spikes: Array,
    n_after: int,
    weights: Array,
    thresholds: Array,
    state: Array,
    pre: Array,
    learns: bool,
    depression: float,
    potentiation: float,
    threshold_step: float,
) -> Array:
    """Run one presentation and the silence after it; return how often each excitatory neuron spiked.

    A step: potentials and conductances go on, thresholds and traces decay; who is above threshold spikes;
    spikes arrive, then synapses change, sources' before targets' spikes; who spiked is reset.

    Args:
        spikes: of the inputs, uint8 ``[t, n_inputs]``.
        n_after: steps of silence that follow.
        weights: ``[n_inputs, n]``, in [0, 1]; changed if it learns.
        thresholds: θ of each excitatory neuron, ``[n]``, mV; changed if it learns.
        state: ``[9, n]``, changed.
        pre: traces of the inputs, ``[n_inputs]``, changed.
        learns: whether synapses and thresholds change.
        depression, potentiation: rates of change at a source's and a target's spike.
        threshold_step: by how much a spike raises the threshold, mV.
    """
    n_inputs, n = weights.shape
    counts = np.zeros(n, dtype=np.int64)
    fired_e, fired_i = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    of_pre, of_fast, of_slow = np.exp(-STEP / TIME_PRE), np.exp(-STEP / TIME_FAST), np.exp(-STEP / TIME_SLOW)
    of_threshold = np.exp(-STEP / TIME_THRESHOLD)
    v_e, excitation_e, inhibition_e, rest_e = state[V_E], state[EXCITATION_E], state[INHIBITION_E], state[REST_E]
    v_i, excitation_i, rest_i, fast, slow = state[V_I], state[EXCITATION_I], state[REST_I], state[FAST], state[SLOW]
    n_shown = spikes.shape[0]
    for t in range(n_shown + n_after):
        for j in range(n):
            if rest_e[j] > 0:
                rest_e[j] -= 1
            else:
                conductance = 1 + excitation_e[j] + inhibition_e[j]
                pull = REST_POTENTIAL_E + inhibition_e[j] * INHIBITED_E
                v_e[j] = _approach(v_e[j], conductance, pull, STEP / TIME_E)
            excitation_e[j] -= STEP / TIME_EXCITATION * excitation_e[j]
            inhibition_e[j] -= STEP / TIME_INHIBITION * inhibition_e[j]
            if rest_i[j] > 0:
                rest_i[j] -= 1
            else:
                v_i[j] = _approach(v_i[j], 1 + excitation_i[j], REST_POTENTIAL_I, STEP / TIME_I)
            excitation_i[j] -= STEP / TIME_EXCITATION * excitation_i[j]
            fired_e[j] = rest_e[j] == 0 and v_e[j] > THRESHOLD_E - OFFSET + thresholds[j]
            fired_i[j] = rest_i[j] == 0 and v_i[j] > THRESHOLD_I
        if learns:
            for i in range(n_inputs):
                pre[i] *= of_pre
            for j in range(n):
                fast[j] *= of_fast
                slow[j] *= of_slow
                thresholds[j] *= of_threshold
        if t < n_shown:
            for i in range(n_inputs):
                if spikes[t, i]:
                    row = weights[i]
                    for j in range(n):
                        excitation_e[j] += row[j]
                    if learns:
                        pre[i] = 1.0
                        for j in range(n):
                            row[j] = max(0.0, row[j] - depression * fast[j])
        n_inhibiting = 0
        for j in range(n):
            if fired_i[j]:
                n_inhibiting += 1
        if n_inhibiting:
            for j in range(n):
                inhibition_e[j] += I_TO_E * (n_inhibiting - (1 if fired_i[j] else 0))
        for j in range(n):
            if fired_i[j]:
                v_i[j] = RESET_I
                rest_i[j] = REFRACTORY_I / STEP
            if fired_e[j]:
                counts[j] += 1
                excitation_i[j] += E_TO_I
                v_e[j] = RESET_E
                rest_e[j] = REFRACTORY_E / STEP
                if learns:
                    for i in range(n_inputs):
                        weights[i, j] = min(1.0, weights[i, j] + potentiation * pre[i] * slow[j])
                    fast[j] = slow[j] = 1.0
                    thresholds[j] += threshold_step
    return counts
