"""What a process does that runs are sent to, one after the other: each finds it as if it were new."""

import contextlib
import functools
import gc
import importlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuropil.compare.execute import execute
from neuropil.compare.failures import describe_error, is_disk_full
from neuropil.compare.shared_data import SharedData
from neuropil.connect import Dense, Ensembles
from neuropil.data import Dataset
from neuropil.data.dataset import Split
from neuropil.models import ensemble_net
from neuropil.train import fit
from neuropil.train.memory import release_memory
from neuropil.train.run import HeldError

# what runs would load on the way, during the epochs of the first one: Numba comes with the first, and PyTorch loads the
# others when a network or an optimizer is made
_LOADED = ["neuropil.connect.merge", "torch._dynamo", "torch.fx.experimental.symbolic_shapes"]


@dataclass(frozen=True)
class Order:
    """One run to do, in plain values.

    Attributes:
        recipe: the run's recipe.
        folder: the run folder.
        threads: of the run.
        keep_checkpoint: keep the trained weights.
        device: where to compute.
        patience: seconds to wait where another process, which is about to end, still holds the folder.
    """

    recipe: dict[str, Any]
    folder: str
    threads: int
    keep_checkpoint: bool
    device: str
    patience: float


@dataclass(frozen=True)
class Outcome:
    """What came of a run, beside what is in its folder.

    Attributes:
        failure: why it failed, in one sentence; None: it is done.
        is_disk_full: whether that is for lack of space, so that others will fail too.
        seconds: how long it took.
    """

    failure: str | None
    is_disk_full: bool
    seconds: float


def do_order(order: Order, shared: SharedData, tell: Callable[[int], None]) -> Outcome:
    """Do a run, or the rest of it; whatever goes wrong is told, in ``failure.json`` of its folder too.

    Args:
        order: the run.
        shared: its data.
        tell: called with the number of epochs done, after each.
    """
    _prepare()
    _make_as_new(order.threads)
    started = time.perf_counter()
    failure = Path(order.folder) / "failure.json"
    reason, is_full = None, False
    try:
        failure.unlink(missing_ok=True)
        execute(
            order.recipe,
            order.folder,
            dataset=shared.dataset(order.recipe["data"]),
            keep_checkpoint=order.keep_checkpoint,
            device=order.device,
            after_epoch=lambda record: tell(record["epoch"]),
            patience=order.patience,
        )
    except Exception as error:
        reason, is_full = describe_error(error), is_disk_full(error)
        if not isinstance(error, HeldError) and not is_full:
            write_failure(failure.parent, reason)
        if not isinstance(error, ValueError):
            logging.getLogger("neuropil").exception("the run failed")
    seconds = time.perf_counter() - started
    release_memory()
    return Outcome(reason, is_full, seconds)


def write_failure(folder: Path, reason: str) -> None:
    """Keep the reason of a failure in the folder of its run, if there is one and it can be written to."""
    with contextlib.suppress(OSError):
        if folder.is_dir():
            (folder / "failure.json").write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")


@functools.cache
def _prepare() -> int:
    """Load what runs need; return the seed that a new process has."""
    torch.set_flush_denormal(True)  # before any thread starts: they take the setting over
    for name in _LOADED:
        importlib.import_module(name)
    logging.getLogger("neuropil").addHandler(logging.NullHandler())  # the log is in the run folder
    _train_a_little()
    gc.freeze()  # a million objects that stay: looking through them before each run takes a third of a second
    return torch.initial_seed()


def _train_a_little() -> None:
    """Have libraries take what they take once: it is no part of the first run's memory and time."""
    images, labels = torch.zeros(64, 1, 8, 8, dtype=torch.uint8), torch.arange(64) % 2
    split = Split(images, labels)
    dataset = Dataset("blank", split, split, ("0", "1"), 255, (0.0,), (1.0,), split)
    for pattern in (Ensembles(n_groups=4), Dense()):
        net = ensemble_net(dataset.input_shape, dataset.n_classes, hidden=[64, 64], pattern=pattern)
        fit(net, dataset, torch.optim.Adam(net.parameters()), epochs=1, batch_size=32)


def _make_as_new(threads: int) -> None:
    """Put back what a run may have changed for all of its process."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(_prepare())
    torch._dynamo.reset()  # what others have compiled counts towards its limits
    release_memory()
