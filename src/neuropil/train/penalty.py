"""What is minimized beside the loss of the task."""

from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor


class Penalty(Protocol):
    """Something that looks on while a model trains, and gives a number to add to the loss.

    :class:`neuropil.train.RatePenalty` and :class:`neuropil.rewire.MaskLoss` are such. Whatever hooks it needs are on
    the model only while it is due, and ignore what runs in evaluation mode. It keeps nothing from one epoch to the
    next, so that a run can be taken up again.
    """

    def due(self, epoch: int, epochs: int) -> AbstractContextManager[None]:
        """Look on while the block, an epoch counted from 1, runs."""
        ...

    def __call__(self) -> Tensor | float:
        """Return the penalty of what has run in training mode since the last call."""
        ...
