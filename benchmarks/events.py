"""Time products with inputs that are mostly zero: from events alone, dense by oneDNN, and ``F.linear``.

For each share of the input that is not zero, forward and gradient of the weights of one dense matrix, in one process,
each contestant once a round, in turn. Reported are medians, and ratios to ``F.linear`` taken round by round. Where
events stop being faster than the dense product of the same call is where ``event_linear`` changes over.

    python benchmarks/events.py [--size 1024] [--rows 12800] [--rounds 9] [--threads 2] [--out FILE.csv]
"""

import argparse
import csv
import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from neuropil.connect.kernels import event_product
from neuropil.connect.kernels.dense_product import dense_product
from neuropil.randomness import stream
from neuropil.train import flush_subnormals, keep_memory
from neuropil.train.environment import describe_environment

WARM_UP = 2


def contestants(x: Tensor, weight: Tensor, gradient: Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """Return what is timed, by product and name, the reference first."""

    def from_events() -> Tensor:
        events = event_product.find_events(x)  # found once, and kept for the gradient
        return event_product._forward(events, weight, None)

    events = event_product.find_events(x)
    return {
        "forward": {
            "F.linear": lambda: F.linear(x, weight),
            "dense": lambda: dense_product(x, weight),
            "events": from_events,
        },
        "weight gradient": {
            "F.linear": lambda: F.linear(gradient.t(), x.t()),
            "dense": lambda: dense_product(gradient.t(), x.t()),
            "events": lambda: event_product._weight_gradient(events, gradient, weight.shape[1]),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="neurons on either side")
    parser.add_argument("--rows", type=int, default=12_800, help="samples times time steps")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="CSV to write (default: benchmarks/results/events.csv)")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads)
    flush_subnormals()
    keep_memory()

    weight = torch.randn(options.size, options.size, generator=stream(0, "weights"))
    gradient = torch.randn(options.rows, options.size, generator=stream(0, "gradient"))
    environment = describe_environment()
    rows = []
    for activity in (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
        x = (torch.rand(options.rows, options.size, generator=stream(0, "input")) < activity).float()
        for product, timed in contestants(x, weight, gradient).items():
            seconds: dict[str, list[float]] = {name: [] for name in timed}
            for turn in range(WARM_UP + options.rounds):
                for name, compute in timed.items():
                    started = time.perf_counter()
                    compute()
                    if turn >= WARM_UP:
                        seconds[name].append(time.perf_counter() - started)
            for name, times in seconds.items():
                low, middle, high = (1000 * value for value in statistics.quantiles(times, n=4))
                rows.append({
                    "product": product,
                    "activity": activity,
                    "computed": name,
                    "size": options.size,
                    "rows": options.rows,
                    "median_ms": round(middle, 2),
                    "lower_quartile_ms": round(low, 2),
                    "upper_quartile_ms": round(high, 2),
                    "speedup": round(
                        statistics.median(a / b for a, b in zip(seconds["F.linear"], times, strict=True)), 2
                    ),
                    "rounds": options.rounds,
                    "date": datetime.date.today().isoformat(),
                    "threads": options.threads,
                    **{key: environment[key] for key in ("processor", "torch", "commit")},
                })  # fmt: skip
    table = Table("product", "activity", "computed", "ms", "× F.linear", box=None, padding=(0, 2))
    for row in rows:
        speedup = f"{row['speedup']:.2f}"
        table.add_row(row["product"], str(row["activity"]), row["computed"], f"{row['median_ms']:.1f}", speedup)
    Console().print(table)
    out = options.out or Path(__file__).parent / "results" / "events.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    Console().print(f"written: {out}")


if __name__ == "__main__":
    main()
