"""Machines that Ray has gathered: runs are its tasks, with the cores and GPUs that they need."""

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from neuropil.compare.engines.engine import Engine, LostError, Work
from neuropil.train.environment import usable_cores


class RayEngine(Engine):
    """The processes of a Ray cluster.

    What is shared is put into Ray's store of objects, from which it comes to each machine once. Where Ray is connected
    already, that connection is used, and left as it is.

    Args:
        address: ``ray`` or ``ray://HOST:PORT``.
        jobs: how many runs at a time; None: as many as there are cores and GPUs for.
        threads: cores of each run.
        gpus: of each run, perhaps a fraction.

    Raises:
        ValueError: the cluster cannot be reached, or none of its machines is large enough for one run.
    """

    patience = 60.0

    def __init__(self, address: str, *, jobs: int | None, threads: int, gpus: float) -> None:
        import ray

        self._ray: Any = ray
        self._jobs, self._threads, self._gpus = jobs, threads, gpus
        self._connected_here = not ray.is_initialized()
        self._running: set[Any] = set()
        if self._connected_here:
            _connect(ray, address, cores=threads * (jobs or max(1, usable_cores() // threads)))
        try:
            if self._places() == 0:
                needs = f"{threads} cores" + (f" and {gpus:g} GPU" if gpus else "")
                raise ValueError(f"on {address}: a machine must have {needs} for a run, got a cluster without one")
            # it holds no core; where its machine goes, another one takes its place
            self._board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
        except BaseException:
            self.close()
            raise
        # lost processes are dealt with as on one machine: by the queue, which knows what to do again
        self._task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_do_piece)

    def share(self, value: Any) -> Any:
        """Put a value into Ray's store; return the reference."""
        return self._ray.put(value)

    def room(self) -> int:
        """Return how many runs the cluster has places for at present, or the number that was asked for."""
        return self._jobs or max(1, self._places())

    def _places(self) -> int:
        """Return how many runs fit on the machines of the cluster."""
        places = 0
        for node in self._ray.nodes():
            resources = node["Resources"] if node["Alive"] else {}
            fits = resources.get("CPU", 0) / self._threads
            if self._gpus:
                fits = min(fits, resources.get("GPU", 0) / self._gpus)
            places += math.floor(fits + 1e-9)
        return places

    def start(self, index: int, work: Work, argument: Any, shared: Any) -> Hashable:
        """Hand a piece of work to the cluster."""
        handle: Hashable = self._task.remote(index, work, argument, shared, self._board)
        self._running.add(handle)
        return handle

    def wait(self, handles: Sequence[Any], seconds: float) -> list[Hashable]:
        """Return what has ended."""
        ended: list[Hashable] = self._ray.wait([*handles], num_returns=1, timeout=seconds)[0]
        return ended

    def told(self) -> Mapping[int, int]:
        """Return what pieces have told since the last call."""
        told: Mapping[int, int] = self._ray.get(self._board.take.remote())
        return told

    def result(self, handle: Any) -> Any:
        """Return what came back."""
        self._running.discard(handle)
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:  # the process or its machine is gone, or memory ran out there
            raise LostError from error

    def close(self) -> None:
        """End what is running; take leave of the cluster, or end it if it was made for the occasion."""
        for handle in self._running:
            self._ray.cancel(handle, force=True)
        self._running.clear()
        if self._connected_here:
            self._ray.shutdown()


class _Board:
    """Where pieces of work write how far they are: an actor of Ray."""

    def __init__(self) -> None:
        self._told: dict[int, int] = {}

    def tell(self, index: int, value: int) -> None:
        self._told[index] = value

    def take(self) -> dict[int, int]:
        told, self._told = self._told, {}
        return told


def _connect(ray: Any, address: str, *, cores: int) -> None:
    """Join a cluster; where this machine belongs to none, and no address is told, make one of this machine alone."""
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        ray.init(address="auto" if address == "ray" else address, **quiet)
    except ConnectionError as error:
        if address != "ray" or os.environ.get("RAY_ADDRESS"):
            reason = " ".join(str(error).split())
            raise ValueError(f"on {address}: the cluster cannot be reached ({reason})") from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)


def _do_piece(index: int, work: Work, argument: Any, shared: Any, board: Any) -> Any:
    """Do a piece of work, in a process of Ray's."""
    return work(argument, shared, lambda value: board.tell.remote(index, value))
