"""A run is a folder that can be killed at any moment and taken up again."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neuropil.learn import LearningRule
from neuropil.rewire import Event, Rewirer, TopKast
from neuropil.train.checkpoint import CheckpointError, CheckpointMismatchError, load_checkpoint, save_checkpoint
from neuropil.train.environment import DECISIVE, describe_environment
from neuropil.train.remote import Mirror, is_remote
from neuropil.train.whole_files import hold, write_whole

logger = logging.getLogger(__name__)

_KEPT_CHECKPOINTS = 2
_METRICS, _REWIRING, _PROBES = "metrics.jsonl", "rewiring.jsonl", "probes.jsonl"


class RunError(ValueError):
    """A run folder belongs to another recipe, or cannot be used."""


class HeldError(RunError):
    """Another process is at work on a run."""


class Run:
    """A run folder: ``recipe.yaml``, ``environment.json``, ``metrics.jsonl``, checkpoints and ``summary.json``.

    Where a network is rewired, ``rewiring.jsonl`` says what each event did to each layer; where there are probes,
    ``probes.jsonl`` what they measured.

    Opening a folder that does not exist makes it. Opening one that does goes on with it, provided that it was made
    by the same recipe.

    Args:
        folder: where the run is kept; a URL that fsspec can write, such as ``s3://bucket/run``, is worked on in a copy
            on this machine, which is sent after every epoch.
        recipe: what makes this run what it is, as plain values (numbers, strings, lists, mappings).
        device: where the run computes, for ``environment.json``.

    Raises:
        RunError: the folder was made by another recipe, or holds other things.
        RemoteError: it cannot be reached.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> run = Run(folder, {"seed": 0})
        >>> run.append({"epoch": 1, "train_loss": 2.3})
        >>> Run(folder, {"seed": 0}).metrics()
        [{'epoch': 1, 'train_loss': 2.3}]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        recipe: Mapping[str, Any],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._mirror = Mirror(os.fspath(folder)) if is_remote(folder) else None
        if self._mirror is not None:
            self._mirror.download()
        self.folder = Path(folder) if self._mirror is None else self._mirror.local
        self._device = device
        self.recipe = _plain(recipe)
        self._check()
        path = self.folder / "recipe.yaml"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True))
        # not there either where the run was killed right after its recipe was written
        environment = self.folder / "environment.json"
        if not environment.exists():
            write_whole(environment, json.dumps(describe_environment(device), indent=2) + "\n")
        if self._mirror is not None:
            self._mirror.upload()

    def _check(self) -> None:
        """Raise a ``RunError`` if the run cannot be kept here."""
        try:
            check_run_folder(self.folder, self.recipe)
        except RunError as error:
            if self._mirror is None:
                raise
            raise RunError(str(error).replace(str(self.folder), self._mirror.url)) from error
        if self._mirror is not None and self._mirror.has_others and not (self.folder / "recipe.yaml").exists():
            raise RunError(f"Run: {self._mirror.url} must be empty or a run's, got one that holds other things")

    @property
    def summary(self) -> dict[str, Any] | None:
        """What :meth:`finish` has written, or None while the run is not done."""
        return read_json(self.folder / "summary.json")

    def metrics(self) -> list[dict[str, Any]]:
        """Return one record an epoch; a last line that was cut off by a kill is left out."""
        return read_records(self.folder / _METRICS)

    def probes(self) -> list[dict[str, Any]]:
        """Return what probes have recorded; a last line that was cut off by a kill is left out."""
        return read_probes(self.folder)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record to the metrics."""
        _append(self.folder / _METRICS, [record])

    def append_events(self, epoch: int, events: Sequence[Event]) -> None:
        """Add what rewiring did in an epoch."""
        if events:
            _append(self.folder / _REWIRING, [{"epoch": epoch, **event.as_record()} for event in events])

    def append_probes(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add what probes measured."""
        if records:
            _append(self.folder / _PROBES, records)

    def save(
        self,
        epoch: int,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        rewirer: Rewirer | TopKast | None = None,
        rule: LearningRule | None = None,
    ) -> None:
        """Write a checkpoint and delete all but the last two."""
        path = self.checkpoint(epoch)
        save_checkpoint(
            path, epoch=epoch, model=model, optimizer=optimizer, scheduler=scheduler, rewirer=rewirer, rule=rule
        )
        for old in self._checkpoints()[_KEPT_CHECKPOINTS:]:
            old.unlink()
        if self._mirror is not None:
            self._mirror.keep_up()

    def restore(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        rewirer: Rewirer | TopKast | None = None,
        rule: LearningRule | None = None,
    ) -> int:
        """Take up the last good checkpoint; return the number of epochs done, 0 where there is none.

        A damaged checkpoint is set aside, under a name that ends in ``.damaged``, with a warning. Metrics later than
        the checkpoint are dropped: those epochs will be run again.

        Raises:
            RunError: a checkpoint is whole, but of another model, optimizer or format; nothing is changed then.
        """
        self._warn_of_another_machine()
        epoch = 0
        for path in self._checkpoints():
            try:
                epoch = load_checkpoint(
                    path, model=model, optimizer=optimizer, scheduler=scheduler, rewirer=rewirer, rule=rule
                )
                break
            except CheckpointMismatchError as error:
                raise RunError(f"Run: {self.folder}: {error}; try another folder") from error
            except CheckpointError as error:
                path.rename(path.with_name(path.name + ".damaged"))
                way_out = "going on from the one before" if self._checkpoints() else "starting anew"
                logger.warning("%s: %s; %s", self.folder, error, way_out)
        for path in (self.folder / _METRICS, self.folder / _REWIRING, self.folder / _PROBES):
            if path.exists() or (epoch and path.name == _METRICS):
                kept = [record for record in read_records(path) if record.get("epoch", 0) <= epoch]
                write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))
        return epoch

    def checkpoint(self, epoch: int) -> Path:
        """Return where the checkpoint of an epoch lies."""
        return self.folder / f"checkpoint-{epoch:05d}.safetensors"

    def finish(self, summary: Mapping[str, Any], *, keep_checkpoint: bool = True) -> None:
        """Write the summary: the run is done and will not be run again.

        Args:
            summary: plain values.
            keep_checkpoint: keep the last checkpoint, which holds the trained weights; the one before it goes.

        Raises:
            RemoteError: not all of it could be sent to where it is kept; the error says where it lies.
        """
        write_whole(self.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        for old in self._checkpoints()[1 if keep_checkpoint else 0 :]:
            old.unlink()
        if self._mirror is not None:
            self._mirror.upload()

    @contextlib.contextmanager
    def held(self, patience: float = 0) -> Iterator[None]:
        """Keep other processes off this run while the block runs.

        Args:
            patience: seconds to wait where another process is at work on it, and perhaps about to end.

        Raises:
            HeldError: it still is.
        """
        refusal = HeldError(f"Run: {self.folder} must be free, got one that another process is at work on")
        with hold(self.folder / "lock", refusal, patience=patience):
            yield

    def _checkpoints(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        return sorted(self.folder.glob("checkpoint-*.safetensors"), reverse=True)

    def _warn_of_another_machine(self) -> None:
        before, now = read_json(self.folder / "environment.json"), describe_environment(self._device)
        if before is None:
            return
        changed = [
            f"{key} was {before.get(key, 'none')}, is {now.get(key, 'none')}"
            for key in DECISIVE
            if before.get(key) != now.get(key)
        ]
        if changed:
            logger.warning("%s goes on elsewhere (%s): the last bits may differ", self.folder, "; ".join(changed))


def check_run_folder(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Raise a ``RunError`` if a run of this recipe cannot be kept in a folder; nothing is written."""
    path = folder / "recipe.yaml"
    if not path.exists():
        # a run killed while its recipe was written leaves that file half done, and nothing else
        left = {"recipe.yaml.partial", "failure.json"}
        if any(parent.is_file() for parent in folder.parents):
            raise RunError(f"Run: {folder} must be a folder, got a path below a file")
        if folder.is_file() or (folder.is_dir() and any(entry.name not in left for entry in folder.iterdir())):
            raise RunError(f"Run: {folder} must be an empty folder or a run's, got one that holds other things")
        return
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"Run: {path} must be the recipe of a run, got a damaged file") from error
    difference = _first_difference(stored, _plain(recipe))
    if difference:
        raise RunError(f"Run: {folder} belongs to another recipe: {difference}; try another folder, or remove this one")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where there is no whole one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the records of ``metrics.jsonl``, up to the first that is not whole."""
    return read_records(folder / _METRICS)


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return the records of ``rewiring.jsonl``, up to the first that is not whole; none where nothing was rewired."""
    return read_records(folder / _REWIRING)


def read_probes(folder: Path) -> list[dict[str, Any]]:
    """Return the records of ``probes.jsonl``, up to the first that is not whole; none where there are no probes."""
    return read_records(folder / _PROBES)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines, up to the first that is not whole; none where there is no file."""
    records: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return records
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break
        records.append(record)
    return records


def _append(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as YAML gives them back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _first_difference(stored: Any, wanted: Any, name: str = "") -> str | None:
    """Say where two recipes first differ, or return None."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in stored if key not in wanted)]:
            if key not in stored or key not in wanted:
                here = "has" if key in stored else "lacks"
                return f"it {here} {f'{name}.{key}'.lstrip('.')}"
            difference = _first_difference(stored[key], wanted[key], f"{name}.{key}".lstrip("."))
            if difference:
                return difference
        return None
    return None if stored == wanted else f"{name} is {stored!r} there and {wanted!r} here"
