"""Runs in parallel processes, on this machine or on others."""

import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropil import data
from neuropil.compare.devices import check_device
from neuropil.compare.engines import Engine, News, check_engine, open_engine
from neuropil.compare.failures import DISK_FULL, LOST
from neuropil.compare.shared_data import SharedData, data_key, share_data
from neuropil.compare.worker import Order, Outcome, do_order, write_failure
from neuropil.train.run import RunError, check_run_folder, read_json, read_metrics


@dataclass
class Task:
    """One run to do.

    Attributes:
        recipe: the run's recipe, as plain values.
        folder: the run folder.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        failure: why it failed, in one sentence.
        epochs_done: epochs behind this run, as far as is known here.
        seconds: how long its process was at work on it, the last time; None where it is not done or was done before.
    """

    recipe: dict[str, Any]
    folder: Path
    state: str = "waiting"
    failure: str | None = None
    epochs_done: int = 0
    seconds: float | None = None

    @property
    def summary(self) -> dict[str, Any] | None:
        """What came out, or None while it is not done."""
        return read_json(self.folder / "summary.json")

    def settle(self, failure: str | None) -> None:
        """Keep that the run is done, or why it failed."""
        self.state, self.failure = ("done" if failure is None else "failed"), failure
        if failure is None:
            self.epochs_done = self.recipe["training"]["epochs"]


def refuse_foreign_folders(tasks: Sequence[Task]) -> None:
    """Raise a ``RunError`` if a task's folder was made by another recipe or holds other things; nothing is changed."""
    for task in tasks:
        check_run_folder(task.folder, task.recipe)
        above = task.folder.parent
        if "fold" in task.recipe["data"] and (above / "recipe.yaml").exists():
            raise RunError(f"Run: {above} must be a folder of folds, got that of a run without; try another folder")


def check_place(on: str, device: str, precisions: Iterable[str]) -> None:
    """Raise a ``ValueError`` if runs of some precisions cannot be done there; nothing is started.

    Args:
        on: name of an engine, see :func:`neuropil.compare.engines.open_engine`.
        device: where runs compute.
        precisions: as in recipes.
    """
    check_engine(on, device)
    for precision in {*precisions}:
        check_device(device, precision, is_here=on == "local")


def do_tasks(
    tasks: Sequence[Task],
    *,
    jobs: int | None = None,
    threads: int = 1,
    data_root: str | os.PathLike[str] | None = None,
    keep_checkpoints: bool = False,
    show_download: bool = False,
    device: str = "cpu",
    on: str = "local",
    runs_per_gpu: int = 1,
    on_progress: Callable[[Sequence[Task]], None] | None = None,
) -> None:
    """Do all tasks that are not done yet, ``jobs`` at a time; a task that fails does not stop the others.

    A task whose process is killed goes on from its last checkpoint in another one, until that has happened three times.

    Args:
        tasks: their states are kept up to date.
        jobs: processes at a time; default: as many as there are cores for, with Ray, also GPUs.
        threads: of each process.
        data_root: where data is looked for, see :func:`neuropil.data.load`.
        keep_checkpoints: keep the trained weights of each run.
        show_download: show a progress bar where data must be downloaded.
        device: where all of them compute.
        on: ``local``, ``ray`` or ``ray://HOST:PORT``, see :func:`neuropil.compare.engines.open_engine`. With Ray, the
            folders must lie on a path that all machines share.
        runs_per_gpu: with Ray, how many runs share a GPU.
        on_progress: called about twice a second, and at the end.

    Raises:
        ValueError: the device is not there, a folder belongs to another recipe, data is missing or damaged, or Ray's
            cluster cannot be reached. Nothing has run then.
        OSError: no space is left on the disk. What was written is kept, and can be gone on with.
    """
    check_place(on, device, (task.recipe["training"]["precision"] for task in tasks))
    refuse_foreign_folders(tasks)
    for task in tasks:
        if task.summary is not None:
            task.settle(None)
        else:
            task.epochs_done = len(read_metrics(task.folder))
    waiting = [task for task in tasks if task.state == "waiting"]
    kept = _load_data(waiting, data_root, show_download) if waiting else {}
    if waiting:
        with open_engine(on, jobs=jobs, threads=threads, device=device, runs_per_gpu=runs_per_gpu) as engine:
            shared = {key: engine.share(kept.pop(key)) for key in [*kept]}
            pieces = [
                (
                    Order(
                        task.recipe, os.path.abspath(task.folder), threads, keep_checkpoints, device, engine.patience
                    ),
                    shared[data_key(task.recipe["data"])],
                )
                for task in waiting
            ]
            for news in engine.do(do_order, pieces):
                if news is not None:
                    _take_note(waiting[news.index], news)
                if on_progress is not None and (news is None or news.kind in ("ended", "lost")):
                    on_progress(tasks)
            _look_for_summaries(waiting, engine)
    if on_progress is not None:
        on_progress(tasks)


def _load_data(
    tasks: Sequence[Task], root: str | os.PathLike[str] | None, show_download: bool
) -> dict[str, SharedData]:
    """Fetch, check and divide what the tasks need, once each, by :func:`data_key`."""
    described = {data_key(task.recipe["data"]): task.recipe["data"] for task in tasks}
    shared: dict[str, SharedData] = {}
    for name in {description["name"] for description in described.values()}:
        dataset = data.load(name, root, progress=show_download)
        shared |= {key: share_data(dataset, d) for key, d in described.items() if d["name"] == name}
    return shared


def _take_note(task: Task, news: News) -> None:
    """Keep a task up to date; raise an ``OSError`` where the disk is full, which no other task would survive."""
    if news.kind == "begun":
        task.state = "running"
    elif news.kind == "progress":
        task.epochs_done = news.value
    elif news.kind == "lost":
        write_failure(task.folder, LOST)
        task.settle(LOST)
    else:
        outcome: Outcome = news.value
        if outcome.is_disk_full:
            task.state = "waiting"
            raise OSError(errno.ENOSPC, DISK_FULL, str(task.folder))
        task.seconds = outcome.seconds
        task.settle(outcome.failure)


def _look_for_summaries(tasks: Sequence[Task], engine: Engine) -> None:
    """Let runs fail whose summary cannot be found here, though another machine has written it."""
    deadline = time.monotonic() + engine.patience
    for task in tasks:
        while task.state == "done" and task.summary is None:
            if time.monotonic() > deadline:
                task.settle(f"{task.folder} must lie on a path that all machines share, got one that is empty here")
            time.sleep(0.5)
