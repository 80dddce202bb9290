"""What unsupervised Hebbian rules share: hidden layers learn by themselves, a read-out learns what they come to."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.learn.afferents import Afferents
from neuropil.learn.readout_only import ADAM, ReadoutOnly
from neuropil.learn.rule import MakeOptimizer
from neuropil.learn.settings import check_choice
from neuropil.learn.stages import Stage

Order = Literal["together", "one_by_one"]
ReadoutTime = Literal["after", "throughout"]
Anneal = Literal["constant", "linear"]
Start = Literal["model", "published"]
PerLayer = float | Sequence[float]


@dataclass(frozen=True)
class Response:
    """How the neurons of a layer answer a batch: ΔW = Cᵀ X − D W.

    Attributes:
        strength: C, ``[m, n_out]``: how far each neuron goes towards each input (m: samples, or places of them); or
            ``[m, r]`` with ``neurons``.
        decay: D, how much it forgets: ``[n_out]``, or a matrix ``[n_out, n_out]``.
        neurons: the only ones that answer each input, int64 ``[m, r]``; None: all.
    """

    strength: Tensor
    decay: Tensor
    neurons: Tensor | None = None

    def of_all(self, n_out: int) -> Tensor:
        """Return C, ``[m, n_out]``."""
        if self.neurons is None:
            return self.strength
        strength = self.strength
        return strength.new_zeros(len(strength), n_out).scatter_(1, self.neurons, strength)


class HebbianRule(ReadoutOnly):
    """A rule by which hidden layers learn from their own inputs and currents, without labels or errors.

    Training has two parts: hidden layers learn in the first, the read-out, by the gradient of its cross-entropy, in the
    second. Where the length of training is unknown (see :meth:`LearningRule.set_length`), all learn in every step. A
    subclass says how neurons answer: ΔW = Cᵀ X − D W, see :class:`Response`; sparse layers learn so at their live
    connections, convolutions from all places of an image. Currents u that rules speak of are without biases, which stay
    as they are, as do the weights of normalizations in hidden stages. Batch normalizations of hidden stages keep their
    statistics once the first part is over.

    The optimizer is the read-out's. It holds hidden weights too, so that they can be rewired, but they have no
    gradient: the rule changes them itself, at rates of its own.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring.
        learning_rate: of hidden layers, one for all or one each.
        anneal: how these rates go: ``constant``, or ``linear``: to 0 at the end of the layer's time.
        unsupervised: share of the steps in which hidden layers learn, in (0, 1].
        order: hidden layers learn ``together``, or ``one_by_one``, each for an equal part of that time.
        readout: learns ``after`` hidden layers, or ``throughout``.
        start: of hidden weights: as the ``model`` has them, or drawn as ``published``, with biases at 0.
        optimizer: makes the optimizer from the model's parameters; default: Adam of rate 0.001.
        clip_norm, generator: as for :class:`LearningRule`.

    Raises:
        ValueError: a setting is out of range, or the model has a part that cannot be trained, no hidden layer or no
            read-out; at the step: a label is none of the model's classes.
    """

    is_average = False  # weights of hidden layers change at once

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: PerLayer,
        anneal: Anneal = "constant",
        unsupervised: float = 0.5,
        order: Order = "together",
        readout: ReadoutTime = "after",
        start: Start = "model",
        optimizer: MakeOptimizer = ADAM,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, optimizer=optimizer, clip_norm=clip_norm, generator=generator)
        who = type(self).__name__
        check_choice(who, "anneal", anneal, Anneal)
        check_choice(who, "order", order, Order)
        check_choice(who, "readout", readout, ReadoutTime)
        check_choice(who, "start", start, Start)
        if not 0 < unsupervised <= 1 or (unsupervised == 1 and readout == "after"):
            raise ValueError(
                f"{type(self).__name__}: unsupervised must be above 0 and below 1, a share of training after which the "
                f"read-out learns, got {unsupervised:g}; 1 goes with readout='throughout'"
            )
        self._afferents = [Afferents(stage.layer) for stage in self.hidden]
        self._rates = self._for_each("learning_rate", learning_rate)
        self._anneal, self._unsupervised, self._order, self._readout_time = anneal, unsupervised, order, readout
        if start == "published":
            for afferents in self._afferents:
                afferents.draw(self._published_deviation(afferents), self.generator)

    # What makes a rule

    @abstractmethod
    def _respond(self, i: int, u: Tensor, reads: Tensor) -> Response:
        """Return how the neurons of hidden layer ``i`` answer.

        Args:
            i: number of the layer.
            u: its currents without biases, ``[m, n_out]``.
            reads: the layer's input.
        """

    def _sized(self, i: int, direction: Tensor) -> Tensor:
        """Return by how much weights change at a learning rate of 1, of the direction ΔW, shaped like them."""
        return direction

    def _published_deviation(self, afferents: Afferents) -> Tensor:
        """Return the standard deviation of each neuron's weights at the start, ``[n_out]``."""
        raise ValueError(f"{type(self).__name__}: start must be 'model', for none was published, got 'published'")

    # In the course of training

    def _features(self, x: Tensor) -> Tensor:
        is_over = self._time() >= 1
        for i, stage in enumerate(self.hidden):
            if is_over:
                _keep_statistics(stage)
            rate = self._rates[i] * self._share_of_rate(i)
            x = stage(x).detach() if rate == 0 else self._learn(i, stage, x, rate)
        return x

    def _readout_learns(self) -> bool:
        return self._readout_time == "throughout" or self.n_steps is None or self._time() >= 1

    def _time(self) -> float:
        """Return how much of the hidden layers' time is over, 1 or more after its end."""
        return 0.0 if self.n_steps is None else self.n_done / max(1, round(self._unsupervised * self.n_steps))

    def _share_of_rate(self, i: int) -> float:
        """Return what the learning rate of a hidden layer is now, over what it is at first."""
        if self.n_steps is None:
            return 1.0
        time = self._time()
        if self._order == "one_by_one":
            time = time * len(self.hidden) - i
        if not 0 <= time < 1:
            return 0.0
        return 1.0 if self._anneal == "constant" else 1 - time

    def _learn(self, i: int, stage: Stage, x: Tensor, rate: float) -> Tensor:
        """Change the weights of a hidden layer; return what the next stage reads, by the weights before."""
        for module in stage.before:
            x = module(x)
        reads, afferents = x.detach(), self._afferents[i]
        current = stage.layer(reads)
        with torch.no_grad():
            u = rows(current.detach(), afferents).to(afferents.weight.dtype)
            if afferents.bias is not None:
                u = u - afferents.bias
            response = self._respond(i, u, reads)
            direction = self._product(i, response, current, reads) - self._decayed(i, response.decay)
            afferents.weight.add_(self._sized(i, direction), alpha=rate)
        return stage.activity(current).detach()

    def _product(self, i: int, response: Response, current: Tensor, reads: Tensor) -> Tensor:
        """Return Cᵀ X, shaped like the weights."""
        afferents = self._afferents[i]
        if response.neurons is not None and isinstance(afferents.layer, nn.Linear):
            product = torch.zeros_like(afferents.weight)
            inputs = rows(reads, afferents).to(product)
            for neurons, strength in zip(response.neurons.unbind(1), response.strength.unbind(1), strict=True):
                product.index_add_(0, neurons, inputs * strength[:, None])
            return product
        strength = response.of_all(afferents.n_out)
        if isinstance(afferents.layer, nn.Linear | SparseLinear):
            signal = strength.view_as(current)
        else:
            signal = strength.view(*current.movedim(1, -1).shape).movedim(-1, 1)
        # the layer's own backward pass, whatever computes it: neurons go down the slope of −C, as if of a loss
        (gradient,) = torch.autograd.grad(current, afferents.weight, -signal.to(current))
        return gradient.neg_()

    def _decayed(self, i: int, decay: Tensor) -> Tensor:
        """Return D W, shaped like the weights."""
        afferents = self._afferents[i]
        if decay.dim() == 2:
            return afferents.from_matrix(decay @ afferents.matrix())
        return afferents.spread(decay) * afferents.weight

    # Settings

    def _for_each(self, name: str, value: PerLayer) -> list[float]:
        """Return a positive number for each hidden layer, given one for all or one each."""
        n = len(self.hidden)
        values = list(value) if isinstance(value, Sequence) else [value] * n
        if len(values) != n or min(values) <= 0:
            raise ValueError(
                f"{type(self).__name__}: {name} must be above 0, one for all hidden layers or one for each of the {n}, "
                f"got {value}"
            )
        return values


def rows(values: Tensor, afferents: Afferents) -> Tensor:
    """Return what a layer reads or gives with a row for each sample, and each place of it."""
    if isinstance(afferents.layer, nn.Linear | SparseLinear):
        return values.reshape(-1, values.shape[-1])
    return values.movedim(1, -1).reshape(-1, values.shape[1])


def _keep_statistics(stage: Stage) -> None:
    """Let batch normalizations of a stage keep the statistics that they have."""
    for module in (*stage.before, *stage.after):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def largest_is_one(direction: Tensor) -> Tensor:
    """Return a direction over its largest entry in magnitude."""
    return direction / direction.abs().amax().clamp(min=1e-30)
