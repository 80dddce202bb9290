"""What each suite shows of its rows: tables, and sentences below them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from rich.table import Table

from neuropil.bench.records import Row
from neuropil.bench.suites import events, layers, networks
from neuropil.bench.table import digits, footer, list_table, matrix_table, mebibytes, share, timed, times

Shown = Iterator[Table | str]


def show_layers(rows: Sequence[Row]) -> Shown:
    """Show the speed-up over ``nn.Linear`` of every block and kernel at every sparsity."""
    for (size, batch, precision), group in _grouped(rows, "size", "batch", "precision"):
        title = f"One layer {size} → {size}, batch {batch}, {precision}: a training step, times as fast as nn.Linear"
        names = {"block": _block, "pattern": _of("pattern"), "kernel": _kernel}
        many = len({row["nominal_density"] for row in group}) > 1
        if many:
            yield matrix_table(
                title,
                sorted(group, key=_layer_order),
                names=names,
                across=lambda row: share(row["nominal_density"]),
                value="over_linear",
                reference=_is_linear,
            )
        else:
            columns = names | {
                "sparse": lambda row: share(row["density"]),
                "ms (quartiles)": timed,
                "× nn.Linear": lambda row: times(row.get("over_linear")),
                "× masked": lambda row: times(row.get("over_masked")),
                "held, MiB": lambda row: mebibytes(row.get("held_bytes")),
            }
            yield list_table(title, columns, sorted(group, key=_layer_order), names=3)
        yield from footer(group, lambda row: f"{row['block']} {row['kernel']}".strip(), _is_linear)
    yield "[dim]* the kernel that a layer chooses by itself. ≈ rounds do not agree (quartiles more than 1.3× apart).[/]"


def show_networks(rows: Sequence[Row]) -> Shown:
    """Show the time and the memory of a training step of every network."""
    for (kind, hidden, batch, steps, precision), group in _grouped(
        rows, "kind", "hidden", "batch", "steps", "precision"
    ):
        reference = networks.REFERENCES[kind]
        time = f", {steps} steps" if kind == "spiking" else ""
        start = "784" if kind == "spiking" else "patches"
        yield list_table(
            f"A {kind} network {start} → 3 × {hidden} → 10{time}, batch {batch}, {precision}: a training step",
            {
                "network": _of("network"),
                "ms (quartiles)": timed,
                f"× {reference}": lambda row: times(row.get("over_reference")),
                "peak, MiB": lambda row: mebibytes(row.get("peak_bytes")),
                "of reference": lambda row: _rounded(row.get("of_reference_peak"), 2),
                "first loss": lambda row: _rounded(row.get("first_loss"), 4),
            },
            group,
        )
        yield from footer(group, _of("network"), lambda row, name=reference: row["network"] == name)  # type: ignore[misc]


def show_events(rows: Sequence[Row]) -> Shown:
    """Show the speed-up over ``nn.Linear`` of every layer, by how much of its input is not zero."""
    for (size, batch, steps, precision), group in _grouped(rows, "size", "batch", "steps", "precision"):
        yield matrix_table(
            f"Spikes into a layer {size} → {size}, {steps} steps × batch {batch}, {precision}: times as fast as "
            "nn.Linear, by activity",
            sorted(group, key=lambda row: events.PRODUCTS.index(row["product"])),
            names={"product": _of("product"), "layer": _of("layer"), "density": lambda row: f"{row['density']:.3g}"},
            across=lambda row: f"{100 * row['activity']:.3g} %",
            value="over_linear",
            reference=lambda row: row["layer"] == events.LINEAR and row["product"] == events.PRODUCTS[0],
        )
        yield from footer(group, _of("layer"), lambda row: row["layer"] == events.LINEAR)


def show_rewiring(rows: Sequence[Row]) -> Shown:
    """Show what an event of every rule costs."""
    for (size, batch), group in _grouped(rows, "size", "batch"):
        yield list_table(
            f"One rewiring event, a tenth of a layer {size} → {size}, batch {batch}, against a training step",
            {
                "block": _of("block"),
                "rule": _of("method"),
                "step, ms": lambda row: digits(row["step_ms"]),
                "event, ms (quartiles)": timed,
                "event/step": lambda row: _rounded(row["event_over_step"], 2),
                "idle/plain": lambda row: _rounded(row["idle_over_plain"], 3),
                "peak, MiB": lambda row: f"{row['peak_above_normal_bytes'] / 2**20:+.0f}",
            },
            group,
            names=2,
        )
        yield from footer(group, lambda row: f"{row['block']} {row['method']}", lambda row: False)


def show_neurons(rows: Sequence[Row]) -> Shown:
    """Show scans over a sequence against the loop over steps."""
    for (size, batch, steps, precision), group in _grouped(rows, "size", "batch", "steps", "precision"):
        yield list_table(
            f"{batch} × {size} neurons, {steps} steps, {precision}: forward and backward",
            {
                "neurons": _of("neurons"),
                "kernel": _of("kernel"),
                "ms (quartiles)": timed,
                "× loop": lambda row: times(row.get("over_loop")),
                "GB/s": lambda row: _rounded(row.get("gigabytes_per_s"), 1),
                "copy, GB/s": lambda row: _rounded(row.get("copy_gigabytes_per_s"), 1),
                "of copy": lambda row: f"{row['of_copy_bandwidth']:.0%}" if row.get("of_copy_bandwidth") else "",
            },
            group,
            names=2,
        )
        yield from footer(group, lambda row: f"{row['neurons']} {row['kernel']}", lambda row: row["kernel"] == "torch")


def show_scale(rows: Sequence[Row]) -> Shown:
    """Show layers and spiking networks size by size, and how their time grows."""
    trained = [row for row in rows if row["task"] == "train"]
    spiking = [row for row in rows if row["task"] == "spiking"]
    for (batch, precision), group in _grouped(trained, "batch", "precision"):
        yield list_table(
            f"A layer of 64 connections a neuron, batch {batch}, {precision}: a training step",
            {
                "kernel": _of("kernel"),
                "neurons": lambda row: f"{row['neurons']:,}",
                "connections": lambda row: f"{row['connections']:,}",
                "ms (quartiles)": timed,
                "ns a connection": lambda row: digits(1e6 * row["median_ms"] / row["connections"]),
                "bytes a connection": lambda row: _rounded(row["bytes_per_connection"], 1),
            },
            sorted(group, key=lambda row: str(row["kernel"])),
            names=2,
        )
        yield from _growth(rows, "train")
        yield from footer(group, lambda row: f"{row['kernel']}, {row['neurons']:,}", lambda row: False)
    if spiking:
        steps = max(row["steps"] for row in spiking)
        yield list_table(
            f"A spiking network of 100 connections a neuron: {steps} steps of 1 ms, forward",
            {
                "kernel": _of("kernel"),
                "neurons": lambda row: f"{row['neurons']:,}",
                "connections": lambda row: f"{row['connections']:,}",
                "s (quartiles)": lambda row: timed(row, 1000),
                "s a simulated s": lambda row: digits(row["seconds_per_simulated_second"]),
                "Hz in, hidden, out": lambda row: f"{row['input_hz']:.1f} {row['hidden_hz']:.1f} {row['last_hz']:.1f}",
                "bytes a connection": lambda row: _rounded(row["bytes_per_connection"], 1),
            },
            sorted(spiking, key=lambda row: str(row["kernel"])),
            names=2,
        )
        yield from _growth(rows, "spiking")
        yield from footer(spiking, lambda row: f"{row['kernel']}, {row['neurons']:,}", lambda row: False)


def _growth(rows: Sequence[Row], task: str) -> Iterator[str]:
    for row in rows:
        if row["task"] == f"{task}, fit":
            yield (
                f"{row['kernel']}: time grows with the {row['exponent']:.2f}th power of connections "
                f"[dim]({row['points']} sizes)[/]"
            )


def _grouped(rows: Sequence[Row], *keys: str) -> Iterator[tuple[tuple[object, ...], list[Row]]]:
    """Give rows of equal values together, in the order in which they come first."""
    order = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
    place = {values: i for i, values in enumerate(order)}
    of = lambda row: place[tuple(row[key] for key in keys)]  # noqa: E731
    for i, group in groupby(sorted(rows, key=of), key=of):
        yield order[i], [*group]


def _of(key: str) -> Callable[[Row], str]:
    return lambda row: str(row[key])


def _block(row: Row) -> str:
    return str(row["block"]).replace("x", " × ") or "dense"


def _kernel(row: Row) -> str:
    return f"{row['kernel']}{' *' if row.get('is_automatic') else ''}"


def _is_linear(row: Row) -> bool:
    return row["kernel"] == layers.LINEAR


def _layer_order(row: Row) -> tuple[object, ...]:
    sides = [10**6 if side == "group" else int(side or 0) for side in str(row["block"]).split("x")]
    is_ours = row["kernel"] not in (layers.LINEAR, layers.MASKED, "torch CSR", "torch BSR")
    return not _is_linear(row), sides, is_ours, row["pattern"]


def _rounded(value: object, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"


SHOW: dict[str, Callable[[Sequence[Row]], Shown]] = {
    "layers": show_layers,
    "networks": show_networks,
    "events": show_events,
    "rewiring": show_rewiring,
    "neurons": show_neurons,
    "scale": show_scale,
}
