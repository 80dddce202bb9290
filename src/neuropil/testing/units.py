"""What every unit must do."""

import copy

import torch
from torch import Tensor

from neuropil.units import Unit
from neuropil.units.unit import State

_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def assert_unit(unit: Unit, current: Tensor) -> list[str]:
    """Raise an ``AssertionError`` unless a unit keeps the contract that networks count on.

    Checked: outputs have the shape and type of the current, and each part of the state those of one time step; every
    kernel that can compute the current gives what the loop over :meth:`Unit.step` gives, from rest and from a state
    that was reached, without gradients, and for a current that is expanded over time, and so do its gradients of
    current, state and parameters; a compiled kernel records no graph for each step; a sequence in two parts, the state
    handed on, equals one in a piece; samples do not see each other, and an empty batch gives empty outputs; every
    parameter gets a finite gradient; a call changes neither unit, current nor state; copying, storing and loading
    change nothing; ``repr`` names the class.

    Values and gradients must agree to 1e-10 in float64 and 1e-5 in float32, relative to the largest.

    Args:
        unit: any unit.
        current: ``[t, b, n]``, at least three steps and two samples, in the type of the unit's numbers; one that makes
            some neurons spike, and not others.

    Returns:
        Names of the kernels that were compared.

    Example:
        >>> from neuropil.units import LIF
        >>> generator = torch.Generator().manual_seed(0)
        >>> assert_unit(LIF(learn=["decay"]), torch.randn(5, 2, 3, generator=generator))
        ['torch', 'numba']
    """
    assert len(current) >= 3, f"the check needs at least three time steps, got {len(current)}"
    assert current.shape[1] >= 2, f"the check needs at least two samples, got {current.shape[1]}"
    current = current.detach().clone()
    before = {name: value.clone() for name, value in unit.state_dict().items()}
    given = current.clone()
    outputs, reached = unit(current)
    outputs, reached = outputs.detach(), tuple(part.detach() for part in reached)
    assert outputs.shape == current.shape, f"outputs must have the shape {tuple(current.shape)}, got {outputs.shape}"
    assert outputs.dtype == current.dtype, f"outputs must have the current's type {current.dtype}, got {outputs.dtype}"
    for part in reached:
        assert part.shape == current.shape[1:], f"a state must have the shape [b, n], got {tuple(part.shape)}"
        assert part.dtype == current.dtype, f"a state must have the current's type {current.dtype}, got {part.dtype}"

    kernels = _able(unit, current)
    for state in (None, reached):
        expected = _run(_with_kernel(unit, "torch"), current, state)
        for kernel in kernels[1:]:
            _assert_equal(
                f"kernel {kernel!r} and the loop over steps", _run(_with_kernel(unit, kernel), current, state), expected
            )
        _assert_equal("a sequence in two parts and in one", _run(unit, current, state, cut=len(current) // 3), expected)
    constant = _run(_with_kernel(unit, "torch"), current[:1], None, repeat=len(current))
    for kernel in kernels:
        found = _run(_with_kernel(unit, kernel), current[:1], None, repeat=len(current))
        _assert_equal(f"kernel {kernel!r} and the loop over steps, for an expanded current", found, constant)
        with torch.no_grad():
            silent, _ = _with_kernel(unit, kernel)(current)
        _assert_equal(f"kernel {kernel!r} without gradients", {"outputs": silent}, {"outputs": outputs})
        if kernel != "torch":
            short, long = (_saved(_with_kernel(unit, kernel), part) for part in (current[:2], current))
            assert short == long, f"kernel {kernel!r} must not keep tensors for each step, got {short} and {long}"

    alone = _values(unit, current[:, :1])["outputs"]
    _assert_equal("a sample alone and in a batch", {"outputs": alone}, {"outputs": outputs[:, :1]})
    empty, end = unit(current[:, :0])
    assert empty.shape == (len(current), 0, current.shape[2]), f"an empty batch must give no output, got {empty.shape}"
    assert all(part.shape == (0, current.shape[2]) for part in end), "an empty batch must give an empty state"

    kept = tuple(part.clone() for part in reached)
    unit(current, reached)
    assert torch.equal(current, given), "a call must not change the current"
    assert all(map(torch.equal, reached, kept)), "a call must not change the state that it starts from"
    for name, value in unit.state_dict().items():
        assert torch.equal(value, before[name]), f"a call must not change {name}"
    _assert_equal("a copy and the original", _values(copy.deepcopy(unit), current), _values(unit, current))
    other = copy.deepcopy(unit)
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            tensor.zero_()
    other.load_state_dict(unit.state_dict())
    _assert_equal(
        "a unit loaded from the state of another, and that one", _values(other, current), _values(unit, current)
    )
    assert type(unit).__name__ in repr(unit)
    return kernels


def _with_kernel(unit: Unit, kernel: str) -> Unit:
    other = copy.deepcopy(unit)
    other.kernel = kernel
    return other


def _able(unit: Unit, current: Tensor) -> list[str]:
    """Return the kernels that can compute a current, the loop over steps first."""
    able = ["torch"]
    for kernel in unit.compiled:
        try:
            able.append(_with_kernel(unit, kernel).chosen_kernel(current))
        except ValueError:
            continue
    return able


def _values(unit: Unit, current: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs, end = unit(current)
    return {"outputs": outputs, **{f"state {i}": part for i, part in enumerate(end)}}


def _run(unit: Unit, current: Tensor, state: State | None, *, cut: int = 0, repeat: int = 0) -> dict[str, Tensor]:
    """Run a sequence there and back, in two parts or with an expanded current if asked; return what came out."""
    unit = copy.deepcopy(unit)
    unit.zero_grad()
    current = current.clone().requires_grad_()
    start = None if state is None else tuple(part.clone().requires_grad_() for part in state)
    whole = current.expand(repeat, *current.shape[1:]) if repeat else current
    outputs, end = unit(whole[:cut] if cut else whole, start)
    if cut:
        rest, end = unit(whole[cut:], end)
        outputs = torch.cat([outputs, rest])
    found = {"outputs": outputs, **{f"state {i}": part for i, part in enumerate(end)}}
    weights = torch.Generator().manual_seed(0)
    loss = outputs.new_zeros(())
    for tensor in found.values():
        drawn = torch.randn(tensor.shape, generator=weights, dtype=tensor.dtype)
        loss = loss + (tensor * drawn.to(tensor.device)).sum()
    loss.backward()
    found = {name: tensor.detach() for name, tensor in found.items()}
    for name, source in (("the current", current), *unit.named_parameters()):
        assert source.grad is not None, f"{name} must get a gradient, got none"
        assert bool(source.grad.isfinite().all()), f"{name} must get a finite gradient"
        found[f"gradient of {name}"] = source.grad
    for i, part in enumerate(start or ()):
        found[f"gradient of state {i}"] = torch.zeros_like(part) if part.grad is None else part.grad
    return found


def _saved(unit: Unit, current: Tensor) -> int:
    """Return how many tensors are kept for the backward pass."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        unit(current.clone().requires_grad_())
    return len(kept)


def _assert_equal(what: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        scale = max(1.0, float(value.abs().max()) if value.numel() else 0.0)
        difference = float((found[name] - value).abs().max()) if value.numel() else 0.0
        assert difference <= _TOLERANCE[value.dtype] * scale, (
            f"{what}: {name} must agree, they differ by {difference:g}"
        )
