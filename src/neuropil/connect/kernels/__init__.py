"""The ways to compute one sparse layer; all agree with the masked dense product, forward and backward."""

from neuropil.connect.kernels.blocks import BLOCKS
from neuropil.connect.kernels.events import EVENTS
from neuropil.connect.kernels.kernel import Kernel
from neuropil.connect.kernels.masked import MASKED
from neuropil.connect.wiring import Wiring

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (BLOCKS, EVENTS, MASKED)}

# below this many rows a block's product is too thin to beat the masked one: see benchmarks/results
_FEWEST_ROWS = 32


def choose_kernel(wiring: Wiring, name: str = "auto") -> Kernel:
    """Return the kernel called ``name``, or for ``auto`` the one that is measured to be fastest for the wiring.

    Raises:
        ValueError: the name is unknown, or that kernel cannot compute this wiring.
    """
    if name == "auto":
        return BLOCKS if wiring.block[0] >= _FEWEST_ROWS else MASKED
    if name not in KERNELS:
        raise ValueError(f"SparseLinear: kernel must be auto or one of {', '.join(KERNELS)}, got {name!r}")
    obstacle = KERNELS[name].obstacle(wiring)
    if obstacle:
        able = [other for other, kernel in KERNELS.items() if not kernel.obstacle(wiring)]
        raise ValueError(f"SparseLinear: kernel {name!r} {obstacle}; try {' or '.join(able)}")
    return KERNELS[name]


__all__ = ["KERNELS", "Kernel", "choose_kernel"]
