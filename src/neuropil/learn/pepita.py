"""PEPITA: a second forward pass, of an input that the error of the first has changed, in place of a backward pass."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.evaluation import same_draws
from neuropil.learn.feedback_alignment import Broadcast
from neuropil.learn.forward_pass import set_gradients
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.stages import Stage, hidden_and_readout, n_outputs


class Pepita(LearningRule):
    """Learn from how activities differ between an input and the same input changed by the error it led to.

    A first pass of x gives activities h_l and the error e = softmax(logits) − y, a second one of x + F e gives h'_l and
    e'. Each layer's gradient is, averaged over the batch, (h_l − h'_l) h'_{l−1}ᵀ, with x + F e for h'_0; that of the
    read-out is e' h'_{L−1}ᵀ. Nothing goes backward: the work is two forward passes and one product for each layer's
    weights.

    h_l is what follows the layer: activation, normalization and dropout, up to the first pool. Dropout is the same in
    both passes. Of convolutions, gradients are averaged over places. Biases learn as from an input that is always 1;
    what a normalization could learn stays as it is.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring.
        optimizer: makes the optimizer from the model's parameters; default: SGD of rate 0.01 and momentum 0.9.
        feedback_scale: F is uniform, at most √(6 / n_inputs) times this; drawn at the first step.
        clip_norm: as for :class:`LearningRule`.
        generator: where F comes from.

    ``step`` gives loss and accuracy of the first pass.

    Raises:
        ValueError: the model has a part that cannot be trained, no hidden layer or no read-out, or the scale is not
            above 0.

    Reference:
        G. Dellaferrera, G. Kreiman, ICML 2022, and their public code, whose networks have no biases, and in which a
        layer learns from units that dropout silences too. Use batches of 64 and dropout of 0.1, and divide the rate by
        10 at epochs 60 and 90, to do as it does.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = Pepita(model, generator=torch.Generator().manual_seed(0))
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    is_local = True
    is_average = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9),  # noqa: B008 (never changed)
        feedback_scale: float = 0.05,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if feedback_scale <= 0:
            raise ValueError(f"Pepita: feedback_scale must be above 0, got {feedback_scale:g}")
        self._hidden, self._readout = hidden_and_readout(model, who="Pepita")
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        feedback = _InputFeedback(n_outputs(self._readout), generator, feedback_scale)
        super().__init__(
            model,
            model.parameters(),
            optimizer,
            parts={"feedback": feedback},
            clip_norm=clip_norm,
            generator=generator,
        )

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`."""
        self.optimizer.zero_grad(set_to_none=True)
        with same_draws(self.model), torch.no_grad():
            logits, first = self._first_pass(x)
        labels = one_hot(y, logits)
        reads = x + self.parts["feedback"](logits.softmax(1) - labels, x.shape)
        for stage, before in zip(self._hidden, first, strict=True):
            current = stage.current(reads)
            with torch.no_grad():
                activity, reads = _respond(stage, current.detach())
            _learn(stage, current, before - activity)
        again = self._readout.current(reads)
        _learn(self._readout, again, again.detach().softmax(1) - labels)
        self.update()
        return {"loss": F.cross_entropy(logits, y), "accuracy": accuracy(logits, y)}

    def _first_pass(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the activities of all hidden layers."""
        activities = []
        for stage in self._hidden:
            activity, x = _respond(stage, stage.current(x))
            activities.append(activity)
        return self._readout.current(x), activities


def _respond(stage: Stage, current: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's activity, one number for each of its current, and what the next layer reads."""
    activity = gives = current
    for module in stage.after:
        is_activity = gives is activity
        gives = module(gives)
        if is_activity and gives.shape == current.shape:
            activity = gives
    return activity, gives


def _learn(stage: Stage, current: Tensor, delta: Tensor) -> None:
    """Set the gradients of a layer's parameters to products of δ with its input, averaged over images and places."""
    parameters = [parameter for parameter in stage.layer.parameters() if parameter.requires_grad]
    delta = delta / (len(delta) * delta[0, 0].numel())
    set_gradients(zip(parameters, torch.autograd.grad(current, parameters, delta), strict=True))


class _InputFeedback(Broadcast):
    """F, from the error of each class to every input."""

    def __init__(self, n_classes: int, generator: torch.Generator, scale: float) -> None:
        super().__init__(n_classes, generator)
        self._scale = scale

    def _bound(self, n_units: int) -> float:
        return math.sqrt(6 / n_units) * self._scale
