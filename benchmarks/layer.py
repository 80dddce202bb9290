"""Time one training step of a sparse layer against nn.Linear and the masked layer, all in one process.

Every round times each contestant once, in turn, so that a change of the machine's speed hits all alike. A step is
forward, backward (weights and input) and Adam. Reported are medians with quartiles, and the ratios of each contestant
to nn.Linear and to the masked layer, taken round by round.

    python benchmarks/layer.py [--size 2048] [--batch 256] [--rounds 30] [--threads 2] [--out FILE.csv]
"""

import argparse
import csv
import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from neuropil.connect import Ensembles, ErdosRenyi, SparseLinear
from neuropil.measure import count_parameters
from neuropil.randomness import stream
from neuropil.train.environment import describe_environment
from neuropil.train.subnormals import flush_subnormals

WARM_UP = 3


def contestants(size: int) -> dict[str, nn.Module]:
    """Return the layers to time, the two references first."""

    def sparse(pattern, kernel="auto"):
        wiring = pattern.wire(size, size, generator=stream(0, "wiring"))
        return SparseLinear(wiring, kernel=kernel, generator=stream(0, "weights"))

    layers = {
        "nn.Linear": nn.Linear(size, size),
        "masked, single synapses, p'=0.15": sparse(Ensembles(p_inter=0.15), "masked"),
        "blocks (group, 1), p'=0.15": sparse(Ensembles(p_inter=0.15, block=("group", 1)), "blocks"),
        "blocks (group, 1), p'=0.15, interleaved": sparse(
            Ensembles(p_inter=0.15, block=("group", 1), grouping="interleaved"), "blocks"
        ),
        "blocks (group, 1), p'=0": sparse(Ensembles(p_inter=0.0, block=("group", 1)), "blocks"),
    }
    for side in (4, 8, 16, 32, 64, 128):
        layers[f"blocks ({side}, {side}), density 0.256"] = sparse(
            ErdosRenyi(0.25625, exact=True, block=(side, side)), "blocks"
        )
    for rows in (8, 16, 32, 64):
        layers[f"blocks ({rows}, 1), density 0.256"] = sparse(
            ErdosRenyi(0.25625, exact=True, block=(rows, 1)), "blocks"
        )
    return layers


def training_step(
    layer: nn.Module, x: torch.Tensor, incoming: torch.Tensor
) -> tuple[Callable[[], None], torch.optim.Adam]:
    """Return a function that does one step, and the optimizer whose state it grows."""
    optimizer = torch.optim.Adam(layer.parameters())
    x = x.clone().requires_grad_()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(incoming)
        optimizer.step()

    return step, optimizer


def state_bytes(layer: nn.Module, optimizer: torch.optim.Adam) -> int:
    """Return the bytes of weights, gradients and optimizer state."""
    tensors = [*layer.parameters(), *(p.grad for p in layer.parameters())]
    tensors += [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="neurons on either side")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="CSV to write (default: benchmarks/results/layer.csv)")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads)
    flush_subnormals()

    x = torch.randn(options.batch, options.size, generator=stream(0, "input"))
    incoming = torch.randn(options.batch, options.size, generator=stream(0, "gradient"))
    layers = contestants(options.size)
    steps = {name: training_step(layer, x, incoming) for name, layer in layers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(WARM_UP + options.rounds):
        for name, (step, _) in steps.items():
            started = time.perf_counter()
            step()
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)

    environment = describe_environment()
    linear, masked = (seconds[name] for name in list(seconds)[:2])
    rows = []
    for name, times in seconds.items():
        layer, (_, optimizer) = layers[name], steps[name]
        low, middle, high = (1000 * value for value in statistics.quantiles(times, n=4))
        rows.append({
            "layer": name,
            "size": options.size,
            "batch": options.batch,
            "density": round(layer.wiring.density, 4) if isinstance(layer, SparseLinear) else 1.0,
            "median_ms": round(middle, 3),
            "lower_quartile_ms": round(low, 3),
            "upper_quartile_ms": round(high, 3),
            "speedup_over_linear": round(statistics.median(a / b for a, b in zip(linear, times, strict=True)), 2),
            "speedup_over_masked": round(statistics.median(a / b for a, b in zip(masked, times, strict=True)), 2),
            "parameters": count_parameters(layer),
            "state_bytes": state_bytes(layer, optimizer),
            "rounds": options.rounds,
            "date": datetime.date.today().isoformat(),
            **{key: environment[key] for key in ("threads", "processor", "torch", "commit")},
        })  # fmt: skip

    table = Table("layer", "density", "ms a step (quartiles)", "× nn.Linear", "× masked", "weights, gradients, moments")
    for row in rows:
        table.add_row(
            str(row["layer"]),
            f"{row['density']:.3f}",
            f"{row['median_ms']:.1f} ({row['lower_quartile_ms']:.1f}–{row['upper_quartile_ms']:.1f})",
            f"{row['speedup_over_linear']:.2f}",
            f"{row['speedup_over_masked']:.2f}",
            f"{row['state_bytes'] / 2**20:.1f} MiB",
        )
    Console().print(table)
    out = options.out or Path(__file__).parent / "results" / "layer.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    Console().print(f"written: {out}")


if __name__ == "__main__":
    main()
