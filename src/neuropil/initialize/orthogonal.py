"""Weights that keep lengths and angles, as far as the wiring lets them."""

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear


@torch.no_grad()
def orthogonal_(
    layer: nn.Linear | nn.Conv2d | SparseLinear,
    *,
    gain: float = 1.0,
    n_projections: int = 20,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a (semi-)orthogonal weight matrix: W Wᵀ = gain² I, or Wᵀ W = gain² I where it is taller than wide.

    A sparse wiring rarely allows it exactly. There the matrix is projected in turn onto the orthogonal matrices
    (polar factor) and onto the wiring (live entries only), ``n_projections`` times, and each row is then scaled to
    the length that it has in an orthogonal matrix: what G2GNet's √(in_features / fan_in) does on average. Wirings of
    unconnected square groups come out orthogonal exactly.

    Args:
        layer: a dense, convolutional (its weight flattened to ``[out, in · field]``) or sparse layer; biases are
            left alone.
        gain: length of each row; in a matrix that is taller than wide, of each column.
        n_projections: how often a sparse matrix is projected; each takes one singular value decomposition of the
            dense matrix.
        generator: where random numbers come from; default: PyTorch's default generator.

    Reference:
        A. Saxe, J. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear
        networks, ICLR 2014. Approximate isometry under a mask: N. Lee et al., A Signal Propagation Perspective for
        Pruning Neural Networks at Initialization, ICLR 2020, who minimize ‖WᵀW − I‖ by gradient descent where we
        project in turn.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> generator = torch.Generator().manual_seed(0)
        >>> wiring = Ensembles(n_groups=2, p_inter=0.0).wire(8, 8, generator=generator)
        >>> layer = SparseLinear(wiring, generator=generator)
        >>> weights = orthogonal_(layer, generator=generator)
        >>> bool(torch.allclose(weights @ weights.T, torch.eye(8), atol=1e-5))
        True
    """
    shape = layer.wiring.shape if isinstance(layer, SparseLinear) else layer.weight.flatten(1).shape
    weight = _polar_factor(torch.randn(shape, generator=generator, device="cpu", dtype=torch.float64))
    if not isinstance(layer, SparseLinear):
        layer.weight.copy_((gain * weight).view_as(layer.weight))
        return layer.weight
    mask = layer.wiring.mask()
    weight = weight * mask
    for _ in range(n_projections):
        weight = _polar_factor(weight) * mask
    row_length = min(1.0, shape[1] / shape[0]) ** 0.5
    weight = weight * (row_length / weight.norm(dim=1, keepdim=True).clamp(min=1e-12))
    layer.copy_dense_weight(gain * weight)
    return layer.weight


def _polar_factor(weight: Tensor) -> Tensor:
    """Return the nearest matrix with orthonormal rows, or columns where there are more rows."""
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    factor: Tensor = left @ right
    return factor
