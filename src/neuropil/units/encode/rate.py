"""Random spikes whose probability is the input."""

import torch
from torch import Tensor, nn

from neuropil.units.encode.checks import check_floating, check_steps, into_unit_interval

_CHUNK = 2**17  # draws at a time, so that they stay in a core's cache


class RateEncoder(nn.Module):
    """Draw, at every step, a spike with the probability that the input states.

    S[t] ~ Bernoulli(gain · x + offset), independently over steps and inputs. No gradient reaches x.

    Args:
        steps: number of time steps, at least 1.
        gain: factor on the input.
        offset: probability that is added to every input.
        generator: where random numbers come from; default: PyTorch's default generator, as in ``nn.Dropout``. Draws
            are made on the generator's device. How many it gives depends on the input as well as on its size.

    Shape:
        ``[b, …]`` → ``[t, b, …]``, zeros and ones in the input's type.

    Raises:
        ValueError: ``steps`` is less than 1; at the call: a probability lies outside [0, 1] by more than 1e-6.
        TypeError: at the call: the input is not of a floating-point type.

    Reference:
        J. K. Eshraghian et al., Training Spiking Neural Networks Using Lessons From Deep Learning, Proc. IEEE 2023
        (snnTorch ``spikegen.rate``). That one clips to [0, 1] without a word; here it is an error. Draws on a CPU
        have a resolution of 2⁻³² (:func:`bernoulli`).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> spikes = RateEncoder(1000, generator=generator)(torch.tensor([[0.0, 0.2, 1.0]]))
        >>> [round(rate, 1) for rate in spikes.mean(dim=0)[0].tolist()]
        [0.0, 0.2, 1.0]
    """

    def __init__(
        self, steps: int, *, gain: float = 1.0, offset: float = 0.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.steps = check_steps("RateEncoder", steps)
        self.gain = gain
        self.offset = offset
        self.generator = generator

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return spikes ``[t, b, …]`` of samples ``[b, …]``."""
        check_floating("RateEncoder", x)
        probability = x.to(torch.promote_types(x.dtype, torch.float32)) * self.gain + self.offset
        probability = into_unit_interval("RateEncoder", "gain · x + offset", probability)
        return bernoulli(probability, self.steps, generator=self.generator, dtype=x.dtype)

    def extra_repr(self) -> str:
        """Return the arguments."""
        own = ", generator=…" if self.generator is not None else ""
        return f"{self.steps}, gain={self.gain}, offset={self.offset}{own}"


def bernoulli(probability: Tensor, draws: int, *, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    """Draw zeros and ones ``[draws, …]`` with the probabilities given, on a CPU in a fraction of a float's cost.

    On a CPU one 64-bit number gives eight draws. With k = ⌊256 p⌋ and a byte u, uniform in 0 … 255: a one if u < k, a
    zero if u > k, and where u = k, once in 256, a one with the probability 256 p − k that is left, by a second, finer
    draw. So P(one) = p, to the 2⁻⁸ · 2⁻²⁴ at which floats are drawn. Elsewhere it is :func:`torch.bernoulli`.

    Args:
        probability: of a one, in [0, 1], float32 or float64.
        draws: how many of each, the first axis of the result.
        generator: where random numbers come from; None: the default generator of the probabilities' device.
        dtype: type of the result.

    Example:
        >>> bernoulli(torch.tensor([0.0, 1.0]), 2, generator=None, dtype=torch.float32)
        tensor([[0., 1.],
                [0., 1.]])
    """
    device = probability.device
    flat = probability.reshape(-1).to(device if generator is None else generator.device)
    if flat.device.type == "cpu":
        drawn = _bernoulli_by_bytes(flat, draws, generator, dtype)
    else:
        drawn = torch.bernoulli(flat.expand(draws, -1), generator=generator).to(dtype)
    return drawn.to(device).view(draws, *probability.shape)


def _bernoulli_by_bytes(
    probability: Tensor, draws: int, generator: torch.Generator | None, dtype: torch.dtype
) -> Tensor:
    n = len(probability)
    whole = (probability * 256).floor_().clamp_(max=255)  # p = 1 is k = 255 with 1 left
    rest = probability * 256 - whole
    whole = whole.to(torch.uint8)
    drawn = torch.empty(draws, n, dtype=dtype)
    n_rows = min(draws, max(1, _CHUNK // max(n, 1)))
    words = torch.empty(-(-n_rows * n // 8), dtype=torch.int64)
    for part in torch.split(drawn, n_rows):  # [rows, n]
        words.random_(-(2**63), None, generator=generator)  # all 64 bits
        byte = words.view(torch.uint8)[: part.numel()].view(part.shape)
        torch.lt(byte, whole, out=part)
        ties = (byte == whole).view(-1).nonzero().squeeze(1)
        finer = torch.rand(len(ties), generator=generator, dtype=rest.dtype)
        part.view(-1)[ties] = (finer < rest[ties % n]).to(dtype)
    return drawn
