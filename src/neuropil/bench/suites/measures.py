"""Measures: emergence of ten layers by their connections, and what probes add to an epoch of training."""

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, count, islice, product

import torch
import torch.nn.functional as F
from torch import nn

from neuropil.bench.contestants import draw
from neuropil.bench.records import Row
from neuropil.bench.settings import Settings, block_of
from neuropil.bench.suites.layers import pattern_of
from neuropil.bench.suites.scale import fits
from neuropil.bench.timing import FAILURES, Clock, Step, clock_of, measure, no_garbage, quartiles, reason_of, summary
from neuropil.compare.probes import build_probes
from neuropil.connect import Dense, Ensembles, SparseLinear, Wiring, densify
from neuropil.data import Dataset, Split
from neuropil.measure import emergence, emergence_of_units
from neuropil.models import ensemble_net
from neuropil.randomness import stream
from neuropil.train.probes import measure_once

N_LAYERS, DENSITY = 10, 0.1
CONNECTIONS = (100_000, 316_000, 1_000_000, 3_160_000, 10_000_000)
# how layers are joined: wirings of single synapses and of blocks, a mask, all to all
MASK, FULL = "dense mask", "all to all"
JOINS = ("1x1", "groupx1", MASK, FULL)
COUNT, RUN = "count", "run and count"
TITLES = {COUNT: "units known to be active", RUN: "forward pass and count"}
PROBES = ("activity", "emergence", "alignment")
TOGETHER = "all three"
NETWORKS = ("groupx1", "dense")
# Fashion-MNIST, less a tenth that is held out
IMAGES, N_SAMPLES, STEPS = 54_000, 1000, 40
_SHAPE, _CLASSES = (1, 28, 28), 10


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the rows of emergence, size by size, then those of probes, network by network."""
    quick = (10_000, 100_000, 1_000_000)
    widths = settings.sizes or tuple(width_of(n, DENSITY) for n in (quick if settings.quick else CONNECTIONS))
    batches = settings.batches or ((64,) if settings.quick else (256,))
    for task, batch in [(COUNT, None), *((RUN, batch) for batch in batches)]:
        rows: list[Row] = []
        for width in widths:
            rows += (new := time_emergence(task, width, batch, settings))
            yield new
        yield fits(rows, task, by="joins")
    dataset = made_up_images(IMAGES)
    sizes = settings.sizes or ((128,) if settings.quick else (1024,))
    for network, size, batch in product(NETWORKS, sizes, batches):
        yield time_probes(network, size, batch, dataset, settings)


def width_of(connections: int, density: float) -> int:
    """Return the neurons of each layer, in eighths, with which a network has at least so many connections."""
    return 8 * math.ceil(math.sqrt(connections / (N_LAYERS * density)) / 8)


# Emergence


def time_emergence(task: str, width: int, batch: int | None, settings: Settings) -> list[Row]:
    """Return the rows of emergence in networks of one number of connections, which have taken turns, on one thread.

    Args:
        task: whether it is counted for units of which half are active, or from a batch that a network is run with.
        width: neurons of each layer; all to all, layers are narrower, for as many connections.
        batch: samples, if it is run.
        settings: see there.
    """
    rounds = settings.rounds or (3 if settings.quick else 9)
    chains: dict[str, list[Wiring]] = {}

    def build(joins: str) -> Step:
        wirings = chains[joins] = chain_of(joins, width)
        return counting(joins, wirings) if batch is None else running(joins, wirings, batch, settings.device)

    names = [joins for joins in JOINS if batch is None or joins != MASK]
    with on_one_thread():
        timings = measure({joins: partial(build, joins) for joins in names}, rounds=rounds, clock=clock_of("cpu"))
    return [
        {
            "task": task, "joins": joins, "layers": N_LAYERS, "size": chains[joins][0].in_features, "batch": batch,
            "connections": sum(wiring.n_connections for wiring in chains[joins]), "working_threads": 1,
            **summary(timings, joins, {}, rounds=rounds),
        }
        for joins in names
    ]  # fmt: skip


def chain_of(joins: str, width: int) -> list[Wiring]:
    """Return the wiring of each layer."""
    if joins == FULL:
        narrow = width_of(N_LAYERS * round(DENSITY * width**2), 1.0)
        return [Dense().wire(narrow, narrow)] * N_LAYERS
    pattern = pattern_of(width, DENSITY, "1x1" if joins == MASK else joins)
    return [pattern.wire(width, width, generator=stream(0, "wiring", layer)) for layer in range(N_LAYERS)]


def counting(joins: str, wirings: list[Wiring]) -> Step:
    """Return what counts the paths of units of which half are active."""
    width = wirings[0].in_features
    active = [torch.rand(width, generator=stream(0, "active", layer)) < 0.5 for layer in range(N_LAYERS + 1)]
    if joins == FULL:
        return lambda: emergence_of_units(active)
    connections = [wiring.mask() if joins == MASK else wiring for wiring in wirings]
    return lambda: emergence_of_units(active, connections)


def running(joins: str, wirings: list[Wiring], batch: int, device: str) -> Step:
    """Return what runs a network of ReLUs with a batch and counts its paths."""
    parts: list[nn.Module] = []
    for layer, wiring in enumerate(wirings):
        sparse = SparseLinear(wiring, generator=stream(0, "weights", layer))
        parts += [densify(sparse) if joins == FULL else sparse, nn.ReLU()]
    net = nn.Sequential(*parts[:-1]).to(device)
    x = draw(batch, wirings[0].in_features, name="input", device=device)
    return lambda: emergence(net, x)


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Compute on one thread while the block runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Probes


def time_probes(network: str, size: int, batch: int, dataset: Dataset, settings: Settings) -> list[Row]:
    """Return the row of each probe of a network, and of all of them.

    A round is some steps of training and each probe once. The share of an epoch is the seconds of a probe over those
    of a step, times the steps of an epoch: round by round.
    """
    steps = settings.steps or (5 if settings.quick else STEPS)
    rounds = settings.rounds or (3 if settings.quick else 9)
    row: Row = {"task": "probes", "network": network, "size": size, "batch": batch, "samples": N_SAMPLES}
    try:
        seconds = run_rounds(network, size, batch, dataset, steps=steps, rounds=rounds, device=settings.device)
    except FAILURES as error:
        return [row | {"probe": TOGETHER, "rounds": rounds, "reason": reason_of(error)}]
    per_epoch = math.ceil(len(dataset.train) / batch)
    epochs = [per_epoch / steps * each for each in seconds.pop("training")]
    seconds[TOGETHER] = [sum(each) for each in zip(*seconds.values(), strict=True)]
    rows = []
    for probe, times in seconds.items():
        low, middle, high = (round(1000 * value, 4) for value in quartiles(times))
        shares = quartiles([each / epoch for each, epoch in zip(times, epochs, strict=True)])
        share_low, share, share_high = (round(value, 5) for value in shares)
        rows.append(row | {
            "probe": probe, "steps_timed": steps, "epoch_steps": per_epoch,
            "epoch_seconds": round(quartiles(epochs)[1], 3),
            "median_ms": middle, "lower_quartile_ms": low, "upper_quartile_ms": high,
            "of_epoch": share, "of_epoch_lower": share_low, "of_epoch_upper": share_high,
            "rounds": rounds, "reason": None,
        })  # fmt: skip
    return rows


def run_rounds(
    network: str, size: int, batch: int, dataset: Dataset, *, steps: int, rounds: int, device: str
) -> dict[str, list[float]]:
    """Return the seconds that training and each probe take, a number a round, after a round that is not counted."""
    pattern = Dense() if network == "dense" else Ensembles(p_inter=0.15, block=block_of(network))
    net = ensemble_net(_SHAPE, _CLASSES, hidden=[size] * 3, pattern=pattern).to(device)
    described = [{"measure": name, "n_samples": N_SAMPLES} for name in PROBES]
    probes = build_probes({"seed": 0, "probes": described}, net, dataset)
    train = Training(net, dataset, batch, steps)
    clock: Clock = clock_of(device)
    seconds: dict[str, list[float]] = {"training": [], **{probe.name: [] for probe in probes}}
    with no_garbage():
        for turn in range(1 + rounds):
            gc.collect()
            times = [clock(train)]
            for probe in probes:
                take = partial(measure_once, probe.measure, net, dataset, n_samples=probe.n_samples, seed=0)
                times.append(clock(take))
            if turn:
                for kept, took in zip(seconds.values(), times, strict=True):
                    kept.append(took)
    return seconds


class Training:
    """Some steps of training on images in random order, as :func:`neuropil.train.fit` takes them: Adam, cross-entropy.

    Args:
        net: to train, on its device.
        dataset: whose training part is gone through, epoch by epoch.
        batch: images a step.
        steps: of a call.
    """

    def __init__(self, net: nn.Module, dataset: Dataset, batch: int, steps: int) -> None:
        self._net, self._steps = net, steps
        self._optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        order = stream(0, "order")
        self._batches = chain.from_iterable(dataset.batches(dataset.train, batch, generator=order) for _ in count())

    def __call__(self) -> None:
        """Do the steps, where the last call has stopped."""
        device = next(self._net.parameters()).device
        self._net.train()
        for images, labels in islice(self._batches, self._steps):
            loss = F.cross_entropy(self._net(images.to(device)), labels.to(device))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()


def made_up_images(n: int) -> Dataset:
    """Return images of Fashion-MNIST's size with labels, at random: for time, what is on them does not count.

    As there, half of the pixels are black.
    """
    chance = stream(0, "images")
    values = torch.randint(-255, 256, (n, *_SHAPE), generator=chance, dtype=torch.int16)
    images = values.clamp_(min=0).to(torch.uint8)
    part = Split(images, torch.randint(_CLASSES, (n,), generator=chance))
    # mean and deviation of such pixels
    return Dataset("made-up", part, part, tuple(map(str, range(_CLASSES))), 255, mean=(0.25,), std=(0.323,))
