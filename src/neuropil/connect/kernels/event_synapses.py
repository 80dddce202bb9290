"""A linear map of single synapses that visits only those whose source is active."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropil.connect.kernels.event_product import (
    Events,
    find_events,
    forward_by_rows,
    weight_gradient_by_rows,
)
from neuropil.connect.kernels.synapse_product import gradients, moved, synapse_linear, weighted_sums
from neuropil.connect.synapses import Synapses
from neuropil.threads import in_parallel

# density from which whole rows of a matrix, zeros included, are added faster than connections one by one, and events
# per source that pay for making the matrix: see benchmarks/results
BY_ROWS_FROM, _FEWEST_ROWS = 0.15, 4
# share of the input that is not zero, above which all connections are computed, by the connections and by rows
_MOST_ACTIVE, _MOST_ACTIVE_BY_ROWS = 0.08, 0.12
# visits of a connection below which a second thread costs more than it saves
_FEWEST = 1 << 14


def event_synapse_linear(x: Tensor, weight: Tensor, bias: Tensor | None, synapses: Synapses) -> Tensor:
    """Return x Wᵀ + b, as :func:`synapse_linear`, in a time that falls with the share of ``x`` that is zero.

    The output and the gradient of the weights visit the connections of those sources alone that are not zero, or, where
    connections are many, add whole rows of a matrix for them. The gradient of ``x`` is that of all connections. Where
    more than 8 % of ``x`` is not zero (12 % in the latter case), and under ``torch.compile``, all connections are
    computed.

    A zero passes nothing: not even NaN, which in a product it becomes when a weight is infinite or NaN.
    """
    if torch.compiler.is_compiling():
        return synapse_linear(x, weight, bias, synapses)
    y: Tensor = _EventSynapses.apply(x, weight, bias, *synapses.tensors())  # type: ignore[no-untyped-call]
    return y


def most_active(density: float) -> float:
    """Return the largest share of an input that may be other than zero for events to be followed."""
    return _MOST_ACTIVE_BY_ROWS if density >= BY_ROWS_FROM else _MOST_ACTIVE


class _EventSynapses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *synapses: Tensor) -> Tensor:
        density = len(weight) / max(1, (len(synapses[0]) - 1) * x.shape[1])
        events = find_events(x.contiguous(), most=most_active(density))
        ctx.events = events
        keeps_x = events is None and ctx.needs_input_grad[1]
        ctx.save_for_backward(x if keeps_x else None, weight, *synapses)
        ctx.by_rows = density >= BY_ROWS_FROM and events is not None and len(events.sources) > _FEWEST_ROWS * x.shape[1]
        if events is not None and ctx.by_rows:
            return forward_by_rows(events, _as_matrix(weight, *synapses[2:], n_targets=len(synapses[0]) - 1), bias)
        y = weight.new_empty(x.shape[0], len(synapses[0]) - 1)
        if events is None:
            weighted_sums(x, weight, bias, synapses[0], synapses[1], y)
        else:
            _forward(events, weight, bias, synapses[2:], y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *synapses = ctx.saved_tensors
        gradient = gradient.contiguous()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        of_x = of_weight = None
        if ctx.events is None and needs_weight:
            of_x, of_weight = gradients(gradient, x, weight, synapses, needs_x, needs_weight)
        elif needs_x:
            of_x, _ = gradients(gradient, None, weight, synapses, True, False)
        if ctx.by_rows and needs_weight:
            by_source = weight_gradient_by_rows(ctx.events, gradient, len(synapses[2]) - 1)
            of_weight = _of_matrix(by_source, *synapses[2:])
        elif ctx.events is not None and needs_weight:
            of_weight = _weight_gradient(ctx.events, gradient, weight, *synapses[2:])
        of_bias = gradient.sum(0) if needs_bias else None
        return of_x if needs_x else None, of_weight, of_bias, *(None for _ in synapses)


def _as_matrix(
    weight: Tensor, column_pointers: Tensor, targets: Tensor, positions: Tensor, *, n_targets: int
) -> Tensor:
    """Return Wᵀ, ``[in_features, out_features]``."""
    by_source = weight.new_zeros(len(column_pointers) - 1, n_targets)
    _move(_loops().spread, weight, column_pointers, targets, positions, by_source)
    return by_source


def _of_matrix(by_source: Tensor, column_pointers: Tensor, targets: Tensor, positions: Tensor) -> Tensor:
    """Return the entries of ``[in_features, out_features]`` that connections have, in their order."""
    taken = by_source.new_empty(len(targets))
    _move(_loops().collect, taken, column_pointers, targets, positions, by_source)
    return taken


def _move(loop: Any, *tensors: Tensor) -> None:
    arrays = [tensor.detach().numpy() for tensor in tensors]
    in_parallel(lambda first, last: loop(*arrays, first, last), len(arrays[1]) - 1, fewest=64)


def _forward(events: Events, weight: Tensor, bias: Tensor | None, columns: tuple[Tensor, ...], y: Tensor) -> None:
    loop: Any = _loops().forward
    column_pointers, targets, positions = (tensor.numpy() for tensor in columns)
    rows, n_out = y.shape
    visits = int((column_pointers[events.sources + 1] - column_pointers[events.sources]).sum())
    if visits > len(weight):  # reading the weights in their order pays
        weight, positions = moved("take", weight, columns[2]), positions[:0]
    start = weight.new_empty(0) if bias is None else bias
    arrays = *events, column_pointers, targets, positions, weight.detach().numpy(), start.detach().numpy()
    by_row = rows >= torch.get_num_threads()

    def work(first: int, last: int) -> None:
        part = (first, last, 0, n_out) if by_row else (0, rows, first, last)
        loop(*arrays, *part, y.numpy())

    n = rows if by_row else n_out
    # each thread writes its part, and visits its share of the connections
    in_parallel(work, n, fewest=max(1, n * _FEWEST // (visits + y.numel() // 4 + 1)))


def _weight_gradient(
    events: Events, gradient: Tensor, weight: Tensor, column_pointers: Tensor, targets: Tensor, positions: Tensor
) -> Tensor:
    loop: Any = _loops().weight_gradient
    products = weight.new_zeros(weight.shape)
    pointers = column_pointers.numpy()

    def work(first: int, last: int) -> None:
        part = np.searchsorted(pointers[1:], (first, last), side="right")
        loop(*events, pointers, targets.numpy(), gradient.numpy(), *part, products.numpy())

    in_parallel(work, len(weight), fewest=_FEWEST)
    return moved("put", products, positions)


def _loops() -> Any:
    """Return the compiled loops; Numba takes a while to load."""
    from neuropil.connect import event_synapse_loops

    return event_synapse_loops
