"""Images and labels in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_SPLITS = ("train", "test", "validation")


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 ``[n, c, h, w]``.
        labels: int64 ``[n]``.

    Raises:
        TypeError: images are not uint8, or labels not int64.
        ValueError: shapes differ from these.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, values, dtype in (("images", self.images, torch.uint8), ("labels", self.labels, torch.int64)):
            if values.dtype != dtype:
                raise TypeError(f"Split: {name} must be {dtype}, got {values.dtype}")
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"Split: images and labels must have the shapes [n, c, h, w] and [n], got {list(self.images.shape)} "
                f"and {list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """Return the same images and labels on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set, kept as bytes and normalized batch by batch.

    Attributes:
        name: name of its source.
        train: training images.
        test: test images.
        validation: images held out from the training part by :func:`with_validation`, or None.
        classes: name of each class.
        max_value: largest value a pixel can have: 255, for the digits 16.
        mean: of each channel over the training part, pixels scaled to [0, 1].
        std: standard deviation, likewise.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    max_value: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Split | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def normalize(self, images: Tensor) -> Tensor:
        """Return (images / max_value − mean) / std, float32, of uint8 images ``[b, c, h, w]``.

        A channel that is constant over the training part is centred only.

        Raises:
            TypeError: the images are not uint8, so perhaps normalized already.
            ValueError: their number of channels is another.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"Dataset.normalize: images must be uint8, got {images.dtype}")
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"Dataset.normalize: images must have the shape [b, {len(self.mean)}, h, w], got {list(images.shape)}"
            )
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
            for values in (self.mean, self.std)
        )
        scale = torch.where(std > 0, std, 1.0) * self.max_value
        return (images - mean * self.max_value) / scale

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the same data on another device, as bytes: batches are then cut and normalized there."""
        moved = {name: split and split.to(device) for name, split in vars(self).items() if name in _SPLITS}
        return replace(self, **moved)

    def in_unit_range(self) -> "Dataset":
        """Return the same data with another :meth:`normalize`: pixels in [0, 1], neither centred nor scaled.

        That is what spiking networks encode: a pixel as the probability of a spike, for example. Call it last:
        :func:`with_validation` normalizes anew, by the images that are left.
        """
        n_channels = len(self.mean)
        return replace(self, mean=(0.0,) * n_channels, std=(1.0,) * n_channels)

    def batches(
        self,
        split: Split,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        part: Callable[[int], slice] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over normalized images ``[b, c, h, w]`` and labels ``[b]``; the last batch may be smaller.

        Args:
            split: which part of the data.
            batch_size: images a batch, at least 1.
            generator: where a random order comes from, drawn once, at the call; None: in order.
            part: from the size of a batch to which of its images are wanted; None: all.

        Raises:
            ValueError: the batch size is below 1.

        Example:
            >>> from neuropil import data
            >>> digits = data.load("digits")
            >>> images, labels = next(digits.batches(digits.train, 32))
            >>> images.shape, images.dtype, labels.shape
            (torch.Size([32, 1, 8, 8]), torch.float32, torch.Size([32]))
        """
        if batch_size < 1:
            raise ValueError(f"Dataset.batches: batch_size must be at least 1, got {batch_size}")
        order = None if generator is None else torch.randperm(len(split), generator=generator, device="cpu")
        if order is not None:
            order = order.to(split.images.device)
        return self._batches(split, batch_size, order, part)

    def _batches(
        self, split: Split, batch_size: int, order: Tensor | None, part: Callable[[int], slice] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Do the work of :meth:`batches`, which checks and draws when it is called, not at the first batch."""
        for start in range(0, len(split), batch_size):
            chosen = slice(start, min(start + batch_size, len(split)))
            if part is not None:
                wanted = part(chosen.stop - start)
                chosen = slice(start + wanted.start, start + wanted.stop)
            index = chosen if order is None else order[chosen]
            yield self.normalize(split.images[index]), split.labels[index]


def make_dataset(name: str, train: Split, test: Split, classes: tuple[str, ...], max_value: int) -> Dataset:
    """Return a data set with the mean and deviation of its training part."""
    mean, std = _moments(train.images, max_value)
    return Dataset(name, train, test, classes, max_value, mean, std)


def with_validation(dataset: Dataset, fraction: float, generator: torch.Generator) -> Dataset:
    """Hold out a stratified validation split; mean and deviation become those of the training images that are left.

    Args:
        dataset: its training part is divided; it is not changed.
        fraction: share of the training part to hold out, in (0, 1). Exactly round(fraction · n) images are held
            out, of each class as near to its share as whole numbers allow.
        generator: where the choice comes from.

    Raises:
        TypeError: the generator is none: nothing is drawn from PyTorch's global state.
        ValueError: the fraction is out of range or leaves one side empty, or there is a validation split already.

    Example:
        >>> from neuropil import data
        >>> digits = data.with_validation(data.load("digits"), 0.1, torch.Generator().manual_seed(0))
        >>> len(digits.train), len(digits.validation)
        (970, 108)
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"with_validation: generator must be a torch.Generator, got {type(generator).__name__}")
    if dataset.validation is not None:
        raise ValueError(
            f"with_validation: dataset must have no validation split yet, got one of {len(dataset.validation)} images"
        )
    n = len(dataset.train)
    n_held_out = round(fraction * n) if 0 < fraction < 1 else 0
    if not 0 < n_held_out < n:
        raise ValueError(
            f"with_validation: fraction must lie in (0, 1) and leave images on either side, got {fraction:g} of {n}"
        )
    held_out = stratified_choice(dataset.train.labels, n_held_out, generator)
    keep = torch.ones(n, dtype=torch.bool)
    keep[held_out] = False
    train, validation = (Split(dataset.train.images[part], dataset.train.labels[part]) for part in (keep, ~keep))
    mean, std = _moments(train.images, dataset.max_value)
    return replace(dataset, train=train, validation=validation, mean=mean, std=std)


def stratified_choice(labels: Tensor, n_chosen: int, generator: torch.Generator) -> Tensor:
    """Choose items so that each class keeps its share, by largest remainder; return their numbers, ascending."""
    counts = torch.bincount(labels)
    shares = counts.double() * n_chosen / len(labels)
    quota = shares.floor().long()
    rest = shares - quota
    quota[torch.argsort(rest, descending=True, stable=True)[: n_chosen - int(quota.sum())]] += 1
    chosen = []
    for label, take in enumerate(quota.tolist()):
        members = (labels == label).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator, device="cpu")[:take]])
    return torch.cat(chosen).sort().values


def _moments(images: Tensor, max_value: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel, pixels scaled to [0, 1], from counts of the 256 values: exact."""
    means, deviations = [], []
    value = torch.arange(256, dtype=torch.float64)
    for channel in images.unbind(1):
        counts = torch.bincount(channel.reshape(-1), minlength=256).double()
        # whole numbers until the division by max_value: a constant channel deviates by exactly 0
        mean = float((counts * value).sum() / counts.sum())
        means.append(mean / max_value)
        deviations.append(float((counts * (value - mean) ** 2).sum() / counts.sum()) ** 0.5 / max_value)
    return tuple(means), tuple(deviations)
