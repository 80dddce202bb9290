"""NoProp: blocks that learn, each for itself, to find a label again that noise has hidden."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.learn.label_diffusion import Denoiser, FirstBlock, LabelDiffusion
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.stages import hidden_and_readout, n_outputs


class NoProp(LearningRule):
    """Train T blocks, each for itself, as denoisers of the label: NoProp in discrete time (NoProp-DT).

    Block t reads the image and z_{t−1}, the label u_y in noise, and guesses û_t. With the ratio of signal to noise
    SNR(t) = ᾱ_t / (1 − ᾱ_t), a step minimizes, for all t,

    (η / 2) Σ_t (SNR(t) − SNR(t−1)) ‖û_t(z_{t−1}, x) − u_y‖² − log p(y | z_T) + KL(q(z_0 | y) ‖ N(0, I)),

    with z_t = √ᾱ_t u_y + √(1 − ᾱ_t) ε, p = softmax(A z_T), each averaged over the batch. KL counts where labels'
    embeddings are learned. Within a block, gradients go back through all layers.

    The model is a pattern: each block has a copy of its hidden layers, with the weights that it starts with, and a path
    of its own for the label. The model itself does not learn: use :attr:`predictor`, whose layers can be rewired, and
    which is T networks large. Losses of blocks differ in size 10,000-fold: use an optimizer that adapts to it.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring.
        optimizer: makes the optimizer from a group of parameters for each block, and one for the rest; default: AdamW
            of rate 0.001 and weight decay 0.001.
        blocks: T, at least 1.
        embedding: None: a label is one-hot; a number d: it is a vector of d numbers that is learned.
        width: units of a block's own layers, see :class:`neuropil.learn.Denoiser`; at least 2.
        eta: η.
        n_noises, noise_seed: how many draws of noise answers are averaged over, and their seed.
        clip_norm: as for :class:`LearningRule`; each block is clipped by itself.
        generator: where weights of the label's paths and the noise of training come from.

    ``step`` gives the sum as loss, and as accuracy that of the first block, which sees next to nothing of the label.
    Tell the accuracy of :attr:`first_block` beside that of the predictor: it is a whole network by itself.

    Raises:
        ValueError: the model has a part that cannot be trained, no hidden layer or no read-out, or a setting is out of
            range.

    Reference:
        Q. Li, Y. W. Teh, R. Pascanu, arXiv 2503.24322. Widths of the label's path, η = 0.1 and the bounds of ᾱ are what
        is known of it at second hand; a learned embedding starts as N(0, 1/d).

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = NoProp(model, blocks=2, width=8, generator=torch.Generator().manual_seed(0))
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
        >>> rule.predictor(torch.randn(5, 4)).shape, rule.predictor.along(torch.randn(5, 4)).shape
        (torch.Size([5, 3]), torch.Size([2, 5, 3]))
    """

    transports_weights = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-3),  # noqa: B008 (never changed)
        blocks: int = 10,
        embedding: int | None = None,
        width: int = 256,
        eta: float = 0.1,
        n_noises: int = 1,
        noise_seed: int = 0,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        for name, value, least in (("blocks", blocks, 1), ("width", width, 2), ("n_noises", n_noises, 1)):
            if value < least:
                raise ValueError(f"NoProp: {name} must be at least {least}, got {value}")
        if embedding is not None and embedding < 1:
            raise ValueError(f"NoProp: embedding must be at least 1 number a label, or None, got {embedding}")
        if eta <= 0:
            raise ValueError(f"NoProp: eta must be above 0, got {eta:g}")
        hidden, readout = hidden_and_readout(model, who="NoProp")
        n_classes, n_features = n_outputs(readout), int(readout.layer.in_features)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        like = next(model.parameters())
        self.eta = eta
        self._network = LabelDiffusion(
            [
                Denoiser(hidden, n_features, embedding or n_classes, n_classes, width=width, generator=generator)
                for _ in range(blocks)
            ],
            _embedding(n_classes, embedding, like.dtype, generator),
            n_noises=n_noises,
            seed=noise_seed,
            generator=generator,
        )
        self._of_block = [list(block.parameters()) for block in self._network.blocks]
        self._of_label = [*self._network.classifier.parameters()]
        if embedding is not None:
            self._of_label.insert(0, self._network.get_parameter("embedding"))
        super().__init__(
            model,
            [{"params": parameters} for parameters in (*self._of_block, self._of_label)],
            optimizer,
            parts={"network": self._network},
            clip_norm=clip_norm,
            generator=generator,
        )

    @property
    def predictor(self) -> LabelDiffusion:
        """What maps a batch of inputs to logits: all blocks, one after the other, from noise."""
        return self._network

    @property
    def first_block(self) -> FirstBlock:
        """What maps a batch of inputs to the logits of the first block alone."""
        return FirstBlock(self._network)

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`."""
        network = self._network
        labels = one_hot(y, network.classifier.weight.T)
        self.optimizer.zero_grad(set_to_none=True)
        first: Tensor | None = None
        total = labels.new_zeros(())
        for t, block in enumerate(network.blocks, start=1):
            label = labels @ network.embedding
            logits = block(x, network.schedule.noised(t - 1, label, network.draw(len(x), self.generator)))
            misses = (network.guess(logits) - label).square().sum(1).mean()
            loss = self.eta / 2 * network.schedule.gain(t) * misses
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
            first = logits.detach() if first is None else first
        assert first is not None
        loss = self._label_loss(labels @ network.embedding, y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.update()
        return {"loss": total + loss.detach(), "accuracy": accuracy(first, y)}

    def _label_loss(self, label: Tensor, y: Tensor) -> Tensor:
        """Return what is minimized beside the blocks' own losses."""
        network = self._network
        z = network.schedule.noised(len(network.blocks), label, network.draw(len(label), self.generator))
        loss = F.cross_entropy(network.classifier(z), y)
        if network.embedding.requires_grad:
            kept, d = network.schedule.kept[0], label.shape[1]
            loss = loss + (kept * label.square().sum(1).mean() - d * (kept + math.log1p(-kept))) / 2
        return loss


def _embedding(n_classes: int, size: int | None, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Return what stands for each class: one-hot, or random vectors that are learned."""
    if size is None:
        return torch.eye(n_classes, dtype=dtype)
    return nn.Parameter(torch.randn(n_classes, size, generator=generator, dtype=dtype, device="cpu") / size**0.5)
