"""The gradient of an input, computed only where it is needed."""

from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from neuropil.connect.kernels.block_layout import BlockLayout
from neuropil.threads import in_parallel

# share of the gradient that is needed, above which the whole is computed faster
_MOST_NEEDED = 0.4


def needed_gradient(
    layout: BlockLayout, gradient: Tensor, weight: Tensor, potentials: Tensor, threshold: Tensor, sharpness: float
) -> Tensor | None:
    """Return the gradient of the input where it is needed, 0 elsewhere; None where that would not be faster.

    Args:
        layout: of the wiring.
        gradient: of the output by position, ``[r, positions]``.
        weight: the stored weights, ``[columns, rows]``, contiguous.
        potentials, threshold, sharpness: see :class:`neuropil.connect.needed.Needed`; ``[r, i]`` and ``[i]``.
    """
    from neuropil.connect import block_event_loops

    rows = len(gradient)
    counts = np.zeros(rows, dtype=np.int32)
    where = potentials.numpy(), threshold.numpy(), potentials.numpy().dtype.type(sharpness)
    in_parallel(lambda first, last: block_event_loops.count_needed(*where, first, last, counts), rows)
    if counts.sum(dtype=np.int64) > _MOST_NEEDED * potentials.numel():
        return None
    of_x = gradient.new_empty(rows, layout.n_sources)
    compiled: Any = block_event_loops.input_gradient
    given = (*where, layout.cuts, layout.columns, *layout.spans, gradient.numpy(), weight.numpy())
    tile, out = block_event_loops.TILE, of_x.numpy()
    # cut where tiles end: sums depend on how rows are grouped
    tiles = -(-rows // tile)
    in_parallel(lambda first, last: compiled(*given, first * tile, min(last * tile, rows), out), tiles)
    return of_x


@lru_cache(maxsize=64)
def dense_layout(out_features: int, in_features: int) -> BlockLayout:
    """Return the layout of a dense layer: one row of blocks, which reads everyone."""
    return BlockLayout(
        shape=(out_features, in_features),
        rows=out_features,
        cuts=np.array([0, in_features], dtype=np.uint64),
        sources=np.arange(in_features, dtype=np.uint32),
        width=in_features,
        nobody={},
        runs=[0],
        is_partition=True,
        targets=[(0, out_features)],
        to_positions=np.arange(out_features),
        to_targets=np.arange(out_features),
    )
