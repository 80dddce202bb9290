"""What training minimizes: published losses of output spikes ``[t, b, c]`` or potentials ``[t, b, c]``.

Each returns its mean over the batch. Class weights and the like need no loss of their own: give a read-out to PyTorch's
(:mod:`neuropil.units.readouts`). An empty batch has no mean: the loss is NaN, as PyTorch's.

Reference for all: snnTorch's ``functional`` (J. K. Eshraghian et al., Proc. IEEE 2023), whose names are stated, with
what differs.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.units.readouts import (
    firing_rates,
    first_spike_times,
    max_potential,
    mean_potential,
    spike_counts,
)

_READOUTS = {"max": max_potential, "mean": mean_potential}


def count_cross_entropy(spikes: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of spike counts: logits are N = Σ_t S[t], unscaled.

    Args:
        spikes: of the output neurons, ``[t, b, c]``.
        labels: classes, ``[b]`` integers in 0 … c−1.

    Raises:
        ValueError: shapes do not fit, or a label is no class.
        TypeError: the labels are not integers, or the spikes not of a floating-point type.

    Reference:
        The loss of G2GNet's spiking code (arXiv 2508.14140); snnTorch ``ce_count_loss``.

    Example:
        >>> count_cross_entropy(torch.ones(5, 1, 4), torch.tensor([2]))  # ln 4
        tensor(1.3863)
    """
    _check("count_cross_entropy", "spikes", spikes, labels)
    return F.cross_entropy(spike_counts(spikes), labels)


