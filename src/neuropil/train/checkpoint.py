"""Everything that training needs to go on, in one safetensors file."""

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neuropil.connect import SparseLinear
from neuropil.connect.storage import as_stored
from neuropil.learn import Backpropagation, LearningRule
from neuropil.rewire import Rewirer, TopKast
from neuropil.train.whole_files import whole_file

_FORMAT = 1
_PAIRS = "mapping, as pairs"


class CheckpointError(ValueError):
    """A checkpoint cannot be used."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint is whole, but of another format, or of another model or optimizer."""


def save_checkpoint(
    path: Path,
    *,
    epoch: int,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    rewirer: Rewirer | TopKast | None = None,
    rule: LearningRule | None = None,
) -> None:
    """Write weights, wirings, optimizer, schedule, rewirer and rule; the file appears whole or not at all."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    rewiring = None if rewirer is None else _split("rewirer", rewirer.state_dict(), tensors)
    learning = None
    if rule is not None and _has_state(rule):
        own = {name: value for name, value in rule.state_dict().items() if name != "optimizer"}
        learning = {"name": type(rule).__name__, **_split("rule", own, tensors)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    description = {
        "format": _FORMAT,
        "epoch": epoch,
        "made by": _makers(optimizer, scheduler),
        "optimizer": {"scalars": scalars, "param_groups": state["param_groups"]},
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "rewirer": rewiring,
        **({} if learning is None else {"rule": learning}),
    }
    try:
        text = json.dumps(_encodable(description))
    except TypeError as error:
        raise ValueError(
            f"save_checkpoint: settings of optimizer and scheduler must be plain numbers and text, got others ({error})"
        ) from error
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"neuropil": text, "checksum": _checksum(text, tensors)})


def load_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    rewirer: Rewirer | TopKast | None = None,
    rule: LearningRule | None = None,
) -> int:
    """Put a checkpoint's contents in place and return the number of epochs that it has behind it.

    Where it fails, nothing is changed.

    Raises:
        CheckpointError: the file is damaged.
        CheckpointMismatchError: it is whole, but does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    text = metadata.get("neuropil", "")
    if "checksum" not in metadata:
        raise CheckpointError(f"{path.name} must be a neuropil checkpoint of format {_FORMAT}, got another file")
    if metadata["checksum"] != _checksum(text, tensors):
        raise CheckpointError(f"{path.name} is damaged: its checksum does not fit its contents")
    description = json.loads(text, object_hook=_decoded)
    if description["format"] != _FORMAT:
        raise CheckpointMismatchError(
            f"{path.name} must be a neuropil checkpoint of format {_FORMAT}, got format {description['format']}"
        )

    if description["made by"] != _makers(optimizer, scheduler):
        made, wanted = (
            " and ".join(str(name) for name in pair) for pair in (description["made by"], _makers(optimizer, scheduler))
        )
        raise CheckpointMismatchError(f"{path.name} must be of the optimizer and schedule {wanted}, got {made}")

    rewiring = description.get("rewirer")
    if (rewiring is None) != (rewirer is None):
        made, wanted = ("without", "with") if rewiring is None else ("with", "without")
        raise CheckpointMismatchError(f"{path.name} must be of a run {wanted} rewiring, got one {made}")

    learning = description.get("rule")
    names = [
        "Backpropagation" if learning is None else learning["name"],
        "Backpropagation" if rule is None or not _has_state(rule) else type(rule).__name__,
    ]
    if names[0] != names[1]:
        raise CheckpointMismatchError(f"{path.name} must be of the rule {names[1]}, got {names[0]}")

    state: dict[int, dict[str, Any]] = {}
    for index, scalars in description["optimizer"]["scalars"].items():
        state.setdefault(int(index), {}).update(scalars)
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "model":
            weights[rest] = tensor
        elif part == "rewirer":
            rewiring[rest] = tensor
        elif part == "rule":
            learning[rest] = tensor
        else:
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    before_optimizer = copy.deepcopy(optimizer.state_dict())
    before_rule = None if rule is None else copy.deepcopy(rule.state_dict())
    try:
        model.load_state_dict(weights)
        if rule is not None and learning is not None:
            rule.load_state_dict(learning)
        _store_alike(model, optimizer, state)
        optimizer.load_state_dict({"state": state, "param_groups": description["optimizer"]["param_groups"]})
        if rewirer is not None:
            rewirer.load_state_dict(rewiring)
    except (RuntimeError, ValueError, KeyError) as error:
        model.load_state_dict(before)  # PyTorch has taken over what did fit
        optimizer.load_state_dict(before_optimizer)
        if rule is not None and before_rule is not None:
            rule.load_state_dict(before_rule)
        reason = " ".join(str(error).split())
        raise CheckpointMismatchError(f"{path.name} does not fit this model and optimizer: {reason}") from error
    if scheduler is not None and description["scheduler"] is not None:
        scheduler.load_state_dict(description["scheduler"])
    return int(description["epoch"])


def _has_state(rule: LearningRule) -> bool:
    """Say whether a rule has anything to keep beside model and optimizer."""
    return not isinstance(rule, Backpropagation)


def _split(part: str, state: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Put the tensors of a state among others, under the name of a part; return the rest of it."""
    tensors |= {f"{part}.{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    return {name: value for name, value in state.items() if not isinstance(value, Tensor)}


def _store_alike(model: nn.Module, optimizer: Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Bring what an optimizer has kept of sparse layers' weights into the way in which these are stored now."""
    layers = {id(layer.weight): layer for layer in model.modules() if isinstance(layer, SparseLinear)}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        layer = layers.get(id(parameter))
        for key, value in state.get(index, {}).items():
            if layer is not None and isinstance(value, Tensor):
                state[index][key] = as_stored(value, layer.wiring, dense=layer.stores_dense)


def _makers(optimizer: Optimizer, scheduler: LRScheduler | None) -> list[str | None]:
    return [type(part).__name__ if part is not None else None for part in (optimizer, scheduler)]


def _encodable(value: Any) -> Any:
    """Write mappings whose keys are not text as pairs: JSON would make text of the milestones of a MultiStepLR."""
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _encodable(item) for key, item in value.items()}
        return {_PAIRS: [[key, _encodable(item)] for key, item in value.items()]}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def _decoded(value: dict[str, Any]) -> dict[Any, Any]:
    return dict(value[_PAIRS]) if set(value) == {_PAIRS} else value


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
