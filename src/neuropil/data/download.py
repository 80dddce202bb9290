"""Fetching a data set's files from its publisher."""

import contextlib
import logging
import shutil
import tarfile
import zlib
from pathlib import Path

from neuropil.data.cifar import CIFAR_FILES, CIFAR_FOLDERS
from neuropil.data.errors import DataError
from neuropil.data.sources import Source


def download(source: Source, folder: Path, *, progress: bool = False) -> None:
    """Download a data set's missing files, verify the publisher's checksums, and unpack archives.

    A file that is there already is kept if it is the publisher's. Another one is neither replaced nor completed: the
    order of its images may be another, and the labels would not belong to them.

    Args:
        source: which data set.
        folder: where the files go.
        progress: show a progress bar.

    Raises:
        DataError: the publisher cannot be reached, a checksum differs, or another copy is in the way.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    for file in source.files:
        there = folder / file.name
        if there.exists() and pooch.file_hash(there, alg="md5") != file.md5:
            raise _in_the_way(there)
    for file in source.files:
        bar = _Bar(file.name) if progress else None
        # a server that is asked for no encoding sends a .gz file as it is, not unpacked on the way
        downloader = pooch.HTTPDownloader(progressbar=bar or False, timeout=30, headers={"Accept-Encoding": "identity"})
        try:
            with contextlib.closing(bar) if bar else contextlib.nullcontext():
                fetched = pooch.retrieve(
                    source.url + file.name,
                    known_hash=f"md5:{file.md5}",
                    fname=file.name,
                    path=folder,
                    downloader=downloader,
                )
        except (OSError, ValueError) as error:
            reason = "checksum differs from the publisher's" if isinstance(error, ValueError) else type(error).__name__
            raise DataError(
                f"{source.name}: {file.name} could not be downloaded from {source.url} ({reason}); "
                f"put the files into {folder} yourself, or name their folder with root=, --data or NEUROPIL_DATA"
            ) from error
        if fetched.endswith(".tar.gz"):
            names = [f"{CIFAR_FOLDERS[source.name]}/{name}" for part in CIFAR_FILES[source.name] for name in part]
            _unpack(Path(fetched), names, folder)


def _unpack(archive: Path, names: list[str], folder: Path) -> None:
    """Write the named members of a tar archive below a folder, and no others; each appears whole or not at all."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name in names and member.isreg() else None
                if content is None:
                    continue
                target = folder / member.name
                if target.exists():
                    if target.read_bytes() != content.read():
                        raise _in_the_way(target)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(target.name + ".part")
                with partial.open("wb") as file:
                    shutil.copyfileobj(content, file)
                partial.replace(target)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive}: must unpack as a tar archive, got {type(error).__name__} ({error})") from error


def _in_the_way(path: Path) -> DataError:
    return DataError(
        f"{path}: must be the publisher's file if missing ones are to be downloaded beside it, got another copy; "
        f"try to complete that copy, or move it away"
    )


class _Bar:
    """What pooch asks of a progress bar, drawn by rich."""

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._progress = Progress(TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._task = self._progress.add_task(name, total=None)
        self._total = 0
        self._progress.start()

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, n_bytes: int) -> None:
        self._total = n_bytes
        self._progress.update(self._task, total=n_bytes)

    def update(self, n_bytes: int) -> None:
        self._progress.update(self._task, advance=n_bytes)

    def reset(self) -> None:
        self._progress.reset(self._task, total=self._total)

    def close(self) -> None:
        self._progress.stop()
