"""Dynamic pruning: for every image, only some channels of a convolution are computed."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect.convert import check_names, is_inside
from neuropil.rewire.channel_gates import ChannelPredictor, Target, check_target, peaks, wanted_channels

_NORMS = (nn.BatchNorm2d, nn.GroupNorm)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh)


class GatedChannels(nn.Module):
    """A convolution with its activation, of which a gate opens some channels for each image.

    y = body(x) · [gate(x) > 0]. The body runs whole, and then the closed channels are set to 0, in training and
    evaluation alike: nothing is saved here, and batch statistics count closed channels too.
    :func:`neuropil.measure.channel_cost` says what a kernel that skips them would save.

    Args:
        body: begins with an ``nn.Conv2d`` and ends with its activation.
        gate: from x to logits ``[b, channels]``: a :class:`ChannelPredictor`, :class:`RandomChannels`,
            :class:`FixedChannels`, or a module of yours. May be replaced at any time.
        ratio, target: which channels are wanted, see :func:`wanted_channels`.
        straight_through: whether the gradient of the mask is passed on to sigmoid(logits) as if the mask were that, so
            that the task trains the gate too.

    Shape:
        ``[b, in_channels, height, width]`` → ``[b, out_channels, height', width']``.

    Reference:
        arXiv 2110.08232. The public code has a straight-through estimator, but calls it where no gradient is recorded:
        only the mask loss trains its predictors, as here by default.

    Example:
        >>> from neuropil.rewire import FixedChannels
        >>> body = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sigmoid())
        >>> layer = GatedChannels(body, FixedChannels(torch.tensor([True, False])))
        >>> (layer(torch.ones(1, 1, 2, 2)) > 0).flatten(2).all(2)
        tensor([[ True, False]])
    """

    def __init__(
        self,
        body: nn.Sequential,
        gate: nn.Module,
        *,
        ratio: float = 0.9,
        target: Target = "mass",
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        check_target("GatedChannels", ratio, target)
        if not (isinstance(body, nn.Sequential) and len(body) and isinstance(body[0], nn.Conv2d)):
            raise ValueError(f"GatedChannels: body must be an nn.Sequential that begins with an nn.Conv2d, got {body}")
        self.body, self.gate = body, gate
        self.ratio, self.target, self.straight_through = ratio, target, straight_through

    @property
    def convolution(self) -> nn.Conv2d:
        """The convolution whose channels are gated."""
        first = self.body[0]
        assert isinstance(first, nn.Conv2d)
        return first

    def wanted(self, output: Tensor) -> Tensor:
        """Return which channels of the body's output ``[b, c, h, w]`` matter, bool ``[b, c]``."""
        return wanted_channels(peaks(output), self.ratio, target=self.target)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, 0 in closed channels."""
        logits: Tensor = self.gate(x)
        y: Tensor = self.body(x)
        mask = (logits > 0).to(y.dtype)
        if self.straight_through:
            soft = logits.sigmoid()
            mask = mask + (soft - soft.detach())
        return y * mask[:, :, None, None]

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"ratio={self.ratio:g}, target={self.target}, straight_through={self.straight_through}"


def gate_channels(
    model: nn.Module,
    *,
    ratio: float = 0.9,
    target: Target = "mass",
    embedding: int | None = None,
    softmax: bool = True,
    decoupled: bool = True,
    straight_through: bool = False,
    skip: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return a copy of a model in which convolutions compute, for each image, the channels that a predictor opens.

    Whatever is convolution, normalization or none, activation, in this order in an ``nn.Sequential``, becomes one
    :class:`GatedChannels` under the convolution's name; weights are kept. Begin with a trained model. Then train on,
    with a :class:`MaskLoss` among the penalties and a faster rate for the predictors:

        gated = gate_channels(model, ratio=0.9)
        backbone, predictors = split_parameters(gated)
        groups = [{"params": backbone, "weight_decay": 5e-4}, {"params": predictors, "lr": 0.1}]
        fit(gated, dataset, torch.optim.SGD(groups, lr=0.01, momentum=0.9), epochs=…, penalties=[MaskLoss(gated)])

    Args:
        model: any module; it is not changed.
        ratio, target, straight_through: as for :class:`GatedChannels`.
        embedding, softmax, decoupled: as for :class:`ChannelPredictor`.
        skip: names of convolutions, or of modules that contain them, that stay as they are.
        generator: where predictors' weights come from; default: PyTorch's own.

    Raises:
        ValueError: a name is unknown, a number is out of range, or there is no such convolution.

    Reference:
        S. Elkerdawy et al., Fire Together Wire Together, arXiv 2110.08232. Residual additions between normalization and
        activation are not found here.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        >>> gated = gate_channels(model)
        >>> [type(part).__name__ for part in gated]
        ['GatedChannels', 'Flatten', 'Linear']
    """
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    check_names("gate_channels", model, skip)
    model, n_gated = copy.deepcopy(model), 0
    for path, sequence in list(model.named_modules()):
        if not isinstance(sequence, nn.Sequential) or type(sequence).forward is not nn.Sequential.forward:
            continue
        kept: dict[str, nn.Module] = {}
        waiting = list(sequence.named_children())
        while waiting:
            name, part = waiting.pop(0)
            length = _length([module for _, module in waiting])
            full = f"{path}.{name}" if path else name
            if isinstance(part, nn.Conv2d) and length and not is_inside(full, skip):
                body = nn.Sequential(part, *(module for _, module in waiting[:length])).train(part.training)
                del waiting[:length]
                gate = ChannelPredictor(
                    part.in_channels, part.out_channels,
                    embedding=embedding, softmax=softmax, decoupled=decoupled, generator=generator,
                ).to(part.weight)  # fmt: skip
                part = GatedChannels(body, gate, ratio=ratio, target=target, straight_through=straight_through)
                part.train(sequence.training)
                n_gated += 1
            kept[name] = part
        for name in list(sequence._modules):
            delattr(sequence, name)
        for name, part in kept.items():
            sequence.add_module(name, part)
    if not n_gated:
        raise ValueError(
            "gate_channels: the model must have an nn.Sequential with an nn.Conv2d and its activation that is not "
            f"skipped, got none in a {type(model).__name__}; try wrapping them in a GatedChannels"
        )
    return model


