"""A linear map of single synapses from their stored weights alone, forward and backward, without a dense matrix."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from neuropil.connect.synapses import Synapses
from neuropil.threads import in_parallel

COMPILED = (torch.float32, torch.float64)

# bytes of a tile that stays in a core's second cache, beside all else
_TILE_BYTES = 1 << 18
# bytes of the tiles that the backward pass keeps at a time
_TILES_BYTES = 1 << 24
# connections below which a second thread costs more than it saves
_FEWEST = 1 << 14


def synapse_linear(x: Tensor, weight: Tensor, bias: Tensor | None, synapses: Synapses) -> Tensor:
    """Return x Wᵀ + b, ``[b, out_features]``, W having the weights of single synapses.

    Time and memory follow the number of connections. All are computed in float32, or in float64, as ``weight`` is.

    Args:
        x: ``[b, in_features]``, in the type of ``weight``.
        weight: ``[n_connections]``, by target, then source.
        bias: ``[out_features]`` or None.
        synapses: who connects to whom.
    """
    if torch.compiler.is_compiling():
        y: Tensor = torch.ops.neuropil.synapses(x, weight, bias, *synapses.tensors())
        return y
    return _SynapseLinear.apply(x, weight, bias, *synapses.tensors())  # type: ignore[no-any-return, no-untyped-call]


class _SynapseLinear(torch.autograd.Function):
    """What the operator does, with less to do around it; a second derivative is the operator's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *synapses: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, *synapses)
        return _forward(x, weight, bias, *synapses)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # it will be differentiated itself
            return _backward(ctx, gradient)
        x, weight, *synapses = ctx.saved_tensors
        return _all_gradients(ctx, gradient, *gradients(gradient, x, weight, synapses, *ctx.needs_input_grad[:2]))


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    return _all_gradients(ctx, gradient, *torch.ops.neuropil.synapses_backward(gradient, *ctx.saved_tensors, *needs))


def _all_gradients(ctx: Any, gradient: Tensor, of_x: Tensor, of_weight: Tensor) -> tuple[Tensor | None, ...]:
    """Return a gradient, or None, for each argument."""
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    of_bias = gradient.sum(0) if needs_bias else None
    return of_x if needs_x else None, of_weight if needs_weight else None, of_bias, *(None for _ in range(5))


# Operators: what torch.compile sees


@torch.library.custom_op("neuropil::synapses", mutates_args=())
def _synapses(
    x: Tensor, weight: Tensor, bias: Tensor | None, pointers: Tensor, sources: Tensor, column_pointers: Tensor,
    targets: Tensor, positions: Tensor,
) -> Tensor:  # fmt: skip
    return _forward(x, weight, bias, pointers, sources, column_pointers, targets, positions)


@torch.library.custom_op("neuropil::synapses_backward", mutates_args=())
def _synapses_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, pointers: Tensor, sources: Tensor, column_pointers: Tensor,
    targets: Tensor, positions: Tensor, needs_x: bool, needs_weight: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    synapses = pointers, sources, column_pointers, targets, positions
    return gradients(gradient, x, weight, synapses, needs_x, needs_weight)


@_synapses.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, pointers: Tensor, *_: Tensor) -> Tensor:
    return weight.new_empty(x.shape[0], pointers.shape[0] - 1)


@_synapses_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    needs_x, needs_weight = rest[-2:]
    return (
        x.new_empty(x.shape if needs_x else (0,)),
        weight.new_empty(weight.shape if needs_weight else (0,)),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, *synapses = inputs
    ctx.save_for_backward(x, weight, *synapses)


def _keep_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    gradient, x, weight, *synapses, ctx.needs_x, ctx.needs_weight = inputs
    ctx.save_for_backward(gradient, x, weight, *synapses)


def _second(ctx: Any, to_x: Tensor, to_weight: Tensor) -> tuple[Tensor | None, ...]:
    """Both gradients are linear in the gradient that came in, and each in one factor of the product."""
    gradient, x, weight, *synapses = ctx.saved_tensors
    of_gradient, of_x, of_weight = torch.zeros_like(gradient), torch.zeros_like(x), torch.zeros_like(weight)
    forward, backward = torch.ops.neuropil.synapses, torch.ops.neuropil.synapses_backward
    if ctx.needs_x:
        of_gradient = of_gradient + forward(to_x, weight, None, *synapses)
        of_weight = backward(gradient, to_x, weight, *synapses, False, True)[1]
    if ctx.needs_weight:
        of_gradient = of_gradient + forward(x, to_weight, None, *synapses)
        of_x = backward(gradient, x, to_weight, *synapses, True, False)[0]
    return of_gradient, of_x, of_weight, *(None for _ in synapses), None, None


_synapses.register_autograd(_backward, setup_context=_keep)
_synapses_backward.register_autograd(_second, setup_context=_keep_backward)


# On the CPU


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pointers: Tensor, sources: Tensor, *columns: Tensor
) -> Tensor:
    y = x.new_empty(x.shape[0], pointers.shape[0] - 1)
    weighted_sums(x, weight, bias, pointers, sources, y)
    return y


