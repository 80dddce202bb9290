"""Size: layers of 64 connections a neuron, and spiking networks of 100, as long as there is memory for them."""

import math
import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from neuropil.bench.contestants import Place, TrainingStep, draw
from neuropil.bench.footprint import held_bytes
from neuropil.bench.records import Row
from neuropil.bench.settings import PRECISIONS, Settings
from neuropil.bench.timing import clock_of, measure, summary
from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.randomness import stream
from neuropil.train.precision import computing_in
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
    sizes = settings.sizes or ((512, 1024, 2048) if settings.quick else SIZES)
    for precision in settings.precisions:
        for batch in batches:
            rows = []
            for size in sizes:
                rows += (new := train_layers(size, batch, precision, settings))
                yield new
            yield fits(rows, "train")
    rows = []
    own = (1000, 2000, 4000) if settings.quick else SPIKING_SIZES
    for neurons in own if settings.sizes is None else (2 * size for size in settings.sizes):
        rows += (new := run_spiking(neurons, settings))
        yield new
    yield fits(rows, "spiking")


def train_layers(size: int, batch: int, precision: str, settings: Settings) -> list[Row]:
    """Return the rows of one layer by all kernels for single synapses, trained in turns."""
    rounds = settings.rounds or (5 if settings.quick else 7)
    place: Place = {"device": settings.device, "dtype": PRECISIONS[precision]}
    x, incoming = (draw(batch, size, name=name, **place) for name in ("input", "gradient"))
    steps: dict[str, TrainingStep] = {}

    def builder(kernel: str) -> Callable[[], TrainingStep]:
        def build() -> TrainingStep:
            layer = build_layer(size, PER_NEURON, kernel, **place)
            steps[kernel] = TrainingStep(layer, x, incoming)
            return steps[kernel]

        return build

    with computing_in(precision):
        timings = measure(
            {kernel: builder(kernel) for kernel in settings.kernels},
            rounds=rounds,
            clock=clock_of(settings.device),
            shortest=settings.shortest,
        )
    rows = []
    for kernel in settings.kernels:
        row: Row = {
            "task": "train", "kernel": kernel, "size": size, "batch": batch, "precision": precision,
            "neurons": size, "connections": min(PER_NEURON, size) * size, **summary(timings, kernel, {}, rounds=rounds),
        }  # fmt: skip
        if kernel in timings.seconds:
            row |= count_bytes(row["connections"], steps[kernel].layer, steps[kernel].optimizer)
        rows.append(row)
    return rows


def run_spiking(neurons: int, settings: Settings) -> list[Row]:
    """Return the rows of one spiking network by all kernels for single synapses: a second, forward, in turns."""
    size = neurons // 2
    rounds = settings.rounds or (1 if settings.quick else 3)
    steps = settings.steps or (100 if settings.quick else STEPS)
    chance = stream(0, "input")
    pieces = [torch.rand(min(CHUNK, steps - at), 1, size, generator=chance) < RATE for at in range(0, steps, CHUNK)]
    runs: dict[str, Simulation] = {}

    def builder(kernel: str) -> Callable[[], Simulation]:
        def build() -> Simulation:
            runs[kernel] = Simulation(size, kernel, pieces, settings.device)
            return runs[kernel]

        return build

    timings = measure(
        {kernel: builder(kernel) for kernel in settings.kernels},
        rounds=rounds,
        warm_up=1,
        clock=clock_of(settings.device),
    )
    rows = []
    for kernel in settings.kernels:
        row: Row = {
            "task": "spiking", "kernel": kernel, "size": size, "batch": 1, "precision": "float32",
            "neurons": neurons, "connections": 2 * min(SPIKING_PER_NEURON, size) * size, "steps": steps,
            **summary(timings, kernel, {}, rounds=rounds),
        }  # fmt: skip
        if kernel in timings.seconds:
            row["seconds_per_simulated_second"] = round(row["median_ms"] / steps, 4)
            row |= dict(zip(("input_hz", "hidden_hz", "last_hz"), runs[kernel].rates(), strict=True))
            row |= count_bytes(row["connections"], *runs[kernel].layers)
        rows.append(row)
    return rows


