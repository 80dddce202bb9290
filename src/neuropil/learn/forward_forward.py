"""Forward-Forward: layers that answer strongly to images with their own label, and weakly to others."""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.learn.forward_pass import set_gradients
from neuropil.learn.goodness import (
    LabelledNetwork,
    Normalization,
    PeerNormalization,
    Predict,
    goodness,
)
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.settings import check_choice
from neuropil.learn.stages import n_outputs

Negatives = Literal["uniform", "hard"]
LayerWise = Literal["together", "greedy"]


class ForwardForward(LearningRule):
    """Let each hidden layer tell images with their own label from images with a wrong one, by its goodness.

    A layer reads normalized activities and gives h; its goodness is g = Σ_j h_j². It takes σ(g − θ) for the probability
    that the label is right, and minimizes the cross-entropy, averaged over each image with its own label and with a
    wrong one, and peer normalization. No gradient goes from layer to layer. A linear softmax learns to read out all
    hidden layers but the first.

    The label is written over the first inputs, one for each class. So the model's layers must be linear, and its first
    must read flat pixels: convolutions cannot be trained. In a sparse first layer only neurons that are connected to
    these pixels see the label.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, of linear layers of any wiring; its own read-out reads
            the last hidden layer, further ones in :attr:`parts` those between it and the first. Use :attr:`predictor`.
        optimizer: makes the optimizer from a group of parameters for each hidden layer, and one for the read-out;
            default: SGD of rate 0.001, momentum 0.9 and weight decay 3e-4.
        negatives: wrong labels are ``uniform``, or ``hard``: drawn with the probabilities that the read-out gives them.
        normalization, straight_through, predict, label_scale: see :class:`neuropil.learn.LabelledNetwork`.
        threshold: θ; None: the number of a layer's units.
        peer_normalization: weight of :class:`PeerNormalization`, which looks at right labels only; 0: without it.
        layer_wise: ``together``: all layers learn at each step; ``greedy``: one after the other, for an equal share of
            training each, of which :meth:`set_length` tells the length; the read-out learns all the time.
        readout_rate, readout_decay: learning rate and weight decay of the read-out.
        clip_norm: as for :class:`LearningRule`; each layer is clipped by itself.
        generator: where wrong labels come from.

    ``step`` gives as loss the sum of all that is minimized, and as accuracy that of the read-out, for a neutral label.

    Raises:
        ValueError: the model cannot be trained so, or a setting is out of range.

    Reference:
        G. Hinton, arXiv 2212.13345; settings as in the public code of S. Löwe, which follows Hinton's. There weights
        start as N(0, 1/n_out) and the read-out is at 0 and has no biases: here the model starts as it is given.

    Example:
        >>> model = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = ForwardForward(model, generator=torch.Generator().manual_seed(0))
        >>> sorted(rule.step(torch.randn(5, 9), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
        >>> rule.predictor(torch.randn(5, 9)).shape
        torch.Size([5, 3])
    """

    is_local = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=3e-4),  # noqa: B008 (never changed)
        negatives: Negatives = "uniform",
        normalization: Normalization = "rms",
        threshold: float | None = None,
        peer_normalization: float = 0.03,
        straight_through: bool = True,
        layer_wise: LayerWise = "together",
        predict: Predict = "softmax",
        label_scale: float = 3.0,
        readout_rate: float = 1e-2,
        readout_decay: float = 3e-3,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        who = type(self).__name__
        check_choice(who, "negatives", negatives, Negatives)
        check_choice(who, "layer_wise", layer_wise, LayerWise)
        for name, value in (
            ("peer_normalization", peer_normalization),
            ("readout_rate", readout_rate),
            ("readout_decay", readout_decay),
        ):
            if value < 0:
                raise ValueError(f"{who}: {name} must be at least 0, got {value:g}")
        network = LabelledNetwork(
            model,
            normalization=normalization,
            straight_through=straight_through,
            predict=predict,
            label_scale=label_scale,
            who=who,
        )
        if network.n_classes < 2:
            raise ValueError(f"{who}: the model must tell at least 2 classes apart, got {network.n_classes}")
        self._network = network
        self.negatives, self.threshold, self.peer_normalization = negatives, threshold, peer_normalization
        self.layer_wise = layer_wise
        dtype = next(model.parameters()).dtype
        peers = [PeerNormalization(n_outputs(stage), dtype=dtype) for stage in network.hidden]
        self._readout = [*network.readout.parameters(), *network.skips.parameters()]
        groups = [{"params": stage.parameters()} for stage in network.hidden]
        readout = {"params": self._readout, "lr": readout_rate, "weight_decay": readout_decay}
        super().__init__(
            model,
            [*groups, readout],
            optimizer,
            parts={"skips": network.skips, **{f"peers_{i}": module for i, module in enumerate(peers)}},
            clip_norm=clip_norm,
            generator=generator,
        )

    @property
    def predictor(self) -> LabelledNetwork:
        """What maps a batch of inputs to logits: the model with the label's place, normalization and read-outs."""
        return self._network

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`.

        Raises:
            ValueError: layers learn one after the other, and nobody has said how long training is.
        """
        network, learning = self._network, self._learning()
        logits = network.read_out(x)
        right = one_hot(y, logits)
        of_readout = F.cross_entropy(logits, y)
        set_gradients(zip(self._readout, torch.autograd.grad(of_readout, self._readout), strict=True))
        loss = of_readout.detach()
        wrong = one_hot(self._wrong_labels(y, logits.detach()), logits)
        activity = torch.cat([network.with_label(x, right), network.with_label(x, wrong)])
        is_right = torch.arange(len(activity), device=x.device) < len(x)
        for i, stage in enumerate(network.hidden[: max(learning) + 1]):
            parameters = stage.parameters()
            with torch.set_grad_enabled(i in learning):
                activity = network.answer(stage, network.normalize(activity.detach()))
            if i in learning:
                of_layer = self._layer_loss(i, activity, is_right)
                set_gradients(zip(parameters, torch.autograd.grad(of_layer, parameters), strict=True))
                loss = loss + of_layer.detach()
            else:
                set_gradients((parameter, None) for parameter in parameters)
        self.update()
        return {"loss": loss, "accuracy": accuracy(logits, y)}

    def _learning(self) -> range:
        """Return the numbers of the layers that learn now."""
        n_layers = len(self._network.hidden)
        if self.layer_wise == "together":
            return range(n_layers)
        if self.n_steps is None:
            raise ValueError(
                "ForwardForward: where layers learn one after the other, the length of training must be known, got "
                "none; try rule.set_length(epochs=…, steps_per_epoch=…) before the first step"
            )
        now = min(self.n_done * n_layers // self.n_steps, n_layers - 1)
        return range(now, now + 1)

    def _layer_loss(self, i: int, activity: Tensor, is_right: Tensor) -> Tensor:
        """Return what a layer minimizes, of its activity ``[2 b, n]``, right labels first."""
        threshold = activity.shape[1] if self.threshold is None else self.threshold
        loss = F.binary_cross_entropy_with_logits(goodness(activity) - threshold, is_right.to(activity))
        if self.peer_normalization:
            loss = loss + self.peer_normalization * self.parts[f"peers_{i}"](activity[: len(activity) // 2])
        return loss

    def _wrong_labels(self, y: Tensor, logits: Tensor) -> Tensor:
        """Draw a wrong label for each image."""
        n_classes = self._network.n_classes
        if self.negatives == "uniform":
            further = torch.randint(1, n_classes, y.shape, generator=self.generator, device="cpu")
            return (y + further.to(y.device)) % n_classes
        of_wrong = logits.scatter(1, y[:, None], -torch.inf).softmax(1).cumsum(1)
        level = torch.rand(len(y), 1, generator=self.generator, device="cpu").to(of_wrong)
        return (of_wrong <= level * of_wrong[:, -1:]).sum(1)
