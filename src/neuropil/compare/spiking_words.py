"""What spiking networks are made of, in plain words."""

from neuropil.compare.recipe import SpikingSection
from neuropil.models.spiking_ensemble_net import NEURONS
from neuropil.train import RateSchedule
from neuropil.units import LIF, ATan, FastSigmoid
from neuropil.units.surrogate import Surrogate


def describe_spiking(spiking: SpikingSection, *, patches: bool) -> str:
    """Say in a few sentences what neurons spike, for how long, what reaches them, and what their rates are drawn to.

    Args:
        spiking: the section of the recipe.
        patches: whether features of patches are encoded, and not pixels.

    Example:
        >>> describe_spiking(SpikingSection(neurons="fixed"), patches=False).partition(", decay")[0]
        'Neurons: leaky integrate-and-fire, all alike and fixed'
    """
    return " ".join([_neurons(spiking.neurons), _encoding(spiking, patches=patches), *_penalty(spiking)])


def _neurons(name: str) -> str:
    neurons = NEURONS[name]()
    if not isinstance(neurons, LIF):
        return f"Neurons: {neurons!r}."
    decay, threshold = float(neurons.decay.detach()), float(neurons.threshold.detach())
    learned = {key for key, _ in neurons.named_parameters()}
    if {"decay", "threshold"} <= learned:
        kind = f"whose decay and threshold, one of each a layer, are learned from {decay:.3g} and {threshold:g} on"
    else:
        kind = f"all alike and fixed, decay {decay:.3g} and threshold {threshold:g}"
    return (
        f"Neurons: leaky integrate-and-fire, {kind}; the gradient of a spike is that of "
        f"{_surrogate(neurons.surrogate)}."
    )


def _surrogate(surrogate: Surrogate) -> str:
    match surrogate:
        case FastSigmoid(slope=slope):
            return f"a fast sigmoid of slope {slope:g}"
        case ATan(alpha=alpha):
            return f"an arctangent, α = {alpha:g}"
    return repr(surrogate)


def _encoding(spiking: SpikingSection, *, patches: bool) -> str:
    one, size = ("feature", "value, scaled to [0, 1] image by image,") if patches else ("pixel", "brightness")
    times = "" if spiking.scale == 1 else f"{spiking.scale:g} times "
    how = {
        "rate": f"at each of which every {one} makes a spike with its {size} as the probability (rate code)",
        "current": f"at all of which every {one} feeds the same current, {times}its {size.rstrip(',')}",
        "latency": f"in which every {one} spikes once, the earlier the larger its {size.rstrip(',')} (latency code)",
    }[spiking.encoding]
    steps = f"{spiking.steps} time step{'s' * (spiking.steps != 1)}"
    frozen = " The patch encoder keeps the weights that it starts with." if spiking.frozen else ""
    return f"An image lasts {steps}, {how}.{frozen}"


def _penalty(spiking: SpikingSection) -> list[str]:
    if not spiking.rate_penalty:
        return []
    schedule = RateSchedule(warm_up=spiking.rate_warm_up)
    (low, high), (first, last) = schedule.weight, schedule.target
    return [
        f"From epoch {schedule.warm_up + 1} on, a penalty on the loss draws the firing rate of each hidden neuron to a "
        f"target that goes from {first:g} to {last:g}, with a weight that grows from {low:g} to {high:g}."
    ]
