"""The three products of a layer of blocks, without autograd: output, gradient of the weights, gradient of the input.

Each row of blocks is one dense product with the columns that it reads. Where these are neighbours, they are read where
they lie; else they are copied first, so many at a time that they stay in a cache. Where all are alike, as groups
without connections between them are, they are one batched product.

Rows of blocks write *positions*. Where the targets of each are neighbours, these are the targets themselves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil.connect.kernels.block_layout import BlockLayout
from neuropil.connect.kernels.dense_product import multiply_into, prefers_onednn
from neuropil.threads import in_parallel

_MOST_ROWS = 1024  # of the input at a time
_MOST_NUMBERS = 2**22  # copied at a time: 16 MiB in float32
_FEWEST_NUMBERS = 2**21  # copied by one thread: less is done sooner than PyTorch's own threads stop waiting for work


class Part(NamedTuple):
    """What is computed at a time: rows of the input, and rows of blocks."""

    first: int
    last: int
    first_piece: int
    last_piece: int


def multiply(
    layout: BlockLayout, x: Tensor, weight: Tensor, *, narrow: bool = False
) -> tuple[Tensor, list[Tensor] | None]:
    """Return x Wᵀ, ``[r, o]``, and the copied columns of each row of blocks, if all of them were copied at once.

    Args:
        layout: of the wiring.
        x: ``[r, i]``, contiguous.
        weight: the stored weights, ``[columns, rows]``, contiguous.
        narrow: multiply in bfloat16; see :func:`multiply_into`.
    """
    y = x.new_empty(len(x), layout.n_positions)
    if _pays_as_batch(layout, x, narrow):
        torch.bmm(_batch(layout, x), weight.view(layout.n, -1, layout.rows), out=_batch(layout, y))
        return y, None
    parts, pieces = _parts(layout, len(x)), None
    for part in parts:
        pieces = _read(layout, x, part)
        for piece, columns in zip(range(part.first_piece, part.last_piece), pieces, strict=True):
            multiply_into(_targets(layout, piece, y, part), columns, _weights(layout, piece, weight), narrow=narrow)
    if layout.targets is None:
        y = permuted(y, layout.to_targets)
    return y, pieces if len(parts) == 1 and layout.runs is None else None


def by_position(layout: BlockLayout, gradient: Tensor) -> Tensor:
    """Return a gradient of the output by positions, contiguous."""
    return gradient.contiguous() if layout.targets is not None else permuted(gradient, layout.to_positions)


def weight_gradient(
    layout: BlockLayout, x: Tensor | None, gradient: Tensor, kept: list[Tensor] | None = None, *, narrow: bool = False
) -> Tensor:
    """Return the gradient of the stored weights, ``[columns, rows]``.

    Args:
        layout: of the wiring.
        x: ``[r, i]``, contiguous; None where its columns were kept.
        gradient: of the output, as :func:`by_position` returns it.
        kept: what :func:`multiply` has copied.
        narrow: multiply in bfloat16; see :func:`multiply_into`.
    """
    if x is not None and _pays_as_batch(layout, x, narrow):
        return torch.bmm(_batch(layout, x).transpose(1, 2), _batch(layout, gradient)).view(-1, layout.rows)
    writes_all = len(gradient) > 0 and (layout.targets is None or layout.shape[0] == layout.n * layout.rows)
    make = gradient.new_empty if writes_all else gradient.new_zeros
    of_weight = make(len(layout.sources), layout.rows)
    for part in _parts(layout, len(gradient)):
        pieces = kept if x is None else _read(layout, x, part)
        for piece, columns in zip(range(part.first_piece, part.last_piece), pieces or [], strict=True):
            g = _targets(layout, piece, gradient, part)
            multiply_into(_weights(layout, piece, of_weight), columns.t(), g, add=part.first > 0, narrow=narrow)
    return of_weight


def input_gradient(layout: BlockLayout, gradient: Tensor, weight: Tensor, *, narrow: bool = False) -> Tensor:
    """Return the gradient of the input, ``[r, i]``.

    Args:
        layout: of the wiring.
        gradient: of the output, as :func:`by_position` returns it.
        weight: the stored weights, ``[columns, rows]``, contiguous.
        narrow: multiply in bfloat16; see :func:`multiply_into`.
    """
    in_place = layout.runs is not None and layout.is_partition
    make = gradient.new_empty if layout.runs is None or in_place else gradient.new_zeros
    of_x = make(len(gradient), layout.n_sources)
    if _pays_as_batch(layout, gradient, narrow):
        by_target = weight.view(layout.n, -1, layout.rows).transpose(1, 2)
        torch.bmm(_batch(layout, gradient), by_target, out=_batch(layout, of_x))
        return of_x
    for part in _parts(layout, len(gradient)):
        rows = of_x[part.first : part.last]
        if layout.runs is None:
            flat, pieces = _room(layout, gradient, part)
        else:
            flat, pieces = None, _in_place(layout, rows, part)
        for piece, columns in zip(range(part.first_piece, part.last_piece), pieces, strict=True):
            g, w = _targets(layout, piece, gradient, part), _weights(layout, piece, weight)
            multiply_into(columns, g, w.t(), add=not (in_place or layout.runs is None), narrow=narrow)
        if flat is not None:
            _silence_nobody(layout, pieces, part)
            _add_back(layout, flat, part, rows)
    return of_x


def _pays_as_batch(layout: BlockLayout, x: Tensor, narrow: bool) -> bool:
    """Return whether all rows of blocks may be one product of the library that computes such products."""
    return layout.is_batch and not narrow and not prefers_onednn(x)


def _batch(layout: BlockLayout, x: Tensor) -> Tensor:
    """Return what rows of blocks that are alike read or write, ``[row of blocks, r, neurons]``, where it lies."""
    return x.view(len(x), layout.n, x.shape[1] // layout.n).transpose(0, 1)


def _parts(layout: BlockLayout, rows: int) -> list[Part]:
    height = max(1, min(rows, _MOST_ROWS))
    groups, first = [], 0
    for piece in range(1, layout.n):
        copied = 0 if layout.runs is not None else int(layout.cuts[piece + 1] - layout.cuts[first]) * height
        if copied > _MOST_NUMBERS:
            groups.append((first, piece))
            first = piece
    groups.append((first, layout.n))
    return [Part(row, min(row + height, rows), *group) for row in range(0, rows, height) for group in groups]


def _targets(layout: BlockLayout, piece: int, y: Tensor, part: Part) -> Tensor:
    """Return what a row of blocks writes of an output by positions."""
    start, length = (piece * layout.rows, layout.rows) if layout.targets is None else layout.targets[piece]
    return y[part.first : part.last, start : start + length]


def _weights(layout: BlockLayout, piece: int, weight: Tensor) -> Tensor:
    """Return the weights of a row of blocks, ``[columns, targets]``."""
    length = layout.rows if layout.targets is None else layout.targets[piece][1]
    return weight[int(layout.cuts[piece]) : int(layout.cuts[piece + 1]), :length]


def _in_place(layout: BlockLayout, x: Tensor, part: Part) -> list[Tensor]:
    """Return the columns of each row of blocks, where they lie."""
    runs, lengths = layout.runs or [], layout.sizes
    pieces = range(part.first_piece, part.last_piece)
    return [x[:, runs[piece] : runs[piece] + lengths[piece]] for piece in pieces]


def _room(layout: BlockLayout, like: Tensor, part: Part) -> tuple[Tensor, list[Tensor]]:
    """Return room for the columns of each row of blocks: all of it, flat, and a matrix for each."""
    cuts = layout.cuts[part.first_piece : part.last_piece + 1].astype(np.int64)
    rows = part.last - part.first
    flat = like.new_empty(int(cuts[-1] - cuts[0]) * rows)
    sizes = (np.diff(cuts) * rows).tolist()
    return flat, [piece.view(rows, -1) if piece.numel() else piece.view(rows, 0) for piece in torch.split(flat, sizes)]


def _read(layout: BlockLayout, x: Tensor, part: Part) -> list[Tensor]:
    """Return the columns that each row of blocks reads."""
    x = x[part.first : part.last]
    if layout.runs is not None:
        return _in_place(layout, x, part)
    from neuropil.connect import block_loops

    flat, pieces = _room(layout, x, part)
    cuts = layout.cuts[part.first_piece : part.last_piece + 1]
    compiled: Any = block_loops.gather  # whose arguments come in lists
    arrays = x.numpy(), cuts, layout.sources, layout.width
    _copy(lambda first, last: compiled(*arrays, first, last, flat.numpy()), len(x), len(flat))
    _silence_nobody(layout, pieces, part)
    return pieces


def _add_back(layout: BlockLayout, flat: Tensor, part: Part, x: Tensor) -> None:
    """Add the columns of each row of blocks to those of ``x``, which starts at 0."""
    from neuropil.connect import block_loops

    cuts = layout.cuts[part.first_piece : part.last_piece + 1]
    compiled: Any = block_loops.add_back
    arrays = flat.numpy(), cuts, layout.sources, layout.width, part.first_piece == 0
    _copy(lambda first, last: compiled(*arrays, first, last, x.numpy()), len(x), len(flat))


def _copy(work: Callable[[int, int], None], rows: int, numbers: int) -> None:
    """Copy all rows, which have so many numbers in all."""
    in_parallel(work, rows, fewest=_FEWEST_NUMBERS * rows // max(1, numbers))


def _silence_nobody(layout: BlockLayout, pieces: list[Tensor], part: Part) -> None:
    for piece, columns in layout.nobody.items():
        if part.first_piece <= piece < part.last_piece:
            pieces[piece - part.first_piece][:, columns] = 0


def permuted(x: Tensor, order: Any) -> Tensor:
    """Return x[:, order], 0 where the order is negative."""
    from neuropil.connect import block_loops

    y = x.new_empty(len(x), len(order))
    compiled: Any = block_loops.permute
    arrays = x.detach().contiguous().numpy(), order
    _copy(lambda first, last: compiled(*arrays, first, last, y.numpy()), len(x), y.numel())
    return y
