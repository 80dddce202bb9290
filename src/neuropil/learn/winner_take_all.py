"""Hebbian learning in which a few neurons win each input, and only they learn from it."""

from typing import Literal

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
    rows,
)
from neuropil.learn.readout_only import ADAM
from neuropil.learn.rule import MakeOptimizer
from neuropil.learn.settings import check_choice

Wins = Literal["nearest", "strongest"]


class WinnerTakeAll(HebbianRule):
    """Move the neuron that wins an input towards it: Δw = η (x − w), x averaged over the inputs that it won.

    Neurons come to the centroids of what they win: an online k-means. Of a batch of one it is the published rule, at
    each place of an image in turn.

    Args:
        wins: who does: the ``nearest`` neuron by |x − w|, or the ``strongest`` by its current w·x, which favours long
            weights. Where nothing connects, a weight counts as 0.
        learning_rate: η of hidden layers, one for all or one each, in (0, 1].
        model, anneal, unsupervised, order, readout, optimizer, clip_norm, generator: as for :class:`HebbianRule`.

    Raises:
        ValueError: as for :class:`HebbianRule`; wins is unknown, a learning rate is above 1.

    Reference:
        D. Rumelhart, D. Zipser, Cognitive Science 9, 1985, and S. Grossberg, 1976; averages over batches are ours.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = WinnerTakeAll(model, learning_rate=0.1)
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        wins: Wins = "nearest",
        learning_rate: PerLayer = 0.05,
        anneal: Anneal = "linear",
        unsupervised: float = 0.5,
        order: Order = "together",
        readout: ReadoutTime = "after",
        optimizer: MakeOptimizer = ADAM,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            model, learning_rate=learning_rate, anneal=anneal, unsupervised=unsupervised, order=order, readout=readout,
            optimizer=optimizer, clip_norm=clip_norm, generator=generator,
        )  # fmt: skip
        check_choice("WinnerTakeAll", "wins", wins, Wins)
        if max(self._rates) > 1:
            raise ValueError(f"WinnerTakeAll: learning_rate must be at most 1, got {max(self._rates):g}")
        self.wins = wins

    def _respond(self, i: int, u: Tensor, reads: Tensor) -> Response:
        if self.wins == "nearest":
            afferents = self._afferents[i]
            u = u - afferents.total(afferents.weight.square()) / 2  # |x|² is the same for all
        winners = u.argmax(1)
        n_won = torch.bincount(winners, minlength=u.shape[1]).to(u)
        return Response((1 / n_won[winners])[:, None], n_won.clamp(max=1), winners[:, None])


class KrotovHopfield(HebbianRule):
    """Let the neuron that wins an input learn it, and the k-th unlearn it: ΔW = g vᵀ − (Σ g I) W.

    I = (sign(W) |W|^(p−1)) v are the neurons' currents for an input v, g is 1 for the largest, −δ for the k-th and 0
    for all others; sums are over the batch, and over places. A step is η ΔW / max |ΔW|. Weights come to |w|_p = 1.

    Args:
        p: exponent of the norm in which weights are measured, at least 1; with p = 2, I is the current.
        k: who unlearns, from 2 on; at most the number of neurons.
        delta: δ, at least 0.
        learning_rate: η of hidden layers, one for all or one each.
        start: of hidden weights: ``published``: N(0, 1), from which many epochs lead to length 1; or as the ``model``
            has them.
        model, anneal, unsupervised, order, readout, optimizer, clip_norm, generator: as for :class:`HebbianRule`.

    Raises:
        ValueError: as for :class:`HebbianRule`; p, k or delta is out of range.

    Reference:
        D. Krotov, J. Hopfield, PNAS 116, 2019, and the code they published: 200 epochs in batches of 100. Their
        read-out, ReLU(I)ⁿ, is a :class:`RectifiedPower` in the model. Where training is short, only a larger learning
        rate brings the published start near length 1: with 0.4 and δ = 0.1, two layers of 256 neurons learn MNIST
        above random ones in five epochs of 10,000 images; with 0.1, below them.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = KrotovHopfield(model, start="model")
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        p: float = 2.0,
        k: int = 2,
        delta: float = 0.4,
        learning_rate: PerLayer = 0.02,
        anneal: Anneal = "linear",
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
        n = min(afferents.n_out for afferents in self._afferents)
        if p < 1 or delta < 0 or not 2 <= k <= n:
            raise ValueError(
                f"KrotovHopfield: p must be at least 1, delta at least 0, and k from 2 to {n}, the neurons of the "
                f"smallest hidden layer, got p={p:g}, delta={delta:g}, k={k}"
            )
        self.p, self.k, self.delta = p, k, delta

    def _respond(self, i: int, u: Tensor, reads: Tensor) -> Response:
        if self.p != 2:
            u = self._currents(i, reads)
        found = u.topk(self.k, dim=1)
        neurons = found.indices[:, [0, -1]]
        strength = u.new_tensor([1.0, -self.delta]).expand(len(u), 2)
        products = strength * found.values[:, [0, -1]]
        decay = u.new_zeros(u.shape[1]).index_add_(0, neurons.reshape(-1), products.reshape(-1))
        return Response(strength, decay, neurons)

    def _currents(self, i: int, reads: Tensor) -> Tensor:
        """Return I, ``[m, n_out]``."""
        afferents, weight = self._afferents[i], self._afferents[i].weight
        weights = weight.sign() * weight.abs().pow(self.p - 1)
        currents = rows(torch.func.functional_call(afferents.layer, {afferents.name: weights}, (reads,)), afferents)
        return currents if afferents.bias is None else currents - afferents.bias

    def _sized(self, i: int, direction: Tensor) -> Tensor:
        return largest_is_one(direction)

    def _published_deviation(self, afferents: Afferents) -> Tensor:
        return afferents.weight.new_ones(afferents.n_out)
