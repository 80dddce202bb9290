"""Cross-validation: training images in parts, each of which is held out once."""

from typing import Literal, get_args

import torch
from torch import Tensor

from neuropil.data.dataset import Dataset, Split, make_dataset
from neuropil.randomness import stream

FoldOrder = Literal["stratified", "contiguous"]


def fold(dataset: Dataset, k: int, n_folds: int, *, order: FoldOrder = "stratified", seed: int = 0) -> Dataset:
    """Return the data set of one fold: the k-th part of the training images is held out, the others train.

    The held-out part stands where the test images were; those are not in the result at all. Mean and deviation are
    those of the images that train. Which images a part consists of follows from the labels, ``n_folds``, ``order`` and
    ``seed``, not from ``k``: over all k, each image is held out exactly once.

    Args:
        dataset: its training part is divided; it is not changed.
        k: which part is held out, 0 to n_folds − 1.
        n_folds: number of parts, 2 to the number of training images. Their sizes differ by at most one.
        order: ``stratified``: drawn at random so that in every class the parts' shares differ by at most one image;
            ``contiguous``: neighbours in the data set's own order, not shuffled, with whatever classes they have.
        seed: of the draw; a seed and no generator, because the calls for all k must draw the same.

    Raises:
        ValueError: k, n_folds or the order is out of range, or there is a validation split already.

    Reference:
        R. Kohavi, A study of cross-validation and bootstrap for accuracy estimation and model selection, IJCAI 1995,
        for stratified parts; contiguous ones are those of G2GNet's public code (arXiv 2508.14140).

    Example:
        >>> from neuropil import data
        >>> parts = [fold(data.load("digits"), k, 5) for k in range(5)]
        >>> [(len(part.train), len(part.test)) for part in parts]
        [(862, 216), (862, 216), (862, 216), (863, 215), (863, 215)]
    """
    n = len(dataset.train)
    if not 2 <= n_folds <= n:
        raise ValueError(f"fold: n_folds must lie in 2 to {n}, the number of training images, got {n_folds}")
    if not 0 <= k < n_folds:
        raise ValueError(f"fold: k must lie in 0 to n_folds − 1, got {k} of {n_folds}; the first fold is 0")
    if order not in get_args(FoldOrder):
        raise ValueError(f"fold: order must be one of {', '.join(get_args(FoldOrder))}, got {order!r}")
    if dataset.validation is not None:
        raise ValueError(f"fold: dataset must have no validation split, got one of {len(dataset.validation)} images")
    if order == "stratified":
        held_out = _stratified_parts(dataset.train.labels, n_folds, stream(seed, "folds")) == k
    else:
        held_out = torch.zeros(n, dtype=torch.bool)
        held_out[torch.arange(n).tensor_split(n_folds)[k]] = True
    train, test = (Split(dataset.train.images[part], dataset.train.labels[part]) for part in (~held_out, held_out))
    return make_dataset(dataset.name, train, test, dataset.classes, dataset.max_value)


def _stratified_parts(labels: Tensor, n_folds: int, generator: torch.Generator) -> Tensor:
    """Return the part of each image, int64 ``[n]``: shuffled within their class, images are dealt out like cards."""
    shuffled = torch.randperm(len(labels), generator=generator, device="cpu")
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    parts = torch.empty_like(by_class)
    parts[by_class] = torch.arange(len(labels)) % n_folds
    return parts
