"""A layer's weights by the neuron that they lead to, whatever the layer and however it stores them."""

import torch
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear, Wiring
from neuropil.learn.stages import Weighted


class Afferents:
    """The weights of a layer, seen from its neurons: of a convolution, its channels.

    Args:
        layer: it may be rewired at any time.

    Attributes:
        layer: the layer.
        name: of its weights among its parameters.
    """

    def __init__(self, layer: Weighted) -> None:
        self.layer = layer
        self.name = "synapses.weight" if isinstance(layer, SparseConv2d) else "weight"
        self._holds = layer.synapses if isinstance(layer, SparseConv2d) else layer
        self._known: tuple[Wiring, Tensor] | None = None

    @property
    def weight(self) -> nn.Parameter:
        """The weights, as they are stored."""
        weight = self._holds.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The biases, ``[n_out]``."""
        return None if self._holds.bias is None else self._holds.bias.detach()

    @property
    def n_out(self) -> int:
        """Number of neurons."""
        return self.layer.out_channels if isinstance(self.layer, nn.Conv2d | SparseConv2d) else self.layer.out_features

    def fan_in(self) -> Tensor:
        """Return how many connections each neuron has, ``[n_out]``, of the weights' type."""
        weight = self.weight
        if isinstance(self._holds, SparseLinear):
            return self._holds.wiring.fan_in().to(weight)
        return weight.new_full((self.n_out,), weight[0].numel())

    def spread(self, values: Tensor) -> Tensor:
        """Return what neurons have, ``[n_out]``, at each of their weights; it broadcasts to the weights' shape."""
        targets = self._targets()
        return values.view(-1, *[1] * (self.weight.dim() - 1)) if targets is None else values[targets]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over each neuron's weights, ``[n_out]``, of values shaped like these."""
        targets = self._targets()
        if targets is None:
            return values.flatten(1).sum(1)
        return values.new_zeros(self.n_out).index_add_(0, targets.view(-1), values.sum(1).view(-1))

    def matrix(self) -> Tensor:
        """Return the weights as a matrix ``[n_out, n_in]``, zero where nothing connects."""
        if isinstance(self._holds, SparseLinear):
            return self._holds.dense_weight().detach()
        return self.weight.detach().flatten(1)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """Return a matrix ``[n_out, n_in]`` as the weights are stored, zero where nothing connects."""
        layer = self._holds
        if not isinstance(layer, SparseLinear):
            return matrix.view_as(self.weight)
        targets, sources = (units.to(matrix.device) for units in layer.weight_units())
        if layer.stores_dense:
            return matrix * layer.wiring.mask().to(matrix)
        live = (targets >= 0) & (sources >= 0)
        return matrix[targets.clamp(min=0), sources.clamp(min=0)] * live

    @torch.no_grad()
    def draw(self, deviation: Tensor, generator: torch.Generator) -> None:
        """Start the weights anew: normal ones, of a deviation for each neuron, ``[n_out]``; biases at 0."""
        weight = self.weight
        normal = torch.randn(weight.shape, generator=generator, device="cpu", dtype=weight.dtype)
        weight.copy_(normal.to(weight.device) * self.spread(deviation))
        if isinstance(self._holds, SparseLinear):
            self._holds.clear_dead_weights()
        if (bias := self.bias) is not None:
            bias.zero_()

    def _targets(self) -> Tensor | None:
        """Return the neuron of every stored weight, of all columns of a block at once; None: rows are neurons."""
        layer = self._holds
        if not isinstance(layer, SparseLinear) or layer.stores_dense:
            return None
        if self._known is None or self._known[0] is not layer.wiring or self._known[1].device != layer.weight.device:
            targets, _ = layer.weight_units()  # entries that stand for nobody, −1, are zero: they may count anywhere
            self._known = layer.wiring, targets.clamp(min=0).to(layer.weight.device)
        return self._known[1]
