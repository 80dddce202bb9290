"""Learning from the order of spikes, without any error: the rule of Diehl and Cook."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from neuropil.learn.diehl_cook import DiehlCookNet
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot


class STDP(LearningRule):
    """Strengthen synapses whose source spiked shortly before their target, and weaken those where it came after.

    Traces are set to 1 by a spike, and decay. At a source's spike w ← w − d · post₁, at a target's w ← w + p · pre ·
    post₂, with post₂ from before the spike; w stays in [0, 1]. pre and post₁ decay with 20 ms, post₂ with 40 ms. At the
    start of each image, the weights of every neuron are scaled to one sum. Each spike of a neuron raises its
    threshold, which falls back with 10⁴ s: no neuron wins all the time.

    Images are shown one after the other, also within a batch, and change the network as they are shown. Labels are
    only used to name neurons, by the class to which each responds most on average, over images whose
    weight fades with ``memory``.

    Args:
        model: the network.
        depression: d.
        potentiation: p.
        threshold_step: by how much a spike raises the threshold, mV, at least 0.
        memory: number of images after which a response counts 1/e in a neuron's label, at least 1.
        optimizer: its learning rate, by default 1, is a factor on d and p, so that a schedule can change them; it
            changes nothing itself.
        generator: where input spikes come from.

    Raises:
        ValueError: a setting is out of range.
        TypeError: the model is another network.

    Reference:
        P. Diehl, M. Cook, Frontiers in Computational Neuroscience 9, 99 (2015), as its public code has it, see
        :class:`DiehlCookNet`. There, neurons are named every 10,000 images by the last 10,000. If a source and its
        target spike in the same step, the source comes first.

    Example:
        >>> net = DiehlCookNet(64, 10, n_neurons=20, generator=torch.Generator().manual_seed(0))
        >>> rule = STDP(net, generator=torch.Generator().manual_seed(1))
        >>> sorted(rule.step(torch.rand(2, 1, 8, 8), torch.tensor([0, 1])))
        ['accuracy', 'loss']
    """

    is_local = True

    def __init__(
        self,
        model: DiehlCookNet,
        *,
        depression: float = 1e-4,
        potentiation: float = 1e-2,
        threshold_step: float = 0.05,
        memory: float = 10_000,
        optimizer: MakeOptimizer = partial(torch.optim.SGD, lr=1.0),  # noqa: B008 (never changed)
        generator: torch.Generator | None = None,
    ) -> None:
        if not isinstance(model, DiehlCookNet):
            raise TypeError(f"STDP: the model must be a DiehlCookNet, got a {type(model).__name__}")
        if min(depression, potentiation, threshold_step) < 0 or memory < 1:
            raise ValueError(
                "STDP: depression, potentiation and threshold_step must be at least 0, and memory at least 1, got "
                f"{depression:g}, {potentiation:g}, {threshold_step:g} and {memory:g}"
            )
        super().__init__(model, [model.weight], optimizer, generator=generator)
        self.network = model
        self.depression, self.potentiation, self.threshold_step = depression, potentiation, threshold_step
        self.memory = memory

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from the images of a batch, one after the other; see :meth:`LearningRule.step`.

        The loss is the cross-entropy of spike counts as logits, with the labels from before the batch; nothing
        minimizes it.
        """
        net = self.network
        images = net.checked(x)
        classes = one_hot(y, net.responses.new_empty(len(y), len(net.shown)))
        rate = self.optimizer.param_groups[0]["lr"]
        rates = (rate * self.depression, rate * self.potentiation, self.threshold_step)
        weights = net.weight.T.double().contiguous()
        shared = (weights.numpy(), net.thresholds.numpy(), net.state.numpy(), net.traces.numpy())
        counts = torch.stack([net.show(image, *shared, self.generator, rates) for image in images])
        net.weight.copy_(weights.T)
        logits = net.logits(counts)
        fading = torch.exp(torch.arange(1 - len(y), 1, device="cpu", dtype=torch.float64) / self.memory)
        past = float(torch.exp(torch.tensor(-len(y) / self.memory, dtype=torch.float64)))
        net.responses.mul_(past).add_((classes * fading[:, None]).T @ counts.double())
        net.shown.mul_(past).add_((classes * fading[:, None]).sum(0))
        self.update()
        return {"loss": F.cross_entropy(logits, y), "accuracy": accuracy(logits, y)}
