"""Running a model in evaluation mode, watched or not, without leaving a trace."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model into evaluation mode while the block runs; afterwards each of its parts is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def same_draws(model: nn.Module) -> Iterator[None]:
    """Put back, after the block, the state of all generators that a model may draw from."""
    tensors = (*model.parameters(), *model.buffers())
    devices = sorted({tensor.get_device() for tensor in tensors if tensor.is_cuda})
    own = {value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Generator)}
    states = {generator: generator.get_state() for generator in own}
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for generator, state in states.items():
                generator.set_state(state)


def run_watched(model: nn.Module, batch: Tensor, watchers: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> None:
    """Run a batch through a model in evaluation mode, with hooks that are gone afterwards, and put back what it draws.

    Args:
        model: any module.
        batch: what it takes.
        watchers: parts of the model, each with what is called after every call of it: with the part, its arguments,
            those given by name, and its output; what it returns, unless None, goes on in place of the output.
    """
    handles: list[Any] = [part.register_forward_hook(watcher, with_kwargs=True) for part, watcher in watchers]
    try:
        with same_draws(model), evaluation_mode(model):
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
