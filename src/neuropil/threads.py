"""Compiled loops on as many threads as PyTorch may use."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def in_parallel(work: Callable[[int, int], None], n: int, *, fewest: int = 1) -> None:
    """Call ``work(first, last)`` for consecutive parts of 0 … n, which must not depend on each other, on all threads.

    The work is done by code that runs without Python's lock, such as Numba's with ``nogil=True``. How the parts are
    cut depends on the number of threads only.

    Args:
        work: does items ``first`` to ``last``, the latter excluded.
        n: number of items.
        fewest: a part holds at least as many.
    """
    parts = max(1, min(torch.get_num_threads(), n // max(1, fewest)))
    if parts == 1:
        work(0, n)
        return
    cuts = [n * part // parts for part in range(parts + 1)]
    others = [_pool(parts - 1).submit(work, cuts[part], cuts[part + 1]) for part in range(1, parts)]
    try:
        work(cuts[0], cuts[1])
    finally:
        for other in others:
            other.result()


def renew_threads() -> None:
    """Leave further work to new threads: they take the processor's settings over from the one that starts them."""
    _pool.cache_clear()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that are kept: starting one takes longer than a small task."""
    return ThreadPoolExecutor(threads, thread_name_prefix="neuropil")


if hasattr(os, "register_at_fork"):
    # a forked process has none of its parent's threads, and would wait for them forever
    os.register_at_fork(after_in_child=_pool.cache_clear)
