"""What doing runs in parallel costs: wall time × processes over the sum of what the runs took themselves.

    python benchmarks/scheduling.py --runs 200 --epochs 30 --on local

One is the best possible. Told twice: with the start of the processes, and once they are there. Runs of another number
of epochs tell whether the cost is per run. On a busy machine the ratio still holds, as both sides are slowed down.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from neuropil.compare import do_tasks, expand_arms, load_recipe
from neuropil.compare.comparison import list_tasks


def main() -> None:
    """Do the runs twice and write one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30, help="of each run, of a network of three layers on digits")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--on", default="local")
    wanted = parser.parse_args()
    if wanted.on == "ray":  # one cluster for both times, as for one long comparison
        import ray

        ray.init(num_cpus=wanted.jobs, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    recipe = load_recipe("digits", [f"epochs={wanted.epochs}", f"seeds={wanted.runs}"])
    arm = expand_arms(recipe)[0]
    for what in ("with the start of processes", "once they are there"):
        with tempfile.TemporaryDirectory() as folder:
            tasks = list_tasks(recipe, [arm], recipe.seeds, Path(folder))
            started = time.perf_counter()
            do_tasks(tasks, jobs=wanted.jobs, on=wanted.on)
            wall = time.perf_counter() - started
            seconds = [task.seconds for task in tasks if task.seconds is not None]
            if len(seconds) < len(tasks):
                sys.exit(f"runs failed: {next(task.failure for task in tasks if task.failure)}")
            sys.stdout.write(
                f"{what}: {len(tasks)} runs of {sum(seconds) / len(seconds):.2f} s on {wanted.jobs} processes "
                f"({wanted.on}), {wall:.1f} s; × {wanted.jobs} / sum = {wall * wanted.jobs / sum(seconds):.3f}; "
                f"load {os.getloadavg()[0]:.1f}\n"
            )


if __name__ == "__main__":
    main()
