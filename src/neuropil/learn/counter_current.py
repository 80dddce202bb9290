"""Counter-current learning: a second network runs from the labels towards the input, and the two teach each other."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.learn.centralize import centralize
from neuropil.learn.feedback import Along, Feedback, mean_fans
from neuropil.learn.forward_pass import set_gradients
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.settings import check_choice
from neuropil.learn.stages import Stage, activation_of, hidden_and_readout, n_outputs, weight_of

Similarity = Literal["product", "cosine"]
Teaching = Literal["learned", "fixed"]
_SCALE = {"product": 0.5, "cosine": 1.0}
_SIZE = 256  # a literal of the published code, whose hidden layers and batches are of this size
_CERTAIN = 0.1  # likewise


class CounterCurrent(LearningRule):
    """Compare what each layer makes of the input with what a counter-current makes of the classes.

    A feedback network g runs against the forward one f. Its batch are the K classes: c_L = I, c_{l−1} = φ(c_l B_l), φ
    the activation of the stage that it is compared with, none at the input. Wherever the two meet, activities a_l of
    the batch and c_l of the classes are to be similar for samples of the class, and only for those. Every layer of both
    networks reads a detached input, so each local loss trains just the two layers that end where it is taken:

    * ``product``: loss_l = 256 · scale · mean((a_l c_lᵀ − M)²) / n_l, M = one-hot labels, l = 0 … L−1;
    * ``cosine``: rows of a_l and c_l have length 1, loss_l = scale · mean((a_l c_lᵀ − M)²) + self_similarity ·
      [mean((a_l a_lᵀ − I)²) + mean((c_l c_lᵀ − I)²)].

    The read-out learns from the cross-entropy. Normalization's own parameters do not learn. Of the activities of a
    batch, those of one layer are held at a time (of all, with ``filter_target``).

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, of any wiring; the published networks have ELUs, no
            biases, and at convolutions a pool of 2 × 2.
        similarity: ``product`` or ``cosine``; default: as published, ``cosine`` for convolutional networks.
        scale: of the local losses; default: 0.5 for ``product``, 1 for ``cosine``.
        self_similarity: weight of what keeps samples, and classes, apart; for ``cosine``.
        filter_target: leave samples alone, in hidden layers, whose class has a probability above 0.9 already.
        centralize: subtract from the gradient of a neuron's weights their mean.
        feedback: ``learned``, or ``fixed``: a control, whose feedback weights stay as they start.
        along: of sparse layers, where feedback connects: ``wiring`` or ``dense``.
        optimizer: makes the optimizer from two groups of parameters, forward and feedback; default: SGD of rate 1.
        clip_norm: largest norm of the gradient of each group; 1 is what makes that rate stable.
        generator: where the feedback weights come from.

    Raises:
        ValueError: the model cannot be trained so, or a setting is unknown.

    Reference:
        C.-H. Kao, B. Hariharan, arXiv 2409.19841, as in the authors' code. Convolutional feedback there: nearest
        upsampling, then a convolution, here of the forward layer's kernel. Sparse wirings, and feedback along them, are
        ours.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 3))
        >>> rule = CounterCurrent(model, generator=torch.Generator().manual_seed(0))
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'local_loss', 'loss']
    """

    is_local = True

    def __init__(
        self,
        model: nn.Module,
        *,
        similarity: Similarity | None = None,
        scale: float | None = None,
        self_similarity: float = 0.5,
        filter_target: bool = False,
        centralize: bool = False,
        feedback: Teaching = "learned",
        along: Along = "wiring",
        optimizer: MakeOptimizer = partial(torch.optim.SGD, lr=1.0),  # noqa: B008 (never changed)
        clip_norm: float | None = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        hidden, readout = hidden_and_readout(model, who="CounterCurrent")
        self.stages = [*hidden, readout]
        check_choice("CounterCurrent", "along", along, Along)
        if similarity is not None:
            check_choice("CounterCurrent", "similarity", similarity, Similarity)
        check_choice("CounterCurrent", "feedback", feedback, Teaching)
        for name, value in (("scale", scale), ("self_similarity", self_similarity)):
            if value is not None and value < 0:
                raise ValueError(f"CounterCurrent: {name} must be at least 0, got {value:g}")
        for stage in self.stages:
            if isinstance(stage.layer, nn.Conv2d) and stage.layer.groups != 1:
                raise ValueError(f"CounterCurrent: convolutions must have groups=1, got {stage.layer.groups}")
        has_images = any(isinstance(stage.layer, nn.Conv2d | SparseConv2d) for stage in self.stages)
        self.similarity: Similarity = similarity or ("cosine" if has_images else "product")
        self.scale = _SCALE[self.similarity] if scale is None else scale
        self.self_similarity, self.filter_target, self.centralize = self_similarity, filter_target, centralize
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.is_average = self.similarity == "product" or not self_similarity  # samples are compared with one another
        self._learns_back = feedback == "learned"
        parts: dict[str, nn.Module] = {}
        for i, stage in enumerate(self.stages):
            dense = along == "dense" or not isinstance(stage.layer, SparseLinear | SparseConv2d)
            bound = (
                max(1.0, mean_fans(stage.layer, dense=dense)[1]) ** -0.5
            )  # PyTorch's own, for a layer that goes back
            parts[str(i)] = Feedback(
                stage.layer, along=along, learned=self._learns_back, bound=bound, generator=generator
            )
        groups = [{"params": [parameter for stage in self.stages for parameter in stage.layer.parameters()]}]
        if self._learns_back:
            groups.append({"params": [parameter for part in parts.values() for parameter in part.parameters()]})
        super().__init__(model, groups, optimizer, parts=parts, clip_norm=clip_norm, generator=generator)
        self._sizes: tuple[torch.Size, list[torch.Size], list[torch.Size]] | None = None

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`. ``local_loss`` is the sum over all hidden layers."""
        for i, stage in enumerate(self.stages):
            self._feedback(i).follow(stage.layer, self.optimizer, self.generator)
        n_classes = n_outputs(self.stages[-1])
        match = one_hot(y, x.new_empty(len(x), n_classes))
        counter = self._counter_current(x, n_classes)
        ahead: Iterable[Tensor] = self._forward(x)
        spared = None
        if self.filter_target:
            ahead = list(ahead)
            spared = (ahead[-1].detach().softmax(1) * match).sum(1, keepdim=True) > 1 - _CERTAIN

        local = self._learn_locally(x, counter[0], match, spared, None, 0)
        for i, gives in enumerate(ahead):
            if i < len(self.stages) - 1:
                local = local + self._learn_locally(gives, counter[i + 1], match, spared, i, i + 1)
                continue
            logits = gives
            loss = F.cross_entropy(logits, y)
            parameters = list(self.stages[i].layer.parameters())
            set_gradients(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))
        if self.centralize:
            self._centralize()
        self.update()
        return {"loss": loss.detach(), "accuracy": accuracy(logits, y), "local_loss": local}

    def _feedback(self, i: int) -> Feedback:
        feedback = self.parts[str(i)]
        assert isinstance(feedback, Feedback)
        return feedback

    def _forward(self, x: Tensor) -> Iterator[Tensor]:
        """Give what each stage makes of the detached output of the one before."""
        for stage in self.stages:
            gives = stage(x)
            yield gives
            x = gives.detach()

    def _counter_current(self, x: Tensor, n_classes: int) -> list[Tensor]:
        """Return c_0 … c_{L−1}, each of its own graph; rows are classes, of the shape of what meets them."""
        reads, maps = self._sizes_for(x)
        c = torch.eye(n_classes, dtype=x.dtype, device=x.device)
        signals: list[Tensor] = []
        for i in reversed(range(len(self.stages))):
            layer, feedback, c = self.stages[i].layer, self._feedback(i), c.detach()
            if isinstance(layer, nn.Conv2d | SparseConv2d):
                weight = feedback.matrix().view(-1, layer.in_channels, *layer.kernel_size).transpose(0, 1)
                height, width = reads[i][-2:]
                c = F.interpolate(c.reshape(n_classes, *maps[i]), size=(height, width), mode="nearest")
                c = F.conv2d(c, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2))[..., :height, :width]
            else:
                c = feedback.product(c.flatten(1))
            if i:
                c = activation_of(self.stages[i - 1])(c)
            signals.append(c)
        return signals[::-1]

    def _learn_locally(
        self, a: Tensor, c: Tensor, match: Tensor, spared: Tensor | None, stage: int | None, feedback: int
    ) -> Tensor:
        """Set the gradients of the stage and the feedback that meet here; return the loss, without a graph."""
        a, c = a.flatten(1), c.flatten(1)
        if spared is not None:
            a = a.masked_fill(spared, 0)
        if self.similarity == "product":
            loss = _SIZE * self.scale * (a @ c.T - match).square().mean() / c.shape[1]
        else:
            a, c = F.normalize(a, dim=1), F.normalize(c, dim=1)
            loss = self.scale * (a @ c.T - match).square().mean()
            if self.self_similarity:
                loss = loss + self.self_similarity * (_apart(a) + _apart(c))
        parameters = [] if stage is None else list(self.stages[stage].layer.parameters())
        if self._learns_back:
            parameters.append(self._feedback(feedback).weight)
        if parameters:
            set_gradients(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))
        return loss.detach()

    def _centralize(self) -> None:
        for i, stage in enumerate(self.stages):
            synapses = stage.layer.synapses if isinstance(stage.layer, SparseConv2d) else stage.layer
            centralize(weight_of(stage), synapses if isinstance(synapses, SparseLinear) else None)
            if self._learns_back:
                feedback = self._feedback(i)
                centralize(feedback.weight, feedback.twin, by_source=True)

    @torch.no_grad()
    def _sizes_for(self, x: Tensor) -> tuple[list[torch.Size], list[torch.Size]]:
        """Return what each layer reads of one sample, and, of a convolution, the maps that its stage gives."""
        if self._sizes is None or self._sizes[0] != x.shape[1:]:
            reads, maps = [], []
            one = torch.zeros_like(x[:1])
            for stage in self.stages:
                size, one = _trace(stage, one)
                reads.append(size[0])
                maps.append(size[1])
            self._sizes = x.shape[1:], reads, maps
        return self._sizes[1:]


def _trace(stage: Stage, one: Tensor) -> tuple[tuple[torch.Size, torch.Size], Tensor]:
    """Return what a stage's layer reads and its last maps, without the batch, and what the stage gives of a sample."""
    for module in stage.before:
        one = _still(module, one)
    reads = one.shape[1:]
    one = stage.layer(one)
    maps = one.shape[1:]
    for module in stage.after:
        one = _still(module, one)
        maps = one.shape[1:] if one.dim() == 4 else maps
    return (reads, maps), one


def _still(module: nn.Module, one: Tensor) -> Tensor:
    """Return what a module makes of a sample, but for normalization and dropout, which a look must not change."""
    changes = isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)
    still: Tensor = one if changes else module(one)
    return still


def _apart(rows: Tensor) -> Tensor:
    """Return the mean squared difference of rows' products from the identity."""
    return (rows @ rows.T - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)).square().mean()
