"""What every layer must do."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


def assert_module(module: nn.Module, x: Tensor, *, compiled: bool = True) -> None:
    """Raise an ``AssertionError`` unless a layer keeps the contract that users of PyTorch count on.

    Checked: the output follows the batch (one sample gives what it gives in a batch; an empty batch gives an empty
    output), its type is the input's, each parameter and the input get a finite gradient, copying, storing and loading
    change nothing, the parameters themselves are not changed by a call, ``repr`` works, and ``torch.compile`` gives
    the same.

    Args:
        module: a layer that maps ``[b, …]`` to ``[b, …]``, without dropout or batch statistics.
        x: input with at least two samples, in the type of the layer's parameters.
        compiled: also check ``torch.compile`` (with a back end that needs no compiler).

    Example:
        >>> from torch import nn
        >>> assert_module(nn.Linear(3, 2), torch.ones(4, 3), compiled=False)
    """
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x = x.detach().clone().requires_grad_()
    y = module(x)
    assert y.dtype == x.dtype, f"output must have the input's type {x.dtype}, got {y.dtype}"
    assert y.shape[0] == x.shape[0], f"output must have the input's {x.shape[0]} samples, got {tuple(y.shape)}"
    _assert_close(module(x[:1]), y[:1], "one sample alone and in a batch")
    empty = module(x[:0])
    assert empty.shape == (0, *y.shape[1:]), f"an empty batch must give an empty output, got {tuple(empty.shape)}"

    module.zero_grad()
    y.square().sum().backward()
    gradients = {**{name: p.grad for name, p in module.named_parameters()}, "the input": x.grad}
    for name, gradient in gradients.items():
        assert gradient is not None, f"{name} must get a gradient, got none"
        assert bool(gradient.isfinite().all()), f"{name} must get a finite gradient"
    module.zero_grad()

    _assert_close(copy.deepcopy(module)(x), y, "a copy and the original")
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(module.state_dict())
    _assert_close(other(x), y, "a layer loaded from the state of another, and that one")
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), f"a call must not change {name}"
    assert type(module).__name__ in repr(module)
    if compiled:
        compiled_module: Any = torch.compile(module, backend="aot_eager")
        _assert_close(compiled_module(x), y, "the compiled layer and the original")


def _assert_close(a: Tensor, b: Tensor, what: str) -> None:
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    scale = float(b.detach().abs().max()) if b.numel() else 0.0
    difference = float((a - b).detach().abs().max()) if b.numel() else 0.0
    assert difference <= tolerance * max(scale, 1.0), f"{what} must agree, they differ by {difference:g}"
