"""What each suite shows of its rows: tables, and sentences below them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

from rich.table import Table

from neuropil.bench.records import Row
from neuropil.bench.suites import events, layers, measures, networks
from neuropil.bench.table import digits, footer, list_table, matrix_table, mebibytes, share, timed, times

Shown = Iterator[Table | str]


def machine_line(machine: Row) -> str:
    """Return what rows were measured with, in one line."""
    load = "" if machine["load"] is None else f", load {machine['load']}"
    commit = "" if machine["commit"] == "unknown" else f", commit {machine['commit']}"
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)} on {machine['cores']} cores"
    return f"{machine['processor']}, {threads}{load}, PyTorch {machine['torch']}{commit}"


def show_layers(rows: Sequence[Row]) -> Shown:
    """Show the speed-up over ``nn.Linear`` of every block and kernel at every sparsity."""
    names = {"block": _block, "kernel": _of("kernel")}
    for (size, batch, precision), group in _grouped(rows, "size", "batch", "precision"):
        title = f"One layer {size} → {size}, batch {batch}, {precision}: a training step"
        ordered = sorted(group, key=_layer_order)
        if len({row["nominal_density"] for row in group}) > 1:
            yield _title(f"{title}, how many times as fast as nn.Linear, by sparsity")
            yield matrix_table(
                ordered,
                names=names,
                across=lambda row: share(row["nominal_density"]),
                value="over_linear",
                reference=_is_linear,
                part=lambda row: row["kernel"] in layers.OTHERS,
            )
        else:
            yield _title(title)
            columns = {"block": _block, "kernel": _kernel} | {
                "sparse": lambda row: share(row["density"]),
                "ms (quartiles)": timed,
                "× nn.Linear": lambda row: times(row.get("over_linear")),
                "× masked": lambda row: times(row.get("over_masked")),
                "held, MiB": lambda row: mebibytes(row.get("held_bytes")),
            }
            yield list_table(columns, ordered, names=2)
        yield from footer(group, lambda row: f"{row['kernel']} on {_block(row)}", _is_linear)
    yield (
        "[dim]* what a layer chooses by itself. ≈ rounds differ: their quartiles lie more than 1.3× apart. Wirings: "
        "eight ensembles; tiles, and all beyond 87.5 %, at random.[/]"
    )


def show_networks(rows: Sequence[Row]) -> Shown:
    """Show the time and the memory of a training step of every network."""
    for (kind, hidden, batch, steps, precision), group in _grouped(
        rows, "kind", "hidden", "batch", "steps", "precision"
    ):
        reference = networks.REFERENCES[str(kind)]
        size = f"{'patches' if kind == 'rate' else '784'} → 3 × {hidden} → 10"
        time = "" if kind == "rate" else f", {steps} steps"
        article = "An" if str(kind).startswith("a") else "A"
        yield _title(f"{article} {kind} network {size}{time}, batch {batch}, {precision}: a training step")
        columns = {
            "network": _of("network"),
            "ms (quartiles)": timed,
            f"× {reference.split()[-1]}": lambda row: times(row.get("over_reference")),
            "peak, MiB": lambda row: mebibytes(row.get("peak_bytes")),
            "of it": lambda row: _rounded(row.get("of_reference_peak"), 2),
        }
        yield list_table(columns, group)
        firing = [row["hidden_firing_rate"] for row in group if row.get("hidden_firing_rate") is not None]
        if firing:
            yield f"Hidden neurons fire in {100 * firing[0]:.2g} % of steps, on average over layers."
        yield from footer(group, _of("network"), partial(_has, "network", reference))


def show_events(rows: Sequence[Row]) -> Shown:
    """Show the speed-up over ``nn.Linear`` of every layer, by how much of its input is not zero."""
    for (size, batch, steps, precision), group in _grouped(rows, "size", "batch", "steps", "precision"):
        setting = f"Spikes into a layer {size} → {size}, {steps} steps × batch {batch}, {precision}"
        yield _title(f"{setting}: how many times as fast as nn.Linear, by activity")
        yield matrix_table(
            sorted(group, key=lambda row: events.PRODUCTS.index(row["product"])),
            names={"product": _of("product"), "density": lambda row: f"{row['density']:.3g}", "layer": _of("layer")},
            across=lambda row: f"{100 * row['activity']:.3g} %",
            value="over_linear",
            reference=partial(_has, "layer", events.LINEAR),
            part=_of("product"),
        )
        yield from footer(group, _of("layer"), partial(_has, "layer", events.LINEAR))


def show_rewiring(rows: Sequence[Row]) -> Shown:
    """Show what an event of every rule costs."""
    for (size, batch), group in _grouped(rows, "size", "batch"):
        yield _title(f"One rewiring event, a tenth of a layer {size} → {size}, batch {batch}, and a training step")
        columns: dict[str, Callable[[Row], str]] = {
            "block": _of("block"),
            "rule": _of("method"),
            "step, ms": lambda row: digits(row["step_ms"]),
            "event, ms (quartiles)": timed,
            "event / step": lambda row: _rounded(row["event_over_step"], 2),
            "idle / plain": lambda row: _rounded(row["idle_over_plain"], 3),
            "peak, MiB": lambda row: f"{round(row['peak_above_normal_bytes'] / 2**20):+d}",
        }
        yield list_table(columns, group, names=2)
        yield from footer(group, lambda row: f"{row['block']} {row['method']}")


def show_neurons(rows: Sequence[Row]) -> Shown:
    """Show scans over a sequence against the loop over steps."""
    for (size, batch, steps, precision), group in _grouped(rows, "size", "batch", "steps", "precision"):
        yield _title(f"{batch} × {size} neurons, {steps} steps, {precision}: forward and backward")
        columns: dict[str, Callable[[Row], str]] = {
            "neurons": _of("neurons"),
            "kernel": _of("kernel"),
            "ms (quartiles)": timed,
            "× loop": lambda row: times(row.get("over_loop")),
            "GB/s": lambda row: _rounded(row.get("gigabytes_per_s"), 1),
            "copy, GB/s": lambda row: _rounded(row.get("copy_gigabytes_per_s"), 1),
            "of copy": lambda row: f"{row['of_copy_bandwidth']:.0%}" if row.get("of_copy_bandwidth") else "",
        }
        yield list_table(columns, group, names=2)
        yield from footer(group, lambda row: f"{row['neurons']} {row['kernel']}", partial(_has, "kernel", "torch"))


def show_scale(rows: Sequence[Row]) -> Shown:
    """Show layers and spiking networks size by size, and how their time grows."""
    names = {
        "kernel": _of("kernel"),
        "neurons": lambda row: f"{row['neurons']:,}",
        "connections": lambda row: f"{row['connections']:,}",
    }
    trained = [row for row in rows if row["task"] == "train"]
    for (batch, precision), group in _grouped(trained, "batch", "precision"):
        yield _title(f"A layer of 64 connections a neuron, batch {batch}, {precision}: a training step")
        columns = names | {
            "ms (quartiles)": timed,
            "ns a\nconnection": lambda row: digits(1e6 * row["median_ms"] / row["connections"]),
            "bytes a\nconnection": lambda row: _rounded(row["bytes_per_connection"], 1),
        }
        yield list_table(columns, sorted(group, key=_of("kernel")), names=2)
        yield from _growth(row for row in rows if _has("task", "train, fit", row) and row["batch"] == batch)
        yield from footer(group, _of("kernel"))
    spiking = [row for row in rows if row["task"] == "spiking"]
    for (steps,), group in _grouped(spiking, "steps"):
        yield _title(f"A spiking network of 100 connections a neuron, {steps} steps of 1 ms, forward")
        columns = names | {
            "seconds a\nsimulated second": lambda row: digits(row["seconds_per_simulated_second"]),
            "quartiles": lambda row: timed(row, row["steps"]).partition(" ")[2],
            "Hz in,\nhidden, out": lambda row: f"{row['input_hz']:.1f} {row['hidden_hz']:.1f} {row['last_hz']:.1f}",
            "bytes a\nconnection": lambda row: _rounded(row["bytes_per_connection"], 1),
        }
        yield list_table(columns, sorted(group, key=_of("kernel")), names=2)
        yield from _growth(row for row in rows if _has("task", "spiking, fit", row))
        yield from footer(group, _of("kernel"))


def show_measures(rows: Sequence[Row]) -> Shown:
    """Show emergence by connections, and what probes add to an epoch."""
    columns: dict[str, Callable[[Row], str]] = {
        "joined by": lambda row: str(row["joins"]).replace("x", " × "),
        "neurons": lambda row: f"{row['size']:,}",
        "connections": lambda row: f"{row['connections']:,}",
        "ms (quartiles)": timed,
        "ns a\nconnection": lambda row: digits(1e6 * row["median_ms"] / row["connections"]),
    }
    for (task, batch), group in _grouped([row for row in rows if row["task"] in measures.TITLES], "task", "batch"):
        title = measures.TITLES[str(task)] + ("" if batch is None else f", batch {batch}")
        yield _title(f"Emergence of {group[0]['layers']} layers on one thread: {title}")
        yield list_table(columns, sorted(group, key=_of("joins")), names=2)
        yield from _growth(
            (row for row in rows if _has("task", f"{task}, fit", row) and row["batch"] == batch), by="joins"
        )
        yield from footer(group, _of("joins"))
    probed = [row for row in rows if row["task"] == "probes"]
    for (size, batch, samples), group in _grouped(probed, "size", "batch", "samples"):
        yield _title(f"784 → 3 × {size} → 10, batch {batch}: probes on {samples} samples, beside an epoch of training")
        columns = {
            "network": _of("network"),
            "probe": _of("probe"),
            "ms (quartiles)": timed,
            "epoch, s": lambda row: digits(row["epoch_seconds"]),
            "% of an epoch": lambda row: _per_cent(row["of_epoch"], row["of_epoch_lower"], row["of_epoch_upper"]),
        }
        yield list_table(columns, group, names=2)
        yield from footer(group, _of("network"))


def show_rules(rows: Sequence[Row]) -> Shown:
    """Show what a step of each rule costs, beside one of backpropagation."""
    columns: dict[str, Callable[[Row], str]] = {
        "rule": _of("rule"),
        "ms (quartiles)": timed,
        "of back-\npropagation": lambda row: _rounded(row["of_backpropagation"], 2),
        "its\noperations": lambda row: _rounded(row["flops_of_backpropagation"], 2),
        "peak\nMiB": lambda row: mebibytes(row["peak_bytes"]),
        "without\ngradients": lambda row: mebibytes(row["passing_bytes"]),
    }
    for (network, hidden, batch), group in _grouped(rows, "network", "hidden", "batch"):
        yield _title(f"784 → 5 × {hidden} → 10, {str(network).replace('x', ' × ')}, batch {batch}: a step of each rule")
        yield list_table(columns, group, names=1)
        yield from footer(group, _of("rule"))


SHOW: dict[str, Callable[[Sequence[Row]], Shown]] = {
    "layers": show_layers,
    "networks": show_networks,
    "events": show_events,
    "rewiring": show_rewiring,
    "neurons": show_neurons,
    "scale": show_scale,
    "measures": show_measures,
    "rules": show_rules,
}


def _growth(fits: Iterator[Row], *, by: str = "kernel") -> Iterator[str]:
    for row in fits:
        yield (
            f"{row[by]}: time grows as connections to the power {row['exponent']:.2f} "
            f"[dim](fitted to {row['points']} sizes)[/]"
        )


def _grouped(rows: Sequence[Row], *keys: str) -> Iterator[tuple[tuple[object, ...], list[Row]]]:
    """Give rows of equal values together, in the order in which they come first."""
    order = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))

    def place(row: Row) -> int:
        return order.index(tuple(row[key] for key in keys))

    for i, group in groupby(sorted(rows, key=place), key=place):
        yield order[i], [*group]


def _title(text: str) -> str:
    return f"\n[bold]{text}[/]"


def _of(key: str) -> Callable[[Row], str]:
    return lambda row: str(row[key])


def _has(key: str, value: str, row: Row) -> bool:
    return bool(row[key] == value)


def _block(row: Row) -> str:
    interleaved = " interleaved" if str(row["pattern"]).endswith("interleaved") else ""
    return f"{str(row['block']).replace('x', ' × ')}{interleaved}"


def _kernel(row: Row) -> str:
    return f"{row['kernel']}{' *' if row.get('is_automatic') else ''}"


def _is_linear(row: Row) -> bool:
    return _has("kernel", layers.LINEAR, row)


def _layer_order(row: Row) -> tuple[object, ...]:
    sides = [10**6 if side == "group" else int(side) for side in row["block"].split("x") if side != "dense"]
    return row["kernel"] not in layers.OTHERS, sides, "interleaved" in row["pattern"]


def _per_cent(middle: float, low: float, high: float) -> str:
    return f"{100 * middle:.2f} ({100 * low:.2f}–{100 * high:.2f})"


def _rounded(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"
