"""Running a model on data that may not fit it, with clear words where it does not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def loss_of(owner: str, network: nn.Module, batch: Batch, loss: Loss) -> Tensor:
    """Return the loss of a batch, which may not fit, as one finite number with a derivative.

    Raises:
        ValueError: it cannot be computed, or is something else.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(f"{owner}: batch must be a pair of inputs and targets, got a {type(batch).__name__}")
    inputs, targets = batch
    shapes = " and ".join(str(tuple(getattr(part, "shape", ()))) for part in batch)
    wording = f"batch must fit the model and the loss, got shapes {shapes}"
    outputs = outputs_of(owner, network, inputs, wording)
    value: Tensor = tried(owner, lambda: loss(outputs, targets), wording)
    if value.numel() != 1:
        raise ValueError(f"{owner}: loss must give one number, got shape {tuple(value.shape)}")
    if not torch.isfinite(value):
        raise ValueError(f"{owner}: loss must be finite on the batch, got {value.item():g}")
    if not value.requires_grad:
        raise ValueError(f"{owner}: loss must depend on the weights through derivatives, got one that does not")
    return value


def outputs_of(owner: str, network: nn.Module, inputs: Tensor, wording: str) -> Tensor:
    """Return what a network makes of inputs, which may not fit it.

    Args:
        owner: name of the method, for errors.
        network: called once.
        inputs: what it is called with.
        wording: what the error says where the call fails.

    Raises:
        ValueError: the call fails, or gives something else than one tensor.
    """
    outputs: Any = tried(owner, lambda: network(inputs), wording)
    if not isinstance(outputs, Tensor):
        raise ValueError(f"{owner}: model must return one tensor, got a {type(outputs).__name__}")  # noqa: TRY004
    return outputs


def tried(owner: str, compute: Callable[[], Any], wording: str) -> Any:
    """Return what is computed from data that may not fit.

    Raises:
        ValueError: it fails; the error says ``wording``, and why.
    """
    try:
        return compute()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{owner}: {wording}: {error}") from error
