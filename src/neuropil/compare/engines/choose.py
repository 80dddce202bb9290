"""Which engine is meant by a name."""

import importlib.util
import re
import socket

from neuropil.compare.engines.engine import Engine
from neuropil.train.environment import usable_cores

_SECONDS_TO_ANSWER = 5.0


def check_engine(on: str, device: str = "cpu") -> None:
    """Raise a ``ValueError`` unless runs can be done there: its package must be installed, and the address answer.

    Args:
        on: ``local``, ``ray`` or ``ray://HOST:PORT``.
        device: where the runs compute.
    """
    if on == "local":
        return
    address = re.fullmatch(r"ray://(?P<host>[^/:]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})", on)
    if on != "ray" and address is None:
        raise ValueError(f"on must be local, ray or ray://HOST:PORT, got {on!r}")
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"on {on} needs Ray; try pip install 'neuropil[distributed]'")
    if device.startswith("cuda:"):
        raise ValueError(f"device must be cpu or cuda with Ray, which hands out the GPUs, got {device!r}; try cuda")
    if address is None:
        return
    host, port = address["host"].strip("[]"), int(address["port"])
    try:
        socket.create_connection((host, port), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"on {on}: nobody answers there ({error}); try the address that ray start has told") from error


def open_engine(
    on: str, *, jobs: int | None = None, threads: int = 1, device: str = "cpu", runs_per_gpu: int = 1
) -> Engine:
    """Return the engine of a name, to be used as a context.

    Args:
        on: ``local``: processes of this machine. ``ray``: the Ray cluster that this machine belongs to, or one of
            this machine alone, made for the occasion. ``ray://HOST:PORT``: the cluster behind that address.
        jobs: runs at a time; default: as many as there are cores for, with Ray, also GPUs.
        threads: cores of each run.
        device: where runs compute.
        runs_per_gpu: with Ray, how many share a GPU.

    Raises:
        ValueError: see :func:`check_engine`; or a Ray cluster has no machine that is large enough.
    """
    check_engine(on, device)
    if on == "local":
        from neuropil.compare.engines.local import LocalEngine

        return LocalEngine(jobs or max(1, usable_cores() // threads), threads)
    from neuropil.compare.engines.ray import RayEngine

    gpus = 1 / runs_per_gpu if device.startswith("cuda") else 0
    return RayEngine(on, jobs=jobs, threads=threads, gpus=gpus)
