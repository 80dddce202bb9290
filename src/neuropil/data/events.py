"""Recordings of event cameras and silicon cochleas as sequences of spikes."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from neuropil.data.errors import DataError

_MOST_COUNTS = 2**30  # of one recording; a damaged time would ask for any number of steps


class EventDataset(Protocol):
    """What :func:`event_batches` reads: any data set of tonic, or a list of pairs of events and label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def event_frames(
    events: NDArray[Any],
    *,
    sensor_size: tuple[int, int, int],
    steps: int | None = None,
    window: int | None = None,
    binary: bool = False,
) -> Tensor:
    """Count the events of one recording in each step, at each place of the sensor.

    With ``steps`` = T, an event at time t falls into step ⌊T (t − t₀) / (t₁ − t₀ + 1)⌋, t₀ and t₁ being the times of
    the first and the last event: every event counts, the last one too. With ``window`` = w it is ⌊(t − t₀) / w⌋, so
    long recordings have more steps.

    Args:
        events: structured array with the fields x, y, t and p (polarity), as tonic's data sets give; a sensor of one
            row needs no y. Times are whole numbers, in any order.
        sensor_size: places along x, along y, and polarities (w, h, p), as tonic's data sets state. With one polarity,
            p may be any number that is the same for all events.
        steps: number of time steps, at least 1.
        window: length of a step, in the unit of t, for tonic microseconds; either this or ``steps``.
        binary: 1 where there is any event, instead of how many.

    Returns:
        Float32 ``[t, p, h, w]``.

    Raises:
        DataError: the array is not one of events, has none, or has some that lie outside the sensor.
        ValueError: an argument is out of range.

    Reference:
        The events are those of tonic (G. Lenz et al., 10.5281/zenodo.5079802). Its ``ToFrame`` with ``n_time_bins`` is
        not used: it leaves out the last events of a recording, and all of one shorter than that many microseconds.

    Example:
        >>> events = np.array([(0, 1, 10, 1), (0, 1, 11, 1), (2, 0, 19, 0)], dtype="i8,i8,i8,i8")
        >>> events.dtype.names = ("x", "y", "t", "p")
        >>> frames = event_frames(events, sensor_size=(3, 2, 2), steps=5)
        >>> frames.shape, frames[0, 1].tolist(), frames[4, 0].tolist()
        (torch.Size([5, 2, 2, 3]), [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    """
    _check_arguments("event_frames", sensor_size, steps, window)
    return _frames("event_frames", events, sensor_size, steps, window, binary)


