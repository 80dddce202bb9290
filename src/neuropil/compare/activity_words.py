"""Firing rates, silent neurons, synaptic operations and energy in plain words."""

from neuropil.compare.activity import silent_since
from neuropil.compare.results import ArmResult, Results
from neuropil.compare.sentences import percent
from neuropil.measure import ACCUMULATE_JOULES, MULTIPLY_ACCUMULATE_JOULES

_WORTH_TELLING = 0.01  # share of neurons that fire all the time
_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def describe_activity(arm: ArmResult) -> str | None:
    """Say how often the hidden neurons of an arm fire, how many never do, and what that costs; None before it is known.

    Means over the runs that are done, each after its last epoch.
    """
    found = arm.activity
    if found.hidden_firing_rate is None:
        return None
    parts = [f"Hidden neurons fire in {percent(found.hidden_firing_rate)} of time steps"]
    if found.dead is not None:
        parts.append(f"{percent(found.dead)} of them never fired on the probe batch")
    if found.saturated is not None and found.saturated >= _WORTH_TELLING:
        parts.append(f"{percent(found.saturated)} fired at every step or nearly so")
    if found.synaptic_operations is not None and found.energy_joules is not None:
        work, kinds = (
            f"{scaled(found.synaptic_operations)} synaptic operations an image{_against_dense(arm)}",
            "additions",
        )
        if found.multiply_accumulates:
            work += f" and {scaled(found.multiply_accumulates)} multiply-accumulates"
            kinds = "additions and multiplications"
        parts.append(
            f"{work}, an estimated {scaled(found.energy_joules, 'J')} (45 nm, {kinds} only; memory, neuron updates and "
            "data movement left out)"
        )
    return "; ".join(parts) + "."


def explain_activity(results: Results) -> str:
    """Say on what activity is measured, what is counted, and how energy is estimated, with the source."""
    return (
        f"Measured after each epoch on a probe batch, the first {results.recipe.training.batch_size:,} training "
        "images. A firing rate is the share of time steps in which a neuron spikes, mean over images and neurons. A "
        "spike that passes one connection is a synaptic operation, an addition; a number that is no spike, such as a "
        "current, makes it a multiply-accumulate. Energy is an estimate, not a measurement: "
        f"{1e12 * ACCUMULATE_JOULES:g} pJ an addition and {1e12 * MULTIPLY_ACCUMULATE_JOULES:g} pJ a "
        "multiply-accumulate, in 32-bit floating point and 45 nm (M. Horowitz, ISSCC 2014, "
        "10.1109/ISSCC.2014.6757323). What memory, the updates of the neurons, the movement of data and patch "
        "encoders take is left out; on most machines memory takes far more. Many silent neurons on one batch are "
        "normal in spiking networks; a layer without a single spike is not. Lines: mean over "
        f"{'seeds and folds' if results.recipe.folds else 'seeds'}, the arm's with a band from its lowest to its "
        "highest run, which is not a confidence interval. Last panel: neurons without a spike after the last epoch, by "
        "layer, with the same range."
    )


def describe_silence(results: Results) -> str | None:
    """Say how many runs of which arms ended with a silent layer, controls too; None where there are none."""
    counts = {
        name: sum(run.state == "done" and silent_since(run) is not None for run in arm.single_runs)
        for name, arm in results.arms.items()
    }
    n = sum(counts.values())
    if not n:
        return None
    where = "; ".join(
        f"{name}: {count} of {len(results.arms[name].single_runs)}" for name, count in counts.items() if count
    )
    one = n == 1
    return (
        f"{n} run{'s' * (not one)} ended with a layer that is silent ({where}): {'its' if one else 'their'} "
        f"network{'s' * (not one)} cannot tell images apart, and count{'s' * one} in the means all the same."
    )


def scaled(value: float, unit: str = "") -> str:
    """Write a number of 0 or more in two digits, with the prefix of its size.

    Example:
        >>> scaled(6_120_000), scaled(28_436), scaled(999.9), scaled(5.0e-06, "J"), scaled(0, "J")
        ('6.1 M', '28 k', '1.0 k', '5.0 µJ', '0 J')
    """
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    power = min(max(3 * (int(exponent) // 3), min(_PREFIXES)), max(_PREFIXES)) if value else 0
    number = float(mantissa) * 10.0 ** (int(exponent) - power)
    text = "0" if not value else f"{number:.1f}" if number < 10 else f"{number:.0f}"
    return f"{text} {_PREFIXES[power]}{unit}".strip()


def _against_dense(arm: ArmResult) -> str:
    twin = arm.differences.get("dense-same-width")
    return "" if twin is None or twin.operations is None else f" ({twin.operations:.2f} of those of {twin.twin})"
