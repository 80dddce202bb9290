"""Dataset: normalizing and batches against plain formulas; with_validation keeps every promise it makes."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuropil.data import Dataset, Split, load, with_validation
from neuropil.data.dataset import make_dataset


def made_up(labels, n_test: int = 2, channels: int = 1) -> Dataset:
    """Number the images: image i holds i in two bytes, so that each can be known again."""
    labels = torch.as_tensor(labels, dtype=torch.int64)
    images = torch.zeros(len(labels), channels, 1, 2, dtype=torch.uint8)
    number = torch.arange(len(labels))
    images[:, 0, 0, 0], images[:, 0, 0, 1] = (number // 256).byte(), (number % 256).byte()
    n_classes = int(labels.max()) + 1
    test = Split(images[:n_test], labels[:n_test])
    return make_dataset("made up", Split(images, labels), test, tuple(map(str, range(n_classes))), 255)


def numbers(split: Split) -> list[int]:
    return [256 * high + low for high, low in split.images[:, 0, 0].tolist()]


@pytest.fixture
def colours():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (11, 3, 4, 5), dtype=torch.uint8, generator=generator)
    images[:, 2] = 7  # a channel without variance
    split = Split(images, torch.arange(11) % 3)
    return make_dataset("colours", split, split, ("a", "b", "c"), 255)


def test_mean_and_std_are_those_of_pixels_scaled_to_one(colours):
    scaled = colours.train.images.double() / 255
    assert colours.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert colours.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), rel=1e-12, abs=1e-12)
    assert colours.std[2] == 0
    assert (colours.n_classes, colours.input_shape) == (3, (3, 4, 5))


@pytest.mark.parametrize("n", [1, 3, 7])
def test_constant_channel_deviates_by_exactly_nothing(n):
    """Were it 1e-17 instead, normalizing would turn rounding errors into numbers of a million millions."""
    for value in range(256):
        split = Split(torch.full((n, 1, 2, 2), value, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64))
        dataset = make_dataset("grey", split, split, ("one",), 255)
        assert dataset.std == (0.0,)
        assert dataset.normalize(split.images).abs().max() < 1e-6


def test_normalize_is_the_formula_and_guards_constant_channels(colours):
    got = colours.normalize(colours.train.images)
    assert got.dtype == torch.float32
    for channel in range(3):
        scaled = colours.train.images[:, channel].double() / 255 - colours.mean[channel]
        expected = scaled / (colours.std[channel] or 1)
        torch.testing.assert_close(got[:, channel].double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[:, :2].mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(got[:, :2].std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert colours.normalize(colours.train.images[:0]).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_batches_without_a_generator_are_in_order_and_complete(colours, batch_size):
    batches = list(colours.batches(colours.train, batch_size))
    sizes = [len(labels) for _, labels in batches]
    assert sizes == [min(batch_size, 11 - start) for start in range(0, 11, batch_size)]
    assert torch.equal(torch.cat([labels for _, labels in batches]), colours.train.labels)
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), colours.normalize(colours.train.images))


def test_batches_with_a_generator_are_a_permutation_that_the_generator_decides(colours):
    def once(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = list(colours.batches(colours.train, 4, generator))
        return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])

    images, labels = once(0)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(labels, colours.train.labels[order])
    assert torch.equal(images, colours.normalize(colours.train.images[order]))
    assert torch.equal(once(0)[0], images)
    assert not torch.equal(once(1)[0], images)


def test_batches_check_and_draw_at_the_call(colours, generator):
    with pytest.raises(ValueError, match=r"Dataset\.batches: batch_size must be at least 1, got 0"):
        colours.batches(colours.train, 0)
    before = generator.get_state()
    colours.batches(colours.train, 4, generator)
    assert not torch.equal(generator.get_state(), before)


def test_nothing_touches_the_global_random_state(colours, generator):
    before = torch.get_rng_state()
    list(colours.batches(colours.train, 4, generator))
    with_validation(colours, 0.3, generator)
    load("digits")
    assert torch.equal(torch.get_rng_state(), before)


def test_wrong_tensors_are_named(colours):
    images, labels = colours.train.images, colours.train.labels
    with pytest.raises(TypeError, match=r"Split: images must be torch\.uint8, got torch\.float32"):
        Split(images.float(), labels)
    with pytest.raises(TypeError, match=r"Split: labels must be torch\.int64, got torch\.uint8"):
        Split(images, labels.byte())
    shapes = re.escape("must have the shapes [n, c, h, w] and [n], got [11, 3, 4, 5] and [10]")
    with pytest.raises(ValueError, match=shapes):
        Split(images, labels[:10])
    with pytest.raises(TypeError, match=r"Dataset\.normalize: images must be uint8, got torch\.float32"):
        colours.normalize(colours.normalize(images))
    with pytest.raises(ValueError, match=re.escape("must have the shape [b, 3, h, w], got [11, 1, 4, 5]")):
        colours.normalize(images[:, :1])


def test_data_sets_are_equal_only_to_themselves(colours):
    assert colours == colours
    assert colours.train != Split(colours.train.images, colours.train.labels)


labels_of_classes = st.lists(st.integers(0, 5), min_size=3, max_size=300)


@given(labels_of_classes, st.floats(0.001, 0.999), st.integers(0, 2**31))
def test_validation_is_stratified_disjoint_exact_and_deterministic(labels, fraction, seed):
    whole = made_up(labels)
    n, n_held_out = len(labels), round(fraction * len(labels))
    if not 0 < n_held_out < n:
        with pytest.raises(ValueError, match="and leave images on either side"):
            with_validation(whole, fraction, torch.Generator().manual_seed(seed))
        return
    parts = with_validation(whole, fraction, torch.Generator().manual_seed(seed))
    assert len(parts.validation) == n_held_out
    assert sorted(numbers(parts.train) + numbers(parts.validation)) == list(range(n))
    for split in (parts.train, parts.validation):
        assert split.labels.tolist() == [labels[i] for i in numbers(split)]
    for label in set(labels):
        exact = labels.count(label) * n_held_out / n
        assert math.floor(exact) <= parts.validation.labels.tolist().count(label) <= math.ceil(exact)
    again = with_validation(whole, fraction, torch.Generator().manual_seed(seed))
    assert numbers(again.validation) == numbers(parts.validation)
    expected = parts.train.images.double() / 255
    assert parts.mean == pytest.approx(expected.mean((0, 2, 3)).tolist())
    assert parts.std == pytest.approx(expected.std((0, 2, 3), correction=0).tolist(), abs=1e-9)
    assert parts.test is whole.test
    assert whole.validation is None


def test_largest_remainders_by_hand():
    # 10 of 5 : 3 : 2 images, half of them: 2.5, 1.5 and 1; the place that is left goes to the first of equals
    parts = with_validation(made_up([0] * 5 + [1] * 3 + [2] * 2), 0.5, torch.Generator().manual_seed(0))
    assert torch.bincount(parts.validation.labels).tolist() == [3, 1, 1]


def test_other_seeds_hold_out_other_images():
    whole = made_up([0, 1] * 50)
    one, other = (with_validation(whole, 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert numbers(one.validation) != numbers(other.validation)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 0.001, 0.999, float("nan"), float("inf")])
def test_wrong_fraction_is_named(fraction, generator):
    sentence = f"fraction must lie in (0, 1) and leave images on either side, got {fraction:g} of 10"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        with_validation(made_up([0, 1] * 5), fraction, generator)


def test_validation_needs_a_generator_and_is_held_out_once(generator):
    whole = made_up([0, 1] * 5)
    with pytest.raises(TypeError, match=r"with_validation: generator must be a torch\.Generator, got NoneType"):
        with_validation(whole, 0.2, None)
    parts = with_validation(whole, 0.2, generator)
    with pytest.raises(ValueError, match="must have no validation split yet, got one of 2 images"):
        with_validation(parts, 0.2, generator)


def test_unit_range_is_pixels_over_the_largest_value(colours, generator):
    scaled = colours.in_unit_range()
    images = scaled.normalize(colours.train.images)
    torch.testing.assert_close(images, colours.train.images / 255, rtol=0, atol=1e-7)
    assert (images.amin(), images.amax()) == (0.0, 1.0)  # by no more than nothing outside: a probability
    assert (scaled.mean, scaled.std) == ((0.0,) * 3, (1.0,) * 3)
    assert (scaled.train, scaled.test, scaled.max_value) == (colours.train, colours.test, 255)
    assert colours.mean != scaled.mean  # the original is not changed
    digits = load("digits")
    images = digits.in_unit_range().normalize(digits.train.images)
    assert torch.equal(images, digits.train.images / 16)
    batch, _ = next(digits.in_unit_range().batches(digits.train, 50))
    assert torch.equal(batch, images[:50])
    parts = with_validation(digits, 0.1, generator)
    assert parts.in_unit_range().validation is parts.validation
    # dividing the data afterwards normalizes anew
    assert with_validation(digits.in_unit_range(), 0.1, torch.Generator().manual_seed(0)).mean != (0.0,)
