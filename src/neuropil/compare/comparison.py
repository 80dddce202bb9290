"""Arms × seeds from one recipe, in one folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from neuropil.compare.arms import Arm, expand_arms, run_folder, run_folds, run_recipe
from neuropil.compare.grid import check_size, place_points, write_recipes
from neuropil.compare.parallel import Task, check_place, refuse_foreign_folders
from neuropil.compare.recipe import Recipe
from neuropil.compare.sharing import do_each_once
from neuropil.train import working_copy
from neuropil.train.remote import is_remote
from neuropil.train.run import HeldError
from neuropil.train.whole_files import hold


def compare(
    recipe: Recipe,
    folder: str | os.PathLike[str],
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
    root: str | os.PathLike[str] | None = None,
    yes: bool = False,
) -> list[Task]:
    """Do every run of a recipe that is not done yet, in parallel processes.

    The runs lie in ``folder/ARM/seed-N``, with cross-validation in ``folder/ARM/seed-N/fold-K``. Whatever is there is
    kept: runs that are done are not repeated, those that were killed go on from their last checkpoint. The same run
    done by another comparison, or by another arm, is taken over (:func:`neuropil.compare.sharing.do_each_once`).

    With a grid, each of its points is a comparison in a sub-folder named after it; all their runs are done together.

    Args:
        recipe: what to compare.
        folder: where the comparison is kept; of a URL that fsspec can write, a copy on this machine is worked in and
            kept in step.
        jobs: runs at a time; default: as many as there are cores for, with Ray, also GPUs.
        threads: of each run. Timings are comparable only between runs of the same number.
        data_root: where data is looked for, see :func:`neuropil.data.load`.
        keep_checkpoints: keep the trained weights of each run.
        show_download: show a progress bar where data must be downloaded.
        device: where every run computes: ``cpu``, ``cuda`` or ``cuda:N``. Runs at a time share a GPU.
        on: which processes do the runs: ``local``, those of this machine; ``ray``, of the Ray cluster that this machine
            belongs to, or of one made for the occasion; ``ray://HOST:PORT``, of another cluster. With Ray, the folder
            must lie on a path that all machines share.
        runs_per_gpu: with Ray, how many runs share a GPU.
        on_progress: called about twice a second with all tasks.
        root: folder of comparisons whose runs are taken over; default: the one that holds ``folder``.
        yes: more than 10,000 runs are meant.

    Returns:
        All runs, with their states.

    Raises:
        ValueError: the device is not there, the recipe does not fit its data, a folder belongs to another recipe, Ray's
            cluster cannot be reached, another comparison is at work on the folder, or there are more runs than that.
            Nothing has run then.
        OSError: no space is left on the disk. What was written is kept, and can be gone on with.
    """
    check_size(recipe, yes=yes)
    if is_remote(folder):
        with working_copy(folder) as copy:
            return compare(
                recipe,
                copy,
                jobs=jobs,
                threads=threads,
                data_root=data_root,
                keep_checkpoints=keep_checkpoints,
                show_download=show_download,
                device=device,
                on=on,
                runs_per_gpu=runs_per_gpu,
                on_progress=on_progress,
                root=copy if root is None else root,  # none of whose folders is a comparison
                yes=yes,
            )
    folder = Path(folder)
    places = place_points(recipe, folder)
    tasks: list[Task] = []
    for place, point in places.items():
        tasks += list_tasks(point, expand_arms(point), point.seeds, place)
    refuse_foreign_folders(tasks)  # before anything is written
    check_place(on, device, {point.training.precision for point in places.values()})
    seeds = list(dict.fromkeys(seed for point in places.values() for seed in point.seeds))
    tasks.sort(key=lambda task: seeds.index(task.recipe["seed"]))  # of the first seed all points, then on
    folder.mkdir(parents=True, exist_ok=True)
    refusal = HeldError(f"compare: {folder} must be free, got one that another comparison is at work on")
    with hold(folder / ".lock", refusal):
        write_recipes(recipe, folder, places)
        do_each_once(
            tasks,
            folder.parent if root is None else Path(root),
            jobs=jobs,
            threads=threads,
            data_root=data_root,
            keep_checkpoints=keep_checkpoints,
            show_download=show_download,
            device=device,
            on=on,
            runs_per_gpu=runs_per_gpu,
            on_progress=on_progress,
        )
    return tasks


def list_tasks(recipe: Recipe, arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> list[Task]:
    """Return the runs of some arms and seeds: of the first seed and fold all arms, then on; none is begun."""
    return [
        Task(run_recipe(recipe, arm, seed, fold), run_folder(folder, arm.name, seed, fold))
        for seed in seeds
        for fold in run_folds(recipe)
        for arm in arms
    ]
