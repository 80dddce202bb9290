"""How many bytes a layer and its training hold on to between two steps."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_LOOKED_INTO = ("neuropil", "torch.nn", "torch.optim", "scipy")


def held_bytes(*things: object) -> int:
    """Return the bytes of all tensors and arrays that can be reached from some things, each memory counted once.

    Weights with their gradients, buffers, the optimizer's moments, wirings with what they have cached: whatever hangs
    on a module, on an optimizer or on an object of neuropil, however deep.

    Example:
        >>> layer = torch.nn.Linear(10, 10, bias=False)
        >>> held_bytes(layer, layer.weight)
        400
    """
    memory: dict[int, int] = {}
    seen: set[int] = set()
    waiting: list[Any] = [*things]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            waiting.append(thing.grad if thing.is_leaf else None)
            for part in _parts(thing):
                storage = part.untyped_storage()
                _count(memory, storage.data_ptr(), storage.nbytes())
        elif isinstance(thing, np.ndarray):
            while isinstance(thing.base, np.ndarray):
                thing = thing.base
            _count(memory, thing.__array_interface__["data"][0], thing.nbytes)
        elif isinstance(thing, dict):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, (list, tuple, set, frozenset)):
            waiting += thing
        elif type(thing).__module__.startswith(_LOOKED_INTO):
            waiting.append(getattr(thing, "__dict__", None))
    return sum(memory.values())


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.layout == torch.sparse_csr:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return (tensor,) if tensor.layout == torch.strided else ()


def _count(memory: dict[int, int], address: int, size: int) -> None:
    memory[address] = max(memory.get(address, 0), size)
