"""What rewiring must keep to, whatever its rules would choose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect import Wiring


@dataclass(frozen=True)
class Limits:
    """What must hold after every event, besides the number of blocks.

    Args:
        within: share of the blocks that lie within groups: ``"keep"`` what the wiring starts with, a number in
            [0, 1] to be approached as fast as the schedule allows, or None: free to change.
        constant_fan_in: every target neuron (row of blocks) has the same number of sources. The first event makes
            it so; what cannot be shared out evenly goes.
        ablation: with ``constant_fan_in``: a row with fewer than ablation · fan-in salient blocks loses all of them
            for good, in [0, 1]; None: none does. Never in the last layer.
        frozen: for each layer by name the connections that may not change: a wiring, or a bool mask ``[out, in]``.
            Live ones stay, dead ones stay dead. A block is frozen if any of its synapses is.
        regrow: whether what was just dropped may come back at once (it has then never left).
        chain_removal: drop also what leads to a neuron without output, or comes from one without input, between
            sparse layers that follow upon each other.
        stop_overlap: rewire a layer no longer once more than this share of what it dropped came back at once, in
            (0, 1]; None: never stop.

    Raises:
        ValueError: a number lies outside its range, or settings contradict each other.

    Reference:
        ``constant_fan_in`` and ``ablation``: SRigL, arXiv 2305.02299. ``chain_removal`` and ``stop_overlap``: CHT
        (ICLR 2024).
    """

    within: float | Literal["keep"] | None = None
    constant_fan_in: bool = False
    ablation: float | None = None
    frozen: Mapping[str, Wiring | torch.Tensor] = field(default_factory=dict)
    regrow: bool = True
    chain_removal: bool = False
    stop_overlap: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.within, str):
            if self.within != "keep":
                raise ValueError(f"Limits: within must be 'keep', a share in [0, 1] or None, got {self.within!r}")
        elif self.within is not None and not 0 <= self.within <= 1:
            raise ValueError(f"Limits: within must be 'keep', a share in [0, 1] or None, got {self.within:g}")
        if self.ablation is not None and not 0 <= self.ablation <= 1:
            raise ValueError(f"Limits: ablation must lie in [0, 1], got {self.ablation:g}")
        if self.ablation is not None and not self.constant_fan_in:
            raise ValueError("Limits: ablation must go with constant_fan_in, got it alone")
        if self.constant_fan_in and self.within is not None:
            raise ValueError("Limits: within and constant_fan_in must not be asked for together, got both")
        if self.stop_overlap is not None and not 0 < self.stop_overlap <= 1:
            raise ValueError(f"Limits: stop_overlap must lie in (0, 1], got {self.stop_overlap:g}")


def barred_cells(frozen: Wiring | torch.Tensor, wiring: Wiring, name: str) -> NDArray[np.bool_]:
    """Return which cells of a layer's grid may not change, bool of its shape.

    Raises:
        ValueError: the frozen connections are of a layer of another size.
    """
    mask = frozen.mask() if isinstance(frozen, Wiring) else frozen
    if tuple(mask.shape) != wiring.shape:
        raise ValueError(
            f"Limits: frozen must be of the layer's shape {wiring.shape} for {name!r}, got {tuple(mask.shape)}"
        )
    dense = np.zeros((wiring.shape[0] + 1, wiring.shape[1] + 1), dtype=np.bool_)  # −1 reads the False at the end
    dense[:-1, :-1] = mask.bool().cpu().numpy()
    (n_rows, n_columns), (height, width) = wiring.grid, wiring.block
    by_position = dense[wiring.out_order][:, wiring.in_order].reshape(n_rows, height, n_columns, width)
    return np.asarray(by_position.any(axis=(1, 3)))
