"""What a network owes to parts of its wiring: those are cut for a while, and put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear


@contextmanager
def intra_only(model: nn.Module) -> Iterator[nn.Module]:
    """Cut every connection between two groups while the block runs; only those within a group transmit.

    W becomes W ∘ [group of the target = group of the source] in each sparse layer whose neurons belong to groups; other
    layers, biases and the encoder stay as they are. Afterwards each weight that was cut has the same bits as before.
    Silent connections (:meth:`neuropil.connect.SparseLinear.set_silent`) stay silent throughout. Nothing is trained
    or chosen anew, so what accuracy falls by is what the network, as it has learnt, owes to these connections; not what
    it would lack if it had learnt without them.

    The model must not be rewired inside the block.

    Args:
        model: with sparse layers of any block, rewired or not.

    Yields:
        The model itself.

    Raises:
        ValueError: no layer has groups.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> layer = SparseLinear(Ensembles(n_groups=2, p_inter=1.0).wire(4, 4), bias=False)
        >>> layer.copy_dense_weight(torch.ones(4, 4))
        >>> x = torch.tensor([1.0, 1.0, 10.0, 10.0])
        >>> with intra_only(layer):
        ...     layer(x).tolist()
        [2.0, 2.0, 20.0, 20.0]
        >>> layer(x).tolist()
        [22.0, 22.0, 22.0, 22.0]
    """
    cut: list[tuple[Tensor, Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for layer in (module for module in model.modules() if isinstance(module, SparseLinear)):
                between = _between_groups(layer)
                if between is not None:
                    cut.append((layer.weight, between, layer.weight[between]))
                    layer.weight.masked_fill_(between, 0.0)
        if not cut:
            raise ValueError(
                f"intra_only: the model must have a sparse layer whose neurons belong to groups, got a "
                f"{type(model).__name__} without one; try neuropil.connect.Ensembles"
            )
        yield model
    finally:
        with torch.no_grad():
            for weight, between, values in reversed(cut):  # a weight that two layers share is cut twice
                weight[between] = values


def _between_groups(layer: SparseLinear) -> Tensor | None:
    """Return which entries of a layer's weight join two groups, in the shape of the weight; None without groups."""
    out_groups, in_groups = layer.wiring.out_groups, layer.wiring.in_groups
    if out_groups is None or in_groups is None:
        return None
    # −1, beyond the neurons that exist, takes the label of the last one: the weight there is 0 anyway
    targets, sources = (side.numpy() for side in layer.weight_units())
    return torch.from_numpy(out_groups[targets] != in_groups[sources]).to(layer.weight.device)
