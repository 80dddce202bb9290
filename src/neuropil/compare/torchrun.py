"""Runs that all processes of a ``torchrun`` do together."""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from neuropil import data
from neuropil.compare.devices import check_device
from neuropil.compare.execute import execute
from neuropil.compare.parallel import Task, refuse_foreign_folders
from neuropil.compare.splits import split_data
from neuropil.train import RunError
from neuropil.train.distributed import Ranks, joined


def n_processes() -> int:
    """Return how many processes ``torchrun`` has started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def is_lead() -> bool:
    """Say whether this process is the one that writes and speaks."""
    return n_processes() == 1 or os.environ.get("RANK", "0") == "0"


def do_together(
    tasks: Sequence[Task],
    *,
    threads: int,
    data_root: str | os.PathLike[str] | None = None,
    show_download: bool = False,
    device: str = "cpu",
    on_progress: Callable[[Sequence[Task]], None] | None = None,
) -> None:
    """Do all tasks that are not done yet, one after the other, each by all processes; trained weights are kept.

    Args:
        tasks: the same in all processes; only the lead's folders are used, and its states kept up to date.
        threads: of each process.
        data_root: where data is looked for, see :func:`neuropil.data.load`.
        show_download: show a progress bar where data must be downloaded.
        device: ``cpu``, or ``cuda``: each process of a machine takes the GPU of its number.
        on_progress: called about twice a second, by the lead.

    Raises:
        ValueError: the device is not there, a folder belongs to another recipe, data is missing or damaged, the run
            cannot be shared, or a process is lost.
    """
    torch.set_flush_denormal(True)  # before any thread starts: they take the setting over
    torch.set_num_threads(threads)
    device = _own_device(device)
    for precision in {task.recipe["training"]["precision"] for task in tasks}:
        check_device(device, precision)
    if not is_lead():
        logging.getLogger("neuropil").setLevel(logging.ERROR)  # the lead says it all
    with joined(device) as ranks:
        _refuse_foreign_folders(tasks, ranks)
        _load_data(tasks, data_root, show_download, ranks)
        for task in tasks:
            if ranks.tell(task.summary is not None if ranks.is_lead else None):
                task.state = "done"
                continue
            task.state = "running"
            with tempfile.TemporaryDirectory() as aside, _telling(tasks, on_progress if ranks.is_lead else None):
                execute(
                    task.recipe,
                    task.folder if ranks.is_lead else aside,
                    data_root=data_root,
                    keep_checkpoint=True,
                    device=device,
                    ranks=ranks,
                )
            task.state = "done"


def _own_device(device: str) -> str:
    """Return where this process computes.

    Raises:
        ValueError: one GPU is named for all.
    """
    if device == "cpu":
        return device
    if device != "cuda":
        raise ValueError(f"--device must be cpu or cuda, of which each process takes its own, got {device!r}")
    return f"cuda:{os.environ['LOCAL_RANK']}"


def _refuse_foreign_folders(tasks: Sequence[Task], ranks: Ranks) -> None:
    """Raise a ``RunError`` on all ranks if a folder of the lead's was made by another recipe or holds other things."""
    refusal = None
    try:
        if ranks.is_lead:
            refuse_foreign_folders(tasks)
    except RunError as error:
        refusal = str(error)
    if (told := ranks.tell(refusal)) is not None:
        raise RunError(told)


def _load_data(
    tasks: Sequence[Task], data_root: str | os.PathLike[str] | None, show_download: bool, ranks: Ranks
) -> None:
    """Have data there, fetched once a machine, and see that it can be split."""
    for turn in (True, False):
        if turn == (os.environ["LOCAL_RANK"] == "0"):
            for task in tasks[:1]:  # all are of one recipe
                dataset = data.load(task.recipe["data"]["name"], data_root, progress=show_download and ranks.is_lead)
                split_data(dataset, task.recipe["data"])
        ranks.tell(None)  # all wait for one another


@contextmanager
def _telling(tasks: Sequence[Task], on_progress: Callable[[Sequence[Task]], None] | None) -> Iterator[None]:
    """Tell of progress twice a second while the block runs, and at its end."""
    if on_progress is None:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(0.5):
            on_progress(tasks)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        on_progress(tasks)
