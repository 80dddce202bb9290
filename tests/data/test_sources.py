"""The table of data sets: complete, and its own name everywhere."""

import re

import pytest

from neuropil.data import SOURCES


@pytest.mark.parametrize("name", SOURCES)
def test_entry_is_complete(name):
    source = SOURCES[name]
    assert source.name == name
    assert source.title
    assert source.citation
    assert "\n" not in source.what
    assert source.url.startswith("http")
    assert len(set(source.classes)) == source.n_classes
    assert min(source.n_train, source.n_test, *source.image_shape) > 0
    assert all(re.fullmatch("[0-9a-f]{32}", file.md5) for file in source.files)
    assert (
        len({file.md5 for file in source.files})
        == len(source.files)
        == {"builtin": 0, "idx": 4, "cifar": 1}[source.layout]
    )
    assert all(source.url.endswith("/") for _ in source.files)


def test_numbers_of_classes_and_images():
    found = {name: (source.n_classes, source.n_train + source.n_test) for name, source in SOURCES.items()}
    assert found == {
        "digits": (10, 1797),
        "mnist": (10, 70_000),
        "fashion-mnist": (10, 70_000),
        "cifar-10": (10, 60_000),
        "cifar-100": (100, 60_000),
    }


def test_fine_classes_are_numbered_by_the_alphabet():
    classes = SOURCES["cifar-100"].classes
    assert list(classes) == sorted(classes)
    assert (classes[0], classes[19], classes[99]) == ("apple", "cattle", "worm")
