"""Size: layers of 64 connections a neuron, and spiking networks of 100, as long as there is memory for them."""

import math
import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from neuropil.bench.contestants import Place, TrainingStep, draw
from neuropil.bench.footprint import held_bytes
from neuropil.bench.records import Row
from neuropil.bench.settings import PRECISIONS, Settings, tf32
from neuropil.bench.timing import FAILURES, Clock, clock_of, measure, quartiles, reason_of, summary
from neuropil.connect import ErdosRenyi, SparseLinear, Wiring
from neuropil.connect.kernels import KERNELS
from neuropil.randomness import stream
from neuropil.units import LIF
from neuropil.units.unit import State

PER_NEURON = 64
SIZES = (4096, 8192, 16_384, 32_768, 65_536)
# spiking: two layers of n neurons each, the input ones not counted
SPIKING_PER_NEURON, RATE = 100, 0.005  # 5 Hz in steps of 1 ms
SPIKING_SIZES = (10_000, 20_000, 50_000, 100_000)
STEPS, CHUNK = 1000, 50
# with weights of 1 and −1 at random, neurons like these fire about as often as their 100 sources, at 5 Hz
DECAY, THRESHOLD = 0.95, 4.3
_MOST_MEMORY = 0.1  # of the machine's, for one contestant that keeps a dense matrix


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the rows of trained layers, size by size, then those of spiking networks."""
    rows: list[Row] = []
    batches = settings.batches or ((8,) if settings.quick else (32,))
    sizes = settings.sizes or ((512, 1024, 2048, 5120) if settings.quick else SIZES)
    for precision in settings.precisions:
        for batch in batches:
            rows = []
            for size in sizes:
                rows += (new := train_layers(size, batch, precision, settings))
                yield new
            yield fits(rows, "train")
    rows = []
    own = (1000, 4000) if settings.quick else SPIKING_SIZES
    for neurons in own if settings.sizes is None else (2 * size for size in settings.sizes):
        rows += (new := run_spiking(neurons, settings))
        yield new
    yield fits(rows, "spiking")


def train_layers(size: int, batch: int, precision: str, settings: Settings) -> list[Row]:
    """Return the rows of one layer by all kernels for single synapses, trained."""
    rounds = settings.rounds or (5 if settings.quick else 7)
    place: Place = {"device": settings.device, "dtype": PRECISIONS[precision]}
    density = min(1.0, PER_NEURON / size)
    wiring = ErdosRenyi(density, exact=True).wire(size, size, generator=stream(0, "wiring"))
    x, incoming = (draw(batch, size, name=name, **place) for name in ("input", "gradient"))
    steps: dict[str, TrainingStep] = {}

    def builder(kernel: str) -> Callable[[], TrainingStep]:
        def build() -> TrainingStep:
            check_memory(kernel, size)
            layer = SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"), **place)
            steps[kernel] = TrainingStep(layer, x, incoming)
            return steps[kernel]

        return build

    with tf32(precision == "tf32"):
        timings = measure(
            {kernel: builder(kernel) for kernel in KERNELS},
            rounds=rounds,
            clock=clock_of(settings.device),
            shortest=settings.shortest,
        )
    rows = []
    for kernel in KERNELS:
        held = held_bytes(steps[kernel].layer, steps[kernel].optimizer) if kernel in timings.seconds else None
        rows.append({
            "task": "train", "kernel": kernel, "size": size, "batch": batch, "precision": precision,
            "neurons": size, "connections": wiring.n_connections,
            **summary(timings, kernel, {}, rounds=rounds),
            "held_bytes": held,
            "bytes_per_connection": None if held is None else round(held / wiring.n_connections, 2),
        })  # fmt: skip
    return rows


def run_spiking(neurons: int, settings: Settings) -> list[Row]:
    """Return the rows of one spiking network by all kernels for single synapses: a second, 1,000 steps, forward."""
    size = neurons // 2
    rounds = settings.rounds or (1 if settings.quick else 3)
    steps = settings.steps or (100 if settings.quick else STEPS)
    density = min(1.0, SPIKING_PER_NEURON / size)
    wirings = [
        ErdosRenyi(density, exact=True).wire(size, size, generator=stream(0, "wiring", layer)) for layer in range(2)
    ]
    chance = stream(0, "input")
    drawn = [torch.rand(min(CHUNK, steps - at), 1, size, generator=chance) < RATE for at in range(0, steps, CHUNK)]
    rows = []
    for kernel in KERNELS:
        row: Row = {
            "task": "spiking", "kernel": kernel, "size": size, "batch": 1, "precision": "float32",
            "neurons": neurons, "connections": sum(wiring.n_connections for wiring in wirings), "steps": steps,
            "rounds": rounds,
        }  # fmt: skip
        try:
            rows.append(row | simulate(wirings, kernel, drawn, rounds, settings.device, clock_of(settings.device)))
        except FAILURES as error:
            rows.append(row | {"reason": reason_of(error)})
    return rows


def simulate(
    wirings: Sequence[Wiring], kernel: str, drawn: Sequence[Tensor], rounds: int, device: str, clock: Clock
) -> Row:
    """Return how long it takes to run all steps, a piece at a time, and how often neurons fire."""
    layers = []
    for wiring in wirings:
        check_memory(kernel, wiring.in_features)
        layers.append(SparseLinear(wiring, kernel=kernel, bias=False, generator=stream(0, "weights"), device=device))
        with torch.no_grad():
            layers[-1].weight.sign_()
    stages = nn.ModuleList(layers), LIF(decay=DECAY, threshold=THRESHOLD).to(device)
    pieces = [piece.to(device) for piece in drawn]
    counts = [0.0] * (len(layers) + 1)

    def run_all() -> None:
        counts[:] = [0.0] * len(counts)
        states: list[State | None] = [None] * len(layers)
        with torch.no_grad():
            for piece in pieces:
                spikes = piece.to(torch.float32)
                counts[0] += float(spikes.sum())
                for i, layer in enumerate(stages[0]):
                    spikes, states[i] = stages[1](layer(spikes), states[i])
                    counts[i + 1] += float(spikes.sum())

    run_all()  # compiles, and finds how much memory it needs
    low, middle, high = quartiles([clock(run_all) for _ in range(rounds)])
    steps = sum(len(piece) for piece in pieces)
    possible = steps * wirings[0].in_features
    rates = [round(1000 * count / possible, 2) for count in counts]
    events = sum(counts[:-1]) * SPIKING_PER_NEURON
    return {
        "median_ms": round(1000 * middle, 2),
        "lower_quartile_ms": round(1000 * low, 2),
        "upper_quartile_ms": round(1000 * high, 2),
        "seconds_per_simulated_second": round(middle * 1000 / steps, 3),
        "input_hz": rates[0],
        "hidden_hz": rates[1],
        "last_hz": rates[2],
        "synaptic_events": round(events),
        "held_bytes": held_bytes(*layers),
        "bytes_per_connection": round(held_bytes(*layers) / sum(w.n_connections for w in wirings), 2),
        "reason": None,
    }


def fits(rows: Sequence[Row], task: str) -> list[Row]:
    """Return, for each kernel with more than one size, how its time grows with connections."""
    found = []
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        points = [(row["connections"], row["median_ms"]) for row in rows
                  if row["kernel"] == kernel and row.get("median_ms") is not None]  # fmt: skip
        if len({connections for connections, _ in points}) > 1:
            found.append({
                "task": f"{task}, fit", "batch": rows[0]["batch"], "kernel": kernel, "points": len(points),
                "exponent": round(exponent(points), 3), "reason": None,
            })  # fmt: skip
    return found


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return b of y = a xᵇ, fitted by least squares to the logarithms."""
    x, y = ([math.log(point[i]) for point in points] for i in range(2))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def check_memory(kernel: str, size: int) -> None:
    """Raise a ``MemoryError`` where a kernel keeps a dense matrix of a size for which there is no room."""
    if not keeps_dense_matrix(kernel):
        return
    needed = 20 * size * size  # weight, gradient, two moments, mask
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**34
    if needed > _MOST_MEMORY * there:
        raise MemoryError(
            f"kernel {kernel!r} keeps a dense matrix, which for {size:,} neurons takes {needed / 1e9:.0f} GB in all, "
            f"more than {_MOST_MEMORY:.0%} of this machine's {there / 1e9:.0f}"
        )


def keeps_dense_matrix(kernel: str) -> bool:
    """Return whether a kernel stores single synapses as a matrix of all that could be; tried on a small layer."""
    wiring = ErdosRenyi(0.01, exact=True).wire(128, 128, generator=stream(0, "wiring"))
    return SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights")).weight.numel() > wiring.n_connections