class Simulation:
    """Two layers of spiking neurons that run for some time, a piece at a time, without gradients.

    Args:
        size: neurons of each layer, and of the input.
        kernel: of both layers.
        pieces: input spikes, bool ``[t, 1, size]``.
        device: where it runs.
    """

    def __init__(self, size: int, kernel: str, pieces: Sequence[Tensor], device: str) -> None:
        place: Place = {"device": device, "dtype": torch.float32}
        self.layers = [build_layer(size, SPIKING_PER_NEURON, kernel, bias=False, seed=seed, **place) for seed in (0, 1)]
        for layer in self.layers:
            with torch.no_grad():
                layer.weight.sign_()
        self._neurons = LIF(decay=DECAY, threshold=THRESHOLD).to(device)
        self._pieces = [piece.to(device) for piece in pieces]
        self._counts = [0.0, 0.0, 0.0]

    def __call__(self) -> None:
        """Run from rest to the end."""
        self._counts = [0.0, 0.0, 0.0]
        states: list[State | None] = [None, None]
        with torch.no_grad():
            for piece in self._pieces:
                spikes = piece.to(torch.float32)
                self._counts[0] += float(spikes.sum())
                for i, layer in enumerate(self.layers):
                    spikes, states[i] = self._neurons(layer(spikes), states[i])
                    self._counts[i + 1] += float(spikes.sum())

    def rates(self) -> list[float]:
        """Return how often neurons of the input, the first and the second layer have fired, in Hz."""
        possible = sum(piece.numel() for piece in self._pieces)
        return [round(1000 * count / possible, 2) for count in self._counts]


def build_layer(
    size: int, per_neuron: int, kernel: str, *, device: str, dtype: torch.dtype, bias: bool = True, seed: int = 0
) -> SparseLinear:
    """Return a layer with a wiring of its own: what one kernel keeps of it must not count for another.

    Raises:
        MemoryError: the kernel keeps a dense matrix, and there is no room for it.
    """
    check_memory(kernel, size, device)
    pattern = ErdosRenyi(min(1.0, per_neuron / size), exact=True)
    wiring = pattern.wire(size, size, generator=stream(seed, "wiring"))
    return SparseLinear(wiring, kernel=kernel, bias=bias, generator=stream(0, "weights"), device=device, dtype=dtype)


def count_bytes(connections: int, *things: object) -> Row:
    """Return the columns of what is held in memory between two steps."""
    held = held_bytes(*things)
    return {"held_bytes": held, "bytes_per_connection": round(held / connections, 2)}


def fits(rows: Sequence[Row], task: str, *, by: str = "kernel") -> list[Row]:
    """Return, for each kernel, or what else rows are told apart by, with more than two sizes, how its time grows."""
    found = []
    for name in dict.fromkeys(row[by] for row in rows):
        points = [(row["connections"], row["median_ms"]) for row in rows
                  if row[by] == name and row.get("median_ms") is not None]  # fmt: skip
        if len({connections for connections, _ in points}) > 2:
            found.append({
                "task": f"{task}, fit", "batch": rows[0]["batch"], by: name, "points": len(points),
                "exponent": round(exponent(points), 3), "reason": None,
            })  # fmt: skip
    return found


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return b of y = a xᵇ, fitted by least squares to the logarithms."""
    x, y = ([math.log(point[i]) for point in points] for i in range(2))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def check_memory(kernel: str, size: int, device: str = "cpu") -> None:
    """Raise a ``MemoryError`` where a kernel keeps a dense matrix of a size for which there is no room."""
    if not keeps_dense_matrix(kernel):
        return
    needed = 20 * size * size  # weight, gradient, two moments, mask
    if device == "cuda":
        _, there = torch.cuda.mem_get_info()
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**34
    if needed > _MOST_MEMORY * there:
        raise MemoryError(
            f"kernel {kernel!r} keeps a dense matrix, which for {size:,} neurons takes {needed / 1e9:.0f} GB in all, "
            f"more than {_MOST_MEMORY:.0%} of the {there / 1e9:.0f} GB that there are"
        )


def keeps_dense_matrix(kernel: str) -> bool:
    """Return whether a kernel stores single synapses as a matrix of all that could be; tried on a small layer."""
    wiring = ErdosRenyi(0.01, exact=True).wire(128, 128, generator=stream(0, "wiring"))
    return SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights")).weight.numel() > wiring.n_connections
