"""Data sets as plain arrays, which engines hand to all processes without a copy."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.compare.splits import split_data
from neuropil.data import Dataset
from neuropil.data.dataset import Split

_SPLITS = ("train", "test", "validation")


@dataclass(frozen=True)
class SharedData:
    """A data set, divided as runs want it, or, where they train on folds of it, whole.

    Attributes:
        arrays: images and labels of each split, by its name.
        others: the other attributes of the data set.
        is_divided: whether nothing is left to divide.
    """

    arrays: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
    others: Mapping[str, Any]
    is_divided: bool

    def dataset(self, description: Mapping[str, Any]) -> Dataset:
        """Return the data of a run, as views of the arrays, which nobody writes to; folds are copies.

        Args:
            description: section ``data`` of the run's recipe.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            splits: dict[str, Any] = {
                name: Split(torch.from_numpy(images), torch.from_numpy(labels))
                for name, (images, labels) in self.arrays.items()
            }
        for split in splits.values():  # read once, before anyone measures time and memory of training
            split.images.max(), split.labels.max()
        dataset = Dataset(**splits, **self.others)
        return dataset if self.is_divided else split_data(dataset, description)


def share_data(dataset: Dataset, description: Mapping[str, Any]) -> SharedData:
    """Divide a data set as all runs with the same :func:`data_key` want it.

    Args:
        dataset: as loaded.
        description: section ``data`` of one of their recipes.

    Raises:
        ValueError: it cannot be divided so.
    """
    divided = split_data(dataset, description)
    is_divided = "fold" not in description
    kept = divided if is_divided else dataset
    splits = {name: split for name in _SPLITS if (split := getattr(kept, name)) is not None}
    return SharedData(
        arrays={name: (np.asarray(split.images), np.asarray(split.labels)) for name, split in splits.items()},
        others={name: value for name, value in vars(kept).items() if name not in _SPLITS},
        is_divided=is_divided,
    )


def data_key(description: Mapping[str, Any]) -> str:
    """Name what runs share: the same name where their recipes describe the same data, whatever their folds."""
    return json.dumps({key: value for key, value in description.items() if key != "fold"}, sort_keys=True)
