"""Weights that carry a signal from a layer's targets back to its sources."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.optim import Optimizer

from neuropil.connect import SparseConv2d, SparseLinear, back_product
from neuropil.connect.change import Change
from neuropil.connect.rewire_layer import rewire_layer
from neuropil.learn.stages import Weighted

Along = Literal["wiring", "dense"]


class Feedback(nn.Module):
    """Weights B of a layer's shape that carry signals back: from ``[b, …]`` at its targets to its sources.

    Args:
        layer: whose sources and targets are connected.
        along: of a sparse layer, ``wiring``: only where the layer connects, also after it has been rewired; ``dense``:
            from every target to every source.
        learned: whether the weights get gradients.
        bound: weights are drawn between minus this and this; None: √(6 / (fan_in + fan_out)), as Glorot's uniform ones,
            with the numbers of connections that neurons really have.
        generator: where they come from.

    Attributes:
        weight: of the shape of the layer's, or dense.

    Raises:
        ValueError: a convolution pads in a way that has no plain transpose.
    """

    def __init__(
        self,
        layer: Weighted,
        *,
        along: Along = "wiring",
        learned: bool = False,
        bound: float | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise ValueError(
                f"Feedback: convolutions must pad with zeros, a number of them at each side, got "
                f"padding={layer.padding!r}, padding_mode={layer.padding_mode!r}"
            )
        self._twin: SparseLinear | None = None
        if isinstance(layer, SparseLinear | SparseConv2d) and along == "wiring":
            synapses = _synapses(layer)
            self._twin = SparseLinear(
                synapses.wiring, bias=False, kernel=synapses.kernel, generator=generator, dtype=synapses.weight.dtype
            )
            shape, dtype = self._twin.weight.shape, synapses.weight.dtype
        else:
            dense = layer.dense_weight() if isinstance(layer, SparseLinear | SparseConv2d) else layer.weight
            shape, dtype = dense.shape, dense.dtype
        uniform = torch.rand(shape, generator=generator, device="cpu", dtype=dtype) * 2 - 1
        if bound is None:
            bound = math.sqrt(6 / max(1.0, sum(mean_fans(layer, dense=self._twin is None))))
        self._bound = bound
        weight = nn.Parameter(uniform * bound, requires_grad=learned)
        if self._twin is not None:
            self._twin.weight = weight
            self._twin.clear_dead_weights()
        else:
            self._weight = weight

    @property
    def weight(self) -> nn.Parameter:
        """The weights, as they are stored."""
        return self._weight if self._twin is None else self._twin.weight

    @property
    def twin(self) -> SparseLinear | None:
        """The sparse layer whose weights these are, where signals go back along a wiring; else None."""
        return self._twin

    def matrix(self) -> Tensor:
        """Return the weights as a dense tensor, ``[out, in]`` or ``[out, taps]``, that gradients flow through."""
        return self._weight.flatten(1) if self._twin is None else self._twin.dense_weight()

    def product(self, h: Tensor) -> Tensor:
        """Return h B, ``[b, in]``, of signals ``[b, out]`` at the targets; gradients flow to the weights alone."""
        if self._twin is None:
            return h.detach() @ self.matrix()
        sent: Tensor = _ProductBack.apply(self._twin.weight, self._twin, h.detach())  # type: ignore[no-untyped-call]
        return sent

    def follow(self, layer: Weighted, optimizer: Optimizer, generator: torch.Generator) -> None:
        """Take over the layer's wiring, if that has changed since the last time.

        New weights start at 0, as the layer's own do, where they learn; else they are drawn, as the first ones were.

        Args:
            layer: the layer.
            optimizer: whose state of weights that learn follows.
            generator: where new weights come from.
        """
        twin = self._twin
        if twin is None or (wiring := _synapses(layer).wiring) is twin.wiring:
            return
        change = Change.between(twin.wiring, wiring)
        rewire_layer(twin, optimizer, change)
        if twin.weight.requires_grad:
            return
        if twin.stores_dense:
            is_new = torch.zeros_like(twin.weight)
            change.fill(is_new, came=1.0)
        else:
            is_new = torch.from_numpy(change.origin < 0).to(twin.weight).reshape(-1, 1, 1)
        uniform = torch.rand(twin.weight.shape, generator=generator, device="cpu") * 2 - 1
        with torch.no_grad():
            twin.weight.add_(is_new * uniform.to(twin.weight), alpha=self._bound)
        twin.clear_dead_weights()

    def forward(self, layer: Weighted, delta: Tensor, shape: torch.Size) -> Tensor:
        """Return what signals at a layer's output come to at its input.

        Args:
            layer: whose stride, padding and wiring hold.
            delta: like the layer's output.
            shape: of the layer's input.
        """
        return send_back(layer, delta, shape, self.weight.detach(), along=self._twin)

    def learn(self, h: Tensor, delta: Tensor) -> None:
        """Set the gradient of the weights, of a linear layer, to the sum over the batch of products h δ.

        Args:
            h: what the weights carried back, ``[b, out_features]``.
            delta: gradient of what that came to, ``[b, in_features]``.
        """
        if self._twin is None:
            self.weight.grad = h.T @ delta
        else:
            self.weight.grad = _products(self._twin, h, delta)


class _ProductBack(torch.autograd.Function):
    """The product of signals with the transpose of a sparse layer's weights, which never become a matrix."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, twin: SparseLinear, h: Tensor) -> Tensor:
        ctx.twin = twin
        ctx.save_for_backward(h)
        return back_product(twin, h, weight)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
        return _products(ctx.twin, ctx.saved_tensors[0], delta), None, None


