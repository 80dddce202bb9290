"""Hebbian learning in soft competition."""

import torch
from torch import Tensor, nn

from neuropil.learn.afferents import Afferents
from neuropil.learn.hebbian import (
    Anneal,
    HebbianRule,
    Order,
    PerLayer,
    ReadoutTime,
    Response,
    Start,
    largest_is_one,
)
from neuropil.learn.readout_only import ADAM
from neuropil.learn.rule import MakeOptimizer


class SoftHebb(HebbianRule):
    """Let neurons learn in soft competition, the winner to answer an input, all others not to: Δw = Σ y (x − u w).

    u are the currents of the neurons of a layer, of the channels of a convolution at a place; y = softmax(t u) over
    them, negative for all but the largest u; sums are over the batch, and over places. Each neuron's step is
    η | |w| − 1 |^q Δw / max |ΔW|, so that its learning ends as its weights come to length 1.

    As published, the model normalizes before each layer (``nn.BatchNorm2d(n, affine=False)``), pads by reflection, and
    has a :class:`Triangle` and a pool behind it: 96 channels of 5 × 5, power 0.7; 384 of 3 × 3, power 1.4; 1,536 of
    3 × 3, power 1; dropout of 0.5 before the read-out.

    Args:
        inverse_temperature: t of hidden layers, one for all or one each; published: 1, 0.65, 0.25.
        learning_rate: η of hidden layers, one for all or one each; published: 0.08, 0.005, 0.01. The defaults are the
            first layer's.
        power: q, at least 0.
        start: of hidden weights: ``published``: N(0, 25² / fan_in); or as the ``model`` has them.
        unsupervised: see :class:`HebbianRule`; published: one epoch of 51, in batches of 10.
        model, anneal, order, readout, optimizer, clip_norm, generator: as for :class:`HebbianRule`.

    Raises:
        ValueError: as for :class:`HebbianRule`; inverse_temperature or power is out of range.

    Reference:
        A. Journé, H. Garcia Rodriguez, Q. Guo, T. Moraitis, arXiv 2209.11883, and its public demonstration, whose
        networks and settings these are. The fan-in is the number of connections that a neuron has.

    Example:
        >>> from neuropil.learn import Triangle
        >>> layers = [nn.BatchNorm2d(1, affine=False), nn.Conv2d(1, 8, 3, bias=False), Triangle(), nn.MaxPool2d(2)]
        >>> model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(72, 3))
        >>> rule = SoftHebb(model, generator=torch.Generator().manual_seed(0))
        >>> sorted(rule.step(torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        inverse_temperature: PerLayer = 1.0,
        learning_rate: PerLayer = 0.08,
        power: float = 0.5,
        anneal: Anneal = "constant",
        unsupervised: float = 0.5,
        order: Order = "together",
        readout: ReadoutTime = "after",
        start: Start = "published",
        optimizer: MakeOptimizer = ADAM,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            model, learning_rate=learning_rate, anneal=anneal, unsupervised=unsupervised, order=order, readout=readout,
            start=start, optimizer=optimizer, clip_norm=clip_norm, generator=generator,
        )  # fmt: skip
        if power < 0:
            raise ValueError(f"SoftHebb: power must be at least 0, got {power:g}")
        self.power = power
        self._sharpness = self._for_each("inverse_temperature", inverse_temperature)

    def _respond(self, i: int, u: Tensor, reads: Tensor) -> Response:
        y = torch.softmax(self._sharpness[i] * u, 1).neg_()
        winners = u.argmax(1, keepdim=True)
        y.scatter_(1, winners, -y.gather(1, winners))
        return Response(y, (y * u).sum(0))

    def _sized(self, i: int, direction: Tensor) -> Tensor:
        afferents = self._afferents[i]
        length = afferents.total(afferents.weight.square()).sqrt()
        return largest_is_one(direction) * afferents.spread((length - 1).abs().pow(self.power))

    def _published_deviation(self, afferents: Afferents) -> Tensor:
        return 25 / afferents.fan_in().clamp(min=1).sqrt()
