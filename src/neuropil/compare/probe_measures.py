"""Measures that recipes can have recorded while a network trains, each as numbers by name, by layer where it has them.

What each of them is, in plain words and with its source, stands beside its name in :mod:`neuropil.compare.probes`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from neuropil import measure
from neuropil.connect import SparseLinear, Wiring
from neuropil.connect.conv import synapses_of_convolutions
from neuropil.randomness import stream

Numbers = Mapping[str, "float | Mapping[str, float | None] | None"]
TOGETHER = "all"  # in place of a layer's name, for all of them as one


@dataclass(frozen=True)
class ProbeMeasure:
    """What a probe takes of a network.

    Attributes:
        now: from a model, images ``[b, c, h, w]``, labels ``[b]`` and what is kept of the start, to numbers by name,
            each of them one, or one a layer.
        start: what is kept of the network that training begins with, on the same batch; None: nothing.
    """

    now: Callable[[nn.Module, Tensor, Tensor, Any], Numbers]
    start: Callable[[nn.Module, Tensor, Tensor], Any] | None = None


def emergence(
    *, rule: Literal["mean", "any", "rate"] = "mean", rate: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    inputs: bool = True,
) -> ProbeMeasure:  # fmt: skip
    """Paths from inactive to active units, told apart by thresholds that stay as the start sets them."""

    def start(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, ...] | None:
        return measure.emergence(model, images, rule=rule, rate=rate, inputs=inputs).thresholds

    def now(model: nn.Module, images: Tensor, labels: Tensor, thresholds: tuple[float, ...]) -> Numbers:
        found = measure.emergence(model, images, threshold=thresholds, rule=rule, rate=rate, inputs=inputs)
        return {
            "log10": found.log10,
            "relative_to_weights": found.relative_to_weights,
            "relative_to_most": found.relative_to_most,
        }

    return ProbeMeasure(now, start)


def activity() -> ProbeMeasure:
    """How large activations are, and which units never take part, layer by layer."""

    def now(model: nn.Module, images: Tensor, labels: Tensor, _: None) -> Numbers:
        outputs = measure.layer_outputs(model, images, samples_first=True)
        return {
            "mean": {name: float(output.abs().mean(dtype=torch.float64)) for name, output in outputs.items()},
            "dead": {name: float(measure.dead_units(output).double().mean()) for name, output in outputs.items()},
        }

    return ProbeMeasure(now)


def norms() -> ProbeMeasure:
    """Norms of weights, and of the gradient of the cross-entropy, layer by layer."""

    def now(model: nn.Module, images: Tensor, labels: Tensor, _: None) -> Numbers:
        found = measure.gradient_norms(model, images, labels, F.cross_entropy)
        return {
            "weight": _of_weights({each.name: each.weight for each in found}),
            "gradient": _of_weights({each.name: each.gradient for each in found}),
        }

    return ProbeMeasure(now)


def weight_change() -> ProbeMeasure:
    """How far weights have come from where they started, layer by layer and together."""

    def start(model: nn.Module, images: Tensor, labels: Tensor) -> measure.Snapshot:
        return measure.snapshot(model)

    def now(model: nn.Module, images: Tensor, labels: Tensor, before: measure.Snapshot) -> Numbers:
        found = measure.weight_change(before, model)
        return {
            "relative": {
                **_of_weights({each.name: each.relative for each in found.parameters}),
                TOGETHER: found.total.relative,
            },
            "signs": {
                **_of_weights({each.name: each.sign_changes for each in found.parameters}),
                TOGETHER: found.total.sign_changes,
            },
        }

    return ProbeMeasure(now, start)


def representation_change() -> ProbeMeasure:
    """How far hidden activity has come from what it was before training, layer by layer."""

    def start(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return measure.layer_outputs(model, images, samples_first=True)

    def now(model: nn.Module, images: Tensor, labels: Tensor, before: dict[str, Tensor]) -> Numbers:
        found = measure.activation_change(before, measure.layer_outputs(model, images, samples_first=True))
        return {
            "relative": {layer.name: layer.relative for layer in found},
            "alignment": {layer.name: layer.alignment for layer in found},
        }

    return ProbeMeasure(now, start)


def tangent_kernel(*, outputs: Literal["trace", "sum"] = "sum", chunk: Annotated[int, Field(ge=1)] = 8) -> ProbeMeasure:
    """How far the tangent kernel has moved from that of the start, and how much of it serves the task."""

    def kernel(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return measure.tangent_kernel(model, images, outputs=outputs, chunk=chunk)

    def now(model: nn.Module, images: Tensor, labels: Tensor, before: Tensor) -> Numbers:
        after = kernel(model, images, labels)
        drift = measure.kernel_drift(before, after)
        return {
            "cosine": drift.cosine,
            "relative": drift.relative,
            "target_alignment": measure.target_alignment(after, labels),
        }

    return ProbeMeasure(now, kernel)


def sharpness(
    *,
    products: Literal["exact", "differences"] = "exact",
    tolerance: Annotated[float, Field(ge=0)] = 1e-2,
    most: Annotated[int, Field(ge=1)] = 32,
) -> ProbeMeasure:
    """How curved the loss is in its steepest direction."""

    def now(model: nn.Module, images: Tensor, labels: Tensor, _: None) -> Numbers:
        found = measure.sharpness(
            model, images, labels, F.cross_entropy, generator=stream(0, "probe", "sharpness"), products=products,
            tolerance=tolerance, most=most,
        )  # fmt: skip
        return {"eigenvalue": found.value}

    return ProbeMeasure(now)


def topology() -> ProbeMeasure:
    """The shape of the wirings of sparse layers: groups, hubs, and how well they mix."""

    def now(model: nn.Module, images: Tensor, labels: Tensor, _: None) -> Numbers:
        wirings = sparse_wirings(model)
        return {
            "modularity": {
                name: measure.modularity(wiring) for name, wiring in wirings.items() if wiring.n_groups
            },
            "spectral_gap": {name: _where_wired(wiring, measure.spectral_gap) for name, wiring in wirings.items()},
            "fan_in": {name: _where_wired(wiring, _variation_in) for name, wiring in wirings.items()},
            "fan_out": {name: _where_wired(wiring, _variation_out) for name, wiring in wirings.items()},
        }  # fmt: skip

    return ProbeMeasure(now)


def of_activity(key: str, of_layer: Callable[[Tensor], float]) -> Callable[[], ProbeMeasure]:
    """Return what makes a measure of each layer's activity ``[samples, units]`` a probe, its numbers under a key.

    Of spiking neurons, it is the rates that are measured.
    """

    def make() -> ProbeMeasure:
        def now(model: nn.Module, images: Tensor, labels: Tensor, _: None) -> Numbers:
            return {key: {name: of_layer(rates) for name, rates in _rates(model, images).items()}}

        return ProbeMeasure(now)

    return make


def of_activity_since_start(
    key: str, of_start: Callable[[Tensor], Callable[[Tensor], float]]
) -> Callable[[], ProbeMeasure]:
    """Return what makes a comparison with a layer's activity at the start a probe, its numbers under a key.

    Args:
        key: of the numbers.
        of_start: from the activity at the start, ``[samples, units]``, to what measures the present one against it.
    """

    def make() -> ProbeMeasure:
        def start(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Callable[[Tensor], float]]:
            return {name: of_start(rates) for name, rates in _rates(model, images).items()}

        def now(
            model: nn.Module, images: Tensor, labels: Tensor, against: dict[str, Callable[[Tensor], float]]
        ) -> Numbers:
            return {key: {name: against[name](rates) for name, rates in _rates(model, images).items()}}

        return ProbeMeasure(now, start)

    return make


def mean_population_sparseness(activity: Tensor) -> float:
    """Return the mean of :func:`neuropil.measure.population_sparseness` over the samples that some unit answers."""
    return float(measure.population_sparseness(activity.abs()).nanmean())


def sparse_wirings(model: nn.Module) -> dict[str, Wiring]:
    """Return the wirings of a model's sparse linear layers by name."""
    in_convolutions = synapses_of_convolutions(model)
    return {
        name: layer.wiring
        for name, layer in model.named_modules()
        if isinstance(layer, SparseLinear) and layer not in in_convolutions
    }


def _rates(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the activity ``[samples, units]`` of each layer, averaged over time steps."""
    outputs = measure.layer_outputs(model, images, samples_first=True)
    return {name: output.mean(1) if output.dim() == 3 else output.flatten(1) for name, output in outputs.items()}


def _of_weights(values: Mapping[str, float]) -> dict[str, float]:
    """Return numbers of weight matrices, by the names of their layers; those of biases and neurons are left out."""
    return {name.removesuffix(".weight"): value for name, value in values.items() if name.endswith(".weight")}


def _where_wired(wiring: Wiring, of: Callable[[Wiring], float]) -> float | None:
    return of(wiring) if wiring.n_connections else None


def _variation_in(wiring: Wiring) -> float:
    return measure.degree_statistics(torch.as_tensor(wiring.fan_in())).variation


def _variation_out(wiring: Wiring) -> float:
    return measure.degree_statistics(torch.as_tensor(wiring.fan_out())).variation
