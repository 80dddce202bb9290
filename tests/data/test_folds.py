"""Folds: every image held out once, shares kept, and nothing left of the test images."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.data import Dataset, Split, fold, load, with_validation
from neuropil.data.dataset import make_dataset


def made_up(labels, n_test: int = 3) -> Dataset:
    """Number the images in two bytes, so that each can be known again; test images bear numbers from 60000 on."""

    def split(labels, first):
        number = first + torch.arange(len(labels))
        images = torch.stack([number // 256, number % 256], dim=1).byte().view(-1, 1, 1, 2)
        return Split(images, torch.as_tensor(labels, dtype=torch.int64))

    classes = tuple(map(str, range(max(labels) + 1)))
    return make_dataset("made up", split(labels, 0), split([0] * n_test, 60_000), classes, 255)


def numbers(part: Split) -> list[int]:
    return [256 * high + low for high, low in part.images[:, 0, 0].tolist()]


labels_of_classes = st.lists(st.integers(0, 5), min_size=2, max_size=200)


@given(labels_of_classes, st.integers(2, 12), st.integers(0, 2**31), st.sampled_from(["stratified", "contiguous"]))
def test_each_image_is_held_out_once(labels, n_folds, seed, order):
    whole = made_up(labels)
    n_folds = min(n_folds, len(labels))
    parts = [fold(whole, k, n_folds, order=order, seed=seed) for k in range(n_folds)]
    held_out = [numbers(part.test) for part in parts]
    assert sorted(number for one in held_out for number in one) == list(range(len(labels)))
    assert {len(one) for one in held_out} <= {len(labels) // n_folds, -(-len(labels) // n_folds)}
    for part, out in zip(parts, held_out, strict=True):
        assert numbers(part.train) == [i for i in range(len(labels)) if i not in out]
        assert out == sorted(out)
        for split in (part.train, part.test):
            assert split.labels.tolist() == [labels[i] for i in numbers(split)]
        assert part.validation is None
        assert (part.name, part.classes, part.max_value) == (whole.name, whole.classes, whole.max_value)
    if order == "stratified":
        for label in set(labels):
            counts = [part.test.labels.tolist().count(label) for part in parts]
            assert max(counts) - min(counts) <= 1


@given(labels_of_classes, st.integers(2, 12))
def test_contiguous_folds_are_neighbours(labels, n_folds):
    n_folds = min(n_folds, len(labels))
    whole = made_up(labels)
    cut = [number for k in range(n_folds) for number in numbers(fold(whole, k, n_folds, order="contiguous").test)]
    assert cut == list(range(len(labels)))


def test_contiguous_folds_by_hand():
    held_out = [numbers(fold(made_up([0] * 11), k, 3, order="contiguous").test) for k in range(3)]
    assert held_out == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_the_same_seed_gives_the_same_folds_whatever_is_drawn_between():
    whole = made_up([0, 1, 2] * 20)
    first = numbers(fold(whole, 1, 5).test)
    torch.rand(3)
    assert numbers(fold(whole, 1, 5).test) == first
    assert numbers(fold(whole, 1, 5, seed=1).test) != first
    assert numbers(fold(whole, 1, 5, order="contiguous", seed=1).test) == list(range(12, 24))
    before = torch.get_rng_state()
    fold(whole, 0, 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("order", ["stratified", "contiguous"])
def test_the_test_images_cannot_be_reached(order):
    whole = made_up([0, 1] * 10)
    part = fold(whole, 0, 4, order=order)
    secret = {tensor.untyped_storage().data_ptr() for tensor in (whole.test.images, whole.test.labels)}
    seen = [getattr(part, field.name) for field in dataclasses.fields(part)]
    splits = [value for value in seen if isinstance(value, Split)]
    assert splits == [part.train, part.test]
    for split in splits:
        assert not secret & {tensor.untyped_storage().data_ptr() for tensor in (split.images, split.labels)}
        assert not set(numbers(split)) & set(numbers(whole.test))


def test_mean_and_deviation_are_those_of_what_trains():
    whole = load("digits")
    part = fold(whole, 2, 5)
    scaled = part.train.images.double() / whole.max_value
    assert part.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert part.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())
    assert part.mean != whole.mean


def test_as_many_folds_as_images_leave_one_out():
    whole = made_up([0, 0, 1])
    assert [len(fold(whole, k, 3).train) for k in range(3)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("k", "n_folds", "order", "sentence"),
    [
        (0, 1, "stratified", "fold: n_folds must lie in 2 to 6, the number of training images, got 1"),
        (0, 7, "stratified", "fold: n_folds must lie in 2 to 6, the number of training images, got 7"),
        (3, 3, "stratified", "fold: k must lie in 0 to n_folds − 1, got 3 of 3; the first fold is 0"),
        (-1, 3, "contiguous", "fold: k must lie in 0 to n_folds − 1, got -1 of 3; the first fold is 0"),
        (0, 3, "sorted", "fold: order must be one of stratified, contiguous, got 'sorted'"),
    ],
)
def test_what_is_out_of_range_is_named(k, n_folds, order, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        fold(made_up([0, 1, 2] * 2), k, n_folds, order=order)


def test_a_validation_split_stands_in_the_way(generator):
    with pytest.raises(ValueError, match="fold: dataset must have no validation split, got one of 2 images"):
        fold(with_validation(made_up([0, 1] * 5), 0.2, generator), 0, 2)
