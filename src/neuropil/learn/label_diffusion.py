"""Labels that disappear in noise step by step, and networks that find them again: what NoProp trains."""

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from neuropil.initialize import reset_
from neuropil.learn.stages import Stage


class NoiseSchedule:
    """How much of a label u is left: z_t = √ᾱ_t u + √(1 − ᾱ_t) ε, from noise at t = 0 to the label at t = T.

    ᾱ_t = sin²(π t / 2 T), the cosine schedule, kept within [0.001, 0.999], and α_{t−1} = ᾱ_{t−1} / ᾱ_t.

    Args:
        n_steps: T, at least 1.

    Attributes:
        kept: ᾱ_0 … ᾱ_T.

    Example:
        >>> [round(share, 3) for share in NoiseSchedule(2).kept]
        [0.001, 0.5, 0.999]
    """

    def __init__(self, n_steps: int) -> None:
        shares = [math.sin(math.pi * t / (2 * n_steps)) ** 2 for t in range(n_steps + 1)]
        self.kept = tuple(min(max(share, 1e-3), 1 - 1e-3) for share in shares)

    def noised(self, t: int, label: Tensor, noise: Tensor) -> Tensor:
        """Return z_t of labels u and noise ε, both ``[b, d]``."""
        return math.sqrt(self.kept[t]) * label + math.sqrt(1 - self.kept[t]) * noise

    def posterior(self, t: int) -> tuple[float, float, float]:
        """Return a_t, b_t and c_t, for t in 1 … T: z_t is a_t u + b_t z_{t−1} + √c_t ε where u and z_{t−1} are known.

        a_t = √ᾱ_t (1 − α_{t−1}) / (1 − ᾱ_{t−1}), b_t = √α_{t−1} (1 − ᾱ_t) / (1 − ᾱ_{t−1}),
        c_t = (1 − ᾱ_t) (1 − α_{t−1}) / (1 − ᾱ_{t−1}).
        """
        before, now = self.kept[t - 1], self.kept[t]
        alpha = before / now
        of_label = math.sqrt(now) * (1 - alpha) / (1 - before)
        of_last = math.sqrt(alpha) * (1 - now) / (1 - before)
        return of_label, of_last, (1 - now) * (1 - alpha) / (1 - before)

    def gain(self, t: int) -> float:
        """Return by how much the ratio of signal to noise, ᾱ / (1 − ᾱ), grows from t − 1 to t."""
        before, now = self.kept[t - 1], self.kept[t]
        return now / (1 - now) - before / (1 - before)