def _length(after: Sequence[nn.Module]) -> int:
    """Return how many of the modules after a convolution belong to it; 0 where there is no activation."""
    has_norm = bool(after) and isinstance(after[0], _NORMS)
    return 1 + has_norm if len(after) > has_norm and isinstance(after[has_norm], _ACTIVATIONS) else 0


def gated_layers(model: nn.Module) -> dict[str, GatedChannels]:
    """Return the gated convolutions of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, GatedChannels)}


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of a model's backbone, and those of its gates, which learn by other rates.

    Example:
        >>> gated = gate_channels(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))
        >>> [len(parameters) for parameters in split_parameters(gated)]
        [2, 2]
    """
    gates = [parameter for layer in gated_layers(model).values() for parameter in layer.gate.parameters()]
    known = {id(parameter) for parameter in gates}
    return [parameter for parameter in model.parameters() if id(parameter) not in known], gates


class MaskLoss:
    """How far predictors are from the channels that are wanted: a penalty for ``train.fit``.

    The mean over layers of the binary cross-entropy of logits and wanted channels, summed over channels and averaged
    over the batch. Wide layers weigh more, for the sum. It weighs ``weight`` in the first epochs and 0 afterwards: then
    predictors stay as they are (in the public code their momentum runs out), unless gates are straight-through.

    Args:
        model: with :class:`GatedChannels`; only those whose gate is a :class:`ChannelPredictor` count.
        weight: above 0.
        cooldown: share of the epochs, rounded down to whole ones, in which it is due, in [0, 1].

    Raises:
        ValueError: a number is out of range, or there is no predictor.

    Reference:
        arXiv 2110.08232 and its public code.

    Example:
        >>> gated = gate_channels(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))
        >>> loss = MaskLoss(gated)
        >>> with loss.due(epoch=1, epochs=2):
        ...     _ = gated(torch.ones(8, 1, 6, 6))
        ...     loss().requires_grad
        True
    """

    def __init__(self, model: nn.Module, *, weight: float = 1.0, cooldown: float = 0.5) -> None:
        if not weight > 0:
            raise ValueError(f"MaskLoss: weight must be above 0, got {weight:g}; try 1")
        if not 0 <= cooldown <= 1:
            raise ValueError(f"MaskLoss: cooldown must lie in [0, 1], got {cooldown:g}; try 0.5")
        self._layers = [layer for layer in gated_layers(model).values() if isinstance(layer.gate, ChannelPredictor)]
        if not self._layers:
            raise ValueError(
                "MaskLoss: the model must have a GatedChannels with a ChannelPredictor, got none; try gate_channels"
            )
        self.weight, self.cooldown = weight, cooldown
        self._logits: list[Tensor] = []
        self._wanted: list[Tensor] = []

    @contextmanager
    def due(self, epoch: int, epochs: int) -> Iterator[None]:
        """Watch the layers in training mode while the block runs, if the loss is due in this epoch, from 1 on."""
        handles = []
        for layer in self._layers if epoch <= int(self.cooldown * epochs) else []:
            handles += [
                layer.gate.register_forward_hook(self._keep_logits),
                layer.body.register_forward_hook(self._keep_wanted(layer)),
            ]
        try:
            yield
        finally:
            self._logits.clear()
            self._wanted.clear()
            for handle in handles:
                handle.remove()

    def _keep_logits(self, gate: nn.Module, _: Any, logits: Tensor) -> None:
        if gate.training:
            self._logits.append(logits)

    def _keep_wanted(self, layer: GatedChannels) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(body: nn.Module, _: Any, output: Tensor) -> None:
            if layer.gate.training:
                self._wanted.append(layer.wanted(output))

        return keep

    def __call__(self) -> Tensor | float:
        """Return the loss of what has run since the last call, a number to add to the loss of the task."""
        logits, self._logits = self._logits, []
        wanted, self._wanted = self._wanted, []
        losses = [
            F.binary_cross_entropy_with_logits(said.float(), target.float(), reduction="sum") / len(said)
            for said, target in zip(logits, wanted, strict=True)
        ]
        return self.weight * torch.stack(losses).mean() if losses else 0.0
