"""What a user has asked the benchmarks for, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neuropil.connect.kernels import KERNELS
from neuropil.train.environment import usable_cores

PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "tf32": torch.float32,
}
BLOCKS = ("1x1", "groupx1", "16x16", "64x64")


@dataclass(frozen=True)
class Settings:
    """Sizes and so on, by which every suite replaces its own where they are given.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: of the CPU.
        sizes: neurons of a layer.
        batches: samples at a time.
        precisions: see ``PRECISIONS``; ``tf32`` rounds the factors of products on a GPU.
        densities: of sparse layers.
        blocks: as ``1x1``, ``groupx1`` or ``64x64``.
        kernels: names of those to time; all of them where none is given.
        steps: time steps.
        rounds: that are counted.
        quick: sizes and rounds so small that all suites take less than a minute.
    """

    device: str = "cpu"
    threads: int = 1
    sizes: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None
    precisions: tuple[str, ...] = ("float32",)
    densities: tuple[float, ...] | None = None
    blocks: tuple[str, ...] | None = None
    kernels: tuple[str, ...] = tuple(KERNELS)
    steps: int | None = None
    rounds: int | None = None
    quick: bool = False

    @property
    def shortest(self) -> float:
        """Seconds that a sample should last."""
        return 0.02 if self.device == "cuda" else 0.0


def make_settings(
    *,
    device: str = "cpu",
    threads: int | None = None,
    size: str | None = None,
    batch: str | None = None,
    precision: str = "float32",
    density: str | None = None,
    block: str | None = None,
    kernel: str | None = None,
    steps: int | None = None,
    rounds: int | None = None,
    quick: bool = False,
) -> Settings:
    """Return settings from what was written on the command line, lists with commas.

    Raises:
        ValueError: something is none, or out of range, or the device is not there.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"bench: --device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("bench: --device cuda needs a GPU that PyTorch can use, found none; try --device cpu")
    precisions = _names("--precision", precision, [*PRECISIONS])
    if "tf32" in precisions and device == "cpu":
        raise ValueError("bench: --precision tf32 needs --device cuda, got cpu; try --precision float32")
    for name, value in (("--threads", threads), ("--steps", steps), ("--rounds", rounds)):
        if value is not None and value < 1:
            raise ValueError(f"bench: {name} must be a whole number of at least 1, got {value}")
    blocks = None if block is None else tuple(part.strip() for part in block.split(","))
    for part in blocks or ():
        block_of(part)
    return Settings(
        device=device,
        threads=threads or usable_cores(),
        sizes=_counts("--size", size),
        batches=_counts("--batch", batch),
        precisions=precisions,
        densities=_shares("--density", density),
        blocks=blocks,
        kernels=tuple(KERNELS) if kernel is None else _names("--kernel", kernel, [*KERNELS]),
        steps=steps,
        rounds=rounds,
        quick=quick,
    )


def block_of(written: str) -> tuple[int | str, int | str]:
    """Return a block, ``(rows, columns)``, from how it is written, as ``groupx1``.

    Raises:
        ValueError: it is none.
    """
    sides: list[int | str] = []
    for side in written.split("x"):
        if side == "group":
            sides.append(side)
        elif side.isdecimal() and int(side) > 0:
            sides.append(int(side))
    if len(sides) != 2 or written.count("x") != 1:
        raise ValueError(f"bench: --block must be as 1x1, groupx1 or 64x64, got {written!r}")
    return sides[0], sides[1]


def _counts(name: str, written: str | None) -> tuple[int, ...] | None:
    if written is None:
        return None
    parts = [part.strip() for part in written.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(
            f"bench: {name} must be whole numbers of at least 1, with commas between them, got {written!r}; "
            f"try {name} 1024,2048"
        )
    return tuple(int(part) for part in parts)


def _shares(name: str, written: str | None) -> tuple[float, ...] | None:
    if written is None:
        return None
    try:
        values = tuple(float(part) for part in written.split(","))
    except ValueError:
        values = (0.0,)
    if not all(0 < value <= 1 for value in values):
        raise ValueError(f"bench: {name} must be shares above 0 and up to 1, got {written!r}; try {name} 0.25,0.1,0.01")
    return values


def _names(name: str, written: str, known: Sequence[str]) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in written.split(","))
    for part in parts:
        if part not in known:
            raise ValueError(f"bench: {name} must be one or more of {', '.join(known)}, got {part!r}")
    return parts
