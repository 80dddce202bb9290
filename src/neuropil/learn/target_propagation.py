"""Targets that come back over learned inverses, in place of errors."""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.learn.feedback import Along, Feedback
from neuropil.learn.forward_pass import Passed, pass_forward, set_gradients
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.settings import check_choice
from neuropil.learn.settling import check_repeatable
from neuropil.learn.stages import Weighted, activation_of, hidden_and_readout

InverseActivation = Literal["tanh", "linear", "model"]


class Inverse(nn.Module):
    """What takes the activity of a layer's targets back to that of its sources: G(h) = φ(h B + c).

    Args:
        layer: linear; B connects what it connects, see :class:`Feedback`.
        activation: φ.
        along: of a sparse layer, where B connects.
        generator: where B comes from; c starts at 0.

    Shape:
        ``[b, out_features]`` → ``[b, in_features]``.
    """

    def __init__(
        self, layer: nn.Linear | SparseLinear, activation: nn.Module, *, along: Along, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.feedback = Feedback(layer, along=along, learned=True, generator=generator)
        self.bias = nn.Parameter(torch.zeros(layer.in_features, dtype=self.feedback.weight.dtype))
        self._activation = activation
        self._layer = (layer,)  # not a part of this module: it is the model's

    def forward(self, h: Tensor) -> Tensor:
        """Return activity of sources for activity of targets."""
        back: Tensor = self._activation(self._current(h))
        return back

    def learn(self, h: Tensor, wanted: Tensor) -> None:
        """Set the gradients of ‖G(h) − wanted‖², averaged over the batch."""
        current = self._current(h).requires_grad_()
        back = self._activation(current)
        (delta,) = torch.autograd.grad(back, current, 2 * (back.detach() - wanted) / len(h))
        self.bias.grad = delta.sum(0)
        self.feedback.learn(h, delta)

    def _current(self, h: Tensor) -> Tensor:
        (layer,) = self._layer
        back: Tensor = self.feedback(layer, h, torch.Size((len(h), layer.in_features)))
        return back + self.bias.detach()


class DifferenceTargetPropagation(LearningRule):
    """Give every layer a target, which learned inverses carry back from the output, and let it come closer to that.

    ĥ_L = h_L − beta ∂L/∂h_L; ĥ_{l−1} = h_{l−1} + G_l(ĥ_l) − G_l(h_l). The difference makes up for what G_l, which
    leads back from a stage F_l, is not an exact inverse in. First each G_l learns to undo noise around the activity
    that is there, ‖G_l(F_l(h_{l−1} + n)) − (h_{l−1} + n)‖²; then each F_l descends ‖ĥ_l − F_l(h_{l−1})‖² / 2. Nothing
    goes back over forward weights.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring. All
            its layers but the first are linear.
        beta: how far the output's target is from the output, above 0; gradients of all weights are in proportion to it.
        feedback_steps: updates of the inverses before each of the forward weights, at least 1.
        feedback_rate: their learning rate, as that of a second group of the optimizer's parameters, above 0.
        noise: standard deviation of n, above 0.
        inverse_activation: φ: ``tanh``, ``linear``, or ``model``: that of the layer that is led back to. With ReLU
            networks, bounded ones keep learning stable.
        along: of sparse layers, where inverses connect: ``wiring`` or ``dense``, see :class:`Feedback`.
        optimizer: makes the optimizer from the model's parameters and the inverses'; default: SGD of rate 0.02 and
            momentum 0.9.
        clip_norm: as for :class:`LearningRule`; inverses are not clipped.
        generator: where the inverses' weights and the noise come from.

    Raises:
        ValueError: the model has a part that cannot be trained, no hidden layer or no read-out, a convolution that is
            not its first layer, batch normalization or dropout; a setting is out of range.

    Reference:
        D.-H. Lee et al., arXiv 1412.7525; targets as in M. Ernoult et al., arXiv 2201.13415, and their code, whose beta
        is the default: the output's target goes back over an inverse of the read-out, where the first paper takes that
        of the last hidden layer from the gradient. Inverses learn by the first paper's loss, not by the second one's.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        >>> rule = DifferenceTargetPropagation(model, generator=torch.Generator().manual_seed(0))
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    is_local = True

    def __init__(
        self,
        model: nn.Module,
        *,
        beta: float = 0.7,
        feedback_steps: int = 1,
        feedback_rate: float = 0.01,
        noise: float = 0.1,
        inverse_activation: InverseActivation = "tanh",
        along: Along = "wiring",
        optimizer: MakeOptimizer = partial(torch.optim.SGD, lr=0.02, momentum=0.9),  # noqa: B008 (never changed)
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        who = type(self).__name__
        check_choice(who, "along", along, Along)
        check_choice(who, "inverse_activation", inverse_activation, InverseActivation)
        if feedback_steps < 1 or min(beta, feedback_rate, noise) <= 0:
            raise ValueError(
                f"{who}: feedback_steps must be at least 1, and beta, feedback_rate and noise above 0, got "
                f"{feedback_steps}, {beta:g}, {feedback_rate:g} and {noise:g}"
            )
        hidden, readout = hidden_and_readout(model, who=who)
        self.stages = [*hidden, readout]
        check_repeatable(self.stages, who=who)
        self.beta, self.feedback_steps, self.noise = beta, feedback_steps, noise
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        parts: dict[str, Inverse] = {}
        for i, (before, stage) in enumerate(zip(self.stages, self.stages[1:], strict=False), start=1):
            given = {"tanh": nn.Tanh(), "linear": nn.Identity(), "model": activation_of(before)}[inverse_activation]
            parts[str(i)] = Inverse(_linear(stage.layer, who), given, along=along, generator=generator)
        groups = [
            {"params": list(model.parameters())},
            {"params": [parameter for part in parts.values() for parameter in part.parameters()], "lr": feedback_rate},
        ]
        super().__init__(model, groups, optimizer, parts=parts, clip_norm=clip_norm, generator=generator)

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`."""
        passed = pass_forward(self.stages, x)
        self._train_inverses(passed)
        logits = passed[-1].gives.detach()
        target = logits - self.beta * (logits.softmax(1) - one_hot(y, logits))
        for i in reversed(range(len(passed))):
            gives = passed[i].gives.detach()
            passed[i].learn((gives - target) / len(x))
            if i:
                inverse = self._inverse(i)
                target = passed[i].reads + inverse(target) - inverse(gives)
        self.update()
        return {"loss": F.cross_entropy(logits, y), "accuracy": accuracy(logits, y)}

    def _train_inverses(self, passed: list[Passed]) -> None:
        """Let the inverses learn around the activity of a forward pass, whose stages stay as they are."""
        for i in range(1, len(passed)):
            self._inverse(i).feedback.follow(passed[i].stage.layer, self.optimizer, self.generator)
        self.optimizer.zero_grad()
        for _ in range(self.feedback_steps):
            for i in range(1, len(passed)):
                reads = passed[i].reads
                noise = torch.randn(reads.shape, generator=self.generator, device="cpu", dtype=reads.dtype)
                noisy = reads + self.noise * noise.to(reads.device)
                with torch.no_grad():
                    gives = passed[i].stage(noisy)
                self._inverse(i).learn(gives, noisy)
            self.optimizer.step()
        set_gradients((parameter, None) for parameter in self.parts.parameters())

    def _inverse(self, i: int) -> Inverse:
        inverse = self.parts[str(i)]
        assert isinstance(inverse, Inverse)
        return inverse


def _linear(layer: Weighted, who: str) -> nn.Linear | SparseLinear:
    if not isinstance(layer, nn.Linear | SparseLinear):
        raise ValueError(  # noqa: TRY004 (it is the model that is wrong)
            f"{who}: all layers but the first must be linear, since inverses of others are not known, got a "
            f"{type(layer).__name__}"
        )
    return layer
