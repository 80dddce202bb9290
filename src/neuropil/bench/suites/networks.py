"""Whole networks, trained: rate networks against dense ones, spiking ones against the published way."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from neuropil.bench.fresh import in_fresh_process
from neuropil.bench.records import Row
from neuropil.bench.settings import Settings, block_of
from neuropil.bench.suites.published import PublishedNet
from neuropil.bench.timing import FAILURES, clock_of, measure, reason_of, summary
from neuropil.connect import Dense, Ensembles, Pattern
from neuropil.models import EnsembleNet, SpikingEnsembleNet, ensemble_net, spiking_ensemble_net
from neuropil.randomness import stream
from neuropil.train import PeakMemory, flush_subnormals
from neuropil.train.environment import usable_cores
from neuropil.train.precision import computing_in
from neuropil.units import LIF, Boxcar

REFERENCES = {"rate": "dense", "spiking": "snnTorch loop", "active spiking": "snnTorch loop"}
# as they start, spiking networks are nearly silent from the second layer on; with weights twice as large, neurons
# of hidden layers fire in about a tenth of all steps, as they do in trained networks
ACTIVE = 2.0
BLOCKS = ("1x1", "groupx1")
# what spiking networks may do otherwise: surrogate, and how the gradient of a layer's input is computed
VARIANTS = {
    "": ("atan", "full"),
    "boxcar": ("boxcar", "full"),
    "boxcar, needed": ("boxcar", "needed"),
    "bfloat16 gradient": ("atan", "bfloat16"),
}
_SHAPE, _CLASSES = (1, 28, 28), 10


class Network(NamedTuple):
    """One network to train, in plain values, which travel to another process.

    Attributes:
        kind: ``rate``, ``spiking`` (as it starts) or ``active spiking`` (with larger weights).
        name: the reference's, or what follows from the other attributes.
        hidden: width of each of three hidden layers.
        batch: images at a time.
        steps: time steps; 0 for a rate network.
        precision: ``bfloat16`` is by autocast.
        device: where it is trained.
        block, kernel: of the hidden layers; none of the reference.
        surrogate: of spiking neurons, ``atan`` or ``boxcar``.
        input_gradient: see :class:`neuropil.connect.SparseLinear`.
    """

    kind: str
    name: str
    hidden: int
    batch: int
    steps: int
    precision: str
    device: str
    block: str = ""
    kernel: str = ""
    surrogate: str = "atan"
    input_gradient: str = "full"


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the rows of rate networks, then those of spiking ones, as they start and active."""
    for kind in ("rate", "spiking") if settings.quick else REFERENCES:
        default = (128,) if settings.quick else (1024,) if kind == "rate" else (2048,)
        batches = settings.batches or ((64,) if settings.quick else (256,))
        for size, batch, precision in product(settings.sizes or default, batches, settings.precisions):
            yield run_one(kind, size, batch, precision, settings)


def run_one(kind: str, hidden: int, batch: int, precision: str, settings: Settings) -> list[Row]:
    """Return the rows of all networks of a kind, which have taken turns."""
    rounds = settings.rounds or ((5 if settings.quick else 15) if kind == "rate" else (3 if settings.quick else 7))
    steps = 0 if kind == "rate" else settings.steps or (10 if settings.quick else 50)
    networks = list_networks(kind, hidden, batch, steps, precision, settings)
    builders = {network.name: partial(training_step, network) for network in networks}
    timings = measure(builders, rounds=rounds, clock=clock_of(settings.device), shortest=settings.shortest)
    peaks, unknown = measure_peaks([network for network in networks if network.name in timings.seconds], settings)
    reference = REFERENCES[kind]
    rows = []
    for network in networks:
        name = network.name
        first = timings.first.get(name)
        loss, gradient, firing = first if isinstance(first, tuple) else (None, None, None)
        has_both = name in peaks and peaks.get(reference, 0) > 0
        rows.append({
            "kind": kind, "network": name, "hidden": hidden, "batch": batch, "steps": steps, "precision": precision,
            "block": network.block, "kernel": network.kernel,
            "surrogate": None if kind == "rate" else network.surrogate, "input_gradient": network.input_gradient,
            **summary(timings, name, {"reference": reference}, rounds=rounds),
            "peak_bytes": peaks.get(name),
            "of_reference_peak": round(peaks[name] / peaks[reference], 3) if has_both else None,
            "peak_reason": unknown.get(name),
            "first_loss": loss, "first_gradient": gradient, "hidden_firing_rate": firing,
        })  # fmt: skip
    return rows


def list_networks(kind: str, hidden: int, batch: int, steps: int, precision: str, settings: Settings) -> list[Network]:
    """Return the reference, and our networks of every block and kernel."""
    make = partial(Network, kind, hidden=hidden, batch=batch, steps=steps, precision=precision, device=settings.device)
    networks = [make(name=REFERENCES[kind])]
    variants = VARIANTS if kind != "rate" and not settings.quick else {"": VARIANTS[""]}
    for block, kernel, variant in product(settings.blocks or BLOCKS, settings.kernels, variants):
        surrogate, gradient = variants[variant]
        if not variant or kernel == "events" or (kernel != "masked" and gradient != "full"):
            name = f"{block} {kernel}" + (f", {variant}" if variant else "")
            networks.append(make(name=name, block=block, kernel=kernel, surrogate=surrogate, input_gradient=gradient))
    return networks