class Denoiser(nn.Module):
    """Guess a label from an image and from the label in noise: a block of NoProp.

    The image goes through hidden layers of a model, the noisy label through a layer with batch normalization and ReLU
    and two more with a skip; both together through two more layers to the logits.

    Args:
        hidden: hidden stages of a model, of which a copy, weights included, is the image's path.
        n_features: how many numbers they give.
        n_label: d, numbers of a label.
        n_classes: number of classes.
        width: units of the label's path and of the first joint layer; the second one has half as many.
        generator: where weights come from.

    Shape:
        images ``[b, …]``, noisy labels ``[b, d]``; logits ``[b, n_classes]``.
    """

    def __init__(
        self,
        hidden: Sequence[Stage],
        n_features: int,
        n_label: int,
        n_classes: int,
        *,
        width: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        modules = [module for stage in hidden for module in (*stage.before, stage.layer, *stage.after)]
        self.image = copy.deepcopy(nn.Sequential(*modules))
        dtype = next(self.image.parameters()).dtype

        def linear(n_in: int, n_out: int) -> nn.Linear:
            layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=dtype)  # type: ignore[no-untyped-call]
            reset_(layer, generator=generator)
            return layer

        self.label = nn.Sequential(linear(n_label, width), nn.BatchNorm1d(width, dtype=dtype), nn.ReLU())
        self.skipped = nn.Sequential(linear(width, width), nn.ReLU(), linear(width, width))
        self.head = nn.Sequential(
            linear(n_features + width, width),
            nn.BatchNorm1d(width, dtype=dtype),
            nn.ReLU(),
            linear(width, width // 2),
            nn.ReLU(),
            linear(width // 2, n_classes),
        )

    def forward(self, x: Tensor, noisy: Tensor) -> Tensor:
        """Return logits."""
        label = self.label(noisy)
        logits: Tensor = self.head(torch.cat([self.image(x), label + self.skipped(label)], dim=1))
        return logits


class LabelDiffusion(nn.Module):
    """Map images to logits by blocks that make a label out of noise, one after the other.

    z_0 ~ N(0, I), and block t guesses û_t = softmax(logits) W of the image and z_{t−1}; z_t is drawn from the posterior
    of :class:`NoiseSchedule` with û_t for the label. The logits are log softmax(A z_T), averaged as probabilities over
    ``n_noises`` draws.

    Each image of a batch has noise of its own, which comes from a seed: the same batch always gets the same answer, but
    an image's answer may change with its place in a batch.

    Args:
        blocks: T blocks.
        embedding: W, ``[n_classes, d]``; a parameter where it is learned.
        n_noises: how many z_0 answers are averaged over.
        seed: of the noise.
        generator: where A comes from.

    Shape:
        images ``[b, …]``, logits ``[b, n_classes]``.
    """

    embedding: Tensor

    def __init__(
        self,
        blocks: Sequence[Denoiser],
        embedding: Tensor,
        *,
        n_noises: int = 1,
        seed: int = 0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.schedule = NoiseSchedule(len(blocks))
        if isinstance(embedding, nn.Parameter):
            self.embedding = embedding
        else:
            self.register_buffer("embedding", embedding)
        self.n_noises, self.seed = n_noises, seed
        n_classes, n_label = embedding.shape
        self.classifier = nn.utils.skip_init(nn.Linear, n_label, n_classes, dtype=embedding.dtype)  # type: ignore[no-untyped-call]
        reset_(self.classifier, generator=generator)

    def guess(self, logits: Tensor) -> Tensor:
        """Return û, ``[b, d]``, of a block's logits."""
        return logits.softmax(1) @ self.embedding

    def denoise(self, x: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the blocks' logits ``[b, n_classes]`` and the z_t, ``[b, d]``, that they lead to."""
        z = self.draw(len(x), generator)
        for t, block in enumerate(self.blocks, start=1):
            of_label, of_last, variance = self.schedule.posterior(t)
            logits = block(x, z)
            noise = self.draw(len(x), generator)
            z = of_label * self.guess(logits) + of_last * z + math.sqrt(variance) * noise
            yield logits, z

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw noise, ``[n, d]``."""
        noise = torch.randn(n, self.embedding.shape[1], generator=generator, dtype=self.embedding.dtype, device="cpu")
        return noise.to(self.embedding.device)

    def along(self, x: Tensor) -> Tensor:
        """Return the logits of each block, ``[t, b, n_classes]``, for the first draw of noise.

        Those of the first block are the answer of a single network that is fed with noise. Only if accuracy rises from
        block to block do blocks help each other.
        """
        generator = torch.Generator().manual_seed(self.seed)
        return torch.stack([logits for logits, _ in self.denoise(x, generator)])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        generator = torch.Generator().manual_seed(self.seed)
        found = []
        for _ in range(self.n_noises):
            *_, (_, z) = self.denoise(x, generator)
            found.append(self.classifier(z).log_softmax(1))
        return torch.stack(found).logsumexp(0) - math.log(self.n_noises)


class FirstBlock(nn.Module):
    """Map images to the logits of the first of the blocks alone, which is fed with noise.

    Args:
        network: all blocks.

    Shape:
        images ``[b, …]``, logits ``[b, n_classes]``.
    """

    def __init__(self, network: LabelDiffusion) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits, _ = next(self.network.denoise(x, torch.Generator().manual_seed(self.network.seed)))
        return logits
