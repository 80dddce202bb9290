"""download: from a server in this process; what arrives is the publisher's, or nothing arrives."""

import dataclasses
import functools
import hashlib
import http.server
import io
import re
import tarfile
import threading

import pytest

from neuropil.data import SOURCES, DataError, check, load
from neuropil.data.sources import DataFile

LABELS = "train-labels-idx1-ubyte.gz"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """Serve a folder; return it and its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "publisher"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def mnist_publisher(publisher, small_mnist, idx_files, lay_out, monkeypatch):
    folder, url = publisher
    monkeypatch.setitem(SOURCES, "mnist", dataclasses.replace(small_mnist, url=url))
    return lay_out(folder, idx_files)


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def offer_cifar(publisher, small_cifar, monkeypatch):
    """Offer an archive of given members as the publisher's."""

    def offer(name, members, change=bytes):
        folder, url = publisher
        content = change(archive(members))
        file = DataFile(SOURCES[name].files[0].name, hashlib.md5(content).hexdigest())
        (folder / file.name).write_bytes(content)
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(SOURCES[name], url=url, files=(file,)))

    return offer


@pytest.mark.parametrize("progress", [False, True])
def test_missing_files_are_fetched_once(mnist_publisher, tmp_path, capsys, progress):
    root = tmp_path / "root"
    mnist = load("mnist", root, progress=progress)
    assert len(mnist.train) == 20
    assert check("mnist", root).published == "4 of 4"
    assert ("train-images" in capsys.readouterr().out) == progress
    for path in list(mnist_publisher.iterdir()):
        path.unlink()
    assert len(load("mnist", root).train) == 20
    assert len(list((root / "mnist").iterdir())) == 4


def test_only_what_is_missing_is_fetched(mnist_publisher, mnist_root):
    (mnist_root / "mnist" / LABELS).unlink()
    for path in list(mnist_publisher.iterdir()):
        if path.name != LABELS:
            path.unlink()
    load("mnist", mnist_root)
    assert check("mnist", mnist_root).published == "4 of 4"


def test_wrong_checksum_leaves_nothing_behind(mnist_publisher, tmp_path):
    (mnist_publisher / LABELS).write_bytes(b"something else")
    sentence = f"mnist: {LABELS} could not be downloaded from .* \\(checksum differs from the publisher's\\)"
    with pytest.raises(DataError, match=sentence):
        load("mnist", tmp_path / "root")
    assert not (tmp_path / "root" / "mnist" / LABELS).exists()
    assert all(
        path.name in {file.name for file in SOURCES["mnist"].files} for path in (tmp_path / "root/mnist").iterdir()
    )


def test_file_that_the_publisher_lacks_is_named(mnist_publisher, tmp_path):
    (mnist_publisher / LABELS).unlink()
    with pytest.raises(DataError, match=rf"mnist: {LABELS} could not be downloaded .*\(HTTPError\)"):
        load("mnist", tmp_path / "root", progress=True)


def test_unreachable_publisher_is_named(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(SOURCES, "mnist", dataclasses.replace(small_mnist, url="http://127.0.0.1:9/"))
    sentence = (
        r"could not be downloaded from http://127\.0\.0\.1:9/ \(ConnectionError\); put the files into .* NEUROPIL_DATA"
    )
    with pytest.raises(DataError, match=sentence):
        load("mnist", tmp_path)


def test_another_copy_is_neither_replaced_nor_completed(mnist_publisher, mnist_root):
    mine = mnist_root / "mnist" / "train-images-idx3-ubyte.gz"
    mine.write_bytes(b"my own order")
    (mnist_root / "mnist" / LABELS).unlink()
    with pytest.raises(DataError, match=re.escape(f"{mine}: must be the publisher's file if missing ones")):
        load("mnist", mnist_root)
    assert mine.read_bytes() == b"my own order"
    assert not (mnist_root / "mnist" / LABELS).exists()


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
def test_archives_are_unpacked(offer_cifar, cifar_files, tmp_path, name):
    offer_cifar(name, cifar_files[name])
    assert len(load(name, tmp_path / "root").train) == 10


def test_only_the_files_that_are_needed_leave_the_archive(offer_cifar, cifar_files, tmp_path):
    others = {"../../outside": b"x", "/tmp/neuropil-outside": b"x", "cifar-10-batches-bin/readme.html": b"x"}
    offer_cifar("cifar-10", others | cifar_files["cifar-10"])
    root = tmp_path / "a" / "root"
    load("cifar-10", root)
    unpacked = {
        str(path.relative_to(root / "cifar-10")) for path in tmp_path.joinpath("a").rglob("*") if path.is_file()
    }
    assert unpacked == {"cifar-10-binary.tar.gz", *cifar_files["cifar-10"]}


def test_links_in_an_archive_are_not_followed(publisher, offer_cifar, cifar_files, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("cifar-100-binary/train.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    offer_cifar("cifar-100", {}, change=lambda _: buffer.getvalue())
    with pytest.raises(DataError, match=r"cifar-100: cifar-100-binary/train\.bin must be in .*, got no such file"):
        load("cifar-100", tmp_path / "root")


def test_damaged_archive_is_named(offer_cifar, cifar_files, tmp_path):
    offer_cifar("cifar-10", cifar_files["cifar-10"], change=lambda whole: whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: must unpack as a tar archive, got \w+"):
        load("cifar-10", tmp_path / "root")


def test_interrupted_unpacking_is_taken_up_again(offer_cifar, cifar_files, tmp_path):
    offer_cifar("cifar-10", cifar_files["cifar-10"])
    load("cifar-10", tmp_path)
    (tmp_path / "cifar-10" / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    load("cifar-10", tmp_path)


def test_another_copy_is_not_mixed_with_an_archive(offer_cifar, cifar_files, tmp_path, lay_out):
    offer_cifar("cifar-10", cifar_files["cifar-10"])
    name = "cifar-10-batches-bin/data_batch_1.bin"
    lay_out(tmp_path / "cifar-10", {name: b"my own order"})
    with pytest.raises(DataError, match=re.escape(f"{name}: must be the publisher's file")):
        load("cifar-10", tmp_path)
    assert (tmp_path / "cifar-10" / name).read_bytes() == b"my own order"
