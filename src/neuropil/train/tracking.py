"""What a run records, sent on to TensorBoard or MLflow as it comes; training never waits for either."""

import contextlib
import importlib.util
import json
import logging
import math
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

logger = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds that the end of a run waits while nothing more is sent; MLflow takes some to load
_FINAL = "final/"  # how the names of a run's last figures begin


class Sender:
    """A thread that does what it is handed, one after another; after the first failure, nothing any more.

    A failure is told in one warning and never raised.
    """

    def __init__(self) -> None:
        self.failed = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._moved = 0.0  # when something was last sent

    def send(self, job: Callable[[], None]) -> None:
        """Have a job done some time; returns at once."""
        if self._thread is None:
            # a daemon: a server that hangs must not keep the process
            self._thread = threading.Thread(target=self._work, name="neuropil-tracking", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self, patience: float = _PATIENCE) -> None:
        """Wait until all is done; if so many seconds pass without a job done, give up the rest, with a warning."""
        if self._thread is None:
            return
        self._jobs.put(None)
        self._moved = time.monotonic()
        while self._thread.is_alive() and not self.failed and time.monotonic() - self._moved < patience:
            self._thread.join(0.05)
        if self._thread.is_alive() and not self.failed:
            self.failed = True
            logger.warning("tracking: given up, as nothing was sent for %g s; the run folder has everything", patience)
        self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self.failed:
                continue
            try:
                job()
                self._moved = time.monotonic()
            except Exception as error:  # whatever a server or its library does: training goes on
                self.failed = True
                reason = " ".join(str(error).split())[:200]
                logger.warning("tracking: stopped, training goes on: %s: %s", type(error).__name__, reason)