def rate_cross_entropy(spikes: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of firing rates: logits are N / T, in [0, 1].

    It is never below ln(1 + (c − 1)/e), since rates are at most 1 apart.

    Args, Raises:
        as :func:`count_cross_entropy`.
    """
    _check("rate_cross_entropy", "spikes", spikes, labels)
    return F.cross_entropy(firing_rates(spikes), labels)


def step_cross_entropy(spikes: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of every single step, averaged over steps: (1/T) Σ_t CE(S[t]).

    It asks the right neuron to spike at every step and the others at none. Potentials may be given for spikes.

    Args, Raises:
        as :func:`count_cross_entropy`.

    Reference:
        snnTorch ``ce_rate_loss``, which is this loss, not :func:`rate_cross_entropy`.
    """
    _check("step_cross_entropy", "spikes", spikes, labels)
    return F.cross_entropy(spikes.flatten(0, 1), labels.repeat(len(spikes)))


def potential_cross_entropy(potentials: Tensor, labels: Tensor, *, readout: Literal["max", "mean"] = "max") -> Tensor:
    """Return the cross-entropy of potentials: logits are their maximum or mean over time.

    Args:
        potentials: of the output neurons, ``[t, b, c]``.
        labels: classes, ``[b]`` integers in 0 … c−1.
        readout: ``max`` or ``mean``.

    Raises:
        ValueError: the read-out is neither, or as :func:`count_cross_entropy`.
        TypeError: as :func:`count_cross_entropy`.

    Reference:
        ``max``: F. Zenke's SpyTorch, snnTorch ``ce_max_membrane_loss``.
    """
    _check("potential_cross_entropy", "potentials", potentials, labels)
    if readout not in _READOUTS:
        raise ValueError(f"potential_cross_entropy: readout must be max or mean, got {readout!r}")
    return F.cross_entropy(_READOUTS[readout](potentials), labels)


def first_spike_cross_entropy(spikes: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of first spikes: logits are the times of :func:`first_spike_times`, negative.

    Args, Raises:
        as :func:`count_cross_entropy`.

    Reference:
        snnTorch ``ce_temporal_loss``, where a silent neuron has the time T − 1; here it has T.
    """
    _check("first_spike_cross_entropy", "spikes", spikes, labels)
    return F.cross_entropy(-first_spike_times(spikes), labels)


def count_mse(spikes: Tensor, labels: Tensor, *, correct_rate: float = 1.0, incorrect_rate: float = 0.0) -> Tensor:
    """Return the mean square distance of spike counts from wanted ones, over T: mean_bc (N − T r)² / T.

    Args:
        spikes: of the output neurons, ``[t, b, c]``.
        labels: classes, ``[b]`` integers in 0 … c−1.
        correct_rate: r of the labelled neuron, in [0, 1].
        incorrect_rate: r of all others, in [0, 1].

    Raises:
        ValueError: a rate is outside [0, 1], or as :func:`count_cross_entropy`.
        TypeError: as :func:`count_cross_entropy`.

    Reference:
        SLAYER (S. B. Shrestha and G. Orchard, NeurIPS 2018) as in snnTorch ``mse_count_loss``, which cuts T r down to
        a whole number.

    Example:
        >>> count_mse(torch.zeros(10, 1, 2), torch.tensor([0]), correct_rate=0.5)  # (5² + 0²) / 2 / 10
        tensor(1.2500)
    """
    _check("count_mse", "spikes", spikes, labels)
    for name, rate in (("correct_rate", correct_rate), ("incorrect_rate", incorrect_rate)):
        if not 0 <= rate <= 1:
            raise ValueError(f"count_mse: {name} must be in [0, 1], got {rate}")
    n_steps = len(spikes)
    wanted = _one_hot(spikes, labels, n_steps * correct_rate, n_steps * incorrect_rate)
    return F.mse_loss(spike_counts(spikes), wanted) / n_steps


def potential_mse(potentials: Tensor, targets: Tensor, *, correct: float = 1.0, incorrect: float = 0.0) -> Tensor:
    """Return the mean square distance of potentials from wanted ones, over steps, batch and neurons.

    Args:
        potentials: of the output neurons, ``[t, b, c]``.
        targets: classes, ``[b]`` integers in 0 … c−1; or the wanted potentials themselves, floating-point numbers
            ``[t, b, c]``, or ``[b, c]`` for the same at every step.
        correct, incorrect: potential wanted of the labelled neuron and of all others, where targets are classes.

    Raises:
        ValueError: shapes do not fit, or a label is no class.
        TypeError: the potentials are not of a floating-point type.

    Reference:
        snnTorch ``mse_membrane_loss``, where a negative ``off_target`` counts as 0 if it is below ``on_target``.
    """
    if targets.is_floating_point():
        _check_sequence("potential_mse", "potentials", potentials)
        if targets.shape not in (potentials.shape, potentials.shape[1:]):
            raise ValueError(
                f"potential_mse: targets must be {list(potentials.shape)} or {list(potentials.shape[1:])}, as "
                f"potentials, got {list(targets.shape)}"
            )
    else:
        _check("potential_mse", "potentials", potentials, targets)
        targets = _one_hot(potentials, targets, correct, incorrect)
    return F.mse_loss(potentials, targets.expand_as(potentials))


def first_spike_mse(
    spikes: Tensor, targets: Tensor, *, correct_time: float = 0.0, incorrect_time: float | None = None
) -> Tensor:
    """Return the mean square distance of first-spike times from wanted ones, in units of T: mean_bc ((t − t*) / T)².

    Args:
        spikes: of the output neurons, ``[t, b, c]``.
        targets: classes, ``[b]`` integers in 0 … c−1; or the wanted times themselves, floating-point numbers
            ``[b, c]`` in steps.
        correct_time: t* of the labelled neuron in steps, in [0, T], where targets are classes.
        incorrect_time: t* of all others, likewise; default: T, that is, never.

    Raises:
        ValueError: shapes do not fit, a label is no class, or a time lies outside the sequence.
        TypeError: the spikes are not of a floating-point type.

    Reference:
        snnTorch ``mse_temporal_loss``, with the gradients of :func:`first_spike_times`. There silent neurons have the
        time T − 1, and the defaults (0 and −1, meant as the last step) ask all neurons to spike at step 0 (version
        1.0.0); state the times in both to compare.

    Example:
        >>> spikes = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]])
        >>> first_spike_mse(spikes, torch.tensor([0]))  # ((1 / 2)² + 0²) / 2
        tensor(0.1250)
    """
    if targets.is_floating_point():
        _check_sequence("first_spike_mse", "spikes", spikes)
        if targets.shape != spikes.shape[1:]:
            raise ValueError(
                f"first_spike_mse: targets must be {list(spikes.shape[1:])}, as spikes without time, got "
                f"{list(targets.shape)}"
            )
        wanted = targets
    else:
        _check("first_spike_mse", "spikes", spikes, targets)
        times = (correct_time, len(spikes) if incorrect_time is None else incorrect_time)
        if not all(0 <= time <= len(spikes) for time in times):
            raise ValueError(
                f"first_spike_mse: correct_time and incorrect_time must be in [0, {len(spikes)}], the steps of spikes, "
                f"got {times[0]} and {times[1]}"
            )
        wanted = _one_hot(spikes, targets, *times)
    return F.mse_loss(first_spike_times(spikes) / len(spikes), wanted / len(spikes))


def _one_hot(like: Tensor, labels: Tensor, correct: float, incorrect: float) -> Tensor:
    """Return ``[b, c]`` with one value at the labels and another elsewhere."""
    values = torch.full(like.shape[1:], float(incorrect), dtype=like.dtype, device=like.device)
    return values.scatter_(1, labels.unsqueeze(1), float(correct))


def _check_sequence(who: str, what: str, values: Tensor) -> None:
    if values.dim() != 3 or len(values) < 1:
        raise ValueError(f"{who}: {what} must be [t, b, c] with at least one time step, got {list(values.shape)}")
    if not values.is_floating_point():
        raise TypeError(f"{who}: {what} must be a floating-point tensor, got {values.dtype}; try .float()")


def _check(who: str, what: str, values: Tensor, labels: Tensor) -> None:
    _check_sequence(who, what, values)
    if labels.dtype != torch.int64:
        raise TypeError(f"{who}: labels must be int64 class indices, got {labels.dtype}; try labels.long()")
    n_samples, n_classes = values.shape[1:]
    if labels.shape != (n_samples,):
        raise ValueError(f"{who}: labels must be [{n_samples}], as the batch of {what}, got {list(labels.shape)}")
    # elsewhere a look at the labels would make the processor wait for the device
    if labels.device.type == "cpu" and n_samples and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(
            f"{who}: labels must be in 0 … {n_classes - 1}, one for each of the {n_classes} output neurons, got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
