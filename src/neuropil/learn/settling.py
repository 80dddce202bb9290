"""What rules share that run a model's stages many times a batch, until activity has settled."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neuropil.learn.forward_pass import set_gradients
from neuropil.learn.stages import Stage

_CHANGING = (nn.modules.batchnorm._BatchNorm, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


def check_repeatable(stages: Sequence[Stage], *, who: str) -> None:
    """Raise a ``ValueError`` where a stage would not give the same for the same input, call after call."""
    for stage in stages:
        for module in (*stage.before, *stage.after):
            if isinstance(module, _CHANGING):
                raise ValueError(  # noqa: TRY004 (it is the model that is wrong)
                    f"{who}: stages must give the same whenever they are called, got a {type(module).__name__} after "
                    f"{stage.name!r}; try nn.LayerNorm, or none"
                )


@contextmanager
def weights_held(stages: Sequence[Stage]) -> Iterator[None]:
    """Let no graph reach the weights while the block runs, so that gradients of activity cost nothing more."""
    parameters = [parameter for stage in stages for parameter in stage.parameters()]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def learn(stage: Stage, gives: Sequence[Tensor], deltas: Sequence[Tensor], reads: Tensor | None = None) -> Tensor:
    """Set the gradients of a stage's parameters, summed over states of its activity.

    Args:
        stage: the stage.
        gives: of each state, what the stage gives, with its graph.
        deltas: of each state, the gradient of that.
        reads: what the stage reads, if its gradient is wanted too.

    Returns:
        The gradient of ``reads``, or an empty tensor.
    """
    parameters = stage.parameters()
    wanted = parameters if reads is None else [*parameters, reads]
    if not wanted:  # none of them learns
        return deltas[0].new_empty(0)
    found = torch.autograd.grad(gives, wanted, deltas, allow_unused=True)
    set_gradients(zip(parameters, found, strict=False))
    return found[-1] if reads is not None else deltas[0].new_empty(0)
