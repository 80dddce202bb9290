"""A linear map of single synapses from their stored weights alone, forward and backward, without a dense matrix."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from neuropil.connect.synapses import Synapses
from neuropil.threads import in_parallel

COMPILED = (torch.float32, torch.float64)

# bytes of the rows of a tile that are computed at once
_BYTES = 128
# where neurons have many connections, twice as many bytes, with fewer neurons of a tile at a time, for a longer stretch
# of those that read them, and from how many connections with those on average
_WIDTH, _STRETCH, _FEWEST_IN_SECTION = 256, 128, 48
# neurons whose results are written together elsewhere
_SHORT_STRETCH = 64
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
    for row, rows, *shape in _runs(x, pointers, others):
        work = partial(loop, *given, row, rows, *arrays, *shape, _array(y))
        in_parallel(work, -(-rows // shape[0]) * len(others), fewest=_FEWEST)


def gradients(
    gradient: Tensor,
    x: Tensor | None,
    weight: Tensor,
    synapses: Sequence[Tensor],
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of the weights, empty where they are not needed; x is only for the latter's."""
    pointers, sources, column_pointers, targets, positions = synapses
    if x is not None and needs_x and needs_weight and not _has_sections(gradient.shape[1], column_pointers, targets):
        return _both_gradients(gradient, x, weight, column_pointers, targets, positions)
    of_x = weight.new_empty((len(gradient), len(column_pointers) - 1) if needs_x else (0,))
    of_weight = weight.new_zeros(weight.shape if needs_weight else (0,))
    if needs_x:
        weighted_sums(gradient, moved("take", weight, positions), None, column_pointers, targets, of_x)
    if x is not None and needs_weight:
        loop, arrays, own = _loops().dot_products, (pointers.numpy(), sources.numpy()), _array(gradient)
        for tiles, (row, rows, *shape) in _tiles(x, _runs(x, pointers, sources)):
            work = partial(loop, tiles, x.shape[1], own, row, rows, *arrays, *shape, of_weight.numpy())
            in_parallel(work, len(sources), fewest=_FEWEST)
    return of_x, of_weight


def _both_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, column_pointers: Tensor, targets: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of the weights, from one pass over connections that are not taken by sections."""
    loop, own = _loops().sums_and_products, _array(x)
    of_x, of_weight = weight.new_empty(x.shape), weight.new_zeros(weight.shape)  # the latter by column, for now
    arrays = column_pointers.numpy(), targets.numpy(), _array(moved("take", weight, positions))
    for tiles, (row, rows, lanes, _, stretch) in _tiles(gradient, _runs(gradient, column_pointers, targets)):
        given = tiles, gradient.shape[1], own, row, rows, *arrays, lanes, stretch
        in_parallel(partial(loop, *given, _array(of_x), of_weight.numpy()), len(targets), fewest=_FEWEST)
    return of_x, moved("put", of_weight, positions)


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


class _Run(NamedTuple):
    """Rows that are computed alike.

    Attributes:
        row, rows: the first, and their number.
        lanes, width, stretch: see :func:`neuropil.connect.synapse_loops.weighted_sums`.
    """

    row: int
    rows: int
    lanes: int
    width: int
    stretch: int


def _has_sections(n: int, pointers: Tensor, others: Tensor) -> bool:
    """Return whether neurons have so many connections, with ``n`` others, that these are taken some at a time.

    There are too few registers then for two things to be computed in one pass.
    """
    return len(others) >= _FEWEST_IN_SECTION * (len(pointers) - 1) * -(-n // _WIDTH)


def _runs(x: Tensor, pointers: Tensor, others: Tensor) -> Iterator[_Run]:
    """Share the rows of x ``[b, n]`` out, which connections with these pointers and others read.

    How was measured with ``neuropil bench layers`` on 2,048 × 2,048 and 1,024 × 1,024.
    """
    rows, n = x.shape
    lanes, done = _BYTES // x.element_size(), 0
    if _has_sections(n, pointers, others):
        done = rows // (2 * lanes) * (2 * lanes)
        if done:
            yield _Run(0, done, 2 * lanes, _WIDTH, _STRETCH)
    whole = (rows - done) // lanes * lanes
    if whole:
        yield _Run(done, whole, lanes, n, _SHORT_STRETCH)
    rest = rows - done - whole
    if rest:
        yield _Run(done + whole, rest, min(able for able in _loops().LANES if able >= rest), n, _SHORT_STRETCH)


def _tiles(x: Tensor, runs: Iterable[_Run]) -> Iterator[tuple[Any, _Run]]:
    """Give x ``[b, n]`` as tiles, flat, some at a time, each time with the rows that they hold."""
    n, given = x.shape[1], _array(x)
    room = torch.empty(0, dtype=x.dtype)
    for run in runs:
        lanes = run.lanes
        most = max(1, _TILES_BYTES // (lanes * n * x.element_size())) * lanes
        for row in range(run.row, run.row + run.rows, most):
            part = run._replace(row=row, rows=min(most, run.row + run.rows - row))
            if lanes == 1:
                yield given[row * n : (row + 1) * n], part
                continue
            needed = -(-part.rows // lanes) * lanes * n
            if len(room) < needed:
                room = torch.empty(needed, dtype=x.dtype)
            tiles = room.numpy()
            in_parallel(partial(_loops().fill_tiles, given, n, row, part.rows, lanes, tiles), n, fewest=256)
            yield tiles, part


def _array(tensor: Tensor) -> Any:
    """Return a flat view, or copy where there is none."""
    return tensor.detach().contiguous().view(-1).numpy()
