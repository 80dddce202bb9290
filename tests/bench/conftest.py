from unittest.mock import patch

import pytest

from neuropil.bench import Settings
from neuropil.bench.suites import SUITES, networks, rewiring

TINY = Settings(quick=True, sizes=(64,), batches=(4,), rounds=2, steps=3)


@pytest.fixture
def tiny():
    return TINY


def in_this_process():
    """Measure memory here: a new process takes seconds to start, and what it does is tested once."""
    return patch.multiple(networks, in_fresh_process=call), patch.multiple(rewiring, in_fresh_process=call)


def call(work, *arguments, device):
    return work(*arguments)


@pytest.fixture
def _in_this_process():
    first, second = in_this_process()
    with first, second:
        yield


@pytest.fixture(scope="session")
def tiny_rows():
    """Return the rows of a suite at tiny sizes, which are measured once."""
    found = {}

    def rows_of(name):
        if name not in found:
            first, second = in_this_process()
            with first, second:
                found[name] = [row for rows in SUITES[name](TINY) for row in rows]
        return found[name]

    return rows_of
