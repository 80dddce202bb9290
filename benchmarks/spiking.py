"""Time one training step of a spiking network against the published way, both in one process.

The published way (G2GNet's spiking code): a Python loop over time steps, in each of which every layer multiplies its
dense weights with a mask, and an snnTorch ``Leaky`` takes the product. Ours have the same wiring, weights and neurons,
and are named by block and kernel. Every round times each contestant once, in turn. A step is forward, backward and
Adam, on images whose pixels are fed as a current or as a rate code. Reported are medians with quartiles, and ratios to
the published way, taken round by round. Peak memory is what a step adds to a process of its own.

    python benchmarks/spiking.py [--hidden 2048] [--steps 50] [--batch 256] [--rounds 5] [--threads 2] [--out FILE.csv]
        [--networks NAME …]

Needs snnTorch (the extra ``dev``).
"""

import argparse
import csv
import datetime
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import snntorch
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from snntorch import surrogate as published_surrogate
from torch import Tensor, nn

from neuropil.connect import Ensembles, SparseLinear
from neuropil.models import SpikingEnsembleNet, spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.train import PeakMemory, flush_subnormals, keep_memory
from neuropil.train.environment import describe_environment
from neuropil.units import LIF, Boxcar, Surrogate

WARM_UP = 1
PUBLISHED = "published way"


class MaskedLayer(nn.Module):
    """A dense layer whose weights are multiplied with a mask whenever it is called."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        is_sparse = isinstance(layer, SparseLinear)
        weight = layer.dense_weight() if is_sparse else layer.weight
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.register_buffer("mask", layer.wiring.mask().float() if is_sparse else None)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight if self.mask is None else self.weight * self.mask, self.bias)


class PublishedNet(nn.Module):
    """The network of ours, computed the published way."""

    def __init__(self, net: SpikingEnsembleNet) -> None:
        super().__init__()
        self.encode = nn.Sequential(net.features, net.encoder)
        self.layers = nn.ModuleList(MaskedLayer(layer) for layer, _ in net.stages)
        learned = net.arguments["neurons"] == "learned"
        gradient = published_surrogate.atan(alpha=2.0) if learned else published_surrogate.fast_sigmoid(slope=25)
        self.neurons = nn.ModuleList(
            snntorch.Leaky(
                beta=float(unit.decay.detach()), threshold=1.0, learn_beta=learned, learn_threshold=learned,
                spike_grad=gradient,
            )
            for _, unit in net.stages
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        potentials = [neurons.init_leaky() for neurons in self.neurons]
        counts = []
        for x in self.encode(images):
            for i, (layer, neurons) in enumerate(zip(self.layers, self.neurons, strict=True)):
                x, potentials[i] = neurons(layer(x), potentials[i])
            counts.append(x)
        return torch.stack(counts).sum(0)


def contestants(options: argparse.Namespace) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds each network, the reference first."""

    def ours(
        block: tuple = (1, 1), kernel: str = "events", surrogate: Surrogate | None = None, input_gradient: str = "full"
    ) -> SpikingEnsembleNet:
        def bounded() -> LIF:
            return LIF(decay=0.9, threshold=1.0, learn=("decay", "threshold"), surrogate=surrogate)

        return spiking_ensemble_net(
            (1, 28, 28), 10, hidden=[options.hidden] * 3, pattern=Ensembles(p_inter=0.15, block=block),
            neurons=options.neurons if surrogate is None else bounded, steps=options.steps, encoding=options.encoding,
            kernel=kernel, input_gradient=input_gradient,
        )  # fmt: skip

    return {
        PUBLISHED: lambda: PublishedNet(ours()),
        "(1, 1), events": ours,
        "(1, 1), masked": lambda: ours(kernel="masked"),
        "(group, 1), events": lambda: ours(block=("group", 1)),
        "(group, 1), blocks": lambda: ours(block=("group", 1), kernel="blocks"),
        "(group, 1), events, Boxcar": lambda: ours(block=("group", 1), surrogate=Boxcar()),
        "(group, 1), events, Boxcar, needed": lambda: ours(
            block=("group", 1), surrogate=Boxcar(), input_gradient="needed"
        ),
    }


