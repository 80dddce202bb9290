"""Which kernel computes a layer, by a rule that was measured, or by name."""

from typing import TYPE_CHECKING

import torch

from neuropil.connect.kernels.blocks import BLOCKS
from neuropil.connect.kernels.events import DENSE_FROM, EVENTS
from neuropil.connect.kernels.kernel import Kernel, is_single
from neuropil.connect.kernels.masked import MASKED
from neuropil.connect.kernels.synapses import SYNAPSES
from neuropil.connect.wiring import Wiring

if TYPE_CHECKING:
    from neuropil.connect.linear import SparseLinear

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (BLOCKS, EVENTS, MASKED, SYNAPSES)}

# below this many rows a block's product is too thin to beat the masked one: see benchmarks/results
_FEWEST_ROWS = 32
# density of single synapses from which the masked product is faster, and cells of a layer below which it is whatever
# the density: a training step of 2,048² and batch 256, and of small layers; see benchmarks/results
_DENSE_FROM = 0.3
_FEWEST_CELLS = 1 << 16


def choose_kernel(wiring: Wiring, name: str = "auto", device: torch.device | str | None = None) -> Kernel:
    """Return the kernel called ``name``, or for ``auto`` the one that is measured to be fastest for the wiring.

    The rule for ``auto``: ``blocks`` where blocks have at least 32 rows; ``synapses`` for single synapses on a CPU at a
    density below 0.3 in layers of at least 2¹⁶ possible connections (256 × 256); ``masked`` otherwise.

    Args:
        wiring: who connects to whom.
        name: of a kernel, or ``auto``.
        device: where the layer is built.

    Raises:
        ValueError: the name is unknown, or that kernel cannot compute this wiring.
    """
    if name == "auto":
        return _fastest(wiring, device)[0]
    if name not in KERNELS:
        raise ValueError(f"SparseLinear: kernel must be auto or one of {', '.join(KERNELS)}, got {name!r}")
    obstacle = KERNELS[name].obstacle(wiring)
    if obstacle:
        able = [other for other, kernel in KERNELS.items() if not kernel.obstacle(wiring)]
        raise ValueError(f"SparseLinear: kernel {name!r} {obstacle}; try {' or '.join(able)}")
    return KERNELS[name]


def _fastest(wiring: Wiring, device: torch.device | str | None) -> tuple[Kernel, str]:
    """Return the fastest kernel for a wiring, and the rule by which it is."""
    if not is_single(wiring):
        rows, few = wiring.block[0], f"blocks of fewer than {_FEWEST_ROWS} rows"
        if rows >= _FEWEST_ROWS:
            return BLOCKS, f"blocks of at least {_FEWEST_ROWS} rows, here {rows}"
        return MASKED, f"{few}, here {rows}"
    cells = wiring.in_features * wiring.out_features
    if (torch.device(device or torch.get_default_device())).type != "cpu":
        return MASKED, "single synapses of a layer that was not built on a CPU"
    if cells < _FEWEST_CELLS:
        return MASKED, f"single synapses in a layer of fewer than {_FEWEST_CELLS} possible ones, here {cells}"
    if wiring.density >= _DENSE_FROM:
        return MASKED, f"single synapses at a density of at least {_DENSE_FROM:g}, here {wiring.density:.4g}"
    return SYNAPSES, (
        f"single synapses at a density below {_DENSE_FROM:g}, here {wiring.density:.4g}, in a layer of at least "
        f"{_FEWEST_CELLS} possible ones, here {cells}"
    )


def explain(layer: "SparseLinear", *, is_forced: bool, device: torch.device | str | None) -> str:
    """Say how a layer is computed and stored, and why.

    Args:
        layer: what it is about.
        is_forced: whether its kernel was named.
        device: where it was built.
    """
    wiring, kernel = layer.wiring, KERNELS[layer.kernel]
    why = "forced by name"
    if not is_forced:
        chosen, rule = _fastest(wiring, device)
        since = "" if chosen is kernel else f" when it was built; built now it would be {chosen.name}"
        why = f"chosen by auto{since}: {rule}"
    shape = list(layer.weight.shape)
    if layer.stores_dense:
        live = f", of which {wiring.n_connections} entries are live ({wiring.density:.4g})"
        stored = f"the dense matrix {shape}{live}"
    else:
        stored = f"the live weights alone, {shape}"
    if kernel is EVENTS and is_single(wiring):
        stored += f"; for events, a matrix from a density of {DENSE_FROM:g}"
    obstacles = {name: other.obstacle(wiring) for name, other in KERNELS.items() if other is not kernel}
    lines = {
        "kernel": f"{kernel.name}, {why}",
        "storage": stored,
        "product": kernel.told(layer),
        "others that can": ", ".join(name for name, obstacle in obstacles.items() if not obstacle) or "none",
        "others that cannot": ", ".join(f"{name} ({why})" for name, why in obstacles.items() if why) or "none",
    }
    return "\n".join(f"{what}: {words}" for what, words in lines.items())
