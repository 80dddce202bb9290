"""Uniformly random wiring: the control for every structured one."""

from dataclasses import dataclass

import torch

from neuropil.connect.pattern import Pattern, check_probability, nearest_multiple
from neuropil.connect.sampling import sample_cells
from neuropil.connect.wiring import Wiring


@dataclass(frozen=True)
class ErdosRenyi(Pattern):
    """Every block of connections exists with the same probability, independently of all others.

    P(block) = density.

    Args:
        density: probability of a block, in [0, 1].
        exact: draw exactly round(density · n_cells) blocks instead of one independent draw a block. Use it
            where wirings of equal density are compared.
        block: shape ``(rows, columns)`` of a block; must divide both layers.

    Raises:
        ValueError: the density lies outside [0, 1], or the block is none; at ``wire``: a block does not
            divide the layer, or nothing was drawn.

    Reference:
        P. Erdős and A. Rényi, On random graphs I (1959): ``exact`` is their G(n, M), the default E. N. Gilbert's
        G(n, p), here between two layers.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> ErdosRenyi(density=0.25, exact=True).wire(16, 8, generator=generator)
        Wiring(16 → 8, block=(1, 1), density=0.25, n_connections=32)
    """

    density: float
    exact: bool = False
    block: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        check_probability("ErdosRenyi", "density", self.density)
        if len(self.block) != 2 or min(self.block) < 1:
            raise ValueError(f"ErdosRenyi: block must be two positive integers (rows, columns), got {self.block!r}")

    def wire(self, in_features: int, out_features: int, *, generator: torch.Generator | None = None) -> Wiring:
        """Draw a wiring; see :meth:`Pattern.wire`."""
        for name, n, side in (
            ("out_features", out_features, self.block[0]),
            ("in_features", in_features, self.block[1]),
        ):
            if n % side:
                raise ValueError(
                    f"ErdosRenyi: {name} must be divisible by the block's {side}, got {n}; "
                    f"try {nearest_multiple(n, side)}"
                )
        n_columns = in_features // self.block[1]
        n_cells = out_features // self.block[0] * n_columns
        cells = sample_cells(n_cells, self.density, exact=self.exact, generator=generator)
        return Wiring(in_features, out_features, cells // n_columns, cells % n_columns, block=self.block)

    def expected_density(self, in_features: int, out_features: int) -> float:
        """Return the density."""
        return self.density
