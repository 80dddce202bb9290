"""load: where files are looked for, that both layouts come out right, and what is said when they do not."""

import gzip
import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from neuropil.data import SOURCES, DataError, load

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def same(one, other) -> bool:
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in ((one.train, other.train), (one.test, other.test))
    )


def test_digits_are_always_the_same():
    digits = load("digits")
    assert (digits.max_value, digits.validation, digits.n_classes) == (16, None, 10)
    assert (digits.train.images.dtype, int(digits.train.images.max())) == (torch.uint8, 16)
    counts = [torch.bincount(part.labels).tolist() for part in (digits.train, digits.test)]
    totals = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert [a + b for a, b in zip(*counts, strict=True)] == totals
    assert all(abs(test - total * 719 / 1797) < 1 for test, total in zip(counts[1], totals, strict=True))
    # published results are comparable only while this stays so
    assert hashlib.sha256(digits.test.images.numpy().tobytes()).hexdigest()[:16] == "86b219da337f7c7f"


def test_idx_files_become_images_and_labels(mnist_root, idx_files):
    mnist = load("mnist", mnist_root, download=False)
    assert (mnist.input_shape, len(mnist.train), len(mnist.test), mnist.max_value) == ((1, 4, 3), 20, 10, 255)
    pixels = np.frombuffer(gzip.decompress(idx_files[IMAGES])[16:], np.uint8)
    assert mnist.train.images.flatten().tolist() == pixels.tolist()
    assert mnist.test.labels.tolist() == list(range(10))


def test_plain_files_are_as_good_as_gzip(mnist_root):
    before = load("mnist", mnist_root, download=False)
    for path in list((mnist_root / "mnist").iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert same(load("mnist", mnist_root, download=False), before)


def test_root_may_be_the_folder_itself_the_environment_or_below_home(mnist_root, monkeypatch):
    expected = load("mnist", mnist_root, download=False)
    assert same(load("mnist", mnist_root / "mnist", download=False), expected)
    monkeypatch.setenv("NEUROPIL_DATA", str(mnist_root))
    assert same(load("mnist", download=False), expected)
    monkeypatch.setenv("HOME", str(mnist_root.parent))
    monkeypatch.setenv("NEUROPIL_DATA", "~/root")
    assert same(load("mnist", download=False), expected)


def test_the_argument_comes_before_the_environment(mnist_root, tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROPIL_DATA", str(mnist_root))
    with pytest.raises(DataError, match=re.escape(f"must be in {tmp_path / 'mnist'}, got no such file")):
        load("mnist", tmp_path, download=False)


def test_without_root_and_environment_the_cache_folder_is_used(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROPIL_DATA", "")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "neuropil" / "mnist"))):
        load("mnist", download=False)


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
@pytest.mark.parametrize("below", ["{name}", "."], ids=["root/name", "root"])
def test_cifar_files_become_images_and_labels(tmp_path, small_cifar, cifar_files, lay_out, name, below):
    lay_out(tmp_path / below.format(name=name), cifar_files[name])
    cifar = load(name, tmp_path, download=False)
    assert (cifar.input_shape, len(cifar.train), len(cifar.test)) == ((3, 32, 32), 10, 4)
    *train, test = cifar_files[name].values()
    width = 3074 if name == "cifar-100" else 3073
    for split, content in ((cifar.train, b"".join(train)), (cifar.test, test)):
        rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        assert split.labels.tolist() == rows[:, -3073].tolist()
        assert split.images.flatten(1).tolist() == rows[:, -3072:].tolist()


def test_label_out_of_range_is_named(mnist_root):
    path = mnist_root / "mnist" / LABELS
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] = 10
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=re.escape(f"{path}: labels must lie in 0 to 9, got 10")):
        load("mnist", mnist_root, download=False)


@pytest.mark.parametrize(("name", "label", "highest"), [("cifar-10", 10, 9), ("cifar-100", 100, 99)])
def test_cifar_label_out_of_range_is_named(tmp_path, small_cifar, cifar_files, lay_out, name, label, highest):
    path, content = next(iter(cifar_files[name].items()))
    content = bytearray(content)
    content[1 if name == "cifar-100" else 0] = label
    lay_out(tmp_path, cifar_files[name] | {path: content})
    with pytest.raises(DataError, match=re.escape(f"{path}: labels must lie in 0 to {highest}, got {label}")):
        load(name, tmp_path, download=False)


def test_unequal_numbers_of_images_and_labels_are_named(mnist_root):
    path = mnist_root / "mnist" / LABELS
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x13" + bytes(19)))
    with pytest.raises(DataError, match=re.escape(f"{path}: must declare the dimensions 20, got 19")):
        load("mnist", mnist_root, download=False)


def test_the_file_that_is_missing_is_the_one_named(mnist_root):
    (mnist_root / "mnist" / LABELS).unlink()
    sentence = (
        f"mnist: {LABELS} must be in {mnist_root / 'mnist'}, got no such file; name the folder of data sets "
        "with root=, --data or NEUROPIL_DATA"
    )
    with pytest.raises(DataError, match=re.escape(sentence)):
        load("mnist", mnist_root, download=False)


def test_missing_cifar_file_is_named(tmp_path, small_cifar, cifar_files, lay_out):
    lay_out(tmp_path / "cifar-10", cifar_files["cifar-10"])
    (tmp_path / "cifar-10" / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"cifar-10: cifar-10-batches-bin/data_batch_4\.bin must be in"):
        load("cifar-10", tmp_path, download=False)


def test_files_of_another_set_with_the_same_names_are_not_taken(mnist_root):
    with pytest.raises(DataError, match=r"fashion-mnist: train-images-idx3-ubyte\.gz must be in"):
        load("fashion-mnist", mnist_root / "mnist", download=False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cifar", "; try 'cifar-10'"), ("fashion", "; try 'fashion-mnist'"), ("mnits", "; try 'mnist'"), ("zebra", "")],
)
def test_unknown_name_gets_the_nearest(name, hint):
    sentence = f"load: name must be one of {', '.join(SOURCES)}, got {name!r}{hint}"
    with pytest.raises(DataError, match=re.escape(sentence) + "$"):
        load(name)


def test_import_loads_neither_pooch_nor_scikit_learn_nor_rich():
    code = "import sys, neuropil.data; print(sorted({'pooch', 'sklearn', 'rich', 'requests'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
