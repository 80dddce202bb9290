"""Probes: measures of a network that are recorded while it trains, on one fixed batch."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.data import Dataset
from neuropil.evaluation import evaluation_mode, same_draws
from neuropil.randomness import derived_seed

Measure = Callable[[nn.Module, Tensor, Tensor], Any]


@dataclass(frozen=True)
class Probe:
    """A measure, and when it is taken.

    Args:
        name: of what is measured, in the records.
        measure: of the model in evaluation mode, images ``[b, c, h, w]`` and labels ``[b]``, always the same ones;
            gives a number, or numbers in lists, mappings, tensors or dataclasses. It may compute gradients, but must
            leave the model as it is. Where it raises a ``ValueError`` and the model's output is no longer finite, None
            is recorded.
        epochs: after which epochs, 0 being the state before training; None: after every one, and before the first.
        every: also every so many steps of the optimizer, at least 1; None: at the end of epochs only.
        n_samples: size of the batch, the first images of the training part, at least 1.

    Raises:
        ValueError: a number is out of range, or the name is empty.

    Example:
        >>> from neuropil import data, models
        >>> from neuropil.measure import layer_activity
        >>> from neuropil.train import fit
        >>> digits = data.load("digits")
        >>> net = models.ensemble_net(digits.input_shape, digits.n_classes, hidden=[64, 64])
        >>> dead = Probe("dead", lambda model, images, labels: [layer.dead for layer in layer_activity(model, images)])
        >>> result = fit(net, digits, torch.optim.Adam(net.parameters()), epochs=2, probes=[dead])
        >>> [(record["epoch"], len(record["value"])) for record in result.probes]
        [(0, 2), (1, 2), (2, 2)]
    """

    name: str
    measure: Measure
    epochs: Collection[int] | None = None
    every: int | None = None
    n_samples: int = 256

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Probe: name must not be empty")
        if self.every is not None and self.every < 1:
            raise ValueError(f"Probe: every must be at least 1, or None, got {self.every}")
        if self.n_samples < 1:
            raise ValueError(f"Probe: n_samples must be at least 1, got {self.n_samples}")
        if self.epochs is not None and min(self.epochs, default=0) < 0:
            raise ValueError(f"Probe: epochs must be at least 0, got {min(self.epochs)}")


class Probing:
    """The probes of one run: takes what is due, and keeps the records.

    Args:
        probes: names must differ.
        model: what is measured.
        dataset: whose training part gives the batches.
        seed: what a model that draws, such as one with a rate code, draws from: the same at each measurement.
        steps_per_epoch: of the optimizer.

    Attributes:
        seconds: spent on measuring, so far.
    """

    def __init__(
        self, probes: Sequence[Probe], model: nn.Module, dataset: Dataset, seed: int, steps_per_epoch: int
    ) -> None:
        names = [probe.name for probe in probes]
        if len({*names}) < len(names):
            raise ValueError(f"fit: names of probes must differ, got {', '.join(names)}")
        self._probes, self._model, self._dataset, self._seed = probes, model, dataset, seed
        self._steps_per_epoch = steps_per_epoch
        self._records: list[dict[str, Any]] = []
        self.seconds = 0.0

    def after_step(self, epoch: int, step: int) -> None:
        """Take what is due after a step of the optimizer, the first one of the epoch being 1."""
        step += (epoch - 1) * self._steps_per_epoch
        for probe in self._probes:
            if probe.every is not None and step % probe.every == 0:
                self._take(probe, {"epoch": epoch, "step": step})

    def after_epoch(self, epoch: int) -> None:
        """Take what is due after an epoch, 0 being the start."""
        for probe in self._probes:
            if probe.epochs is None or epoch in probe.epochs:
                self._take(probe, {"epoch": epoch})

    def taken(self) -> list[dict[str, Any]]:
        """Return the records since the last call: epoch, perhaps step, probe and value."""
        records, self._records = self._records, []
        return records

    def _take(self, probe: Probe, when: dict[str, int]) -> None:
        started = time.perf_counter()
        take = partial(
            measure_once, model=self._model, dataset=self._dataset, n_samples=probe.n_samples, seed=self._seed
        )
        try:
            value = take(probe.measure)
        except ValueError:
            if take(_is_finite):
                raise
            value = None  # the run has diverged, as fit will say
        self._records.append({**when, "probe": probe.name, "value": plain(value)})
        self.seconds += time.perf_counter() - started


def measure_once(measure: Measure, model: nn.Module, dataset: Dataset, *, n_samples: int, seed: int) -> Any:
    """Return what a measure gives just as a :class:`Probe` of the same run takes it: same batch, mode and draws.

    Args:
        measure: as for :class:`Probe`.
        model: what is measured.
        dataset: whose first training images are the batch.
        n_samples: how many of them.
        seed: of the run.
    """
    device = next(model.parameters()).device
    images = dataset.normalize(dataset.train.images[:n_samples]).to(device)
    labels = dataset.train.labels[:n_samples].to(device)
    with same_draws(model), evaluation_mode(model):
        torch.manual_seed(derived_seed(seed, "noise", "probe"))
        return measure(model, images, labels)


def _is_finite(model: nn.Module, images: Tensor, labels: Tensor) -> bool:
    with torch.no_grad():
        return bool(model(images).isfinite().all())


def plain(value: Any) -> Any:
    """Return what a measure gives as numbers, lists and mappings that JSON knows; None for what is not finite.

    Raises:
        TypeError: there is something else in it.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise TypeError(f"Probe: a measure must give numbers, got a {type(value).__name__}")
