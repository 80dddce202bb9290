"""What NIR has no words for, noted in the metadata of a node: other simulators pass it by, ours reads it again."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from neuropil.connect import EventLinear, SparseLinear, Wiring
from neuropil.units import LIF, ATan, Boxcar, FastSigmoid, Sigmoid, Surrogate, Triangle, Unit

KEY = "neuropil"
_SURROGATES = {kind.__name__: kind for kind in (ATan, Boxcar, FastSigmoid, Sigmoid, Triangle)}


def notes_of(name: str, metadata: Any) -> Mapping[str, Any]:
    """Return our notes on the node ``name``, none where somebody else has written it."""
    notes = metadata.get(KEY, {}) if isinstance(metadata, Mapping) else {}
    if not isinstance(notes, Mapping):
        raise ValueError(f"from_nir: {name}: metadata '{KEY}' must be a group of notes, got {_shown(notes)}")  # noqa: TRY004
    return notes


# Units


def unit_notes(unit: Unit, names: Sequence[str]) -> dict[str, Any]:
    """Return the notes on a unit: what is learned, what is one number for all neurons, reset, surrogate.

    Args:
        unit: any that NIR has a node for.
        names: its numbers.
    """
    notes: dict[str, Any] = {f"learn_{name}": int(isinstance(getattr(unit, name), nn.Parameter)) for name in names}
    notes |= {f"one_{name}": int(getattr(unit, name).dim() == 0) for name in names}
    if isinstance(unit, LIF):
        notes |= {
            "reset": unit.reset,
            "reset_delay": int(unit.reset_delay),
            "detach_reset": int(unit.detach_reset),
        }
        surrogate = type(unit.surrogate)
        if surrogate in _SURROGATES.values():  # a user's own kind could not be built again
            notes["surrogate"] = {"kind": surrogate.__name__, **dataclasses.asdict(unit.surrogate)}
    return {KEY: notes}


def unit_settings(name: str, notes: Mapping[str, Any], kind: type[Unit], names: Sequence[str]) -> dict[str, Any]:
    """Return arguments of a unit that follow from notes; without notes, the reset that NIR's equations have.

    Args:
        name: of the node.
        notes: on it.
        kind: the unit.
        names: its numbers.
    """
    settings: dict[str, Any] = {"learn": [which for which in names if _flag(name, notes, f"learn_{which}", False)]}
    if issubclass(kind, LIF):
        settings |= {
            "reset": _text(name, notes, "reset", "zero"),
            "reset_delay": _flag(name, notes, "reset_delay", False),
            "detach_reset": _flag(name, notes, "detach_reset", True),
        }
        if "surrogate" in notes:
            settings["surrogate"] = _surrogate(name, notes["surrogate"])
    return settings


def is_one(name: str, notes: Mapping[str, Any], which: str) -> bool:
    """Return whether a number, such as ``decay``, was one for all neurons."""
    return _flag(name, notes, f"one_{which}", False)


def _surrogate(name: str, notes: Any) -> Surrogate:
    kind = notes.get("kind") if isinstance(notes, Mapping) else None
    if not isinstance(kind, str) or kind not in _SURROGATES:
        raise ValueError(
            f"from_nir: {name}: the surrogate noted must be one of {', '.join(_SURROGATES)}, got {_shown(kind)}"
        )
    numbers = {field.name: _number(name, notes, field.name) for field in dataclasses.fields(_SURROGATES[kind])}
    try:
        return _SURROGATES[kind](**numbers)
    except ValueError as error:
        raise ValueError(f"from_nir: {name}: {error}") from error


# Linear layers


def layer_notes(layer: nn.Module) -> dict[str, Any]:
    """Return the notes on a linear layer: who connects to whom, in which blocks, and by which kernel."""
    if isinstance(layer, SparseLinear):
        wiring = {name: tensor.numpy() for name, tensor in layer.wiring.to_tensors().items()}
        return {KEY: {"kernel": layer.kernel, "wiring": wiring}}
    return {KEY: {"kernel": "events"}} if isinstance(layer, EventLinear) else {}


def noted_kernel(name: str, notes: Mapping[str, Any]) -> str:
    """Return the name of the kernel noted, ``auto`` where none is."""
    return _text(name, notes, "kernel", "auto")


def noted_wiring(name: str, notes: Mapping[str, Any]) -> Wiring | None:
    """Return the wiring noted, or None."""
    if "wiring" not in notes:
        return None
    stored = notes["wiring"]
    if not isinstance(stored, Mapping) or not all(_is_integers(array) for array in stored.values()):
        raise ValueError(f"from_nir: {name}: the wiring noted must be arrays of integers, got {_shown(stored)}")
    try:
        return Wiring.from_tensors({key: torch.from_numpy(np.array(array)) for key, array in stored.items()})
    except ValueError as error:
        raise ValueError(f"from_nir: {name}: {error}") from error


def _is_integers(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype in (np.int8, np.int16, np.int32, np.int64)


# Reading single notes, which may come from anybody


def _text(name: str, notes: Mapping[str, Any], key: str, default: str) -> str:
    value = notes.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"from_nir: {name}: {key} in our notes must be a word, got {_shown(value)}")  # noqa: TRY004
    return value


def _flag(name: str, notes: Mapping[str, Any], key: str, default: bool) -> bool:
    value = notes.get(key, default)
    if not isinstance(value, (int, np.integer)) or value not in (0, 1):
        raise ValueError(f"from_nir: {name}: {key} in our notes must be 0 or 1, got {_shown(value)}")
    return bool(value)


def _number(name: str, notes: Mapping[str, Any], key: str) -> float:
    value = notes.get(key)
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"from_nir: {name}: {key} in our notes must be a number, got {_shown(value)}")  # noqa: TRY004
    return float(value)


def noted_dt(notes: Mapping[str, Any], default: float) -> float:
    """Return the time step noted in a graph, in seconds."""
    return _number("the graph", notes, "dt") if "dt" in notes else default


def _shown(value: Any) -> str:
    """Return a short form of what may be anything."""
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{type(value).__name__} {shown[:30]}…"
