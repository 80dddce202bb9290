"""Fetching a data set's files from its publisher."""

import logging
import tarfile
from pathlib import Path
from typing import Any

from neuropil.data.errors import DataError
from neuropil.data.sources import Source


def download(source: Source, folder: Path, *, progress: bool = False) -> None:
    """Download a data set's files, verify the publisher's checksums, and unpack archives.

    Args:
        source: which data set.
        folder: where the files go.
        progress: show a progress bar.

    Raises:
        DataError: the publisher cannot be reached, or a checksum differs.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    for file in source.files:
        bar: Any = _Bar(file.name) if progress else False
        try:
            fetched = pooch.retrieve(
                source.url + file.name,
                known_hash=f"md5:{file.md5}",
                fname=file.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=bar, timeout=30),
            )
        except (OSError, ValueError) as error:
            reason = "checksum differs from the publisher's" if isinstance(error, ValueError) else type(error).__name__
            raise DataError(
                f"{source.name}: {file.name} could not be downloaded from {source.url} ({reason}); "
                f"put the files into {folder} yourself, or name their folder with --data or NEUROPIL_DATA"
            ) from error
        if fetched.endswith(".tar.gz"):
            _unpack(Path(fetched), folder)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive}: must be a whole tar archive, got a damaged one ({error})") from error


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
