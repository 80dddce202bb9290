"""How active the networks of an arm are, and what passes their synapses, read from what their runs wrote down."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neuropil.compare.layer_titles import layer_titles
from neuropil.compare.run_result import RunResult, is_number

_HIDDEN = "hidden."  # how the names of hidden layers begin in every network
_WORK = ("synaptic_operations", "synaptic_multiply_accumulates", "energy_joules")


@dataclass(frozen=True)
class Activity:
    """What the networks of an arm do on the probe batch after the last epoch, mean over runs; None: not known.

    Attributes:
        hidden_firing_rate: spikes a hidden neuron and time step, in [0, 1]; None where neurons do not spike.
        dead, saturated: shares of the hidden neurons, see :class:`neuropil.measure.LayerActivity`.
        synaptic_operations, multiply_accumulates, energy_joules: of one sample, see
            :class:`neuropil.measure.SynapticWork`.
    """

    hidden_firing_rate: float | None
    dead: float | None
    saturated: float | None
    synaptic_operations: float | None
    multiply_accumulates: float | None
    energy_joules: float | None

    @classmethod
    def of(cls, runs: Sequence[RunResult]) -> "Activity":
        """Return the means over those runs that are done and tell a number."""

        def mean(key: str) -> float | None:
            known = [value for run in runs if (value := run.number(key)) is not None]
            return math.fsum(known) / len(known) if known else None

        return cls(mean("hidden_firing_rate"), mean("dead_neurons"), mean("saturated_neurons"), *map(mean, _WORK))


def summarize_epoch(record: Mapping[str, Any], hidden: Sequence[int]) -> dict[str, Any]:
    """Return what a run's summary says of activity, from an epoch's record; what is missing or damaged is left out.

    Args:
        record: of the last epoch, see :func:`neuropil.train.fit`.
        hidden: widths of the network's hidden layers, by which their shares are weighted. The record names these
            layers ``hidden.…``, in the same order.

    Example:
        >>> record = {"firing_rates": {"hidden.1": 0.1, "hidden.3": 0.4, "output": 0.9}}
        >>> round(summarize_epoch(record, [200, 100])["hidden_firing_rate"], 6)
        0.2
    """
    found: dict[str, Any] = {}
    rates = layer_shares(record, "firing_rates")
    if rates:
        found = {"firing_rates": rates, "hidden_firing_rate": _over_hidden(rates, hidden)}
    for state in ("dead", "saturated"):
        found[f"{state}_neurons"] = _over_hidden(layer_shares(record, state), hidden)
    found |= {key: record[key] for key in _WORK if is_number(record.get(key)) and record[key] >= 0}
    return {key: value for key, value in found.items() if value is not None}


def complete_summary(run: RunResult, hidden: Sequence[int]) -> RunResult:
    """Return a run whose summary tells of activity, for one made before summaries did, from its last epoch's record."""
    if not run.summary or not run.metrics or run.metrics[-1].get("epoch") != run.summary.get("epochs"):
        return run
    return replace(run, summary={**summarize_epoch(run.metrics[-1], hidden), **run.summary})


def layer_shares(record: Mapping[str, Any], key: str) -> dict[str, float]:
    """Return what an epoch's record says of each layer, in the order of the layers; nothing where that is damaged."""
    shares = record.get(key)
    if not isinstance(shares, Mapping) or not all(is_number(share) and 0 <= share <= 1 for share in shares.values()):
        return {}
    return {str(name): float(share) for name, share in shares.items()}


def neuron_titles(names: Iterable[str]) -> dict[str, str]:
    """Return the titles of hidden layers and of a read-out that spikes, those of other layers left out.

    Example:
        >>> neuron_titles(["encoder.1", "hidden.1", "hidden.3", "output"])
        {'hidden.1': 'layer 1', 'hidden.3': 'layer 2', 'output': 'read-out'}
    """
    return layer_titles(name for name in names if name.startswith(_HIDDEN) or name == "output")


def silent_since(run: RunResult) -> tuple[str, int] | None:
    """Return the first layer without a single spike at the end of a run, and the epoch from which on it had none."""
    records = [(r["epoch"], layer_shares(r, "firing_rates")) for r in run.metrics if isinstance(r.get("epoch"), int)]
    if not records:
        return None
    titles = neuron_titles(records[-1][1])
    for name, title in titles.items():
        since = None
        for epoch, rates in reversed(records):
            if rates.get(name) != 0:
                break
            since = epoch
        if since is not None:
            return title, since
    return None


def _over_hidden(shares: Mapping[str, float], widths: Sequence[int]) -> float | None:
    """Return the share of all hidden neurons; None where there are none, or layers are not those of the widths."""
    hidden = [share for name, share in shares.items() if name.startswith(_HIDDEN)]
    if not widths or len(hidden) != len(widths):
        return None
    return math.fsum(share * width for share, width in zip(hidden, widths, strict=True)) / sum(widths)