def build(network: Network) -> nn.Module:
    """Return the network, on its device; those of one wiring have the same weights, whatever their kernel."""
    block = block_of(network.block or "1x1")
    if network.name == REFERENCES["rate"]:  # whose kernel is nn.Linear's
        return build_rate(network, Dense(), "auto").to(network.device)
    pattern, make = Ensembles(p_inter=0.15, block=block), build_rate if network.kind == "rate" else build_spiking
    start = make(network, pattern, "masked")
    if network.kind == "active spiking":
        for layer in (*start.sparse_layers(), start.readout):
            layer.weight.data *= ACTIVE
    if network.name == REFERENCES["spiking"]:
        return PublishedNet(start).to(network.device)  # type: ignore[arg-type]
    net = make(network, pattern, network.kernel)
    for layer, same in zip(net.sparse_layers(), start.sparse_layers(), strict=True):
        layer.copy_dense_weight(same.dense_weight())
        if layer.bias is not None and same.bias is not None:
            layer.bias.data.copy_(same.bias.data)
    net.readout.weight.data.copy_(start.readout.weight.data)
    return net.to(network.device)


def build_rate(network: Network, pattern: Pattern, kernel: str) -> EnsembleNet:
    """Return a network of ReLUs, with the patch encoder."""
    return ensemble_net(_SHAPE, _CLASSES, hidden=[network.hidden] * 3, pattern=pattern, patches=4, kernel=kernel)


def build_spiking(network: Network, pattern: Pattern, kernel: str) -> SpikingEnsembleNet:
    """Return a network of leaky neurons whose decay and threshold are learned, fed with a current."""
    boxcar = partial(LIF, 0.9, 1.0, learn=("decay", "threshold"), surrogate=Boxcar())
    is_other = network.input_gradient != "full" and kernel == network.kernel
    options: dict[str, Any] = {"input_gradient": network.input_gradient} if is_other else {}
    return spiking_ensemble_net(
        _SHAPE, _CLASSES, hidden=[network.hidden] * 3, pattern=pattern, encoding="current", kernel=kernel,
        neurons=boxcar if network.surrogate == "boxcar" else "learned", steps=network.steps, **options,
    )  # fmt: skip


def training_step(network: Network) -> Callable[[], tuple[float, float | None, float | None]]:
    """Return a function that does one step: forward, backward, Adam.

    It gives the loss; the first step also gives the size of the gradient of the first hidden layer's bias, by which
    networks can be told to be the same where the loss cannot (spiking ones may begin with a silent read-out), and how
    often hidden neurons have fired, where they are ours and spike.
    """
    if network.input_gradient == "bfloat16" and network.device == "cpu" and not has_bfloat16_units():
        raise ValueError("this processor has no units for bfloat16, and multiplies it far more slowly than float32")
    net = build(network)
    bias = first_bias(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    images = torch.rand(network.batch, *_SHAPE, generator=stream(0, "images"))
    # as in Fashion-MNIST, half of the pixels are black, and the mean is 0.286
    images = ((images - 0.5).clamp(min=0) * 2 * 1.144).clamp(max=1).to(network.device)
    labels = torch.randint(_CLASSES, (network.batch,), generator=stream(0, "labels")).to(network.device)
    device = torch.device(network.device).type
    is_first = True
    rates: list[float] = []
    units = [unit for _, unit in net.stages[:-1]] if isinstance(net, SpikingEnsembleNet) else []
    hooks = [
        unit.register_forward_hook(lambda *call: rates.append(float(call[2][0].detach().mean()))) for unit in units
    ]

    def step() -> tuple[float, float | None, float | None]:
        nonlocal is_first
        optimizer.zero_grad(set_to_none=True)
        narrow = torch.autocast(device, torch.bfloat16) if network.precision == "bfloat16" else nullcontext()
        with computing_in(network.precision):
            with narrow:
                loss = F.cross_entropy(net(images).float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
        gradient = float(bias.grad.norm()) if is_first and bias.grad is not None else None
        firing = sum(rates) / len(rates) if is_first and rates else None
        if is_first:
            for hook in hooks:
                hook.remove()
        is_first = False
        optimizer.step()
        return float(loss.detach()), gradient, firing

    return step


def has_bfloat16_units() -> bool:
    """Return whether the processor multiplies bfloat16 faster than float32, as far as PyTorch can tell."""
    known = [getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile")]
    return any(check is None or check() for check in known)


def first_bias(net: nn.Module) -> nn.Parameter:
    """Return the bias of the first hidden layer."""
    layers: nn.ModuleList = net.layers if isinstance(net, PublishedNet) else net.hidden  # type: ignore[assignment]
    bias: nn.Parameter = layers[0].bias  # type: ignore[assignment]
    return bias


def measure_peaks(networks: Sequence[Network], settings: Settings) -> tuple[dict[str, int], dict[str, str]]:
    """Return by name the peak memory of a training step, in bytes, or why it is not known."""
    unknown: dict[str, str] = {}

    def measure_one(network: Network) -> int:
        try:
            return in_fresh_process(peak_of, network, settings.threads, device=network.device)
        except FAILURES as error:
            unknown[network.name] = reason_of(error)
            return 0

    with ThreadPoolExecutor(usable_cores() if settings.quick else 1) as threads:
        peaks = dict(zip([network.name for network in networks], threads.map(measure_one, networks), strict=True))
    return {name: peak for name, peak in peaks.items() if name not in unknown}, unknown


def peak_of(network: Network, threads: int) -> int:
    """Return the bytes that two steps add to this process, which is a fresh one.

    What a small network of the same kind takes before counts for nothing: that is compiled code.
    """
    torch.set_num_threads(threads)
    flush_subnormals()
    training_step(network._replace(hidden=64, batch=2, steps=min(2, network.steps)))()
    step = training_step(network)
    peak = PeakMemory(network.device)
    step()
    step()
    return peak.bytes()
