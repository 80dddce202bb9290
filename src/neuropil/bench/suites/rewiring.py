"""Rewiring: what one event costs, against the training steps around it, and the memory that it takes."""

import gc
import statistics
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import nn

from neuropil.bench.contestants import draw
from neuropil.bench.fresh import in_fresh_process
from neuropil.bench.records import Row
from neuropil.bench.settings import Settings
from neuropil.bench.suites.layers import pattern_of
from neuropil.bench.timing import FAILURES, clock_of, no_garbage, quartiles, ratios, reason_of
from neuropil.connect import SparseLinear
from neuropil.randomness import stream
from neuropil.rewire import (
    CannistraciHebb,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    Random,
    Rewirer,
    Rule,
    Sampled,
    Schedule,
    SignedMagnitude,
)
from neuropil.train import PeakMemory, flush_subnormals

METHODS: dict[str, Callable[[], tuple[Rule, Rule]]] = {
    "set": lambda: (SignedMagnitude(), Random()),
    "magnitude + random": lambda: (Magnitude(), Random()),
    "magnitude + hebbian": lambda: (Magnitude(), Hebbian()),
    "rigl": lambda: (Magnitude(), Gradient()),
    "hebbian + hebbian": lambda: (Hebbian(), Hebbian()),
    "chts": lambda: (Sampled(Magnitude()), Sampled(CannistraciHebb())),
}
QUICK = ("rigl",)
BLOCKS = ("1x1", "groupx1", "64x64")
FRACTION, DENSITY = 0.1, 0.25625
_WARM_UP, _MEMORY_ROUNDS = 2, 3
_SLOW_ROUNDS = 3  # are enough where an event takes many steps


class Case(NamedTuple):
    """One way to rewire one layer, in plain values, which travel to another process."""

    block: str
    method: str
    size: int
    batch: int
    rounds: int
    device: str
    threads: int


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the row of each block and method, which runs in a process of its own."""
    sizes = settings.sizes or ((256,) if settings.quick else (4096,))
    batches = settings.batches or ((64,) if settings.quick else (256,))
    blocks = settings.blocks or (BLOCKS[:2] if settings.quick else BLOCKS)
    methods = QUICK if settings.quick else tuple(METHODS)
    for size, batch, block, method in product(sizes, batches, blocks, methods):
        rounds = settings.rounds or (5 if settings.quick else 9)
        rounds = min(rounds, _SLOW_ROUNDS) if method == "chts" else rounds
        case = Case(block, method, size, batch, rounds, settings.device, settings.threads)
        row: Row = {"size": size, "batch": batch, "block": block, "method": method, "fraction": FRACTION}
        try:
            yield [row | row_of(in_fresh_process(measure_case, case, device=case.device))]
        except FAILURES as error:
            yield [row | {"rounds": rounds, "reason": reason_of(error)}]


def measure_case(case: Case) -> dict[str, Any]:
    """Return what one way to rewire costs, in this process.

    A round is three training steps of one model, after one that is not counted: one without a word to the rewirer, one
    followed by a rewirer's step without an event, and one with an event: recording, scores, choice, new wiring,
    weights, both of Adam's moments, history.
    """
    torch.set_num_threads(case.threads)
    flush_subnormals()
    wiring = pattern_of(case.size, DENSITY, case.block).wire(case.size, case.size, generator=stream(0, "wiring"))
    layer = SparseLinear(wiring, generator=stream(0, "weights"), device=case.device)
    model = nn.Sequential(layer, nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    prune, grow = METHODS[case.method]()
    is_chts = case.method == "chts"
    rewirer = Rewirer(
        model,
        optimizer,
        prune=prune,
        grow=grow,
        schedule=Schedule(every=2, fraction=FRACTION),
        limits=Limits(chain_removal=is_chts),
    )
    x, incoming = (draw(case.batch, case.size, name=name, device=case.device) for name in ("input", "gradient"))
    clock = clock_of(case.device)

    def step(is_rewired: bool) -> None:
        optimizer.zero_grad(set_to_none=True)
        model(x).backward(incoming)
        optimizer.step()
        if is_rewired:
            rewirer.step()

    seconds: list[list[float]] = []
    with no_garbage():
        for turn in range(_WARM_UP + case.rounds):
            gc.collect()
            times = [0.0, 0.0, 0.0]
            for kind in (0, 0, 1, 2):  # the first finds the caches as the event before has left them: it is not counted
                times[kind] = clock(lambda kind=kind: step(kind > 0))  # type: ignore[misc]
            if turn >= _WARM_UP:
                seconds.append(times)
    peaks: list[list[int]] = []
    for _ in range(1 if is_chts else _MEMORY_ROUNDS):
        peaks.append([])
        for kind in range(3):
            peak = PeakMemory(case.device)
            step(kind > 0)
            peaks[-1].append(peak.bytes())
    return {"seconds": seconds, "peaks": peaks, "density": layer.wiring.density, "kernel": layer.kernel}


def row_of(measured: dict[str, Any]) -> Row:
    """Return the columns of what was measured.

    An event costs the whole of the step that has one, less the mean of the two before it.
    """
    plain, idle, event = zip(*measured["seconds"], strict=True)
    step = statistics.median(plain)
    costs = [c - (a + b) / 2 for a, b, c in zip(plain, idle, event, strict=True)]
    low, middle, high = quartiles(costs)
    normal = max(peak for peaks in measured["peaks"] for peak in peaks[:2])
    rewired = max(peaks[2] for peaks in measured["peaks"])
    return {
        "density": round(measured["density"], 5),
        "kernel": measured["kernel"],
        "step_ms": round(1000 * step, 3),
        "median_ms": round(1000 * middle, 3),
        "lower_quartile_ms": round(1000 * low, 3),
        "upper_quartile_ms": round(1000 * high, 3),
        "event_over_step": round(middle / step, 3),
        "idle_over_plain": round(ratios(idle, plain)[1], 3),
        "peak_above_normal_bytes": rewired - normal,
        "rounds": len(costs),
        "reason": None,
    }
