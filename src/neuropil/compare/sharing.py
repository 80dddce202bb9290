"""The same run is never done twice: what another comparison, or another arm, has done is taken over."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuropil.compare.identity import run_identity
from neuropil.compare.parallel import Task, do_tasks
from neuropil.compare.store import runs_by_identity
from neuropil.train import Run, RunError
from neuropil.train.environment import DECISIVE, describe_environment
from neuropil.train.run import read_json

# what folders are looked through for runs: those that hold one of these files
_MARKS = ("comparison.yaml", "grid.yaml", "search.yaml")
# What must be the same where two runs of one recipe are to have the same figures, times included
_ALIKE = (*DECISIVE, "system", "cores", "neuropil", "commit")
_COPIED = ("environment.json", "metrics.jsonl", "rewiring.jsonl", "probes.jsonl", "log.txt")


def do_each_once(
    tasks: Sequence[Task],
    root: Path,
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
    """Do all tasks as :func:`neuropil.compare.do_tasks`, but for those whose run was done elsewhere, or is done here.

    A run that is finished in a comparison below ``root``, on the same kind of machine, with the same versions, commit
    and number of threads, is taken over: its folder's small files are copied, and the summary says where from, as
    ``taken_from``. Of tasks that are the same run, one is done. Where weights are kept, only a run that has kept its
    own is taken over. Times are those measured then. With Ray, whose machines are not known, nothing is taken over.

    Args:
        tasks: their states are kept up to date.
        root: folder of comparisons that is looked through; the runs of these tasks are, too.
        jobs, threads, data_root, keep_checkpoints, show_download, device, on, runs_per_gpu, on_progress: as for
            :func:`neuropil.compare.do_tasks`.

    Raises:
        ValueError: as :func:`neuropil.compare.do_tasks`.
    """
    here = {**describe_environment(device), "threads": threads} if on == "local" else None
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(run_identity(task.recipe), []).append(task)
    wanted = {identity for identity, group in groups.items() if any(task.summary is None for task in group)}
    elsewhere = _find_runs(root, wanted) if wanted and here is not None else {}
    repeated: list[tuple[Task, Task]] = []
    for identity in wanted:
        group = groups[identity]
        sources = [*(task.folder for task in group if task.summary is not None), *elsewhere.get(identity, ())]
        source = next((each for each in sources if _serves(each, here, keep_checkpoints)), None)
        waiting = [task for task in group if task.summary is None]
        if source is not None:
            waiting = [task for task in waiting if not _take_over(source, task, root, keep_checkpoints)]
        repeated += [(task, waiting[0]) for task in waiting[1:]]
    later = {id(task) for task, _ in repeated}
    do_tasks(
        [task for task in tasks if id(task) not in later],
        jobs=jobs,
        threads=threads,
        data_root=data_root,
        keep_checkpoints=keep_checkpoints,
        show_download=show_download,
        device=device,
        on=on,
        runs_per_gpu=runs_per_gpu,
        on_progress=None if on_progress is None else lambda _: on_progress(tasks),
    )
    for task, first in repeated:
        if first.state == "done" and _take_over(first.folder, task, root, keep_checkpoints):
            task.state = "done"
        else:
            task.state = "failed"
            task.failure = f"it is the same run as {first.folder}: {first.failure or 'which could not be taken over'}"
    if repeated and on_progress is not None:
        on_progress(tasks)


def _find_runs(root: Path, identities: Collection[str]) -> dict[str, list[Path]]:
    """Return the folders of finished runs of the comparisons in a folder, by identity, those of ``identities`` alone.

    A root may hold anything else beside, which is not looked through.
    """
    found: dict[str, list[Path]] = {}
    for child in sorted(root.iterdir()) if root.is_dir() else ():
        if any((child / mark).is_file() for mark in _MARKS):
            for identity, folders in runs_by_identity(child).items():
                if identity in identities:
                    done = [folder for folder in folders if (folder / "summary.json").is_file()]
                    found.setdefault(identity, []).extend(done)
    return found


def _serves(folder: Path, here: Mapping[str, Any] | None, with_weights: bool) -> bool:
    """Say whether a finished run stands for one that would be done here; never where this is not known."""
    if here is None:
        return False
    summary, environment = read_json(folder / "summary.json"), read_json(folder / "environment.json")
    return (
        summary is not None
        and summary.get("status") in ("finished", "diverged")
        and environment is not None
        and all(environment.get(key) == here.get(key) for key in _ALIKE)
        and (not with_weights or any(folder.glob("checkpoint-*.safetensors")))
    )


def _take_over(source: Path, task: Task, root: Path, with_weights: bool) -> bool:
    """Make a task's folder that of a finished run; False where another process holds it, or the source is gone."""
    try:
        run = Run(task.folder, task.recipe)
        with run.held():
            summary = read_json(source / "summary.json")
            if run.summary is not None or summary is None:
                return run.summary is not None
            for old in (*task.folder.glob("checkpoint-*"), task.folder / "failure.json"):
                old.unlink(missing_ok=True)
            weights = sorted(source.glob("checkpoint-*.safetensors"))[-1:] if with_weights else []
            for name in (*_COPIED, *(path.name for path in weights)):
                (task.folder / name).unlink(missing_ok=True)
                if (source / name).exists():
                    shutil.copyfile(source / name, task.folder / name)
            where = Path(os.path.relpath(source, root)).as_posix()
            # comes last: with a summary, the run is done
            run.finish({**summary, "taken_from": where}, keep_checkpoint=with_weights)
    except (RunError, FileNotFoundError):
        return False
    return True
