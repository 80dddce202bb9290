"""One layer, trained: every block and kernel at every sparsity, against dense, masked and PyTorch's sparse layers."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import nn

from neuropil.bench.contestants import Masked, Place, TorchSparse, TrainingStep, automatic_kernel, draw, sparse_layers
from neuropil.bench.footprint import held_bytes
from neuropil.bench.records import Row
from neuropil.bench.settings import BLOCKS, PRECISIONS, Settings, block_of
from neuropil.bench.timing import clock_of, measure, summary
from neuropil.connect import Ensembles, ErdosRenyi, Pattern, Wiring
from neuropil.randomness import stream
from neuropil.train.precision import computing_in

N_GROUPS = 8
LINEAR, MASKED, CSR, BSR = OTHERS = ("nn.Linear", "weights × mask", "torch CSR", "torch BSR")
RANDOM = ErdosRenyi.__name__
# with eight groups, 0.25625 is p' = 0.15 and 0.125 is p' = 0
DENSITIES = (0.5, 0.25625, 0.125, 0.1, 0.05, 0.01)


class Case(NamedTuple):
    """One way to compute a layer.

    Attributes:
        pattern: name of what its wiring was drawn from.
        block: as it is written on the command line.
        kernel: name of the kernel, or of another library's way.
        wiring: None where the layer is dense.
        build: makes the layer.
    """

    pattern: str
    block: str
    kernel: str
    wiring: Wiring | None
    build: Callable[[], nn.Module]


def run(settings: Settings) -> Iterator[list[Row]]:
    """Give the rows of all sizes, batches, precisions and densities, one density at a time."""
    sizes = settings.sizes or ((512,) if settings.quick else (1024, 2048, 4096))
    batches = settings.batches or ((64,) if settings.quick else (256,))
    densities = settings.densities or ((0.5, 0.25625, 0.125, 0.02) if settings.quick else DENSITIES)
    for size, batch, precision, density in product(sizes, batches, settings.precisions, densities):
        yield run_one(size, batch, precision, density, settings)


def run_one(size: int, batch: int, precision: str, density: float, settings: Settings) -> list[Row]:
    """Return the rows of one density, in which all contestants have taken turns."""
    rounds = settings.rounds or (5 if settings.quick else 15)
    place: Place = {"device": settings.device, "dtype": PRECISIONS[precision]}
    x, incoming = (draw(batch, size, name=name, **place) for name in ("input", "gradient"))
    cases, impossible = contestants(size, density, settings, **place)
    wirings = {id(case.wiring): case.wiring for case in cases.values() if case.wiring is not None}
    automatic = {key: automatic_kernel(wiring, **place) for key, wiring in wirings.items()}
    steps: dict[str, TrainingStep] = {}

    def builder(name: str) -> Callable[[], TrainingStep]:
        def build() -> TrainingStep:
            steps[name] = TrainingStep(cases[name].build(), x, incoming)
            return steps[name]

        return build

    with computing_in(precision):
        timings = measure(
            {name: builder(name) for name in cases},
            rounds=rounds,
            clock=clock_of(settings.device),
            shortest=settings.shortest,
        )
    setting = {"size": size, "batch": batch, "precision": precision, "nominal_density": density}
    rows: list[Row] = []
    for name, case in cases.items():
        step = steps[name] if name in timings.seconds else None
        rows.append({
            **setting,
            "pattern": case.pattern,
            "block": case.block,
            "kernel": case.kernel,
            "density": 1.0 if case.wiring is None else round(case.wiring.density, 5),
            "is_automatic": case.wiring is not None and case.kernel == automatic[id(case.wiring)],
            **summary(timings, name, {"linear": LINEAR, "masked": MASKED}, rounds=rounds),
            "held_bytes": None if step is None else held_bytes(step.layer, step.optimizer),
        })  # fmt: skip
    return rows + [setting | row for row in impossible]


def contestants(
    size: int, density: float, settings: Settings, *, device: str, dtype: torch.dtype
) -> tuple[dict[str, Case], list[Row]]:
    """Return all cases by name, the references first; and rows of the wirings that cannot be had, with the reason."""
    impossible: list[Row] = []

    def wired(block: str, grouping: str, kernel: str) -> tuple[str, Wiring | None]:
        pattern = pattern_of(size, density, block, grouping)
        name = type(pattern).__name__ + (f" {grouping}" if grouping != "index" else "")
        try:
            return name, pattern.wire(size, size, generator=stream(0, "wiring"))
        except ValueError as error:
            impossible.append({"pattern": name, "block": block, "kernel": kernel, "reason": str(error)})
            return name, None

    linear = Case("Dense", "dense", LINEAR, None, lambda: nn.Linear(size, size, device=device, dtype=dtype))
    cases = {LINEAR: linear}
    name, single = wired("1x1", "index", f"{MASKED}, {CSR}")
    if single is not None:
        cases[MASKED] = Case(name, "1x1", MASKED, single, lambda: masked(single, device, dtype))
        cases[CSR] = Case(name, "1x1", CSR, single, lambda: TorchSparse(single, device=device, dtype=dtype))
    name, tiled = wired("64x64", "index", BSR)
    if tiled is not None:
        cases[BSR] = Case(name, "64x64", BSR, tiled, lambda: TorchSparse(tiled, device=device, dtype=dtype))
    for block in settings.blocks or BLOCKS:
        both = block == "groupx1" and density >= 1 / N_GROUPS
        for grouping in ("index", "interleaved") if both else ("index",):
            name, wiring = wired(block, grouping, "any kernel")
            if wiring is not None:
                for kernel, build in sparse_layers(wiring, device=device, dtype=dtype, kernels=settings.kernels):
                    cases[f"{name} {block} {kernel}"] = Case(name, block, kernel, wiring, build)
    return cases, impossible


def pattern_of(size: int, density: float, block: str, grouping: str = "index") -> Pattern:
    """Return the pattern that a block is measured with: ensembles, where the density leaves room for them.

    Tiles, and whatever is sparser than groups without any connection between them, are drawn at random.
    """
    rows, columns = block_of(block)
    if density >= 1 / N_GROUPS and 1 in (rows, columns):
        p_inter = min(1.0, (density * N_GROUPS - 1) / (N_GROUPS - 1))
        return Ensembles(n_groups=N_GROUPS, p_inter=p_inter, grouping=grouping, block=(rows, columns), uneven=True)  # type: ignore[arg-type]
    group = max(1, size // N_GROUPS)
    sides = tuple(group if side == "group" else int(side) for side in (rows, columns))
    return ErdosRenyi(density, exact=True, block=sides)  # type: ignore[arg-type]


def masked(wiring: Wiring, device: str, dtype: torch.dtype) -> nn.Module:
    """Return the masked layer of a wiring."""
    bound = (wiring.in_features * wiring.density) ** -0.5
    weight = (torch.rand(wiring.shape, generator=stream(0, "weights")) * 2 - 1) * bound
    bias = torch.zeros(wiring.out_features)
    return Masked(weight, bias, wiring.mask()).to(device=device, dtype=dtype)
