"""The control of rules that learn features: a read-out on hidden layers that stay as they start."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.learn.forward_pass import set_gradients
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.stages import hidden_and_readout

ADAM = partial(torch.optim.Adam, lr=1e-3)


class ReadoutOnly(LearningRule):
    """Learn the read-out alone, by the gradient of its cross-entropy; hidden layers stay as they start.

    What hidden layers learn counts as far as it exceeds this. The optimizer holds the weights of hidden layers too, so
    that they can be rewired, but gives them no step: they have no gradient. No graph outlives the call of a hidden
    layer. Statistics of batch normalizations are gathered as ever.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring.
        optimizer: makes the optimizer from the model's parameters; default: Adam of rate 0.001.
        clip_norm, generator: as for :class:`LearningRule`.

    Raises:
        ValueError: the model has a part that cannot be trained, no hidden layer or no read-out; at the step: a label
            is none of the model's classes.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = ReadoutOnly(model)
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
        >>> model[0].weight.grad is None, model[2].weight.grad.shape
        (True, torch.Size([3, 8]))
    """

    is_local = True
    is_average = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = ADAM,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.hidden, self.readout = hidden_and_readout(model, who=type(self).__name__)
        super().__init__(model, model.parameters(), optimizer, clip_norm=clip_norm, generator=generator)

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`."""
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.readout(self._features(x))
        loss = F.cross_entropy(logits, one_hot(y, logits))
        if self._readout_learns():
            parameters = self.readout.parameters()
            set_gradients(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))
        self.update()
        return {"loss": loss.detach(), "accuracy": accuracy(logits, y)}

    def _features(self, x: Tensor) -> Tensor:
        """Return what the read-out reads, without a graph."""
        for stage in self.hidden:
            # gradients stay enabled: what watches layers while they train, as rewiring does, sees no other calls
            x = stage(x).detach()
        return x

    def _readout_learns(self) -> bool:
        return True
