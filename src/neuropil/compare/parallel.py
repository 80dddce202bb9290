"""Runs in parallel processes, one fresh process a run."""

import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuropil import data
from neuropil.compare.devices import check_device
from neuropil.compare.splits import split_data
from neuropil.train.run import RunError, check_run_folder, read_json, read_metrics

# what every run would load by itself, at the cost of many seconds: Numba comes with the second, digits with the third,
# and PyTorch loads the others when a network or an optimizer is made
_PRELOADED = [
    "neuropil.compare.execute",
    "neuropil.connect.merge",
    "sklearn.datasets",
    "torch._dynamo",
    "torch.fx.experimental.symbolic_shapes",
]


@dataclass
class Task:
    """One run to do.

    Attributes:
        recipe: the run's recipe, as plain values.
        folder: the run folder.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        failure: why it failed, in one sentence.
    """

    recipe: dict[str, Any]
    folder: Path
    state: str = "waiting"
    failure: str | None = None

    @property
    def summary(self) -> dict[str, Any] | None:
        """What came out, or None while it is not done."""
        return read_json(self.folder / "summary.json")

    @property
    def epochs_done(self) -> int:
        """Epochs behind this run, as far as its folder tells."""
        return self.recipe["training"]["epochs"] if self.state == "done" else len(read_metrics(self.folder))


def refuse_foreign_folders(tasks: Sequence[Task]) -> None:
    """Raise a ``RunError`` if a task's folder was made by another recipe or holds other things; nothing is changed."""
    for task in tasks:
        check_run_folder(task.folder, task.recipe)
        above = task.folder.parent
        if "fold" in task.recipe["data"] and (above / "recipe.yaml").exists():
            raise RunError(f"Run: {above} must be a folder of folds, got that of a run without; try another folder")


def do_tasks(
    tasks: Sequence[Task],
    *,
    jobs: int,
    threads: int,
    data_root: str | os.PathLike[str] | None = None,
    keep_checkpoints: bool = False,
    show_download: bool = False,
    device: str = "cpu",
    on_progress: Callable[[Sequence[Task]], None] | None = None,
) -> None:
    """Do all tasks that are not done yet, ``jobs`` at a time; a task that fails does not stop the others.

    Args:
        tasks: their states are kept up to date.
        jobs: processes at a time.
        threads: of each process.
        data_root: where data is looked for, see :func:`neuropil.data.load`.
        keep_checkpoints: keep the trained weights of each run.
        show_download: show a progress bar where data must be downloaded.
        device: where all of them compute.
        on_progress: called about twice a second, and at the end.

    Raises:
        ValueError: the device is not there, a folder belongs to another recipe, or data is missing or damaged. Nothing
            has run then.
    """
    for precision in {task.recipe["training"]["precision"] for task in tasks}:
        check_device(device, precision)
    refuse_foreign_folders(tasks)
    for task in tasks:
        if task.summary is not None:
            task.state = "done"
    for name in {task.recipe["data"]["name"] for task in tasks if task.state == "waiting"}:
        # fetched and checked once, before the processes read it
        dataset = data.load(name, data_root, progress=show_download)
        described = [task.recipe["data"] for task in tasks if task.recipe["data"]["name"] == name]
        # of all folds of one division, one is tried
        for one in {tuple((key, d[key]) for key in d if key != "fold"): d for d in described}.values():
            split_data(dataset, one)
    context = _context()
    waiting = [task for task in tasks if task.state == "waiting"]
    running: dict[int, tuple[Any, Task]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                process = context.Process(
                    target=_work,
                    args=(task.recipe, task.folder, data_root, threads, keep_checkpoints, device),
                    daemon=True,
                )
                process.start()
                task.state = "running"
                running[process.sentinel] = (process, task)
            for sentinel in multiprocessing.connection.wait([*running], timeout=0.5):
                process, task = running.pop(sentinel)  # type: ignore[arg-type]
                process.join()
                _settle(task, process.exitcode)
            if on_progress is not None:
                on_progress(tasks)
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _context() -> Any:
    """Return how processes are started: from a server that has PyTorch loaded, where the system can fork one."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _work(
    recipe: dict[str, Any],
    folder: Path,
    data_root: str | os.PathLike[str] | None,
    threads: int,
    keep_checkpoint: bool,
    device: str,
) -> None:
    """Be the process of one run."""
    torch.set_flush_denormal(True)  # before any thread starts: they take the setting over
    torch.set_num_threads(threads)
    from neuropil.compare.execute import execute

    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("neuropil").addHandler(logging.NullHandler())  # the log is in the run folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    failure = folder / "failure.json"
    try:
        failure.unlink(missing_ok=True)
        execute(recipe, folder, data_root=data_root, keep_checkpoint=keep_checkpoint, device=device)
    except Exception as error:
        if folder.is_dir():
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            failure.write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")
        if not isinstance(error, ValueError):
            logging.getLogger("neuropil").exception("the run failed")
        os._exit(1)


def _end_with_parent() -> None:
    """End this process when the one that asked for it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _settle(task: Task, exit_code: int | None) -> None:
    if task.summary is not None:
        task.state = "done"
        return
    reason = (read_json(task.folder / "failure.json") or {}).get("reason")
    task.state = "failed"
    task.failure = reason or f"its process ended with status {exit_code} and no word"
