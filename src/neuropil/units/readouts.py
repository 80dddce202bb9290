"""What a sequence of output spikes or potentials says: one number for each class.

Read-outs are differentiable and give ``[b, c]``, which any loss of PyTorch takes:
``F.cross_entropy(spike_counts(spikes), labels, label_smoothing=0.1)``. The published pairs of read-out and loss have
names in :mod:`neuropil.units.losses`. Results have the input's type: bfloat16 rounds counts and times above 256.
"""

import torch
from torch import Tensor


def spike_counts(spikes: Tensor) -> Tensor:
    """Return how often each neuron spiked: N = Σ_t S[t].

    Args:
        spikes: ``[t, b, …]``, at least one step; graded spikes are summed.

    Example:
        >>> spike_counts(torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]]))
        tensor([[1., 2.]])
    """
    return _sequence("spike_counts", "spikes", spikes).sum(0)


def firing_rates(spikes: Tensor) -> Tensor:
    """Return the share of steps in which each neuron spiked: N / T, in [0, 1].

    Args:
        spikes: ``[t, b, …]``, at least one step.

    Example:
        >>> firing_rates(torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]]))
        tensor([[0.5000, 1.0000]])
    """
    return _sequence("firing_rates", "spikes", spikes).mean(0)


def mean_potential(potentials: Tensor) -> Tensor:
    """Return each neuron's potential averaged over time.

    Of neurons that do not spike this is the most robust read-out: it has a gradient at every step.

    Args:
        potentials: ``[t, b, …]``, at least one step.

    Example:
        >>> mean_potential(torch.tensor([[[0.0, 1.0]], [[3.0, 1.0]]]))
        tensor([[1.5000, 1.0000]])
    """
    return _sequence("mean_potential", "potentials", potentials).mean(0)


def max_potential(potentials: Tensor) -> Tensor:
    """Return each neuron's highest potential. Only that step gets a gradient (of equal ones, the first).

    Args:
        potentials: ``[t, b, …]``, at least one step.

    Example:
        >>> max_potential(torch.tensor([[[0.0, 1.0]], [[3.0, 1.0]]]))
        tensor([[3., 1.]])
    """
    _sequence("max_potential", "potentials", potentials)
    # the index that max(0) gives is not said to be the first one's, that of argmax is
    return potentials.gather(0, potentials.argmax(0, keepdim=True)).squeeze(0)


def first_spike_times(spikes: Tensor) -> Tensor:
    """Return the step, counted from 0, at which each neuron first spiked; T where it never did.

    A time has no derivative by spikes; it is replaced with −1 at the step of the first spike: more drive there would
    have made it earlier. For a neuron that never spiked it is −1 at the last step, where a spike would indeed lower
    the time from T to T − 1.

    Args:
        spikes: ``[t, b, …]``, at least one step; whatever is above 0 is a spike.

    Reference:
        The estimator is snnTorch's (``mse_temporal_loss``, ``ce_temporal_loss``), for silent neurons too; but there a
        silent neuron has the time T − 1, which is also that of a spike at the last step.

    Example:
        >>> spikes = torch.tensor([[[0.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]]], requires_grad=True)
        >>> times = first_spike_times(spikes)
        >>> times.tolist()
        [[1.0, 0.0, 2.0]]
        >>> times.sum().backward()
        >>> spikes.grad.tolist()
        [[[0.0, -1.0, 0.0]], [[-1.0, 0.0, -1.0]]]
    """
    n_steps = len(_sequence("first_spike_times", "spikes", spikes))
    fired = spikes > 0
    step = torch.where(fired.any(0), fired.to(torch.uint8).argmax(0), n_steps)
    at = spikes.gather(0, step.clamp(max=n_steps - 1).unsqueeze(0)).squeeze(0)
    return step.to(spikes.dtype) + (at.detach() - at)


def predict_by_count(spikes: Tensor) -> Tensor:
    """Return the class whose neuron spiked most often, the first of equal ones.

    Args:
        spikes: ``[t, b, c]``, at least one step.

    Returns:
        Class indices ``[b]``.

    Example:
        >>> predict_by_count(torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]]))
        tensor([1])
    """
    return spike_counts(spikes).argmax(-1)


def predict_by_first_spike(spikes: Tensor) -> Tensor:
    """Return the class whose neuron spiked first, the first class of those that did at once, or of all if none did.

    Args:
        spikes: ``[t, b, c]``, at least one step.

    Returns:
        Class indices ``[b]``.

    Example:
        >>> predict_by_first_spike(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]]))
        tensor([1])
    """
    return first_spike_times(spikes).argmin(-1)


def _sequence(who: str, what: str, values: Tensor) -> Tensor:
    if values.dim() < 2 or len(values) < 1:
        raise ValueError(f"{who}: {what} must be [t, b, …] with at least one time step, got {list(values.shape)}")
    if not values.is_floating_point():
        raise TypeError(f"{who}: {what} must be a floating-point tensor, got {values.dtype}; try .float()")
    return values
