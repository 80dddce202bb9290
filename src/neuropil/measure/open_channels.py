"""What dynamic pruning would save: multiply-accumulates of the channels that are open for an image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.evaluation import run_watched
from neuropil.measure.samples import check_batch
from neuropil.rewire.channel_gates import ChannelPredictor
from neuropil.rewire.gated_channels import gated_layers


@dataclass(frozen=True)
class ChannelUse:
    """How one gated convolution is used on a batch.

    Attributes:
        name: of the layer.
        channels: that it has.
        open: mean number of open channels an image.
        wanted: mean number of wanted channels (:func:`neuropil.rewire.wanted_channels`).
        agreement: share of images and channels, in [0, 1], that are open exactly where wanted.
        best_fixed: the agreement of the best mask that is the same for all images of this batch: a predictor at or
            below it has learnt nothing of images.
        dense: multiply-accumulates of the whole convolution for one image.
        active: mean multiply-accumulates, of open channels that read open channels.
        predictor: multiply-accumulates of a :class:`neuropil.rewire.ChannelPredictor`; of other gates 0.
    """

    name: str
    channels: int
    open: float
    wanted: float
    agreement: float
    best_fixed: float
    dense: int
    active: float
    predictor: int


@dataclass(frozen=True)
class ChannelCost:
    """What the convolutions of a network with gated channels cost for one image, in theory.

    Attributes:
        layers: the gated ones, in the order of the calls.
        dense: multiply-accumulates of all convolutions, gated or not, as they are computed.
        active: their mean if closed channels were neither computed nor read.
        predictors: multiply-accumulates of the predictors.
    """

    layers: tuple[ChannelUse, ...]
    dense: int
    active: float
    predictors: int

    @property
    def cut(self) -> float:
        """Share of multiply-accumulates that is saved, 1 − active / dense, in [0, 1], without the predictors' own."""
        return 1 - self.active / self.dense

    @property
    def agreement(self) -> float:
        """Agreement over all gated channels alike, in [0, 1]."""
        channels = sum(layer.channels for layer in self.layers)
        return sum(layer.agreement * layer.channels for layer in self.layers) / channels


@torch.no_grad()
def channel_cost(model: nn.Module, batch: Tensor) -> ChannelCost:
    """Run a batch through a model in evaluation mode and count what its convolutions compute for open channels.

    A convolution takes, for one image, open channels · height · width · (open channels that it reads / groups) ·
    kernel height · width. It is *theoretical*: :class:`neuropil.rewire.GatedChannels` computes all channels, and no
    kernel here skips any.

    Args:
        model: a chain, in which what a convolution reads is what the one called before it gave, pooled perhaps; with at
            least one :class:`neuropil.rewire.GatedChannels`. A convolution with other input channels, such as the
            first, is taken to read them all.
        batch: images ``[b, c, h, w]``.

    Returns:
        Means over images. Cost: one forward pass.

    Raises:
        ValueError: nothing is gated, or there is no sample.

    Reference:
        S. Elkerdawy et al., arXiv 2110.08232, whose public code counts so (there, input channels over groups are
        rounded down).

    Example:
        >>> from neuropil.rewire import FixedChannels, GatedChannels
        >>> body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> gated = GatedChannels(body, FixedChannels(torch.tensor([True, False, False, False])))
        >>> channel_cost(gated, torch.ones(2, 1, 5, 5)).cut
        0.75
    """
    gated = gated_layers(model)
    if not gated:
        raise ValueError(
            f"channel_cost: the model must have a GatedChannels, got a {type(model).__name__} without; try "
            "network_cost, or rewire.gate_channels"
        )
    check_batch("channel_cost", batch)
    uses: list[ChannelUse] = []
    total, active = 0, 0.0
    opened: Tensor | None = None  # by the gate of the layer that runs
    read: Tensor | None = None  # open channels of the last convolution, by image

    def convolve(layer: nn.Conv2d, output: Tensor, own: Tensor | None) -> tuple[int, float]:
        """Return what a convolution takes, whole and active; ``own``: open channels of its output, ``[b, c]``."""
        nonlocal read, total, active
        places = output.shape[2] * output.shape[3] * layer.kernel_size[0] * layer.kernel_size[1]
        sources = torch.full((len(output),), float(layer.in_channels), device=output.device)
        if read is not None and read.shape[1] == layer.in_channels:
            sources = read.sum(1)
        targets = torch.full_like(sources, layer.out_channels) if own is None else own.sum(1)
        dense = layer.in_channels * layer.out_channels // layer.groups * places
        used = float((sources * targets).mean()) / layer.groups * places
        read, total, active = own, total + dense, active + used
        return dense, used

    def after_gate(_: nn.Module, __: Any, ___: Any, logits: Tensor) -> None:
        nonlocal opened
        opened = (logits > 0).double()

    def after_body(name: str, _: nn.Module, __: Any, ___: Any, output: Tensor) -> None:
        layer, own = gated[name], opened
        assert own is not None
        wanted = layer.wanted(output)
        frequency = wanted.double().mean(0)
        dense, used = convolve(layer.convolution, output, own)
        uses.append(
            ChannelUse(
                name,
                own.shape[1],
                open=float(own.sum(1).mean()),
                wanted=float(frequency.sum()),
                agreement=float((wanted == own.bool()).double().mean()),
                best_fixed=float(torch.maximum(frequency, 1 - frequency).mean()),
                dense=dense,
                active=used,
                predictor=layer.gate.linear.weight.numel() if isinstance(layer.gate, ChannelPredictor) else 0,
            )
        )

    def after_other(layer: nn.Conv2d, _: Any, __: Any, output: Tensor) -> None:
        convolve(layer, output, None)

    inner = {id(layer.convolution) for layer in gated.values()}
    watchers: list[tuple[nn.Module, Callable[..., Any]]] = []
    for name, gate in gated.items():
        watchers += [(gate.gate, after_gate), (gate.body, partial(after_body, name))]
    others = [part for part in model.modules() if isinstance(part, nn.Conv2d) and id(part) not in inner]
    run_watched(model, batch, [*watchers, *((part, after_other) for part in others)])
    return ChannelCost(tuple(uses), total, active, sum(use.predictor for use in uses))
