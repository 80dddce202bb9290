"""Of which entries of an input anyone needs the gradient: what neurons tell the layer after them.

Neurons multiply the gradient of their spikes by a surrogate's slope. Where that is bounded it is exactly 0 for most of
them, and whatever the gradient was there is lost. A layer that is told so may leave it out.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Needed(NamedTuple):
    """That a gradient is needed only where sharpness · |potential − threshold| ≤ 1.

    Attributes:
        potentials: of the neurons that made the tensor, of its shape.
        threshold: theirs, ``[n]``.
        sharpness: of their surrogate.
        version: of the tensor; one that was written to since is another one.
    """

    potentials: Tensor
    threshold: Tensor
    sharpness: float
    version: int


_KNOWN = WeakTensorKeyDictionary()


def tell_needed(spikes: Tensor, potentials: Tensor, threshold: Tensor, sharpness: float) -> None:
    """Note of which entries of ``spikes`` the neurons that made them need the gradient."""
    _KNOWN[spikes] = Needed(potentials, threshold, sharpness, spikes._version)


def pass_on(x: Tensor, flat: Tensor) -> None:
    """Note of ``flat``, ``[r, n]``, what was told of ``x``, ``[…, n]``, whose numbers it holds."""
    needed = needed_of(x)
    if needed is not None and flat is not x:
        tell_needed(flat, needed.potentials.reshape(flat.shape), needed.threshold, needed.sharpness)


def needed_of(x: Tensor) -> Needed | None:
    """Return what was told of a tensor; None: its whole gradient may be needed."""
    if torch.compiler.is_compiling():
        return None
    needed: Needed | None = _KNOWN.get(x)  # type: ignore[no-untyped-call]
    return needed if needed is not None and needed.version == x._version else None
