"""Leaky integrate-and-fire neurons over a whole sequence, forward and backward, against a PyTorch loop over steps."""

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from neuropil.bench.contestants import draw
from neuropil.bench.records import Row
from neuropil.bench.settings import PRECISIONS, Settings
from neuropil.bench.timing import Step, clock_of, measure, quartiles, ratios, summary
from neuropil.units import LIF

LOOP, COPY = "torch", "copy"
# what must at least be read and written for a neuron and a step, in numbers: current, spikes and potential forward;
# gradient of the spikes, potential and gradient of the current backward
_NUMBERS_MOVED = 6
LEARNED = {"fixed": (), "learned": ("decay", "threshold")}


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the rows of all sizes, batches and precisions."""
    is_gpu = settings.device == "cuda"
    sizes = settings.sizes or ((256,) if settings.quick else (200_000, 10_000_000) if is_gpu else (2048,))
    batches = settings.batches or ((16,) if settings.quick else (1,) if is_gpu else (256,))
    for size, batch, precision in product(sizes, batches, settings.precisions):
        if precision == "tf32":
            reason = "tf32 is how products round, and neurons have none; try --precision float32"
            row: Row = {"neurons": "LIF", "kernel": "all", "size": size, "batch": batch, "steps": settings.steps or 50}
            yield [row | {"precision": precision, "reason": reason}]
        else:
            yield run_one(size, batch, precision, settings)


def run_one(size: int, batch: int, precision: str, settings: Settings) -> list[Row]:
    """Return the rows of one size, in which all contestants have taken turns, a copy of memory among them."""
    rounds = settings.rounds or (5 if settings.quick else 11)
    steps = settings.steps or 50
    device, dtype = settings.device, PRECISIONS[precision]
    current = draw(steps, batch, size, name="current", device=device, dtype=dtype).mul_(0.3).add_(0.1)
    incoming = draw(steps, batch, size, name="gradient", device=device, dtype=dtype)
    other = torch.empty_like(current)
    builders: dict[str, Callable[[], Step]] = {COPY: lambda: lambda: other.copy_(current)}
    for kind, kernel in product(LEARNED, (LOOP, "auto")):
        builders[f"{kind} {kernel}"] = lambda kind=kind, kernel=kernel: scan(kind, kernel, current, incoming)  # type: ignore[misc]
    timings = measure(builders, rounds=rounds, clock=clock_of(device), shortest=settings.shortest)
    size_of = current.element_size()
    rows = []
    for kind, kernel in product(LEARNED, (LOOP, "auto")):
        name = f"{kind} {kernel}"
        row: Row = {
            "neurons": f"LIF, {kind}",
            "kernel": LIF(kernel=kernel).chosen_kernel(current),
            "size": size, "batch": batch, "steps": steps, "precision": precision,
            **summary(timings, name, {"loop": f"{kind} {LOOP}"}, rounds=rounds),
        }  # fmt: skip
        if name in timings.seconds and COPY in timings.seconds:
            seconds, copy = timings.seconds[name], timings.seconds[COPY]
            moved, copied = _NUMBERS_MOVED * size_of * current.numel(), 2 * size_of * current.numel()
            row["gigabytes_per_s"] = round(moved / quartiles(seconds)[1] / 1e9, 2)
            row["copy_gigabytes_per_s"] = round(copied / quartiles(copy)[1] / 1e9, 2)
            row["of_copy_bandwidth"] = round(ratios(copy, seconds)[1] * moved / copied, 4)
        rows.append(row)
    return rows


def scan(kind: str, kernel: str, current: Tensor, incoming: Tensor) -> Step:
    """Return a function that runs a sequence forward and backward."""
    neurons = LIF(decay=0.9, threshold=1.0, learn=LEARNED[kind], kernel=kernel).to(current)
    own = current.detach().clone().requires_grad_()

    def step() -> None:
        neurons.zero_grad(set_to_none=True)
        own.grad = None
        spikes, _ = neurons(own)
        spikes.backward(incoming)

    return step