def weighted_sums(x: Tensor, weight: Tensor, bias: Tensor | None, pointers: Tensor, others: Tensor, y: Tensor) -> None:
    """Write x Wᵀ + b into y: for each neuron, the sum over those that its connections read."""
    loop = _loops().weighted_sums
    start = weight.new_empty(0) if bias is None else bias
    given = _array(x), x.shape[1]
    arrays = pointers.numpy(), others.numpy(), _array(weight), _array(start)
    for row, rows, lanes in _runs(x):
        work = partial(loop, *given, row, rows, *arrays, lanes, _array(y))
        in_parallel(work, -(-rows // lanes) * len(others), fewest=_FEWEST)


def gradients(
    gradient: Tensor,
    x: Tensor | None,
    weight: Tensor,
    synapses: Sequence[Tensor],
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of the weights, empty where they are not needed; x is only for the latter's."""
    loops = _loops()
    pointers, sources, column_pointers, targets, positions = synapses
    of_x = weight.new_empty((len(gradient), len(column_pointers) - 1) if needs_x else (0,))
    of_weight = weight.new_zeros(weight.shape if needs_weight else (0,))
    if not needs_x and not needs_weight:
        return of_x, of_weight
    if x is not None and not needs_x:
        arrays: tuple[Any, ...] = pointers.numpy(), sources.numpy()
        own = _array(gradient)
        for tiles, row, rows, lanes in _tiles(x):
            work = partial(loops.dot_products, tiles, x.shape[1], own, row, rows, *arrays, lanes, of_weight.numpy())
            in_parallel(work, len(sources), fewest=_FEWEST)
        return of_x, of_weight
    by_column = moved("take", weight, positions)
    if x is None or not needs_weight:
        weighted_sums(gradient, by_column, None, column_pointers, targets, of_x)
        return of_x, of_weight
    products = of_weight  # by column, for now
    arrays = column_pointers.numpy(), targets.numpy(), by_column.numpy()
    own = _array(x)
    for tiles, row, rows, lanes in _tiles(gradient):
        work = partial(
            loops.sums_and_products, tiles, gradient.shape[1], own, row, rows, *arrays, lanes, _array(of_x),
            products.numpy(),
        )  # fmt: skip
        in_parallel(work, len(targets), fewest=_FEWEST)
    return of_x, moved("put", products, positions)


def moved(how: Literal["take", "put"], values: Tensor, positions: Tensor) -> Tensor:
    """Return what belongs to connections in the order of columns (``take``) or of rows (``put``)."""
    result = torch.empty_like(values, memory_format=torch.contiguous_format)
    work = partial(getattr(_loops(), how), _array(values), positions.numpy(), result.numpy())
    in_parallel(work, len(positions), fewest=_FEWEST)
    return result


def _loops() -> Any:
    """Return the compiled loops; Numba takes a while to load."""
    from neuropil.connect import synapse_loops

    return synapse_loops


def _runs(x: Tensor) -> Iterator[tuple[int, int, int]]:
    """Share the rows of x ``[b, n]`` out: first row, number of rows and lanes of the tiles."""
    (rows, n), size = x.shape, x.element_size()
    fitting = [lanes for lanes in _loops().LANES if lanes * size <= 128 and lanes * size * n <= _TILE_BYTES]
    widest = max(16, *fitting) if size == 4 else max(8, *fitting)
    whole = rows // widest * widest
    if whole:
        yield 0, whole, widest
    if whole < rows:
        yield whole, rows - whole, min(lanes for lanes in _loops().LANES if lanes >= rows - whole)


def _tiles(x: Tensor) -> Iterator[tuple[Any, int, int, int]]:
    """Give x ``[b, n]`` as tiles, some at a time: flat, with first row, number of rows, and lanes."""
    n, given = x.shape[1], _array(x)
    room = torch.empty(0, dtype=x.dtype)
    for start, count, lanes in _runs(x):
        most = max(1, _TILES_BYTES // (lanes * n * x.element_size())) * lanes
        for row in range(start, start + count, most):
            rows = min(most, start + count - row)
            if lanes == 1:
                yield given[row * n : (row + 1) * n], row, rows, lanes
                continue
            needed = -(-rows // lanes) * lanes * n
            if len(room) < needed:
                room = torch.empty(needed, dtype=x.dtype)
            tiles = room.numpy()
            in_parallel(partial(_loops().fill_tiles, given, n, row, rows, lanes, tiles), n, fewest=256)
            yield tiles, row, rows, lanes


def _array(tensor: Tensor) -> Any:
    """Return a flat view, or copy where there is none."""
    return tensor.detach().contiguous().view(-1).numpy()
