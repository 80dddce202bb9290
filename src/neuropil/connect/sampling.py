"""Drawing cells of a grid without ever laying the grid out."""

import numpy as np
import torch
from torch import Tensor


def sample_cells(
    n_cells: int, probability: float, *, exact: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Draw each of ``n_cells`` cells with the same probability; return the numbers of those drawn, unordered.

    Args:
        n_cells: how many cells there are.
        probability: of each cell, in [0, 1].
        exact: draw exactly round(probability · n_cells) cells; otherwise each cell is an independent (Bernoulli)
            draw: their number is then binomial, and given the number every choice is equally likely.
        generator: where random numbers come from.

    Returns:
        int64 ``[n_drawn]``. Memory grows with the number drawn, not with ``n_cells``, below a quarter of them.
    """
    if exact or probability in (0.0, 1.0):
        n_drawn = round(probability * n_cells)
    else:
        count = torch.tensor(float(n_cells), dtype=torch.float64, device="cpu")
        chance = torch.tensor(probability, dtype=torch.float64, device="cpu")
        n_drawn = int(torch.binomial(count, chance, generator=generator))
    return draw_distinct(n_cells, n_drawn, generator)


def draw_distinct(n_cells: int, n_drawn: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``n_drawn`` different ones of ``n_cells`` cells, each set equally likely; int64 ``[n_drawn]``, unordered."""
    if n_drawn == n_cells:
        return torch.arange(n_cells, device="cpu")
    if n_drawn > n_cells // 4:
        return torch.randperm(n_cells, generator=generator, device="cpu")[:n_drawn]
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < n_drawn:  # draw again what came twice
        extra = torch.randint(n_cells, (n_drawn - len(drawn),), generator=generator, device="cpu").numpy()
        drawn = np.sort(np.concatenate([drawn, extra]))
        drawn = drawn[np.diff(drawn, prepend=-1) > 0]
    return torch.from_numpy(drawn)
