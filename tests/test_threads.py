"""Compiled loops on several threads do what one thread does."""

import itertools
import os
import subprocess
import sys
import threading

import pytest
import torch

from neuropil.threads import in_parallel, renew_threads
from neuropil.units import LIF, AdaptiveLIF, CurrentLIF, Izhikevich, LeakyIntegrator
from neuropil.units.scans.add_up import add_up

UNITS = [
    lambda: LIF(learn=["decay", "threshold"]),
    lambda: LeakyIntegrator(learn=["decay"]),
    lambda: CurrentLIF(learn=["decay", "threshold", "synaptic_decay"]),
    lambda: AdaptiveLIF(learn=["decay", "threshold", "adaptation", "adaptation_decay"]),
    lambda: Izhikevich(learn=["a", "b", "c", "d"]),
]


@pytest.fixture
def threads():
    """Set the number of threads, and set it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("make", UNITS, ids=lambda make: type(make()).__name__)
@pytest.mark.parametrize("size", [(20, 5, 7), (3, 1, 4), (4, 0, 3)], ids=str)
def test_units_give_the_same_on_two_threads(make, size, threads, generator):
    unit = make()
    current = torch.randn(size, generator=generator)
    if isinstance(unit, Izhikevich):
        current = 15 + 10 * current
    weights = torch.randn(size, generator=generator)
    results = []
    for n in (1, 2, 2):
        threads(n)
        unit.zero_grad()
        given = current.clone().requires_grad_()
        outputs, state = unit(given)
        ((outputs * weights).sum() + state[0].sum()).backward()
        numbers = [parameter.grad.clone() for parameter in unit.parameters()]
        results.append((outputs.detach(), tuple(part.detach() for part in state), given.grad, numbers))
    one, two, again = results
    assert torch.equal(two[0], one[0])
    assert all(map(torch.equal, two[1], one[1]))
    assert torch.equal(two[2], one[2])
    torch.testing.assert_close(two[3], one[3], rtol=1e-6, atol=1e-6)  # parts are added up in another order
    assert all(map(torch.equal, again[3], two[3]))  # which is the same every time


@pytest.mark.parametrize(("n", "parts", "fewest"), list(itertools.product((0, 1, 2, 7, 64), (1, 2, 3), (1, 4))))
def test_parts_cover_everything_once(n, parts, fewest, threads):
    threads(parts)
    done, lock = [], threading.Lock()

    def work(first, last):
        with lock:
            done.append((first, last))

    in_parallel(work, n, fewest=fewest)
    done.sort()
    assert len(done) == max(1, min(parts, n // fewest))
    assert [i for first, last in done for i in range(first, last)] == list(range(n))
    assert all(last - first >= min(n, fewest) for first, last in done)


@pytest.mark.parametrize("where", [0, 3])
def test_an_error_in_any_part_is_raised(where, threads):
    threads(2)

    def work(first, last):
        if first <= where < last:
            raise ArithmeticError("in a part")

    with pytest.raises(ArithmeticError, match="in a part"):
        in_parallel(work, 4)


def test_two_threads_take_part(threads):
    threads(2)
    together = threading.Barrier(2, timeout=60)
    in_parallel(lambda first, last: together.wait(), 2)  # one thread alone would wait in vain
    assert not together.broken


def test_renewed_threads_are_others(threads):
    threads(2)

    def helpers():
        found = []
        in_parallel(lambda first, last: found.append(threading.current_thread()), 2)
        return set(found) - {threading.main_thread()}

    before = helpers()
    assert helpers() == before
    renew_threads()
    assert helpers()
    assert not helpers() & before


def test_parts_are_added_up_in_their_order_whoever_was_first(threads):
    threads(3)
    last_is_done = threading.Event()

    def work(first, last, sums):
        if first == 1:
            assert last_is_done.wait(timeout=60)
        sums += torch.tensor([1e16, 1.0, -1e16], dtype=torch.float64)[first]
        if first == 2:
            last_is_done.set()

    assert add_up(work, 3, 2).tolist() == [0.0, 0.0]  # in doubles, 1e16 + 1 is 1e16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked here")
def test_a_forked_process_has_threads_of_its_own():
    code = (
        "import os, torch\n"
        "from neuropil.threads import in_parallel\n"
        "torch.set_num_threads(2)\n"
        "done = []\n"
        "in_parallel(lambda first, last: done.append(first), 4)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    in_parallel(lambda first, last: done.append(last), 4)\n"
        "    os._exit(len(done))\n"
        "_, status = os.waitpid(child, 0)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(status))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120, check=False)
    assert done.returncode == 4
