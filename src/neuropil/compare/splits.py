"""The images that a run trains with and those that it is scored on."""

from collections.abc import Mapping
from typing import Any

from neuropil import data
from neuropil.data import Dataset
from neuropil.randomness import stream

# the validation split, the folds and the digits' test split are the same for every seed: arms and seeds see the same
# images
_SPLIT_SEED = 0


def split_data(dataset: Dataset, description: Mapping[str, Any]) -> Dataset:
    """Return a data set as a run's recipe divides it.

    Args:
        dataset: as loaded.
        description: the section ``data`` of :func:`neuropil.compare.run_recipe`.

    Returns:
        The data set with a validation split; or, in cross-validation, one fold of its training part: what is held out
        stands in place of the test images, and there is no validation split.

    Raises:
        ValueError: a share or a fold is out of range.
    """
    if "fold" in description:
        k, n_folds, order = (description[key] for key in ("fold", "n_folds", "fold_order"))
        return data.fold(dataset, k, n_folds, order=order, seed=_SPLIT_SEED)
    return data.with_validation(dataset, description["validation"], stream(_SPLIT_SEED, "validation"))
