"""Linear probes and predictability: against scikit-learn and closed forms, without leaks from the test samples."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from neuropil.measure import ProbeAccuracy, linear_predictability, linear_probe
from neuropil.randomness import stream

KINDS = pytest.mark.parametrize("classifier", ["logistic", "ridge"])


def gaussian(*shape, name=""):
    return torch.randn(*shape, generator=stream(0, "probes", name, *shape), dtype=torch.float64)


def labelled(s, n, classes=3, name=""):
    labels = torch.arange(s).remainder(classes)
    return gaussian(s, n, name=name) + 1.5 * torch.eye(n)[labels], labels


@KINDS
@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
def test_probes_are_those_of_scikit_learn(classifier, penalty):
    (x, labels), (test_x, test_labels) = labelled(60, 5, name="train"), labelled(40, 5, name="test")
    found = linear_probe(x, labels, test_x, test_labels, classifier=classifier, penalty=penalty)
    train, test = ((z - x.mean(0)) / x.std(0, correction=0) for z in (x, test_x))
    model = LogisticRegression(C=1 / penalty, max_iter=1000) if classifier == "logistic" else RidgeClassifier(penalty)
    model.fit(train.numpy(), labels.numpy())
    assert found.accuracy == pytest.approx(float(np.mean(model.predict(test.numpy()) == test_labels.numpy())))
    assert found.train_accuracy == pytest.approx(float(np.mean(model.predict(train.numpy()) == labels.numpy())))
    assert found == linear_probe(x, labels, test_x, test_labels, classifier=classifier, penalty=penalty)


@KINDS
def test_separable_is_1_and_unrelated_is_chance(classifier):
    labels = torch.arange(400).remainder(4)
    one_hot = torch.eye(4)[labels]
    assert linear_probe(one_hot, labels, one_hot, labels, classifier=classifier).accuracy == 1.0
    x = gaussian(800, 6)
    found = linear_probe(x[:400], labels, x[400:], labels, classifier=classifier)
    assert found.accuracy == pytest.approx(0.25, abs=0.08)
    assert found.majority == 0.25


def test_majority_is_the_training_one():
    x, labels = gaussian(6, 2), torch.tensor([7, 7, 7, -1, -1, 2])
    found = linear_probe(x, labels, x[:4], torch.tensor([2, 2, 2, 7]))
    assert isinstance(found, ProbeAccuracy)
    assert found.majority == 0.25


@KINDS
def test_each_test_sample_is_read_by_itself(classifier):
    (x, labels), (test_x, test_labels) = labelled(60, 5, name="train"), labelled(40, 5, name="test")
    whole = linear_probe(x, labels, test_x, test_labels, classifier=classifier)
    single = [
        linear_probe(x, labels, test_x[i : i + 1], test_labels[i : i + 1], classifier=classifier).accuracy
        for i in range(40)
    ]
    assert whole.accuracy == pytest.approx(sum(single) / 40)


@KINDS
def test_scale_and_order_of_units_do_not_count(classifier):
    (x, labels), (test_x, test_labels) = labelled(60, 5, name="train"), labelled(40, 5, name="test")
    found = linear_probe(x, labels, test_x, test_labels, classifier=classifier)
    factors, order = torch.tensor([1e-3, 1.0, 5.0, 100.0, 1e4]), torch.tensor([3, 1, 4, 0, 2])
    changed = linear_probe(
        x[:, order] * factors, labels, test_x[:, order] * factors, test_labels, classifier=classifier
    )
    assert changed == found


def predictability(x, y, seed=0, **settings):
    return linear_predictability(x, y, generator=stream(seed, "folds"), **settings)


def test_linear_maps_are_predicted():
    x = gaussian(200, 6)
    y = x @ gaussian(6, 4, name="map") + 7.0
    assert predictability(x, y, penalty=1e-9) == pytest.approx(1.0)
    assert predictability(x, x, penalty=1e-9) == pytest.approx(1.0)
    # only what y keeps of x comes back
    assert 0.2 < predictability(y, x, penalty=1e-9) < 0.9


def test_noise_takes_its_share_of_the_variance():
    x = gaussian(4000, 3)
    y = x + 0.5 * gaussian(4000, 3, name="noise")
    assert predictability(x, y) == pytest.approx(1 / 1.25, abs=0.02)


def test_independent_representations_are_not_predicted():
    x, y = gaussian(100, 60, name="x"), gaussian(100, 60, name="y")
    assert predictability(x, y) < 0.0
    assert predictability(x, y, penalty=1e9) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("s", "n", "folds"), [(20, 3, 5), (9, 12, 4), (6, 2, 6)])
def test_against_closed_form_ridge(s, n, folds):
    x, y = gaussian(s, n, name="x") * 3 + 1, gaussian(s, 2, name="y")
    error = total = 0.0
    for held_out in torch.randperm(s, generator=stream(0, "folds")).tensor_split(folds):
        rest = torch.tensor([i for i in range(s) if i not in held_out.tolist()])
        mean, deviation = x[rest].mean(0), x[rest].std(0, correction=0)
        z = (x[rest] - mean) / deviation
        level = y[rest].mean(0)
        weight = torch.linalg.solve(z.T @ z + 2.0 * torch.eye(n), z.T @ (y[rest] - level))
        error += float((y[held_out] - level - (x[held_out] - mean) / deviation @ weight).square().sum())
        total += float((y[held_out] - level).square().sum())
    assert predictability(x, y, folds=folds, penalty=2.0) == pytest.approx(1 - error / total)


def test_folds_are_drawn_from_the_generator():
    x = gaussian(30, 3)
    y = x[:, :1] + gaussian(30, 1, name="noise")
    state = torch.get_rng_state()
    assert predictability(x, y) == predictability(x, y)
    assert predictability(x, y) != predictability(x, y, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_does_not_vary():
    x = gaussian(10, 3)
    assert math.isnan(predictability(x, torch.full((10, 2), 0.1)))
    assert predictability(torch.ones(10, 2), x) == pytest.approx(0.0, abs=1e-9)  # the mean is all there is


LABELS = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: linear_probe(x, LABELS, x[:, :1], LABELS), "must be of the same units, got 2 and 1"),
        (
            lambda x: linear_probe(x, LABELS[:3], x, LABELS),
            r"labels must be integers, one a sample, got torch.int64 of shape \[3\] for 4",
        ),
        (
            lambda x: linear_probe(x, LABELS, x, LABELS[:, None]),
            r"one a sample, got torch.int64 of shape \[4, 1\] for 4 samples",
        ),
        (
            lambda x: linear_probe(x, LABELS.double(), x, LABELS),
            "labels must be integers, one a sample, got torch.float64",
        ),
        (lambda x: linear_probe(x, LABELS * 0, x, LABELS), "training labels must be of at least 2 classes, got 1"),
        (lambda x: linear_probe(x, LABELS, x, LABELS, penalty=0.0), "linear_probe: penalty must be above 0, got 0.0"),
        (
            lambda x: linear_probe(x, LABELS, x, LABELS, classifier="svm"),
            "classifier must be logistic or ridge, got 'svm'",
        ),
        (
            lambda x: linear_probe(x[:1], LABELS[:1], x, LABELS),
            "linear_probe: activations must have at least 2 samples",
        ),
        (lambda x: predictability(x, x[:3]), "at least 4 samples and 1 unit, got 3"),
        (lambda x: predictability(x, torch.ones(5, 2)), "linear_predictability: both must hold .* got 4 and 5 samples"),
        (lambda x: predictability(x, x, folds=5), "folds must be from 2 to the number of samples, got 5 of 4"),
        (lambda x: predictability(x, x, folds=1), "folds must be from 2 to the number of samples, got 1 of 4"),
        (
            lambda x: predictability(x, x, folds=2, penalty=-1.0),
            "linear_predictability: penalty must be above 0, got -1.0",
        ),
    ],
)
def test_wrong_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call(gaussian(4, 2))
