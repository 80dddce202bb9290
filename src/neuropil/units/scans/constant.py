"""A current that is the same at every time step is read once, and gets one gradient."""

import torch
from torch import Tensor


def read_once(current: Tensor) -> Tensor:
    """Return the one step ``[1, b, n]`` that an expanded current repeats, or the current as it is.

    The gradient goes straight to what was expanded, as the sum over time, which spares a gradient ``[t, b, n]``. Where
    that would not give everyone their gradient (a leaf, a current that keeps its own), and under ``torch.compile``,
    which knows no graph yet, the current is left as it is.

    Args:
        current: ``[t, b, n]``.
    """
    if len(current) == 1 or current.stride(0) != 0 or torch.compiler.is_compiling():
        return current
    if not current.requires_grad:
        return current[:1]
    node, source = current.grad_fn, current._base
    if (
        source is None
        or node is None
        or node.name() != "ExpandBackward0"
        or current.retains_grad
        or current._backward_hooks
        or source.numel() != current[0].numel()
        or source.shape[-2:] != current.shape[1:]
    ):
        return current
    before = node.next_functions[0][0]
    if before is not source.grad_fn and getattr(before, "variable", None) is not source:
        return current  # something came between
    return source.view(1, *current.shape[1:]) if source.is_contiguous() else source.reshape(1, *current.shape[1:])
