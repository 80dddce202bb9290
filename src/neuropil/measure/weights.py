"""How far weights have come from where they were, and how large they and their gradients are, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear, Wiring
from neuropil.connect.change import Change
from neuropil.measure.trained_function import Loss, TrainedFunction, differentiable, live_entries


@dataclass(frozen=True)
class Snapshot:
    """Copies of a model's parameters, and the wirings that those of sparse layers belonged to.

    Attributes:
        parameters: by name; a shared one under its first.
        wirings: by the name of the weight.
    """

    parameters: Mapping[str, Tensor]
    wirings: Mapping[str, Wiring]


@dataclass(frozen=True)
class ParameterChange:
    """How far one parameter, or all of them, has come.

    Attributes:
        name: of the parameter; empty for all together.
        relative: ‖W − W₀‖ / ‖W₀‖ in Frobenius norm, at least 0; infinite where W₀ was 0 throughout and W is not.
        sign_changes: share, in [0, 1], of the numbers that are in both which went from above 0 to below or back.
        n_compared: numbers that are in both.
    """

    name: str
    relative: float
    sign_changes: float
    n_compared: int


@dataclass(frozen=True)
class WeightChange:
    """How far a model's parameters have come, each by itself and together.

    Attributes:
        parameters: one entry for each, in the order of the model.
        total: all numbers as one vector.
    """

    parameters: tuple[ParameterChange, ...]
    total: ParameterChange


@dataclass(frozen=True)
class ParameterNorm:
    """How large one parameter and its gradient are.

    Attributes:
        name: of the parameter.
        weight: its Frobenius norm.
        gradient: the norm of the loss's gradient.
    """

    name: str
    weight: float
    gradient: float


def snapshot(model: nn.Module) -> Snapshot:
    """Return copies of a model's parameters as they are, for :func:`weight_change`; buffers are not kept.

    Takes as much memory as the parameters, where they are.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> start = snapshot(model)
        >>> _ = model.weight.data.zero_()
        >>> list(start.parameters), bool(start.parameters["weight"].any())
        (['weight', 'bias'], True)
    """
    wirings = {layer.weight: layer.wiring for layer in model.modules() if isinstance(layer, SparseLinear)}
    named = dict(model.named_parameters())
    return Snapshot(
        parameters={name: value.detach().clone() for name, value in named.items()},
        wirings={name: wirings[value] for name, value in named.items() if value in wirings},
    )


@torch.no_grad()
def weight_change(before: Snapshot, model: nn.Module) -> WeightChange:
    """Return how far a model's parameters have come since a snapshot: ‖W − W₀‖ / ‖W₀‖, and whose sign is another.

    Only connections count, silent ones among them, for they learn too. Where a layer was rewired, those that came
    count from 0, and those that went count as gone to 0: the norm is that of the difference of the dense matrices;
    signs are compared where both have a connection. One pass over the parameters, in float64.

    Args:
        before: of this model, or of one built alike.
        model: as it is now; it is only read.

    Raises:
        ValueError: the model has other parameters than the snapshot, or stores them otherwise (another kernel), or has
            other neurons or blocks.

    Reference:
        The relative change is how L. Chizat et al., arXiv 1812.07956, tell lazy from rich training.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
        >>> start = snapshot(model)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> weight_change(start, model).total
        ParameterChange(name='', relative=1.0, sign_changes=0.5, n_compared=2)
    """
    now = dict(model.named_parameters())
    if list(now) != list(before.parameters):
        raise ValueError(
            f"weight_change: the model must have the snapshot's parameters, {list(before.parameters)}, got {list(now)}"
        )
    layers = {layer.weight: layer for layer in model.modules() if isinstance(layer, SparseLinear)}
    sums = [
        (name, _compare(name, before, now[name], layers.get(now[name])))
        for name in now  # squares of the change and of the start, signs, numbers
    ]
    total = tuple(sum(each) for each in zip(*(parts for _, parts in sums), strict=True)) if sums else (0.0, 0.0, 0, 0)
    return WeightChange(tuple(_told(name, *parts) for name, parts in sums), _told("", *total))


def _compare(name: str, before: Snapshot, weight: Tensor, layer: SparseLinear | None) -> tuple[float, float, int, int]:
    """Return ‖W − W₀‖², ‖W₀‖², how many signs changed, and of how many numbers."""
    end = weight.detach().double()
    start = before.parameters[name].to(device=weight.device, dtype=torch.float64, copy=True)
    if (layer is None) != (name not in before.wirings):
        raise ValueError(f"weight_change: parameter {name!r} must be of a sparse layer in both or in neither")
    expected: tuple[int, ...] = tuple(end.shape)
    if layer is not None:
        wiring = before.wirings[name]
        if not layer.stores_dense:
            expected = (wiring.n_blocks, wiring.block[1], wiring.block[0])
    if tuple(start.shape) != expected:
        raise ValueError(
            f"weight_change: parameter {name!r} must be stored as in the snapshot, in shape {tuple(start.shape)}, got "
            f"{expected}"
        )
    if layer is None:
        return _sums(start, end, torch.ones_like(end))
    live = live_entries(layer)
    if layer.wiring == wiring:
        return _sums(start[live], end[live], torch.ones_like(end[live]))
    if layer.stores_dense:
        was = wiring.mask().to(end.device)
        return _sums(start * was, end * live, (was & live).double())
    change = Change.between(wiring, layer.wiring)
    whole = float(start.square().sum())
    kept, carried = change.carry(torch.ones_like(start)), change.carry(start)
    moved, of_carried, signs, n = _sums(carried[live], end[live], kept[live])
    # what went had its weight, and has none
    return moved + max(0.0, whole - of_carried), whole, signs, n


def _sums(start: Tensor, end: Tensor, compared: Tensor) -> tuple[float, float, int, int]:
    crossed = (start * compared).sign() * (end * compared).sign() < 0
    return (
        float((end - start).square().sum()),
        float(start.square().sum()),
        int(crossed.sum()),
        int(compared.sum()),
    )


def _told(name: str, change: float, start: float, signs: float, n: float) -> ParameterChange:
    relative = (change / start) ** 0.5 if start else (float("inf") if change else 0.0)
    return ParameterChange(name, relative, signs / n if n else 0.0, int(n))


def gradient_norms(model: nn.Module, batch: Tensor, target: Tensor, loss: Loss) -> list[ParameterNorm]:
    """Return the norms of each trained parameter and of its gradient of a loss on a batch, in evaluation mode.

    ‖W‖ and ‖∂L/∂W‖ in Frobenius norm, of connections that are neither dead nor silent, one entry for each parameter in
    the order of the model. One forward and one backward pass; gradients that parameters hold are neither read nor
    changed.

    Args:
        model: any module.
        batch, target: what it takes, and what the loss compares its output with.
        loss: from output and target to one number.

    Raises:
        ValueError: the model has nothing to train, the loss gives no single number, there is no sample, or parameters
            are not finite.
        TypeError: the model returns no floating-point tensor.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> gradient_norms(model, torch.tensor([[0.0, 1.0]]), torch.zeros(1, 1), nn.functional.mse_loss)
        [ParameterNorm(name='weight', weight=5.0, gradient=8.0)]
    """
    function = TrainedFunction(model, "gradient_norms")
    with differentiable():
        slopes = function.gradient(function.loss(batch, target, loss))
    weights = function.live([value.detach() for value in function.values])
    return [
        ParameterNorm(name, float(weight.double().norm()), float(slope.double().norm()))
        for name, weight, slope in zip(function.names, weights, slopes, strict=True)
    ]
