"""NIR files, which come from anywhere."""

import os
from pathlib import Path
from typing import Any

from neuropil.models.interchange.export import Network, to_nir
from neuropil.models.interchange.load import from_nir
from neuropil.models.interchange.package import SNNTORCH_DT, nir_package
from neuropil.models.spiking_sequential import SpikingSequential

_LARGEST = 2**33  # bytes of all arrays; a compressed file can claim any size
_DEEPEST = 16


def write_nir(model: Network, path: str | os.PathLike[str], *, dt: float = SNNTORCH_DT) -> None:
    """Write a spiking network to a NIR file, which is HDF5; see :func:`to_nir`.

    Raises:
        OSError: the file cannot be written.
    """
    graph = to_nir(model, dt=dt)
    try:
        nir_package("write_nir").write(os.fspath(path), graph)
    except OSError as error:
        raise OSError(f"write_nir: path must be writable, got {os.fspath(path)!r}: {error}") from error


def read_nir(
    path: str | os.PathLike[str], *, dt: float | None = None, sparse: bool = True, kernel: str | None = None
) -> SpikingSequential:
    """Build the network of a NIR file; see :func:`from_nir` for the arguments.

    A file may come from anybody. Reading one runs no code: it holds numbers and text. Links to other files or within
    the file, arrays kept in other files, and arrays of more than 8 GiB in all are refused before anything is read.

    Raises:
        ValueError: the file is missing, damaged, holds something else, or :func:`from_nir` cannot build its graph.
    """
    nir = nir_package("read_nir")
    if not Path(path).is_file():
        raise ValueError(f"read_nir: path must name a file, got {os.fspath(path)!r}, which is none")
    try:
        _check(path)
        graph = nir.read(os.fspath(path))
    except Exception as error:  # whatever h5py and nir make of bytes that are no graph, assertions included
        said = str(error).strip().splitlines() or ["some node is of an unknown kind"]
        raise ValueError(f"read_nir: {os.fspath(path)!r} must hold a NIR graph, but does not: {said[0]}") from error
    return from_nir(graph, dt=dt, sparse=sparse, kernel=kernel)


def _check(path: str | os.PathLike[str]) -> None:
    """Raise a ``ValueError`` where a file holds anything but groups of arrays of its own, each in one place."""
    import h5py

    seen: set[Any] = set()
    size = 0

    def walk(group: Any, depth: int) -> None:
        nonlocal size
        if depth > _DEEPEST:
            raise ValueError(f"groups lie deeper than {_DEEPEST}")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a link to somewhere else")  # noqa: TRY004
            thing = group[name]
            address = h5py.h5o.get_info(thing.id).addr
            if address in seen:
                raise ValueError(f"{name!r} is in two places")
            seen.add(address)
            if isinstance(thing, h5py.Group):
                walk(thing, depth + 1)
                continue
            if not isinstance(thing, h5py.Dataset) or thing.external or thing.is_virtual:
                raise ValueError(f"{name!r} is not an array kept in the file")
            if thing.dtype.kind not in "biufS" and h5py.check_string_dtype(thing.dtype) is None:
                raise ValueError(f"{name!r} holds {thing.dtype}, neither numbers nor text")
            size += thing.nbytes
            if size > _LARGEST:
                raise ValueError(f"its arrays take more than {_LARGEST / 2**30:g} GiB")

    with h5py.File(path, "r") as file:
        seen.add(h5py.h5o.get_info(file.id).addr)
        walk(file, 0)