def training_step(net: nn.Module, options: argparse.Namespace) -> Callable[[], float]:
    """Return a function that does one step and gives the loss."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    images = torch.rand(options.batch, 1, 28, 28, generator=stream(0, "images"))
    # as in Fashion-MNIST, half of the pixels are black, and the mean is 0.286
    images = (images - 0.5).clamp(min=0) * 2 * 1.144
    images = images.clamp(max=1)
    labels = torch.randint(10, (options.batch,), generator=stream(0, "labels"))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def measure_peak(options: argparse.Namespace, name: str) -> int:
    """Return the bytes that two steps add to a fresh process."""
    command = [sys.executable, __file__, "--peak-of", name]
    for key in ("hidden", "steps", "batch", "threads", "encoding", "neurons"):
        command += [f"--{key}", str(getattr(options, key))]
    return int(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=2048, help="width of each of the three hidden layers")
    parser.add_argument("--steps", type=int, default=50, help="time steps")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--encoding", choices=("current", "rate"), default="current")
    parser.add_argument("--neurons", choices=("learned", "fixed"), default="learned")
    parser.add_argument("--networks", nargs="+", help="names of those to compare with the published way; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="CSV to add to (default: benchmarks/results/spiking.csv)")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads)
    flush_subnormals()
    if options.peak_of is None:
        keep_memory()
    nets = contestants(options)
    unknown = set(options.networks or ()) - set(nets)
    if unknown:
        parser.error(f"networks must be some of {', '.join(nets)}, got {', '.join(unknown)}")
    if options.networks:
        nets = {name: net for name, net in nets.items() if name in (PUBLISHED, *options.networks)}
    if options.peak_of is not None:
        step = training_step(nets[options.peak_of](), options)
        peak = PeakMemory()
        step()
        step()
        Console().print(peak.bytes())
        return

    built = {name: build() for name, build in nets.items()}
    steps = {name: training_step(net, options) for name, net in built.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, float] = {}
    for turn in range(WARM_UP + options.rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            loss = step()
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)
            else:
                losses[name] = loss
    peaks = {name: measure_peak(options, name) for name in nets}

    environment = describe_environment()
    published = seconds[PUBLISHED]
    rows = []
    for name, times in seconds.items():
        low, middle, high = statistics.quantiles(times, n=4)
        rows.append({
            "network": name,
            "hidden": options.hidden,
            "steps": options.steps,
            "batch": options.batch,
            "encoding": options.encoding,
            "neurons": options.neurons,
            "median_s": round(middle, 3),
            "lower_quartile_s": round(low, 3),
            "upper_quartile_s": round(high, 3),
            "speedup": round(statistics.median(a / b for a, b in zip(published, times, strict=True)), 2),
            "peak_mib": round(peaks[name] / 2**20),
            "memory_ratio": round(peaks[name] / peaks[PUBLISHED], 3),
            "first_loss": round(losses[name], 4),
            "rounds": options.rounds,
            "date": datetime.date.today().isoformat(),
            "threads": options.threads,
            **{key: environment[key] for key in ("processor", "torch", "commit")},
            "snntorch": snntorch.__version__,
        })  # fmt: skip
    out = options.out or Path(__file__).parent / "results" / "spiking.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    is_new = not out.exists()
    with out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    table = Table("network", "s a step", "quartiles", "speed-up", "peak MiB", "of published", box=None, padding=(0, 2))
    for row in rows:
        quartiles = f"{row['lower_quartile_s']:.2f}–{row['upper_quartile_s']:.2f}"
        table.add_row(row["network"], f"{row['median_s']:.2f}", quartiles, f"{row['speedup']:.2f}×",
                      str(row["peak_mib"]), f"{row['memory_ratio']:.2f}")  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
