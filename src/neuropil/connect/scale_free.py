"""Scale-free wiring: few hubs with many connections, many neurons with few."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuropil.connect.pattern import Pattern, check_probability
from neuropil.connect.wiring import Wiring


@dataclass(frozen=True)
class ScaleFree(Pattern):
    """Neurons differ in fitness, and a connection is drawn in proportion to the fitness of both its ends.

    The neurons of either layer get the weights w_i = (i + 1)^(−1/(γ − 1)), in a random order of their own.
    Then round(density · I · O) different pairs are drawn one after another, each with probability ∝ w_o · w_i
    among those not drawn yet. For large, sparse layers fan-ins and fan-outs then follow P(k) ∝ k^(−γ); where
    hubs come to know everyone the tail is cut off, the sooner the denser the wiring is.

    Drawing takes dense temporaries: 16 bytes for each *possible* connection, 256 MiB for 4096 × 4096.

    Args:
        density: connections over possible connections, in [0, 1]; their number is exact.
        exponent: γ, above 2. Small: strong hubs; ``math.inf``: all neurons equal, a uniformly random wiring.

    Raises:
        ValueError: the density lies outside [0, 1] or the exponent is not above 2; at ``wire``: no connection
            is left by the density.

    Reference:
        K.-I. Goh, B. Kahng and D. Kim, Universal behavior of load distribution in scale-free networks
        (2001), whose static model joins the nodes of one graph; two layers with separate orders are ours.
        Pairs are drawn by an exponential race: waiting times E / (w_o w_i), E ~ Exp(1), and the shortest win.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> wiring = ScaleFree(density=0.1, exponent=2.5).wire(64, 64, generator=generator)
        >>> wiring.n_connections, wiring.fan_in().float().mean().item(), wiring.fan_in().max().item()
        (410, 6.40625, 32)
    """

    density: float
    exponent: float = 3.0

    def __post_init__(self) -> None:
        check_probability("ScaleFree", "density", self.density)
        if not self.exponent > 2.0:
            raise ValueError(f"ScaleFree: exponent must be above 2, got {self.exponent:g}; try 3")

    def wire(self, in_features: int, out_features: int, *, generator: torch.Generator | None = None) -> Wiring:
        """Draw a wiring; see :meth:`Pattern.wire`."""
        out_weight = self._weights(out_features, generator)
        in_weight = self._weights(in_features, generator)
        waiting = torch.empty(out_features, in_features, dtype=torch.float64).exponential_(generator=generator)
        waiting /= out_weight[:, None]
        waiting /= in_weight
        n = round(self.density * in_features * out_features)
        pairs = np.argpartition(waiting.numpy().ravel(), max(n - 1, 0))[:n]
        return Wiring(in_features, out_features, pairs // in_features, pairs % in_features)

    def expected_density(self, in_features: int, out_features: int) -> float:
        """Return the density, rounded to whole connections."""
        return round(self.density * in_features * out_features) / (in_features * out_features)

    def _weights(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Return the fitness of each neuron, float64 ``[n]``, handed out in random order."""
        power = 0.0 if math.isinf(self.exponent) else -1.0 / (self.exponent - 1.0)
        return (torch.randperm(n, generator=generator, device="cpu").double() + 1.0) ** power
