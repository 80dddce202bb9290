"""Whole models started by the name of a scheme."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.initialize import fan_in
from neuropil.initialize.critical import critical_normal_
from neuropil.initialize.emergence_promoting import promote_emergence_
from neuropil.initialize.fan_in import Layer
from neuropil.initialize.layers import weight_layers
from neuropil.initialize.log_normal import Signs, log_normal_
from neuropil.initialize.lsuv import lsuv_
from neuropil.initialize.orthogonal import orthogonal_
from neuropil.initialize.rank import rank_controlled_
from neuropil.randomness import stream

_Draws = Iterator[tuple[Layer, bool, torch.Generator]]


def start_(model: nn.Module, scheme: str, *, sample: Tensor, generator: torch.Generator, **settings: Any) -> None:
    """Start all weight layers of a model by one scheme, and set their biases to 0.

    Each layer draws from a stream of its own, derived from one draw of the generator and the layer's name, so that
    models that share some layers share those layers' starts.

    Args:
        model: changed in place: the layers of :func:`weight_layers`, in the order of a forward pass.
        scheme: one of ``STARTS``, each of which is a function with the scheme's settings.
        sample: a batch of real inputs, which gives the order of the layers; ``lsuv`` also measures on it.
        generator: where random numbers come from.
        settings: those of the scheme.

    Raises:
        ValueError: the scheme or a setting is unknown, the model has no weight layer, or as the scheme says.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> start_(model, "emergence", sample=torch.rand(5, 8), generator=torch.Generator().manual_seed(0), alpha=2.0)
        >>> bool(model[2].weight.std() > 3 * model[0].weight.std())
        True
    """
    if scheme not in STARTS:
        raise ValueError(f"start_: scheme must be one of {', '.join(STARTS)}, got {scheme!r}")
    known = settings_of(scheme)
    for key in settings:
        if key not in known:
            raise ValueError(f"start_: {scheme} has no setting {key!r}; it has {', '.join(known) or 'none'}")
    layers = weight_layers(model, sample)
    if not layers:
        raise ValueError(
            f"start_: the model must have a weight layer that a forward pass calls, got {type(model).__name__} without"
        )
    for _, layer in layers:
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    STARTS[scheme](model, sample, generator, **settings)


def settings_of(scheme: str) -> dict[str, inspect.Parameter]:
    """Return the settings of one of ``STARTS``, by name."""
    parameters = inspect.signature(STARTS[scheme]).parameters
    return {name: one for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


def kaiming_uniform(
    model: nn.Module, sample: Tensor, generator: torch.Generator, *, mode: fan_in.Fan = "fan_in"
) -> None:
    """Kaiming's uniform start for ReLUs, with each neuron's real fan-in; the last layer without their factor √2."""
    for layer, is_last, own in _draws(model, sample, generator):
        fan_in.kaiming_uniform_(layer, nonlinearity="linear" if is_last else "relu", mode=mode, generator=own)


def kaiming_normal(
    model: nn.Module, sample: Tensor, generator: torch.Generator, *, mode: fan_in.Fan = "fan_in"
) -> None:
    """Kaiming's normal start for ReLUs, with each neuron's real fan-in; the last layer without their factor √2."""
    for layer, is_last, own in _draws(model, sample, generator):
        fan_in.kaiming_normal_(layer, nonlinearity="linear" if is_last else "relu", mode=mode, generator=own)


def xavier_uniform(model: nn.Module, sample: Tensor, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """Xavier's uniform start, with each connection's real fan-in and fan-out."""
    for layer, _, own in _draws(model, sample, generator):
        fan_in.xavier_uniform_(layer, gain=gain, generator=own)


def xavier_normal(model: nn.Module, sample: Tensor, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """Xavier's normal start, with each connection's real fan-in and fan-out."""
    for layer, _, own in _draws(model, sample, generator):
        fan_in.xavier_normal_(layer, gain=gain, generator=own)


def orthogonal(model: nn.Module, sample: Tensor, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """Orthogonal weights, as far as a sparse wiring lets them be."""
    for layer, _, own in _draws(model, sample, generator):
        orthogonal_(layer, gain=gain, generator=own)


def log_normal(
    model: nn.Module,
    sample: Tensor,
    generator: torch.Generator,
    *,
    ratio: float = 1.5,
    signs: Signs = "weight",
    mode: fan_in.Fan = "fan_in",
) -> None:
    """Log-normal magnitudes with random signs of weights or of neurons, for learning that keeps signs.

    Variances are those of Kaiming's start; see :func:`neuropil.initialize.log_normal_`.
    """
    for layer, is_last, own in _draws(model, sample, generator):
        nonlinearity = "linear" if is_last else "relu"
        log_normal_(layer, ratio=ratio, signs=signs, nonlinearity=nonlinearity, mode=mode, generator=own)


def lsuv(
    model: nn.Module,
    sample: Tensor,
    generator: torch.Generator,
    *,
    tolerance: float = 0.01,
    max_iterations: int = 10,
    orthogonal: bool = True,
) -> None:
    """Layer-sequential unit variance: orthogonal, then each layer scaled until its output on real images varies by 1.

    As :func:`neuropil.initialize.lsuv_`, without orthogonal weights from Kaiming's normal start.
    """
    STARTS["orthogonal" if orthogonal else "kaiming-normal"](model, sample, generator)
    lsuv_(model, sample, tolerance=tolerance, max_iterations=max_iterations, orthogonal=False)


def critical(
    model: nn.Module, sample: Tensor, generator: torch.Generator, *, activation: str = "relu", bias_std: float = 0.0
) -> None:
    """Normal weights at the edge of chaos of an activation, by mean field, see :func:`critical_gain`."""
    for layer, _, own in _draws(model, sample, generator):
        critical_normal_(layer, activation, bias_std=bias_std, generator=own)


def rank(
    model: nn.Module, sample: Tensor, generator: torch.Generator, *, share: float = 0.1, gain: float = 2**0.5
) -> None:
    """Weights of a low rank at an unchanged norm, which is reported to make learning richer.

    The rank is ``share`` of each layer's shorter side, at least 1; the last layer, whose side is the number of classes,
    keeps its rank. The norm is that of normal weights of variance gain² / fan-in: see :func:`rank_controlled_`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"rank: share must be in (0, 1], got {share}")
    for layer, is_last, own in _draws(model, sample, generator):
        side = min(*_matrix_shape(layer))
        rank_controlled_(layer, rank=side if is_last else max(1, round(share * side)), gain=gain, generator=own)


