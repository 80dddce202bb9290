"""Layers whose input is mostly zero, as spikes are: what they gain from it, by how many are not."""

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor, nn

from neuropil.bench.contestants import draw, sparse_layers
from neuropil.bench.records import Row
from neuropil.bench.settings import PRECISIONS, Settings
from neuropil.bench.suites.layers import pattern_of
from neuropil.bench.timing import Step, clock_of, measure, summary
from neuropil.connect import EventLinear, Wiring
from neuropil.randomness import stream
from neuropil.train.precision import computing_in

LINEAR = "nn.Linear"
ACTIVITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
DENSITY = 0.25625
PRODUCTS = ("forward", "forward + weight gradient", "forward + both gradients")


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the rows of all sizes, batches, precisions and activities, one activity at a time."""
    sizes = settings.sizes or ((256,) if settings.quick else (1024,))
    batches = settings.batches or ((16,) if settings.quick else (256,))
    activities = (0.01, 0.05, 0.2) if settings.quick else ACTIVITIES
    for size, batch, precision, activity in product(sizes, batches, settings.precisions, activities):
        yield run_one(size, batch, precision, activity, settings)


def run_one(size: int, batch: int, precision: str, activity: float, settings: Settings) -> list[Row]:
    """Return the rows of one activity, in which all contestants have taken turns."""
    rounds = settings.rounds or (5 if settings.quick else 9)
    steps = settings.steps or (20 if settings.quick else 50)
    device, dtype = settings.device, PRECISIONS[precision]
    chance = torch.rand(steps, batch, size, generator=stream(0, "input"))
    x = (chance < activity).to(device=device, dtype=dtype)
    gradient = draw(steps, batch, size, name="gradient", device=device, dtype=dtype)
    builders, facts = contestants(size, settings, device=device, dtype=dtype)
    rows: list[Row] = []
    for what in PRODUCTS:

        def builder(build: Callable[[], nn.Module], what: str = what) -> Callable[[], Step]:
            return lambda: step_of(what, build(), x, gradient)

        with computing_in(precision):
            timings = measure(
                {name: builder(build) for name, build in builders.items()},
                rounds=rounds,
                clock=clock_of(device),
                shortest=settings.shortest,
            )
        rows += [
            {
                "product": what, "activity": activity, "layer": name, **facts[name], "size": size, "batch": batch,
                "steps": steps, "precision": precision, **summary(timings, name, {"linear": LINEAR}, rounds=rounds),
            }
            for name in builders
        ]  # fmt: skip
    return rows


def contestants(
    size: int, settings: Settings, *, device: str, dtype: torch.dtype
) -> tuple[dict[str, Callable[[], nn.Module]], dict[str, Row]]:
    """Return what builds each layer, by name, the reference first; and what each of them is."""
    dense: Row = {"block": "dense", "kernel": "", "density": 1.0}
    builders: dict[str, Callable[[], nn.Module]] = {
        LINEAR: lambda: nn.Linear(size, size, device=device, dtype=dtype),
        "EventLinear": lambda: EventLinear(size, size, device=device, dtype=dtype),
    }
    facts = {name: dense | {"kernel": name} for name in builders}
    kernels = tuple(name for name in settings.kernels if name != "masked")
    for block in settings.blocks or ("1x1", "groupx1"):
        wiring: Wiring = pattern_of(size, DENSITY, block).wire(size, size, generator=stream(0, "wiring"))
        for kernel, build in sparse_layers(wiring, device=device, dtype=dtype, kernels=kernels):
            builders[f"{block} {kernel}"] = build
            facts[f"{block} {kernel}"] = {"block": block, "kernel": kernel, "density": round(wiring.density, 5)}
    return builders, facts


def step_of(what: str, layer: nn.Module, x: Tensor, gradient: Tensor) -> Step:
    """Return a function that computes one of ``PRODUCTS`` of a layer."""

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    own = x.detach().clone().requires_grad_(what == PRODUCTS[2])

    def backward() -> None:
        layer.zero_grad(set_to_none=True)
        own.grad = None
        layer(own).backward(gradient)

    return forward if what == PRODUCTS[0] else backward
