"""How dense each layer of a network is, when the network as a whole has a given density."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from neuropil.connect.pattern import check_probability

DensityMethod = Literal["uniform", "er", "erk"]


def layer_densities(shapes: Sequence[Sequence[int]], density: float, method: DensityMethod = "uniform") -> list[float]:
    """Share out the connections of a network among its layers; return the density of each layer.

    With layers of N_l possible connections the densities d_l satisfy Σ d_l N_l = density · Σ N_l, and

    * ``uniform``: d_l = density;
    * ``er``: d_l = ε (n_in + n_out) / (n_in · n_out), so that the connections of a layer grow with its
      neurons, not with their product, and narrow layers are denser than wide ones;
    * ``erk``: d_l = ε · Σ dims / Π dims over all dimensions of the weight, kernel included; equal to ``er``
      where all layers are linear.

    ε follows from the total. A layer that would exceed 1 is dense, and ε is taken anew from the others, until
    none exceeds.

    Args:
        shapes: shape of each layer's weight, ``(out, in)``, or ``(out, in, *kernel)`` of a convolution.
        density: density of the network, in [0, 1].
        method: ``uniform``, ``er`` or ``erk``.

    Returns:
        One density a layer, in [0, 1].

    Raises:
        ValueError: there is no layer, a shape has fewer than two dimensions or an empty one, the density lies
            outside [0, 1], or the method is unknown.

    Reference:
        ER: D. C. Mocanu et al., Scalable training of artificial neural networks with adaptive sparse
        connectivity inspired by network science (SET, 2018), who set ε itself. ERK, and ε by the total:
        U. Evci et al., Rigging the Lottery (RigL, 2020).

    Example:
        >>> [round(d, 4) for d in layer_densities([(300, 784), (100, 300), (10, 100)], 0.1, "er")]
        [0.0796, 0.2302, 1.0]
    """
    check_probability("layer_densities", "density", density)
    if method not in get_args(DensityMethod):
        raise ValueError(f"layer_densities: method must be one of {', '.join(get_args(DensityMethod))}, got {method!r}")
    if not shapes:
        raise ValueError("layer_densities: shapes must name at least one layer, got none")
    for shape in shapes:
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(
                f"layer_densities: each shape must be (out, in) or (out, in, *kernel), all positive, got {tuple(shape)}"
            )
    if method == "uniform":
        return [float(density)] * len(shapes)

    n_dims = 2 if method == "er" else None
    share = [sum(shape[:n_dims]) / math.prod(shape[:n_dims]) for shape in shapes]
    size = [math.prod(shape) for shape in shapes]
    result = [1.0] * len(shapes)
    sparse = list(range(len(shapes)))  # layers that are not dense so far
    while sparse:
        n_left = density * sum(size) - sum(n for layer, n in enumerate(size) if layer not in sparse)
        epsilon = n_left / sum(share[layer] * size[layer] for layer in sparse)
        fitting = [layer for layer in sparse if epsilon * share[layer] <= 1.0]
        if len(fitting) == len(sparse):
            for layer in sparse:
                result[layer] = max(0.0, epsilon * share[layer])
            break
        sparse = fitting
    return result