def emergence(
    model: nn.Module,
    sample: Tensor,
    generator: torch.Generator,
    *,
    alpha: float | None = None,
    total_ratio: float | None = None,
    base: str = "kaiming-normal",
    largest: float = 4.0,
) -> None:
    """Emergence-promoting: early layers smaller and late ones larger by powers of α; a profile of learning rates.

    ``base`` is the start that is scaled, another scheme with its default settings. For the rest see
    :func:`promote_emergence_`. Without biases under SGD, this is exactly a layer-wise learning rate, higher for early
    layers.
    """
    if base not in STARTS or base == "emergence":
        known = ", ".join(name for name in STARTS if name != "emergence")
        raise ValueError(f"emergence: base must be one of {known}, got {base!r}")
    STARTS[base](model, sample, generator)
    promote_emergence_(model, alpha, total_ratio, sample=sample, largest=largest)


STARTS: dict[str, Callable[..., None]] = {
    "kaiming-uniform": kaiming_uniform,
    "kaiming-normal": kaiming_normal,
    "xavier-uniform": xavier_uniform,
    "xavier-normal": xavier_normal,
    "orthogonal": orthogonal,
    "log-normal": log_normal,
    "lsuv": lsuv,
    "critical": critical,
    "rank": rank,
    "emergence": emergence,
}


def _draws(model: nn.Module, sample: Tensor, generator: torch.Generator) -> _Draws:
    """Give each layer, whether it is the last, and the stream it draws from."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    layers = weight_layers(model, sample)
    for i, (name, layer) in enumerate(layers):
        yield layer, i == len(layers) - 1, stream(seed, name)


def _matrix_shape(layer: Layer) -> tuple[int, int]:
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        return layer.weight.shape[0], layer.weight[0].numel()
    return layer.wiring.shape
