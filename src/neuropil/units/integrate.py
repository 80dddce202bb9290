"""Integrate-and-fire neurons, which do not leak."""

from collections.abc import Sequence

import torch

from neuropil.units.lif import LIF
from neuropil.units.surrogate import ATan, Surrogate
from neuropil.units.unit import Number


class IF(LIF):
    """Integrate-and-fire neurons: :class:`LIF` whose decay is fixed at 1, so that nothing leaks.

        U_t = U_{t−1} + I_t − θ R_t  (``subtract``);  S_t = [U_t > θ]

    With ``subtract``, the spikes of T steps of a constant current I in (0, θ] number about T I / θ: a rectifier.

    Args:
        threshold: θ, above 0: one number, or a tensor ``[n]``.
        learn: ``("threshold",)`` makes it a parameter.
        reset, reset_delay, detach_reset, surrogate: see :class:`LIF`.
        kernel: see :class:`Unit`.

    Shape:
        current ``[t, b, n]`` → spikes ``[t, b, n]``, 0 or 1, and :class:`LIFState`.

    Raises:
        ValueError: the threshold is out of range, or a name unknown.

    Reference:
        SpikingJelly's ``IFNode``, with ``reset_delay=False``; a current that just reaches the threshold makes a spike
        there, not here.

    Example:
        >>> spikes, state = IF()(torch.full((6, 1, 1), 0.75))
        >>> spikes.flatten().tolist(), state.potential.item()
        ([0.0, 1.0, 1.0, 0.0, 1.0, 1.0], 1.5)
    """

    def __init__(
        self,
        threshold: Number = 1.0,
        *,
        learn: Sequence[str] = (),
        reset: str = "subtract",
        reset_delay: bool = True,
        detach_reset: bool = True,
        surrogate: Surrogate = ATan(),  # noqa: B008 (an immutable value)
        kernel: str = "auto",
    ) -> None:
        self._check_learned(learn, ("threshold",))
        super().__init__(
            1.0,
            threshold,
            learn=learn,
            reset=reset,
            reset_delay=reset_delay,
            detach_reset=detach_reset,
            surrogate=surrogate,
            kernel=kernel,
        )

    def _set_decay(self, decay: Number, learn: Sequence[str]) -> None:
        self.register_buffer("decay", torch.tensor(1.0))
