"""A forward pass in pieces: each stage has a graph of its own, and none goes from one stage to the next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.learn.stages import Stage


@dataclass
class Passed:
    """One stage of a forward pass.

    Attributes:
        stage: the stage.
        reads: its input, without a graph.
        current: what its layer made of it.
        gives: what the next stage reads, with a graph that ends at ``reads``.
    """

    stage: Stage
    reads: Tensor
    current: Tensor
    gives: Tensor

    def learn(self, delta: Tensor) -> Tensor:
        """Set the gradients of the stage's parameters for a gradient of what it gives; return that of its current."""
        parameters = self.stage.parameters()
        wanted = [self.current, *parameters] if self.gives is not self.current else parameters
        found = torch.autograd.grad(self.gives, wanted, delta, allow_unused=True)
        set_gradients(zip(parameters, found[len(wanted) - len(parameters) :], strict=True))
        return found[0] if self.gives is not self.current else delta


def pass_forward(stages: Sequence[Stage], x: Tensor) -> list[Passed]:
    """Run a batch through stages, each of which reads what the one before gave, cut off from its graph."""
    passed = []
    for stage in stages:
        reads = x.detach()
        current = stage.current(reads)
        x = stage.activity(current)
        passed.append(Passed(stage, reads, current, x))
    return passed


def set_gradients(pairs: Iterable[tuple[nn.Parameter, Tensor | None]]) -> None:
    """Put gradients in the place of those that parameters have."""
    for parameter, gradient in pairs:
        parameter.grad = gradient
