"""What is sparse about the networks of a comparison: where, when, in what structure, what is counted, how fast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from neuropil.compare.arms import run_recipe
from neuropil.compare.events import summarize_rewiring
from neuropil.compare.execute import build_network
from neuropil.compare.registry import read_rewiring
from neuropil.compare.results import ArmResult, Results
from neuropil.compare.rewiring_words import describe_rewiring, name_rewiring
from neuropil.data import SOURCES
from neuropil.measure import SparsityStatement, sparsity_statement
from neuropil.rewire import TopKastRewiring

_FULL = 1 - 1e-9


@dataclass(frozen=True)
class RunSparsity:
    """What is sparse about a network that was trained, beside what its numbers alone do not tell.

    Attributes:
        statement: of the network after training, as far as its records tell.
        known_from: what tells of its connections.
        rule: how the wiring changes, in words; None where it does not.
        kind: ``dense``, ``sparse throughout``, ``sparse-to-sparse`` or ``dense-to-sparse``, by the densest state.
        densest: highest density of its sparse layers at any time; 1 where there are none.
        dense_gradients: when gradients of connections that are not there are needed, in words.
        keeps_aside: whether weights that are not live are kept.
        explored: share of all possible connections that have been live; None where the wiring stays, or not known.
        kernels: of the hidden layers; empty while not known.
        seconds: of an epoch, measured; None while not known.
        dense_seconds: that of the dense network of the same widths; None where there is none, or not known.
    """

    statement: SparsityStatement
    known_from: str
    rule: str | None
    kind: str
    densest: float
    dense_gradients: str
    keeps_aside: bool
    explored: float | None
    kernels: tuple[str, ...]
    seconds: float | None
    dense_seconds: float | None


def state_arm(results: Results, arm: ArmResult) -> RunSparsity:
    """Return what is sparse about an arm: wirings are those of its first run, times the medians over all."""
    first = arm.single_runs[0]
    twin = results.dense_twin(arm.arm)
    own, dense = (each.seconds_per_epoch if each is not None else None for each in (arm, twin))
    return state_sparsity(
        run_recipe(results.recipe, arm.arm, first.seed),
        summary=first.summary,
        events=first.events,
        seconds=None if own is None else own.median,
        dense_seconds=None if dense is None else dense.median,
    )


def state_sparsity(
    run: Mapping[str, Any],
    *,
    summary: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]] = (),
    checkpoint: Path | None = None,
    seconds: float | None = None,
    dense_seconds: float | None = None,
) -> RunSparsity:
    """Return what is sparse about the network of a run, built again from its recipe.

    Args:
        run: what :func:`neuropil.compare.arms.run_recipe` gives.
        summary: of the run; may be empty.
        events: what rewiring did, which tells of the wirings at the end where no weights were kept.
        checkpoint: the trained weights, if they were kept.
        seconds, dense_seconds: of an epoch, and of one of the dense network of the same widths.

    Raises:
        ValueError: the checkpoint is damaged, or of another network.
    """
    source = SOURCES[run["data"]["name"]]
    net = build_network(run, source.image_shape, source.n_classes)
    start = sparsity_statement(net, readout="readout")
    description = run.get("rewiring")
    rewiring = None if description is None else read_rewiring(description)
    has_sparse = any(layer.is_sparse for layer in start.layers)
    when = "never" if not has_sparse else "static" if rewiring is None else "rewired"
    if rewiring is not None and not rewiring.keeps_density and not isinstance(rewiring, TopKastRewiring):
        when = "thinned out"
    known_from = "the recipe"
    if checkpoint is not None:
        try:
            weights = load_file(checkpoint)
            net.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
        except (SafetensorError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{checkpoint} must hold the weights of this run's network, got: {reason}") from error
        known_from = "the trained weights"
    measured = (seconds, dense_seconds) if seconds and dense_seconds else None
    statement = sparsity_statement(net, when=when, readout="readout", seconds=measured)
    if rewiring is not None and checkpoint is None:
        known_from = "the last event of each layer" if events else "the recipe, before any event"
        statement = _as_recorded(statement, events)
    possible = sum(layer.possible for layer in start.layers if layer.is_sparse)
    peaks = [
        (layer.density if rewiring is None else rewiring.peak_density(layer.density)) * layer.possible
        for layer in start.layers
        if layer.is_sparse
    ]
    densest = sum(peaks) / possible if possible else 1.0
    rewired = summarize_rewiring([summary])
    return RunSparsity(
        statement=statement,
        known_from=known_from,
        rule=None if description is None else f"{name_rewiring(description)}: {describe_rewiring(description)}",
        kind=_kind(has_sparse, rewiring is not None, densest),
        densest=densest,
        dense_gradients=_dense_gradients(rewiring, densest)
        if has_sparse
        else "at every step: no connection is missing",
        keeps_aside=isinstance(rewiring, TopKastRewiring),
        explored=None if rewired is None else rewired.explored,
        kernels=tuple(str(kernel) for kernel in summary.get("kernels", ())),
        seconds=seconds,
        dense_seconds=dense_seconds,
    )


def _as_recorded(statement: SparsityStatement, events: Sequence[Mapping[str, Any]]) -> SparsityStatement:
    """Return a statement whose layers have as many connections as their last events tell."""
    last = {f"{event['layer']}.weight": event["density"] for event in events}
    layers = tuple(
        replace(layer, connections=round(last[layer.name] * layer.possible)) if layer.name in last else layer
        for layer in statement.layers
    )
    return replace(statement, layers=layers)


def _kind(has_sparse: bool, changes: bool, densest: float) -> str:
    if not has_sparse:
        return "dense"
    if not changes:
        return "sparse throughout"
    return "dense-to-sparse" if densest > _FULL else "sparse-to-sparse"


def _dense_gradients(rewiring: Any, densest: float) -> str:
    """Say when gradients of more than the live connections are needed."""
    words = []
    if rewiring is not None and rewiring.dense_gradient_steps == 1:
        words.append("at every event")
    elif rewiring is not None and rewiring.dense_gradient_steps > 1:
        words.append(f"in the {rewiring.dense_gradient_steps} steps before every event")
    if rewiring is not None and densest > _FULL:
        words.append("at every step as long as it is dense")
    return ", and ".join(words) or "never"
