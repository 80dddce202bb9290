"""Files that are refused, each in one sentence."""

import h5py
import pytest
from torch import nn

from neuropil.models import read_nir, write_nir
from neuropil.units import LIF


def cut(path):
    path.write_bytes(path.read_bytes()[:-3000])


def text(path):
    path.write_text("no graph\n")


def edited(work):
    def edit(path):
        with h5py.File(path, "r+") as file:
            work(file, file["node/nodes/affine"])

    return edit


def link_out(file, node):
    del node["weight"]
    node["weight"] = h5py.ExternalLink("other.h5", "/weight")


def link_within(file, node):
    node["bias2"] = h5py.SoftLink("/node/nodes/affine/bias")


def loop(file, node):
    node["again"] = file["node"]


def kept_elsewhere(file, node):
    del node["weight"]
    node.create_dataset("weight", (2, 2), "f4", external=[("secret.bin", 0, 16)])


def virtual(file, node):
    layout = h5py.VirtualLayout((2, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "weight", shape=(2, 2))
    del node["weight"]
    node.create_virtual_dataset("weight", layout)


def reference(file, node):
    node.create_dataset("reference", data=file.ref, dtype=h5py.ref_dtype)


def huge(file, node):
    del node["weight"]
    node.create_dataset("weight", (2**20, 2**20), "f4", chunks=(1024, 1024))


def deep(file, node):
    for _ in range(20):
        node = node.create_group("deeper")


def rename(file, node):
    file.move("node", "edon")


def unknown(file, node):
    del node["type"]
    node["type"] = "Nothing"


def extra(file, node):
    node["surprise"] = 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (text, "file signature not found"),
        (cut, "truncated file"),
        (edited(link_out), "'weight' is a link to somewhere else"),
        (edited(link_within), "'bias2' is a link to somewhere else"),
        (edited(loop), "'again' is in two places"),
        (edited(kept_elsewhere), "'weight' is not an array kept in the file"),
        (edited(virtual), "'weight' is not an array kept in the file"),
        (edited(reference), "'reference' holds object, neither numbers nor text"),
        (edited(huge), "its arrays take more than 8 GiB"),
        (edited(deep), "groups lie deeper than 16"),
        (edited(rename), "object 'node' doesn't exist"),
        (edited(unknown), "some node is of an unknown kind"),
        (edited(extra), "unexpected keyword argument 'surprise'"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_files_that_hold_no_graph(damage, message, tmp_path):
    path = tmp_path / "net.nir"
    write_nir([nn.Linear(2, 2), LIF()], path)
    damage(path)
    with pytest.raises(ValueError, match=r"^read_nir: '.*net.nir' must hold a NIR graph, but does not: .") as raised:
        read_nir(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(ValueError, match=r"^read_nir: path must name a file, got '.*gone.nir', which is none$"):
        read_nir(tmp_path / "gone.nir")
    with pytest.raises(OSError, match=r"^write_nir: path must be writable, got '.*no.folder.net.nir': "):
        write_nir([nn.Linear(2, 2)], tmp_path / "no" / "folder" / "net.nir")
