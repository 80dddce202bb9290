"""The ways to compute one sparse layer; all agree with the masked dense product, forward and backward.

A kernel is a module with a ``NAME``, ``obstacle(wiring)`` (why it cannot run, or None) and
``product(layer, x)``, which returns x Wᵀ without the bias.
"""

from types import ModuleType

from neuropil.connect.kernels import blocks, masked
from neuropil.connect.wiring import Wiring

KERNELS: dict[str, ModuleType] = {module.NAME: module for module in (blocks, masked)}

# below this many rows a block's product is too thin to beat the masked one: see benchmarks/results
_FEWEST_ROWS = 16


def choose_kernel(wiring: Wiring, name: str = "auto") -> ModuleType:
    """Return the kernel called ``name``, or for ``auto`` the one that is measured to be fastest for the wiring.

    Raises:
        ValueError: the name is unknown, or that kernel cannot compute this wiring.
    """
    if name == "auto":
        return blocks if wiring.block[0] >= _FEWEST_ROWS else masked
    if name not in KERNELS:
        raise ValueError(f"SparseLinear: kernel must be auto or one of {', '.join(KERNELS)}, got {name!r}")
    obstacle = KERNELS[name].obstacle(wiring)
    if obstacle:
        able = [other for other, kernel in KERNELS.items() if not kernel.obstacle(wiring)]
        raise ValueError(f"SparseLinear: kernel {name!r} {obstacle}; try {' or '.join(able)}")
    return KERNELS[name]