def event_batches(
    dataset: EventDataset,
    *,
    sensor_size: tuple[int, int, int],
    batch_size: int,
    steps: int | None = None,
    window: int | None = None,
    generator: torch.Generator | None = None,
    binary: bool = False,
    flatten: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over batches of recordings, as spikes ``[t, b, n]``, and labels ``[b]``; the last may be smaller.

    Recordings of fewer steps than the longest of their batch (only with ``window``) end in steps without events.
    Recordings are read and counted anew in every epoch; ``tonic.MemoryCachedDataset`` saves the reading.

    Args:
        dataset: has a length, and gives pairs of events and a whole number, the label.
        sensor_size, steps, window, binary: as for :func:`event_frames`.
        batch_size: recordings a batch, at least 1.
        generator: where a random order comes from, drawn once, at the call; None: in order.
        flatten: False gives ``[t, b, p, h, w]``; in ``[t, b, n]``, n counts polarities, then rows, then columns.

    Raises:
        DataError: while iterating: a recording is not what :func:`event_frames` takes; its number is in the message.
        ValueError: an argument is out of range.

    Example:
        >>> events = np.array([(0, 0, 1), (2, 5, 1), (1, 9, 1)], dtype="i8,i8,i8")
        >>> events.dtype.names = ("x", "t", "p")
        >>> batches = event_batches([(events, 7)] * 3, sensor_size=(4, 1, 1), steps=2, batch_size=2)
        >>> [(spikes.shape, labels.tolist()) for spikes, labels in batches]
        [(torch.Size([2, 2, 4]), [7, 7]), (torch.Size([2, 1, 4]), [7])]
    """
    _check_arguments("event_batches", sensor_size, steps, window)
    if batch_size < 1:
        raise ValueError(f"event_batches: batch_size must be at least 1, got {batch_size}")
    n = len(dataset)
    order = range(n) if generator is None else torch.randperm(n, generator=generator, device="cpu").tolist()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, n, batch_size):
            frames, labels = [], []
            for i in order[start : start + batch_size]:
                who = f"event_batches: recording {i}"
                events, label = _pair(who, dataset[i])
                frames.append(_frames(who, events, sensor_size, steps, window, binary))
                labels.append(label)
            spikes = pad_sequence(frames)  # [t, b, p, h, w]
            yield spikes.flatten(2) if flatten else spikes, torch.tensor(labels, dtype=torch.int64)

    return batches()


def _check_arguments(who: str, sensor_size: tuple[int, int, int], steps: int | None, window: int | None) -> None:
    whole = isinstance(sensor_size, (tuple, list)) and all(isinstance(size, (int, np.integer)) for size in sensor_size)
    if not whole or len(sensor_size) != 3 or min(sensor_size) < 1:
        raise ValueError(f"{who}: sensor_size must be (w, h, p), whole numbers of at least 1, got {sensor_size!r}")
    if (steps is None) == (window is None):
        raise ValueError(f"{who}: either steps or window must be given, got {'neither' if steps is None else 'both'}")
    for name, value in (("steps", steps), ("window", window)):
        if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
            raise ValueError(f"{who}: {name} must be a whole number of at least 1, got {value!r}")


def _pair(who: str, sample: Any) -> tuple[Any, int]:
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        raise DataError(f"{who} must be a pair of events and label, got {type(sample).__name__}")
    events, label = sample
    whole = np.asarray(label)
    if whole.size != 1 or whole.dtype.kind not in "iu":
        raise DataError(f"{who}: label must be a whole number, got {label!r}; try the data set's target_transform")
    return events, int(whole.item())


def _frames(
    who: str, events: Any, sensor_size: tuple[int, int, int], steps: int | None, window: int | None, binary: bool
) -> Tensor:
    events = _checked(who, events, sensor_size)
    width, height, polarities = sensor_size
    times = events["t"].astype(np.int64)
    times -= times.min()
    last = int(times.max())
    step = times // int(window or 1) if steps is None else times * steps // (last + 1)
    n_steps = last // int(window or 1) + 1 if steps is None else steps
    n_places = polarities * height * width
    if n_steps * n_places > _MOST_COUNTS:
        raise DataError(f"{who} must fit into {_MOST_COUNTS:,} counts, got {n_steps:,} steps; try a longer window")
    place = events["p"].astype(np.int64) if polarities > 1 else np.zeros_like(times)
    place = place * height + (events["y"].astype(np.int64) if "y" in events.dtype.names else 0)
    place = place * width + events["x"].astype(np.int64)
    counts = np.bincount(step * n_places + place, minlength=n_steps * n_places)
    frames = torch.from_numpy(counts.reshape(n_steps, polarities, height, width)).float()
    return frames.clamp_(max=1) if binary else frames


def _checked(who: str, events: Any, sensor_size: tuple[int, int, int]) -> Any:
    """Return events that lie within the sensor."""
    names = getattr(getattr(events, "dtype", None), "names", None) or ()
    needed = ("x", "t", "p") if sensor_size[1] == 1 else ("x", "y", "t", "p")
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            f"{who} must be a structured array with the fields {', '.join(needed)}, got {', '.join(names) or 'none'}"
        )
    if events.ndim != 1 or len(events) == 0:
        raise DataError(f"{who} must have at least one event in a row, got shape {list(events.shape)}")
    for name in needed:
        if events[name].dtype.kind not in ("iub" if name == "p" else "iu"):
            advice = "; try microseconds" if name == "t" else ""
            raise DataError(f"{who}: {name} must be whole numbers, got {events[name].dtype}{advice}")
    for name, size in zip("xyp", sensor_size, strict=True):
        if name not in names:
            continue
        low, high = int(events[name].min()), int(events[name].max())
        if name == "p" and size == 1:
            if low != high:
                raise DataError(
                    f"{who}: p must be the same for all events of a sensor with one polarity, got both {low} and {high}"
                )
        elif low < 0 or high >= size:
            raise DataError(
                f"{who}: {name} must lie in 0 to {size - 1} for sensor_size={tuple(sensor_size)}, got {low} to {high}"
            )
    return events
