"""How many bytes a layer and its training hold on to between two steps, and how many a step takes on the way."""

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


class TensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, within a ``with`` block, the bytes of the tensors that are made there: the same on every machine.

    What compiled loops and libraries take for themselves does not count.

    Example:
        >>> with TensorBytes() as made:
        ...     kept = torch.ones(256) * 2
        >>> made.peak(), made.passing_peak()
        (2048, 1024)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, tuple[int, weakref.ref[Any]]] = {}  # by address of the storage: which tensor it is
        self._history: list[tuple[int, int]] = []  # number of a tensor, bytes that came or, below 0, went
        self._n_made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            address = storage._cdata
            if address not in self._alive and address not in read:
                number, size = self._n_made, storage.nbytes()
                self._n_made += 1

                def gone(_: Any, address: int = address, number: int = number, size: int = size) -> None:
                    del self._alive[address]
                    self._history.append((number, -size))

                self._alive[address] = number, weakref.ref(storage, gone)
                self._history.append((number, size))
        return result

    def peak(self) -> int:
        """Return the most bytes that lived at once."""
        return self._highest(set())

    def passing_peak(self) -> int:
        """Return the same without what is still there, such as gradients after a step."""
        return self._highest({number for number, _ in self._alive.values()})

    def _highest(self, left_out: set[int]) -> int:
        now = highest = 0
        for number, change in self._history:
            if number not in left_out:
                now += change
                highest = max(highest, now)
        return highest


def _storages(things: Any) -> list[torch.UntypedStorage]:
    return [thing.untyped_storage() for thing in tree_leaves(things) if isinstance(thing, Tensor)]


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.layout == torch.sparse_csr:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return (tensor,) if tensor.layout == torch.strided else ()


def _count(memory: dict[int, int], address: int, size: int) -> None:
    memory[address] = max(memory.get(address, 0), size)