class Tracker(ABC):
    """Where one run is tracked.

    Records are told apart by their epoch: one that is there already is not sent again, so that a run that is resumed,
    or tracked from the start once more, goes on in the same place.

    Args:
        parameters: what made the run, as plain values that may be nested.
        sender: the thread that sends; None: one of its own.
    """

    def __init__(self, parameters: Mapping[str, Any] | None = None, *, sender: Sender | None = None) -> None:
        self.parameters = dict(parameters or {})
        self._own = sender is None
        self._sender = Sender() if sender is None else sender
        self._last: int | None = None  # epochs that are there; None: not opened yet
        self._ended = False

    def log(self, record: Mapping[str, Any]) -> None:
        """Send one epoch's record, as in ``metrics.jsonl``; returns at once."""
        epoch, found = int(record["epoch"]), numbers(record)
        self._sender.send(lambda: self._send(epoch, found))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Send what the run came to; its ``status`` is ``finished``, ``diverged`` or ``failed``. Nothing may follow.

        A tracker with a thread of its own waits for what is still to be sent, as long as that goes on.
        """
        found, status = numbers(summary), str(summary.get("status", "finished"))
        self._sender.send(lambda: self._send_end(status, found))
        if self._own:
            self._sender.close()

    def _send(self, epoch: int, found: Mapping[str, float]) -> None:
        if epoch > self._opened():
            self._write(epoch, found)
            self._last = epoch

    def _send_end(self, status: str, found: Mapping[str, float]) -> None:
        last = self._opened()
        self._end(status, last, {} if self._ended else {_FINAL + name: value for name, value in found.items()})

    def _opened(self) -> int:
        if self._last is None:
            self._last, self._ended = self._open()
        return self._last

    @abstractmethod
    def _open(self) -> tuple[int, bool]:
        """Find or begin the tracked run; return how many epochs are there, and whether final figures are."""

    @abstractmethod
    def _write(self, epoch: int, found: Mapping[str, float]) -> None:
        """Send the numbers of an epoch."""

    @abstractmethod
    def _end(self, status: str, epoch: int, found: Mapping[str, float]) -> None:
        """Send final figures, none where they are there, and close."""


class TensorBoard(Tracker):
    """A run as TensorBoard's event files: every number of a record as a scalar by epoch, nested ones as ``dead/LAYER``.

    The parameters stand as text under ``recipe``, and as hyperparameters; final figures begin with ``final/``.

    Args:
        folder: of the event files; ``tensorboard --logdir`` takes it, or any folder above.
        parameters, sender: see :class:`Tracker`.

    Raises:
        ValueError: the package is missing.

    Example:
        >>> import tempfile
        >>> tracker = TensorBoard(tempfile.mkdtemp(), {"seed": 0})
        >>> tracker.log({"epoch": 1, "train_loss": 2.3, "dead": {"hidden.1": 0.1}})
        >>> tracker.finish({"status": "finished", "test_accuracy": 0.9})
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        parameters: Mapping[str, Any] | None = None,
        *,
        sender: Sender | None = None,
    ) -> None:
        _need("tensorboard", "tensorboard", "TensorBoard")
        super().__init__(parameters, sender=sender)
        self.folder = Path(folder)
        self._writer: Any = None

    def _open(self) -> tuple[int, bool]:
        if not any(self.folder.glob("events.out.tfevents.*")):
            return 0, False
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.folder), size_guidance={"scalars": 1})  # the last of each
        events.Reload()
        tags = events.Tags()["scalars"]
        steps = [event.step for tag in tags if not tag.startswith(_FINAL) for event in events.Scalars(tag)]
        return max(steps, default=0), any(tag.startswith(_FINAL) for tag in tags)

    def _write(self, epoch: int, found: Mapping[str, float]) -> None:
        writer = self._written()
        for name, value in found.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def _end(self, status: str, epoch: int, found: Mapping[str, float]) -> None:
        if found:
            self._write(epoch, found)
        if self._writer is not None:
            self._writer.close()

    def _written(self) -> Any:
        """Return the writer; with the parameters, where nothing is there yet."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams

            self._writer = SummaryWriter(str(self.folder))
            if self._last == 0 and self.parameters:
                text = yaml.safe_dump(self.parameters, sort_keys=False, allow_unicode=True)
                self._writer.add_text("recipe", "\n".join("    " + line for line in text.splitlines()), 0)
                for part in hparams(flat(self.parameters), {_FINAL + "test_accuracy": 0.0}):  # type: ignore[no-untyped-call]
                    self._writer.file_writer.add_summary(part)
        return self._writer


class MLflow(Tracker):
    """A run in MLflow: every number of a record as a metric by epoch, the parameters flat, as ``training.epochs``.

    ``mlflow-skinny`` suffices for a server (``http:``) and for a folder (``file:``). MLflow 3 wants folders to be
    allowed, which is done here (``MLFLOW_ALLOW_FILE_STORE``). A database (``sqlite:``) needs SQLAlchemy and Alembic.
    A server that does not answer within three seconds is told in one warning, and the run goes on without.

    Args:
        experiment: its name; made where there is none.
        run: name of the run.
        parameters, sender: see :class:`Tracker`.
        uri: of the store; None: that of ``MLFLOW_TRACKING_URI``, or else the folder ``mlruns`` of the current one.
        key: what the run is found by when it is resumed; None: its name.

    Raises:
        ValueError: the package is missing.
    """

    def __init__(
        self,
        experiment: str,
        run: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        uri: str | None = None,
        key: str | None = None,
        sender: Sender | None = None,
    ) -> None:
        _need("mlflow", "mlflow-skinny", "MLflow")
        super().__init__(parameters, sender=sender)
        self.experiment, self.run = experiment, run
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").resolve().as_uri()
        self.key = run if key is None else key
        self._client: Any = None
        self._id = ""

    def _open(self) -> tuple[int, bool]:
        _reach(self.uri)
        if self.uri.startswith("file:") or "://" not in self.uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._client = client = MlflowClient(tracking_uri=self.uri)
        if client.get_experiment_by_name(self.experiment) is None:
            with contextlib.suppress(MlflowException):  # where another process has just made it
                client.create_experiment(self.experiment)
        experiment_id = self._client.get_experiment_by_name(self.experiment).experiment_id
        key = self.key.replace("'", "_")
        found = client.search_runs([experiment_id], filter_string=f"tags.`neuropil.key` = '{key}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            ended = any(name.startswith(_FINAL) for name in found[0].data.metrics)
            if not ended:
                client.update_run(self._id, status="RUNNING")
            return int(found[0].data.metrics.get("epoch", 0)), ended
        run = client.create_run(experiment_id, run_name=self.run, tags={"neuropil.key": key})
        self._id = run.info.run_id
        parameters = [Param(name, str(value)[:6000]) for name, value in flat(self.parameters).items()]
        for i in range(0, len(parameters), 100):  # as many as one request may hold
            client.log_batch(self._id, params=parameters[i : i + 100])
        return 0, False

    def _write(self, epoch: int, found: Mapping[str, float]) -> None:
        self._log(epoch, {**found, "epoch": float(epoch)})  # by which the run is taken up

    def _end(self, status: str, epoch: int, found: Mapping[str, float]) -> None:
        if found:
            self._log(epoch, found)
        self._client.set_terminated(self._id, "FINISHED" if status == "finished" else "FAILED")

    def _log(self, epoch: int, found: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, epoch) for name, value in found.items()])


def tell(trackers: Sequence[Tracker], records: Iterable[Mapping[str, Any]]) -> None:
    """Send records of epochs to some trackers."""
    for record in records:
        for tracker in trackers:
            tracker.log(record)


def numbers(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the finite numbers of a record by name, those of a nested one as ``dead/LAYER``; but for the epoch.

    Example:
        >>> numbers({"epoch": 1, "train_loss": 2.5, "status": "finished", "dead": {"hidden.1": 0.25}})
        {'train_loss': 2.5, 'dead/hidden.1': 0.25}
    """
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and key != "epoch":
            found[f"{prefix}{key}"] = float(value)
    return found


def flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return nested parameters by name, as ``training.epochs``; lists and what is None as JSON text.

    Example:
        >>> flat({"seed": 0, "model": {"hidden": [64, 64], "patches": None}})
        {'seed': 0, 'model.hidden': '[64, 64]', 'model.patches': 'null'}
    """
    found: dict[str, bool | int | float | str] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return found


def _need(package: str, distribution: str, who: str) -> None:
    """Raise a ``ValueError`` if a package is missing; it is not imported."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{who} needs the package {distribution}, which is missing; try pip install 'neuropil[tracking]'"
        )


def _reach(uri: str) -> None:
    """Raise an ``OSError`` if a server does not answer soon: MLflow's own client would try for minutes."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        try:
            socket.create_connection(
                (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), 3
            ).close()
        except OSError as error:
            raise OSError(f"{uri} does not answer ({error})") from error
