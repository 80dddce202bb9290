"""Work in a process of its own, whose memory nothing else has touched."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
# besides the suites, what optimizers, compiled loops and the published way would import in every process anew
_IMPORTED = ["neuropil.bench.suites", "torch._dynamo", "numba", "snntorch"]


def in_fresh_process(work: Callable[..., T], *arguments: Any, device: str = "cpu") -> T:
    """Return what ``work`` gives, called in a new process; what it raises is raised here.

    Where the system can, the process is a copy of one that has imported everything and computed nothing: it starts in
    milliseconds, with no more memory than the imports take.

    Args:
        work: a function of a module.
        arguments: plain values.
        device: where the work runs; a GPU wants a process that shares nothing with any other.

    Raises:
        RuntimeError: the process has died, of too little memory perhaps.
    """
    methods = multiprocessing.get_all_start_methods()
    copies = device == "cpu" and "forkserver" in methods
    context = multiprocessing.get_context("forkserver" if copies else "spawn")
    if copies:
        context.set_forkserver_preload(_IMPORTED)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()
