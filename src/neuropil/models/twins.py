"""The networks that a sparse one must be compared with."""

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from neuropil.connect import Dense, ErdosRenyi
from neuropil.models.conv_encoder import conv_features
from neuropil.models.ensemble_net import EnsembleNet, ensemble_net
from neuropil.models.spiking_ensemble_net import SpikingEnsembleNet, spiking_ensemble_net

TWINS = {
    "dense-same-width": "dense layers of the same width: the upper cost",
    "dense-same-parameters": "dense layers, narrow enough to have the same number of parameters",
    "erdos-renyi": "layers of the same width and density, wired at random: structure without a plan",
}


Net = TypeVar("Net", EnsembleNet, SpikingEnsembleNet)


def twins(net: Net) -> dict[str, Net]:
    """Build the three controls of a sparse network, by the names in ``TWINS``, from the same seed.

    Those of a spiking network spike: same neurons, same encoding.

    Example:
        >>> net = ensemble_net((1, 8, 8), 10, hidden=[256, 256, 256])
        >>> [twin.arguments["hidden"] for twin in twins(net).values()]
        [(256, 256, 256), (125, 125, 125), (256, 256, 256)]
    """
    if not isinstance(net, (EnsembleNet, SpikingEnsembleNet)):
        raise TypeError(f"twins: net must be an EnsembleNet or a SpikingEnsembleNet, got {type(net).__name__}")
    build = spiking_ensemble_net if isinstance(net, SpikingEnsembleNet) else ensemble_net
    # an encoding may be a module that learns: each twin gets its own
    return {name: build(**copy.deepcopy(arguments)) for name, arguments in twin_arguments(**net.arguments).items()}


def twin_arguments(**arguments: Any) -> dict[str, dict[str, Any]]:
    """Return the arguments of the three twins of a network, nothing being drawn.

    Densities and parameters are the expected ones of the patterns, so that one set of twins serves every seed and
    every grouping of the same density. The Erdős–Rényi twin has exactly the expected number of connections.

    Args:
        arguments: all that :func:`ensemble_net` or :func:`spiking_ensemble_net` takes, with one pattern a layer, as
            in ``EnsembleNet.arguments``.

    Raises:
        ValueError: there is no hidden layer that could be narrower.
    """
    hidden, patterns, sizes = arguments["hidden"], arguments["pattern"], layer_sizes(arguments)
    if not hidden:
        raise ValueError("twins: a sparse network must have a hidden layer, got none")
    in_features = sizes[0][0]
    densities = [p.expected_density(*size) for p, size in zip(patterns, sizes, strict=True)]
    live = round(sum(d * i * o for d, (i, o) in zip(densities, sizes, strict=True)))
    n_classes, readout = arguments["n_classes"], arguments["readout"]
    last_density = readout.expected_density(*readout_size(arguments))
    biased = 1 if arguments.get("bias", True) else 0
    per_unit = biased + (2 if arguments.get("batch_norm") else 0)  # perhaps a normalization's scale and shift
    # biases of the read-out, which all have in common, count in any case
    head = live + per_unit * sum(hidden) + round(last_density * hidden[-1] * n_classes) + n_classes
    narrow = matched_widths(hidden, in_features=in_features, n_classes=n_classes, n_parameters=head, per_unit=per_unit)
    *random, last = (Dense() if d == 1.0 else ErdosRenyi(density=d, exact=True) for d in (*densities, last_density))
    dense = (Dense(),) * len(hidden)
    # the twin's blocks are single synapses, whatever those of the network; every wiring can be computed from events
    kernel = "events" if arguments.get("kernel") == "events" else "auto"
    whole = {"input_gradient": "full"} if arguments.get("input_gradient") == "needed" else {}  # likewise
    return {
        "dense-same-width": {**arguments, "pattern": dense, "readout": Dense()},
        "dense-same-parameters": {**arguments, "pattern": dense, "readout": Dense(), "hidden": narrow},
        "erdos-renyi": {**arguments, "pattern": tuple(random), "readout": last, "kernel": kernel, **whole},
    }


def matched_widths(
    hidden: Sequence[int], *, in_features: int, n_classes: int, n_parameters: int, per_unit: int = 1
) -> tuple[int, ...]:
    """Return hidden widths, in the proportions given, whose dense network has the nearest number of parameters.

    Args:
        hidden: the widths to shrink, such as (1024, 1024, 1024).
        in_features: features that enter the first hidden layer.
        n_classes: outputs of the read-out.
        n_parameters: weights and biases of hidden layers and read-out together, parameters of normalizations
            included; at most those of ``hidden`` itself.
        per_unit: parameters of a hidden neuron beside its weights.

    Example:
        >>> matched_widths([1024] * 3, in_features=784, n_classes=10, n_parameters=750_000)
        (445, 445, 445)
    """

    def widths(largest: int) -> tuple[int, ...]:
        return tuple(max(1, round(width * largest / max(hidden))) for width in hidden)

    def parameters(largest: int) -> int:
        *sizes, last = widths(largest)
        hidden_layers = sum((i + per_unit) * o for i, o in pairwise([in_features, *sizes, last]))
        return hidden_layers + (last + 1) * n_classes

    low, high = 1, max(hidden)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(middle) <= n_parameters else (low, middle)
    return widths(min((low, high), key=lambda largest: abs(parameters(largest) - n_parameters)))


def layer_sizes(arguments: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return ``(in_features, out_features)`` of each hidden layer, for arguments of :func:`ensemble_net`."""
    return list(pairwise([_n_features(arguments), *arguments["hidden"]]))


def readout_size(arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Return ``(in_features, out_features)`` of the read-out, for arguments of :func:`ensemble_net`."""
    return [_n_features(arguments), *arguments["hidden"]][-1], arguments["n_classes"]


def _n_features(arguments: Mapping[str, Any]) -> int:
    """Return how many features the encoder makes of an image."""
    if arguments.get("convolutions") is not None:
        return conv_features(arguments["input_shape"], arguments["convolutions"])
    if arguments["patches"] is not None:
        return int(arguments["patch_channels"] * arguments["patches"] ** 2)
    return math.prod(arguments["input_shape"])
