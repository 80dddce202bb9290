"""check: what is found is told, never raised, and nothing is downloaded."""

import gzip
import re

import pytest

from neuropil.data import DataError, check


def test_whole_files_of_the_publisher(mnist_root):
    found = check("mnist", mnist_root)
    assert (found.name, found.state, found.published) == ("mnist", "ok", "4 of 4")
    assert found.detail.startswith("20 training and 10 test images of 10 classes, mean 0.")
    assert (found.train_counts, found.test_counts) == ((2,) * 10, (1,) * 10)


def test_another_checksum_is_no_damage(mnist_root):
    path = mnist_root / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=7))
    found = check("mnist", mnist_root)
    assert (found.state, found.published) == ("ok", "3 of 4")


def test_missing_files_are_told_and_not_fetched(mnist_root, monkeypatch):
    monkeypatch.setattr("pooch.retrieve", lambda *args, **kwargs: pytest.fail("downloads"))
    (mnist_root / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    found = check("mnist", mnist_root)
    assert found.state == "missing"
    assert found.detail == f"t10k-labels-idx1-ubyte.gz is not in {mnist_root / 'mnist'}"
    assert (found.published, found.train_counts) == ("", ())


def test_damage_is_told(mnist_root):
    path = mnist_root / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    found = check("mnist", mnist_root)
    assert (found.state, found.published) == ("damaged", "3 of 4")
    assert found.detail.startswith(f"{path}: must be a whole gzip file")


def test_cifar_checksums_are_of_the_archive_and_cannot_be_told(tmp_path, small_cifar, cifar_files, lay_out):
    lay_out(tmp_path, cifar_files["cifar-100"])
    found = check("cifar-100", tmp_path)
    assert (found.state, found.published) == ("ok", "")
    assert (sum(found.train_counts), len(found.train_counts)) == (10, 100)


def test_digits_need_no_files():
    found = check("digits")
    assert (found.state, found.published) == ("ok", "")
    assert (sum(found.train_counts), sum(found.test_counts)) == (1078, 719)


def test_unknown_name_is_raised():
    with pytest.raises(DataError, match=re.escape("got 'fmnist'; try ")):
        check("fmnist")
