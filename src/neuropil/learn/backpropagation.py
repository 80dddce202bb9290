"""The reference: the gradient of a loss, carried back over the weights."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy

Loss = Callable[[Tensor, Tensor], Tensor]


class Backpropagation(LearningRule):
    """Follow the gradient of a loss; of a spiking network, through all time steps (BPTT, by its units' surrogates).

    Args:
        model: any module from inputs to logits.
        optimizer: makes the optimizer from the model's parameters; default: SGD of rate 0.02 and momentum 0.9.
        loss: of logits and labels, averaged over the batch.
        penalties: what is minimized beside the loss; it does not count in the loss that is told.
        autocast: surrounds the forward pass, such as ``torch.autocast``; None: nothing does.
        clip_norm: as for :class:`LearningRule`.

    Attributes:
        through: what the forward pass goes through: the model, or what is wrapped around it.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = Backpropagation(model)
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    transports_weights = True
    is_average = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = partial(torch.optim.SGD, lr=0.02, momentum=0.9),  # noqa: B008 (never changed)
        loss: Loss = F.cross_entropy,
        penalties: Sequence[Callable[[], Tensor | float]] = (),
        autocast: AbstractContextManager[Any] | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(model, model.parameters(), optimizer, clip_norm=clip_norm)
        self.through = model
        self.loss, self.penalties = loss, [*penalties]
        self.autocast = nullcontext() if autocast is None else autocast

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`."""
        with self.autocast:
            logits = self.through(x)
            loss = self.loss(logits.float(), y)
        self.optimizer.zero_grad(set_to_none=True)
        objective = loss
        for penalty in self.penalties:
            objective = objective + penalty()
        objective.backward()  # type: ignore[no-untyped-call]
        self.update()
        return {"loss": loss.detach(), "accuracy": accuracy(logits, y)}
