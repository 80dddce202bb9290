"""Gradients without the mean of each neuron's."""

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear


def centralize(weight: nn.Parameter, layer: SparseLinear | None = None, *, by_source: bool = False) -> None:
    """Subtract from the gradient of a neuron's weights their mean over its live connections, in place.

    Args:
        weight: whose gradient it is, ``[out, …]``.
        layer: sparse layer that stores the weights; None: they are dense.
        by_source: take the mean over what a source sends out, not over what a target reads; of a convolution, over what
            each tap sends out.

    Reference:
        H. Yong et al., gradient centralization, arXiv 2004.01461.
    """
    gradient = weight.grad
    if gradient is None:
        return
    if layer is None:
        dims = (0,) if by_source else tuple(range(1, gradient.dim()))
        gradient.sub_(gradient.mean(dims, keepdim=True))
        return
    targets, sources = (units.to(gradient.device).expand(gradient.shape) for units in layer.weight_units())
    live = (targets >= 0) & (sources >= 0)
    if layer.stores_dense:
        live = live & layer.wiring.mask().to(gradient.device)
    units = (sources if by_source else targets).clamp(min=0)
    n_units = layer.in_features if by_source else layer.out_features
    total = _sums(gradient * live, units, n_units)
    mean = total / _sums(live.to(gradient), units, n_units).clamp(min=1)
    gradient.sub_(mean[units] * live)


def _sums(values: Tensor, units: Tensor, n_units: int) -> Tensor:
    return torch.zeros(n_units, dtype=values.dtype, device=values.device).index_add_(0, units.ravel(), values.ravel())
