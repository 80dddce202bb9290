"""Neurons, and the nodes that NIR has for them, in both directions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.models.interchange.notes import is_one, unit_notes, unit_settings
from neuropil.units import IF, LIF, CurrentLIF, LeakyIntegrator, Unit

Array = NDArray[np.float64]

# each unit's node and, for each of its decays, the time constant it becomes and the gain that goes with that
_NODES: dict[type[Unit], tuple[str, dict[str, tuple[str, str]]]] = {
    CurrentLIF: ("CubaLIF", {"decay": ("tau_mem", "r"), "synaptic_decay": ("tau_syn", "w_in")}),
    IF: ("IF", {}),
    LIF: ("LIF", {"decay": ("tau", "r")}),
    LeakyIntegrator: ("LI", {"decay": ("tau", "r")}),
}
UNITS = tuple(_NODES)
_ROUNDING = 1e-6  # how far off numbers that have been float32 may be


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


UNIT_NAMES = _listed([kind.__name__ for kind in UNITS])
NODE_NAMES = _listed([node for node, _ in _NODES.values()])


def _names(kind: type[Unit]) -> tuple[str, ...]:
    """Return the names of a unit's numbers."""
    return (*_NODES[kind][1], *(("threshold",) if issubclass(kind, LIF) else ()))


# From units to nodes


def node_of(nir: Any, name: str, unit: Unit, width: int, dt: float) -> Any:
    """Return the node for a unit of ``width`` neurons: its explicit Euler steps of ``dt`` are the unit's."""
    if not width:
        raise ValueError(f"to_nir: {name} must come after a linear layer, which says how many neurons there are")
    kind: type[Unit] = type(unit)
    if type(unit) is LIF and bool((unit.effective_decay() == 1).all()):
        kind = IF  # it has learned not to leak
    node, decays = _NODES[kind]
    numbers: dict[str, Array] = {}
    for which, (tau, gain) in decays.items():
        decay = _per_neuron(name, getattr(unit, f"effective_{which}")(), width)
        if not (decay < 1).all():
            raise ValueError(
                f"to_nir: {name}: {which} must be below 1 for NIR's {node}, which leaks, got {decay.max():g}; try "
                "clamping it to 0.999"
            )
        numbers[tau] = dt / (1 - decay)
        numbers[gain] = numbers[tau] / dt
    if decays:
        numbers["v_leak"] = np.zeros(width)
    else:
        numbers["r"] = np.full(width, 1 / dt)
    if isinstance(unit, LIF):
        threshold = _per_neuron(name, unit.threshold, width)
        if not (np.isfinite(threshold) & (threshold > 0)).all():
            raise ValueError(f"to_nir: {name}: threshold must be finite and above 0, got {threshold.min():g}")
        numbers |= {"v_threshold": threshold, "v_reset": np.zeros(width)}
    return getattr(nir, node)(**numbers, metadata=unit_notes(unit, _names(kind)))


def _per_neuron(name: str, value: Tensor, width: int) -> Array:
    """Return one number for each neuron, in float64: so a float32 decay comes back as it was."""
    if value.dim() == 1 and len(value) != width:
        raise ValueError(f"to_nir: {name} must have numbers for the {width} neurons before it, got {len(value)}")
    return value.cpu().double().expand(width).numpy().copy()


# From nodes to units


def kind_of(nir: Any, node: Any) -> type[Unit] | None:
    """Return the unit that a node is, or None."""
    for kind, (which, _) in _NODES.items():
        if isinstance(node, getattr(nir, which)):
            return kind
    return None


def size_of(node: Any) -> int:
    """Return how many neurons a node says that it has."""
    return int(np.size(node.r))


def factor_of(name: str, node: Any, kind: type[Unit], dt: float) -> Array | None:
    """Return what a neuron's input is multiplied by in each step; None where that is 1."""
    r = _numbers(name, node, "r")
    if not (r > 0).all():
        raise ValueError(f"from_nir: {name}: r must be above 0, got {r.min():g}")
    factor = np.asarray(1.0 if _NODES[kind][1] else r * dt)
    for tau, gain in _NODES[kind][1].values():
        factor = factor * _numbers(name, node, gain) * dt / _time_constant(name, node, tau, dt)
    if not factor.all():
        raise ValueError(f"from_nir: {name}: w_in must differ from 0, got 0")
    return None if np.allclose(factor, 1.0, rtol=0, atol=_ROUNDING) else factor


def unit_of(
    name: str, node: Any, kind: type[Unit], notes: Mapping[str, Any], width: int, dt: float, dtype: torch.dtype
) -> Unit:
    """Return the unit that a node is, its input already multiplied by :func:`factor_of`."""
    for which in ("v_leak", "v_reset"):
        if hasattr(node, which) and _numbers(name, node, which).any():
            raise ValueError(
                f"from_nir: {name}: {which} must be 0, the only one that {kind.__name__} has, got other values"
            )
    numbers = {
        which: np.clip(1 - dt / _time_constant(name, node, tau, dt), 0, None)
        for which, (tau, _) in _NODES[kind][1].items()
    }
    if issubclass(kind, LIF):
        numbers["threshold"] = _numbers(name, node, "v_threshold")
    settings = unit_settings(name, notes, kind, _names(kind))
    for which, values in numbers.items():
        if values.ndim and width and len(values) != width:
            raise ValueError(f"from_nir: {name}: {which} must be one for each of {width} neurons, got {len(values)}")
        tensor = torch.as_tensor(values, dtype=dtype)
        alike = values.ndim == 0 or (values == values.flat[0]).all()
        settings[which] = tensor.flatten()[0] if values.ndim == 0 or (alike and is_one(name, notes, which)) else tensor
    try:
        return kind(**settings)
    except ValueError as error:
        raise ValueError(f"from_nir: {name}: {error}") from error


def _time_constant(name: str, node: Any, which: str, dt: float) -> Array:
    tau = _numbers(name, node, which)
    if not (tau >= dt * (1 - _ROUNDING)).all():
        raise ValueError(f"from_nir: {name}: {which} must be at least dt={dt:g}, got {tau.min():g}; try a smaller dt")
    return tau


def _numbers(name: str, node: Any, which: str) -> Array:
    """Return what is said of each neuron, or one number of all, in float64."""
    values = np.asarray(getattr(node, which))
    if values.ndim > 1 or values.size == 0 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"from_nir: {name}: {which} must be a number for each neuron, got {values.dtype} of shape "
            f"{list(values.shape)}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"from_nir: {name}: {which} must be finite, got {values[~np.isfinite(values)][0]:g}")
    return values.astype(np.float64)
