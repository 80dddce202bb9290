"""Time one event of rewiring against the training steps around it, and measure the memory that it takes.

Each way to rewire a layer of each block runs in a process of its own. A round there is three training steps (forward,
backward, Adam) of one model, after one that is not counted: one without a word to the rewirer, one followed by a
rewirer's step without an event, and one with an event: recording, scores, choice, new wiring, weights, both of Adam's
moments, history. An event costs the whole of the third step less the mean of the other two, as a share of the median
step. Peak memory is the resident set's high-water mark during an event step, less that during a step without one, both
above what is taken between steps.

    python benchmarks/rewiring.py [--size 4096] [--batch 256] [--fraction 0.1] [--rounds 9] [--out FILE.csv]
"""

import argparse
import csv
import datetime
import json
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from neuropil.connect import Ensembles, SparseLinear
from neuropil.randomness import stream
from neuropil.rewire import (
    CannistraciHebb,
    Gradient,
    Hebbian,
    Limits,
    Magnitude,
    Random,
    Rewirer,
    Sampled,
    Schedule,
    SignedMagnitude,
)
from neuropil.train.environment import describe_environment
from neuropil.train.memory import PeakMemory
from neuropil.train.subnormals import flush_subnormals

BLOCKS = {"(1, 1)": (1, 1), "(group, 1)": ("group", 1), "(64, 64)": (64, 64)}
METHODS = {
    "set": (SignedMagnitude(), Random()),
    "magnitude + random": (Magnitude(), Random()),
    "magnitude + hebbian": (Magnitude(), Hebbian()),
    "rigl": (Magnitude(), Gradient()),
    "hebbian + hebbian": (Hebbian(), Hebbian()),
    "chts": (Sampled(Magnitude()), Sampled(CannistraciHebb())),
}
WARM_UP = 2
MEMORY_ROUNDS = 3
SLOW = 3  # rounds are enough where an event takes many steps


def measure(block: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what one way to rewire costs, in this process."""
    torch.set_num_threads(options.threads)
    flush_subnormals()
    pattern = Ensembles(p_inter=0.15, block=BLOCKS[block])
    wiring = pattern.wire(options.size, options.size, generator=stream(0, "wiring"))
    model = nn.Sequential(SparseLinear(wiring, generator=stream(0, "weights")), nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    is_chts = method == "chts"
    prune, grow = METHODS[method]
    rewirer = Rewirer(
        model,
        optimizer,
        prune=prune,
        grow=grow,
        schedule=Schedule(every=2, fraction=options.fraction),
        limits=Limits(chain_removal=is_chts),
    )
    x = torch.randn(options.batch, options.size, generator=stream(0, "input"))
    incoming = torch.randn(options.batch, options.size, generator=stream(0, "gradient"))

    def step(is_rewired: bool) -> bool:
        optimizer.zero_grad(set_to_none=True)
        model(x).backward(incoming)
        optimizer.step()
        return is_rewired and bool(rewirer.step())

    seconds: list[list[float]] = []
    for turn in range(WARM_UP + (SLOW if is_chts else options.rounds)):
        times = [0.0, 0.0, 0.0]
        for kind in (0, 0, 1, 2):  # the first one finds the caches as the event before has left them: it is not counted
            started = time.perf_counter()
            had_event = step(is_rewired=kind > 0)
            times[kind] = time.perf_counter() - started
            assert had_event == (kind == 2)
        if turn >= WARM_UP:
            seconds.append(times)
    peaks: list[list[int]] = []
    for _ in range(1 if is_chts else MEMORY_ROUNDS):
        peaks.append([])
        for kind in range(3):
            peak = PeakMemory()
            step(is_rewired=kind > 0)
            peaks[-1].append(peak.bytes())
    layer = model[0]
    assert isinstance(layer, SparseLinear)
    return {"seconds": seconds, "peaks": peaks, "density": layer.wiring.density}


def row_of(block: str, method: str, options: argparse.Namespace, measured: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table from what a process has measured."""
    plain, idle, event = zip(*measured["seconds"], strict=True)
    step = statistics.median(plain)
    costs = [c - (a + b) / 2 for a, b, c in zip(plain, idle, event, strict=True)]
    low, middle, high = statistics.quantiles(costs, n=4)
    normal = max(peak for peaks in measured["peaks"] for peak in peaks[:2])
    rewired = max(peaks[2] for peaks in measured["peaks"])
    return {
        "block": block,
        "method": method,
        "fraction": options.fraction,
        "size": options.size,
        "batch": options.batch,
        "density": round(measured["density"], 4),
        "step_ms": round(1000 * step, 2),
        "event_ms": round(1000 * middle, 2),
        "event_lower_quartile_ms": round(1000 * low, 2),
        "event_upper_quartile_ms": round(1000 * high, 2),
        "event_share_of_step": round(middle / step, 3),
        "idle_step_ratio": round(statistics.median(b / a for a, b in zip(plain, idle, strict=True)), 3),
        "peak_above_normal_mib": round((rewired - normal) / 2**20, 1),
        "rounds": len(costs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="neurons on either side")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--fraction", type=float, default=0.1, help="share of blocks that an event replaces")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs=2, metavar=("BLOCK", "METHOD"), help="measure one case, and print it as JSON")
    parser.add_argument("--out", type=Path, help="CSV to write (default: benchmarks/results/rewiring.csv)")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(*options.only, options)))
        return

    torch.set_num_threads(options.threads)
    environment = describe_environment()
    facts = {
        "date": datetime.date.today().isoformat(),
        **{key: environment[key] for key in ("threads", "processor", "torch", "numpy", "commit")},
        "numba": metadata.version("numba"),
    }
    rows = []
    for block, method in track([(block, method) for block in BLOCKS for method in METHODS], "events", transient=True):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", block, method]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(row_of(block, method, options, json.loads(done.stdout)) | facts)

    table = Table("block", "method", "ms a step", "ms an event", "event/step", "idle/plain", "peak, MiB")
    for row in rows:
        table.add_row(
            row["block"],
            row["method"],
            f"{row['step_ms']:.1f}",
            f"{row['event_ms']:.0f} ({row['event_lower_quartile_ms']:.0f}–{row['event_upper_quartile_ms']:.0f})",
            f"{row['event_share_of_step']:.2f}",
            f"{row['idle_step_ratio']:.3f}",
            f"{row['peak_above_normal_mib']:+.0f}",
        )
    Console().print(table)
    out = options.out or Path(__file__).parent / "results" / "rewiring.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    Console().print(f"written: {out}")


if __name__ == "__main__":
    main()
