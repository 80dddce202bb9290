"""What can be read from a representation by a linear map: labels, or another representation."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from neuropil.measure.samples import as_same_samples, as_samples

Classifier = Literal["logistic", "ridge"]


@dataclass(frozen=True)
class ProbeAccuracy:
    """How well labels are read from a representation.

    Attributes:
        accuracy: share of the test samples that are right, in [0, 1].
        train_accuracy: the same of the training samples.
        majority: share of the test samples that the most frequent training label gets right: the floor.
    """

    accuracy: float
    train_accuracy: float
    majority: float


def linear_probe(
    x: Tensor,
    labels: Tensor,
    test_x: Tensor,
    test_labels: Tensor,
    *,
    classifier: Classifier = "logistic",
    penalty: float = 1.0,
) -> ProbeAccuracy:
    """Train a linear classifier on activations, such as those of a layer, and test it on others.

    Units are standardized by the mean and deviation of the training samples alone.

    Args:
        x: training activations ``[s, n]``.
        labels: integers ``[s]``, at least two different ones.
        test_x: test activations ``[r, n]``.
        test_labels: integers ``[r]``.
        classifier: ``logistic``: multinomial regression; ``ridge``: least squares on ±1, faster.
        penalty: strength λ > 0 of λ ‖w‖² (half of it for ``logistic``) beside the sum of the samples' losses.

    Returns:
        Accuracies in [0, 1]. Cost: O(s n) an iteration (logistic), O(s n min(s, n)) (ridge).

    Raises:
        ValueError: other shapes, labels of one class or of another number than samples, a penalty that is not above 0,
            an unknown classifier.

    Reference:
        G. Alain, Y. Bengio, arXiv 1610.01644; scikit-learn's ``LogisticRegression`` and ``RidgeClassifier``.

    Example:
        >>> x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
        >>> linear_probe(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[-5.0], [0.5]]), torch.tensor([0, 1]))
        ProbeAccuracy(accuracy=1.0, train_accuracy=1.0, majority=0.5)
    """
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check_penalty("linear_probe", penalty)
    if classifier not in get_args(Classifier):
        raise ValueError(f"linear_probe: classifier must be logistic or ridge, got {classifier!r}; try 'logistic'")
    x, test_x = as_samples("linear_probe", x), as_samples("linear_probe", test_x, least=1)
    if x.shape[1] != test_x.shape[1]:
        raise ValueError(
            f"linear_probe: training and test activations must be of the same units, got {x.shape[1]} and "
            f"{test_x.shape[1]}; try the same layer"
        )
    for inputs, classes in ((x, labels), (test_x, test_labels)):
        if classes.shape != (len(inputs),) or classes.is_floating_point():
            raise ValueError(
                f"linear_probe: labels must be integers, one a sample, got {classes.dtype} of shape "
                f"{list(classes.shape)} for {len(inputs)} samples; try labels.argmax(1) of one-hot ones"
            )
    kinds, counts = np.unique(labels.cpu().numpy(), return_counts=True)
    if len(kinds) < 2:
        raise ValueError("linear_probe: training labels must be of at least 2 classes, got 1; try more samples")
    model: Any = (
        LogisticRegression(C=1 / penalty, max_iter=1000) if classifier == "logistic" else RidgeClassifier(alpha=penalty)
    )
    probe = make_pipeline(StandardScaler(), model)
    probe.fit(x.cpu().numpy(), labels.cpu().numpy())
    return ProbeAccuracy(
        accuracy=float(probe.score(test_x.cpu().numpy(), test_labels.cpu().numpy())),
        train_accuracy=float(probe.score(x.cpu().numpy(), labels.cpu().numpy())),
        majority=float((test_labels == int(kinds[counts.argmax()])).double().mean()),
    )


def linear_predictability(
    x: Tensor, y: Tensor, *, generator: torch.Generator, folds: int = 5, penalty: float = 1.0
) -> float:
    """Return how well one representation is predicted linearly from another, as a cross-validated R².

    In each fold, ridge regression from x to y is fitted to the other folds, by which x is also standardized. R² is
    1 − Σ ‖y − ŷ‖² / Σ ‖y − ȳ‖² over all held-out samples and units together, ȳ the mean of the samples fitted to: units
    count by their variance. It is not symmetric.

    Args:
        x: ``[s, n]``, what is predicted from.
        y: ``[s, m]``, the same samples in the same order.
        generator: draws the folds.
        folds: parts, from 2 to s; as equal as they can be.
        penalty: strength λ > 0 of λ ‖w‖² beside the sum of squared errors.

    Returns:
        A number in (−∞, 1]: 1 if y is a linear map of x (less what the penalty takes), 0 if the mean does as well,
        below if x misleads, as with more units than samples it may; nan if y does not vary. Cost: ``folds``
        regressions of O(s n min(s, n) + s n m).

    Raises:
        ValueError: other shapes, different numbers of samples, too few of them, folds or penalty out of range.

    Reference:
        Linear regression between layers of two networks: S. Kornblith et al., arXiv 1905.00414, there without
        cross-validation; scikit-learn's ``Ridge``.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0], [3.0, 1.0], [4.0, 4.0], [5.0, 2.0]])
        >>> round(linear_predictability(x, x @ torch.ones(2, 3), generator=torch.Generator(), penalty=1e-9), 4)
        1.0
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check_penalty("linear_predictability", penalty)
    x, y = as_same_samples("linear_predictability", x, y, least=4)
    if not 2 <= folds <= len(x):
        raise ValueError(
            f"linear_predictability: folds must be from 2 to the number of samples, got {folds} of {len(x)}; try 5"
        )
    if bool((y.amax(0) == y.amin(0)).all()):
        return math.nan
    sources, targets = x.cpu().numpy(), y.cpu().numpy()
    order = torch.randperm(len(x), generator=generator, device=generator.device).cpu()
    error = total = 0.0
    for held_out in order.tensor_split(folds):
        fitted = torch.ones(len(x), dtype=torch.bool)
        fitted[held_out] = False
        train, test = fitted.numpy(), ~fitted.numpy()
        model = make_pipeline(StandardScaler(), Ridge(alpha=penalty))
        predicted = model.fit(sources[train], targets[train]).predict(sources[test])
        error += float(((targets[test] - predicted.reshape(targets[test].shape)) ** 2).sum())
        total += float(((targets[test] - targets[train].mean(0)) ** 2).sum())
    return 1 - error / total if total else math.nan


def _check_penalty(measure: str, penalty: float) -> None:
    if not 0 < penalty < math.inf:
        raise ValueError(f"{measure}: penalty must be above 0, got {penalty}; try 1.0")