def _products(twin: SparseLinear, h: Tensor, delta: Tensor) -> Tensor:
    """Return hᵀ δ where the layer connects, as its weights are stored."""
    with torch.enable_grad():
        return torch.autograd.grad(twin(delta), twin.weight, h)[0]


def send_back(
    layer: Weighted, delta: Tensor, shape: torch.Size, weight: Tensor, *, along: SparseLinear | None = None
) -> Tensor:
    """Return δ W with other weights, of the shape of a layer's input, for any layer.

    Args:
        layer: whose stride and padding hold.
        delta: like its output.
        shape: of its input.
        weight: dense, or stored as by ``along``.
        along: sparse layer along whose wiring signals go; None: along a dense one.
    """
    if isinstance(layer, SparseConv2d) and along is not None:
        places = delta.flatten(2).transpose(1, 2)
        patches = back_product(along, places, weight).transpose(1, 2)
        return F.fold(patches, shape[-2:], layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    if along is not None:
        return back_product(along, delta, weight)
    if isinstance(layer, nn.Conv2d | SparseConv2d):
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        padding, stride, dilation = layer.padding, layer.stride, layer.dilation
        sent: Tensor = conv2d_input(shape, weight, delta, stride, padding, dilation, groups)  # type: ignore[no-untyped-call]
        return sent
    return delta @ weight


def _synapses(layer: Weighted) -> SparseLinear:
    synapses = layer.synapses if isinstance(layer, SparseConv2d) else layer
    assert isinstance(synapses, SparseLinear)
    return synapses


def mean_fans(layer: Weighted, *, dense: bool = False) -> tuple[float, float]:
    """Return how many connections a target and a source of a layer have on average, taps counted one by one.

    Args:
        layer: any layer with weights.
        dense: as if everything were connected.
    """
    if isinstance(layer, nn.Conv2d):
        taps = layer.kernel_size[0] * layer.kernel_size[1]
        return layer.in_channels // layer.groups * taps, layer.out_channels // layer.groups * taps
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    synapses = layer.synapses if isinstance(layer, SparseConv2d) else layer
    n_in, n_out = synapses.in_features, synapses.out_features
    n = n_in * n_out if dense else synapses.wiring.n_connections
    # of a convolution, a source sends each of its taps
    taps = layer.kernel_size[0] * layer.kernel_size[1] if isinstance(layer, SparseConv2d) else 1
    return n / n_out, n / n_in * taps
