"""Layers of units, from the layers with weights that a batch has passed: their activations, and what joins them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear, Wiring
from neuropil.measure.graphs import transmitting
from neuropil.measure.path_count import Transition, edge_transition, full_transition, wiring_transition
from neuropil.measure.samples import as_finite
from neuropil.measure.weight_chain import Call, Convolution, Pool, Weighted, is_convolution


def unit_activations(calls: Sequence[Call], images: bool) -> list[Tensor]:
    """Return the activations of each layer of units, the model's input first, float64 ``[n, samples]``.

    Args:
        calls: the model's layers with weights, and what they read and gave.
        images: whether each place of an image is a unit, rather than each channel.

    Raises:
        ValueError: what one layer gives is not what the next reads, channel by channel; or is not finite.
    """
    layers = []
    for before, call in zip([None, *calls[:-1]], calls, strict=True):
        layer = _units_first(call.reads, call.layer, images)
        if before is not None and is_convolution(before.layer) and not images:
            channels = before.layer.out_channels
            if len(layer) % channels or (is_convolution(call.layer) and len(layer) != channels):
                raise _unlike(before, call)
            layer = layer.reshape(channels, -1)
        layers.append(layer)
    return [*layers, _units_first(calls[-1].gives, calls[-1].layer, images)]


def _units_first(tensor: Tensor, layer: Weighted, images: bool) -> Tensor:
    if not is_convolution(layer):
        units = tensor.movedim(-1, 0)
    else:
        batch = tensor if tensor.dim() == 4 else tensor[None]
        units = batch.flatten(1).movedim(-1, 0) if images else batch.movedim(1, 0)
    return as_finite("emergence", units.reshape(len(units), -1).cpu())


def _unlike(before: Call, call: Call) -> ValueError:
    return ValueError(
        f"emergence: what {before.name!r} gives must be what {call.name!r} reads, unit by unit, got "
        f"{list(before.gives.shape)} and {list(call.reads.shape)}; only pooling modules may come between, and "
        f"flattening by (channel, row, column)"
    )


# What connects them


def layer_transitions(calls: Sequence[Call], images: bool) -> list[list[Transition]]:
    """Return what leads from each layer of units to the next: one transition, and one more for each pooling module.

    Args:
        calls, images: as for :func:`unit_activations`.

    Raises:
        ValueError: what one layer gives is not what the next reads, unit by unit; or places are padded by anything
            but zeros, or pooled unevenly.
    """
    result = []
    for i, call in enumerate(calls):
        before, after = calls[i - 1] if i else None, calls[i + 1] if i + 1 < len(calls) else None
        if isinstance(call.layer, nn.Linear | SparseLinear):
            n = call.layer.out_features
            chain = [_of_linear(call.layer, before.layer if before and not images else None)]
        elif images:
            shape = call.gives.shape[-3:]
            chain = [_of_places(call.layer, call.reads.shape[-3:], shape.numel())]
            for pool, pooled, found in call.pools if after else []:
                if pooled[-3:] != shape:
                    raise _unlike(call, after or call)
                chain.append(_of_pool(pool, shape, found[-3:]))
                shape = found[-3:]
            n = shape.numel()
        else:
            n = call.layer.out_channels
            chain = [_of_channels(call.layer)]
        if after and (images or not is_convolution(call.layer)):
            read = after.reads.shape[-1]
            if is_convolution(after.layer):
                read = after.reads.shape[-3:].numel() if images else after.reads.shape[-3]
            if read != n:
                raise _unlike(call, after)
        result.append(chain)
    return result


def _of_linear(layer: nn.Linear | SparseLinear, before: Weighted | None) -> Transition:
    """Return the transition of a linear layer; features of a convolution's channel are one source."""
    n_in, n_out = layer.in_features, layer.out_features
    channels = before.out_channels if before is not None and is_convolution(before) else n_in
    if isinstance(layer, SparseLinear):
        wiring = transmitting(layer)
        if wiring is not None and channels == n_in:
            return wiring_transition(wiring)
        targets, sources = _connections(wiring)
    else:
        mask = _pruned(layer)
        if mask is None:
            return full_transition(channels, n_out, n_in * n_out)
        targets, sources = mask.nonzero(as_tuple=True)
    if channels == n_in:
        return edge_transition(targets, sources, n_in, n_out)
    return _merged(targets, sources // (n_in // channels), channels, n_out, len(targets))


def _of_channels(layer: Convolution) -> Transition:
    """Return the transition between channels, which any tap joins."""
    if isinstance(layer, SparseConv2d):
        targets, taps = _connections(transmitting(layer.synapses))
        sources = taps // (layer.kernel_size[0] * layer.kernel_size[1])
        return _merged(targets, sources, layer.in_channels, layer.out_channels, len(targets))
    taps_mask = _kernel_mask(layer)
    targets, sources = taps_mask.flatten(2).any(2).nonzero(as_tuple=True)
    group = targets // (layer.out_channels // layer.groups)
    sources = sources + group * (layer.in_channels // layer.groups)
    return edge_transition(targets, sources, layer.in_channels, layer.out_channels, int(taps_mask.sum()))


def _of_places(layer: Convolution, shape: torch.Size, n_out: int) -> Transition:
    """Return the transition from every place of an image ``[c, h, w]`` to every place of what is made of it."""
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise ValueError(f"emergence: padding must be with zeros for units='positions', got {layer.padding_mode!r}")
    kernel = _kernel_mask(layer)
    groups = 1 if isinstance(layer, SparseConv2d) else layer.groups
    ones = kernel.double()

    def step(v: Tensor) -> Tensor:
        return F.conv2d(v.view(1, *shape), ones, None, layer.stride, layer.padding, layer.dilation, groups).flatten()

    return Transition(step, shape.numel(), n_out, int(kernel.sum()))


def _of_pool(pool: Pool, shape: torch.Size, pooled: torch.Size) -> Transition:
    """Return the transition from every place of an image to every place of what it is pooled to."""
    even = True
    if isinstance(pool, nn.MaxPool2d | nn.AvgPool2d):
        (height, width), stride, padding = _pair(pool.kernel_size), pool.stride, pool.padding
        dilation = pool.dilation if isinstance(pool, nn.MaxPool2d) else 1
    else:
        even = shape[1] % pooled[1] == 0 == shape[2] % pooled[2]
        height, width = stride = (shape[1] // pooled[1], shape[2] // pooled[2])
        padding, dilation = 0, 1
    ones = torch.ones(shape[0], 1, height, width, dtype=torch.float64)

    def step(v: Tensor) -> Tensor:
        return F.conv2d(v.view(1, *shape), ones, None, stride, padding, dilation, shape[0]).flatten()

    if not even or len(step(torch.zeros(shape.numel(), dtype=torch.float64))) != pooled.numel():
        raise ValueError(
            f"emergence: pooling must be even, without ceil_mode, for units='positions', got {pool!r} of "
            f"{list(shape)} to {list(pooled)}"
        )
    return Transition(step, shape.numel(), pooled.numel(), 0)


def _connections(wiring: Wiring | None) -> tuple[Tensor, Tensor]:
    """Return target and source of each connection."""
    if wiring is None:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    return wiring.connections()


def _merged(targets: Tensor, sources: Tensor, n_in: int, n_out: int, n_weights: int) -> Transition:
    """Return the transition in which several connections between the same two units are one."""
    keys = torch.unique(targets * n_in + sources)
    return edge_transition(keys // n_in, keys % n_in, n_in, n_out, n_weights)


def _pruned(layer: nn.Linear | nn.Conv2d) -> Tensor | None:
    """Return the mask that ``torch.nn.utils.prune`` leaves in a layer; None without one."""
    mask = getattr(layer, "weight_mask", None)
    return mask.cpu() != 0 if isinstance(mask, Tensor) else None


def _kernel_mask(layer: Convolution) -> Tensor:
    """Return which taps of a convolution transmit, bool ``[out, in / groups, height, width]``."""
    if isinstance(layer, SparseConv2d):
        mask = torch.zeros(layer.synapses.wiring.shape, dtype=torch.bool)
        mask[_connections(transmitting(layer.synapses))] = True
        return mask.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    pruned = _pruned(layer)
    return torch.ones(layer.weight.shape, dtype=torch.bool) if pruned is None else pruned


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
