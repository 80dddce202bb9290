"""What a rule of learning consists of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MakeOptimizer = Callable[[Any], Optimizer]


class LearningRule(ABC):
    """How the weights of a classifier change: it is attached to a model, and each :meth:`step` learns from one batch.

    :func:`neuropil.train.fit` takes a rule where it takes an optimizer; rewiring, probes, checkpoints and schedules of
    the learning rate then work as they do with backpropagation.

    Args:
        model: what learns; it stays the model that predicts, unless :attr:`predictor` says otherwise.
        parameters: what the optimizer is made of, parameters or groups of them; those of ``parts`` among them.
        optimizer: makes the optimizer from these.
        parts: what the rule holds beside the model, such as feedback weights; moved to the model's device.
        clip_norm: largest norm of the gradient of each group of parameters; None: not clipped.
        generator: where chance comes from; the rule keeps it to itself.

    Attributes:
        is_local: whether no gradient crosses a layer; :func:`neuropil.testing.assert_local` checks those that say so.
        transports_weights: whether signals go back over a layer's own weights, or what is copied from them.
        is_average: whether all that a step learns is an average over the batch, in the gradients that :meth:`update`
            finds, and no chance goes by the image: processes may then share a batch.
        model, parts, optimizer, clip_norm, generator: see above.
        average: what :meth:`update` does first, with the parameters that may have gradients; None: nothing.
        n_done: updates so far.
        n_steps: updates in all, or None where nobody has said so; see :meth:`set_length`.
    """

    is_local: ClassVar[bool] = False
    transports_weights: ClassVar[bool] = False
    is_average: bool = False

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[Any],
        optimizer: MakeOptimizer,
        *,
        parts: Mapping[str, nn.Module] | None = None,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(f"{type(self).__name__}: clip_norm must be above 0, or None, got {clip_norm:g}")
        self.model = model
        self.parts = nn.ModuleDict(dict(parts or {})).to(next(model.parameters()).device)
        self.optimizer = optimizer(list(parameters))
        self.clip_norm = clip_norm
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.n_done = 0
        self.n_steps: int | None = None
        self.average: Callable[[Iterable[nn.Parameter]], None] | None = None

    @property
    def predictor(self) -> nn.Module:
        """What maps a batch of inputs to logits ``[b, n_classes]`` when it has learned: most often the model."""
        return self.model

    @abstractmethod
    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch.

        Args:
            x: inputs, as the model takes them.
            y: labels, int64 ``[b]``.

        Returns:
            Numbers in tensors without dimensions, so that a GPU need not stop: ``loss``, averaged over the batch, of
            which training diverges where it is not finite, and ``accuracy`` of the batch, in [0, 1], before the update.
        """

    def set_length(self, *, epochs: int, steps_per_epoch: int) -> None:
        """Say how long training is, before it begins, for rules that change on the way.

        Raises:
            ValueError: a number is below 1.
        """
        if min(epochs, steps_per_epoch) < 1:
            raise ValueError(
                f"{type(self).__name__}: epochs and steps_per_epoch must be at least 1, got {epochs} and "
                f"{steps_per_epoch}"
            )
        self.n_steps = epochs * steps_per_epoch

    def train(self) -> None:
        """Put the model and the rule's own parts into training mode."""
        self.model.train()
        self.parts.train()

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rule needs to go on, beside the model: tensors, numbers, and the optimizer's state."""
        own = {f"parts.{name}": tensor for name, tensor in self.parts.state_dict().items()}
        generator, optimizer = self.generator.get_state(), self.optimizer.state_dict()
        return {**own, "n_done": self.n_done, "generator": generator, "optimizer": optimizer}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; without an optimizer's state, that stays as it is.

        Raises:
            ValueError: it belongs to another rule, or to another model.
        """
        own = {name.removeprefix("parts."): value for name, value in state.items() if name.startswith("parts.")}
        try:
            self.parts.load_state_dict(own)
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"{type(self).__name__}: a stored state must be of this rule and model: {error}"
            ) from error
        self.n_done = int(state["n_done"])
        self.generator.set_state(state["generator"].cpu())
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])

    def update(self) -> None:
        """Let the optimizer make a step with the gradients that are there, each group of parameters' clipped."""
        if self.average is not None:
            self.average(parameter for group in self.optimizer.param_groups for parameter in group["params"])
        if self.clip_norm is not None:
            for group in self.optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.clip_norm)
        self.optimizer.step()
        self.n_done += 1


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the share of a batch whose largest logit is that of its label, without dimensions."""
    return (logits.detach().argmax(1) == y).float().mean()


def one_hot(y: Tensor, like: Tensor) -> Tensor:
    """Return labels as rows ``[b, n_classes]`` of 0 and a 1, of the shape and type of logits.

    Raises:
        ValueError: a label is none of the model's classes.
    """
    n_classes = like.shape[1]
    if y.device.type == "cpu" and len(y) and not 0 <= int(y.min()) <= int(y.max()) < n_classes:
        raise ValueError(
            f"one_hot: labels must be in 0 … {n_classes - 1}, as many as the model has outputs, got "
            f"{int(y.min())} … {int(y.max())}"
        )
    return nn.functional.one_hot(y, n_classes).to(like)
