"""Run folders, tracked elsewhere while they are written: no run knows of it, and none waits for it."""

import os
from collections.abc import Sequence
from pathlib import Path

from neuropil.compare.parallel import Task
from neuropil.compare.registry import nearest
from neuropil.train.run import read_metrics
from neuropil.train.tracking import MLflow, Sender, TensorBoard, Tracker, tell

KINDS = ("tensorboard", "mlflow")


class Following:
    """Sends what appears in the folders of runs to TensorBoard or MLflow, from a thread of its own.

    Event files lie in ``folder/tensorboard/ARM/seed-N``. In MLflow the experiment has the comparison's name; without
    ``MLFLOW_TRACKING_URI`` it is kept in ``folder/mlruns``. Runs that were done or begun before are sent too; what is
    there already is not sent again.

    Args:
        kinds: some of ``KINDS``.
        folder: of the comparison.

    Raises:
        ValueError: a kind is unknown, or its package is missing.

    Example:
        >>> import tempfile
        >>> from neuropil.compare import compare, load_recipe
        >>> recipe = load_recipe("digits", ["epochs=1", "seeds=1", "hidden=[16]"])
        >>> with Following(["tensorboard"], tempfile.mkdtemp()) as following:
        ...     following.update([])  # compare(recipe, folder, on_progress=following.update)
    """

    def __init__(self, kinds: Sequence[str], folder: str | os.PathLike[str]) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"track must be one of {', '.join(KINDS)}, got {kind!r}{nearest(kind, KINDS)}")
        self.kinds, self.folder = tuple(dict.fromkeys(kinds)), Path(folder)
        self._senders = {kind: Sender() for kind in self.kinds}  # one that fails does not stop the other
        self._trackers: dict[Path, list[Tracker]] = {}
        self._sent: dict[Path, int] = {}  # epochs
        self._ended: set[Path] = set()
        for kind in self.kinds:
            self._track(kind, self.folder, {})  # its package is there

    def __enter__(self) -> "Following":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, tasks: Sequence[Task]) -> None:
        """Send what is new of some runs; returns without waiting."""
        for task in tasks if self.kinds else ():
            if task.state == "waiting" or task.folder in self._ended:
                continue
            if task.folder not in self._trackers:
                self._trackers[task.folder] = [self._track(kind, task.folder, task.recipe) for kind in self.kinds]
            trackers, sent = self._trackers[task.folder], self._sent.get(task.folder, 0)
            new = [record for record in read_metrics(task.folder) if record["epoch"] > sent]
            tell(trackers, new)
            self._sent[task.folder] = new[-1]["epoch"] if new else sent
            if task.state in ("done", "failed"):
                self._ended.add(task.folder)
                for tracker in self._trackers.pop(task.folder):
                    tracker.finish(task.summary or {"status": "failed"})

    def close(self) -> None:
        """Wait for what is still to be sent, but not for long."""
        for sender in self._senders.values():
            sender.close()

    def _track(self, kind: str, run: Path, recipe: dict[str, object]) -> Tracker:
        name = run.relative_to(self.folder).as_posix()
        sender = self._senders[kind]
        if kind == "tensorboard":
            return TensorBoard(self.folder / "tensorboard" / name, recipe, sender=sender)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (self.folder.resolve() / "mlruns").as_uri()
        experiment = str(recipe.get("comparison", "neuropil"))
        return MLflow(experiment, name, recipe, uri=uri, key=str(run.resolve()), sender=sender)
