"""Layers that predict one another, and learn from what was predicted wrongly."""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.settings import check_choice
from neuropil.learn.settling import check_repeatable, learn, weights_held
from neuropil.learn.stages import hidden_and_readout

Mode = Literal["inference", "fixed_prediction"]
Output = Literal["cross_entropy", "clamped"]


class PredictiveCoding(LearningRule):
    """Let activity settle between the input and the label, then let each layer learn from its own prediction error.

    Every stage f_l predicts the activity v_l of its targets from that of its sources: e_l = v_l − f_l(v_{l−1}). With
    the input clamped, v starts as the forward pass and descends the energy Σ_l ‖e_l‖² / 2 + loss:

    v_l ← v_l + rate · (−e_l + J_{l+1}ᵀ e_{l+1}), all layers at once, J_{l+1} the slope of f_{l+1} at v_l.

    Then each layer descends the same energy with its weights: ΔW_l ∝ e_l ∂f_l/∂W_l. An update needs only what its
    layer has at its two ends, but errors go back over transposed weights, so the rule transports weights.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring.
        mode: ``inference``: as above. ``fixed_prediction``: predictions and slopes stay those of the forward pass, and
            errors move down by one layer in each of as many steps as there are layers, at rate 1. Each error is then
            final as soon as it has come, and is computed once: the cost is that of backpropagation, and so is the
            gradient, exactly.
        inference_steps: updates of activity for each batch; of ``fixed_prediction``, None.
        inference_rate: their rate, in (0, 1]; of ``fixed_prediction``, None.
        output: ``cross_entropy``: the error of the output is minus the gradient of that loss of the predicted logits;
            ``clamped``: the output is clamped to 1 at the label and 0 elsewhere, as any layer is to its activity.
        optimizer: makes the optimizer from the model's parameters; default: Adam of rate 0.002.
        clip_norm: as for :class:`LearningRule`.

    Raises:
        ValueError: the model has a part that cannot be trained, no hidden layer or no read-out; a setting is out of
            range, or not of the mode; of ``inference``, activity cannot settle since the model has batch normalization
            or dropout.

    Reference:
        J. Whittington, R. Bogacz, Neural Computation 29, 2017; B. Millidge et al., arXiv 2006.04182 (fixed
        predictions); R. Rosenbaum, arXiv 2106.13082, and its library Torch2PC, whose settings are the defaults. There,
        energies are divided by the batch's size before activity settles, and weights learn at the activity of the
        forward pass; here every image settles by itself, whatever the batch, and weights learn at settled activity.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        >>> rule = PredictiveCoding(model, inference_steps=5)
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    is_local = True
    is_average = True
    transports_weights = True

    def __init__(
        self,
        model: nn.Module,
        mode: Mode = "inference",
        *,
        inference_steps: int | None = None,
        inference_rate: float | None = None,
        output: Output = "cross_entropy",
        optimizer: MakeOptimizer = partial(torch.optim.Adam, lr=0.002),  # noqa: B008 (never changed)
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("PredictiveCoding", "mode", mode, Mode)
        check_choice("PredictiveCoding", "output", output, Output)
        hidden, readout = hidden_and_readout(model, who="PredictiveCoding")
        self.stages = [*hidden, readout]
        self.mode, self.output = mode, output
        if mode == "inference":
            check_repeatable(self.stages, who="PredictiveCoding")
            self.inference_steps = 20 if inference_steps is None else inference_steps
            self.inference_rate = 0.1 if inference_rate is None else inference_rate
            if self.inference_steps < 1 or not 0 < self.inference_rate <= 1:
                raise ValueError(
                    f"PredictiveCoding: inference_steps must be at least 1 and inference_rate in (0, 1], got "
                    f"{self.inference_steps} and {self.inference_rate:g}"
                )
        elif inference_steps is not None or inference_rate is not None:
            raise ValueError(
                f"PredictiveCoding: inference_steps and inference_rate must be None for fixed predictions, got "
                f"{inference_steps} and {inference_rate}; try mode='inference'"
            )
        super().__init__(model, model.parameters(), optimizer, clip_norm=clip_norm, generator=generator)

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`. The loss is that of the forward pass."""
        logits = self._settle(x, y) if self.mode == "inference" else self._fix_predictions(x, y)
        self.update()
        return {"loss": self._loss(logits, y), "accuracy": accuracy(logits, y)}

    def _settle(self, x: Tensor, y: Tensor) -> Tensor:
        """Set the gradients of the energy at settled activity; return the logits of the forward pass."""
        first, *later = self.stages
        prediction = first(x)  # of an input that is clamped: always the same
        values = [prediction.detach()]
        with torch.no_grad():
            for stage in later[:-1]:
                values.append(stage(values[-1]))
            logits: Tensor = later[-1](values[-1])
        with weights_held(later):
            for _ in range(self.inference_steps):
                error = values[0] - prediction.detach()
                for i, stage in enumerate(later):
                    reads = values[i].requires_grad_()
                    predicted = stage(reads)
                    above = self._error(predicted, y) if stage is later[-1] else values[i + 1] - predicted.detach()
                    (sent,) = torch.autograd.grad(predicted, reads, above)
                    values[i] = reads.detach() + self.inference_rate * (sent - error)
                    error = above
        for i, stage in enumerate(self.stages):
            predicted = stage(values[i - 1]) if i else prediction
            error = self._error(predicted, y) if stage is later[-1] else values[i] - predicted.detach()
            learn(stage, [predicted], [-error / len(x)])
        return logits

    def _fix_predictions(self, x: Tensor, y: Tensor) -> Tensor:
        """Set the gradients of the energy at fixed predictions; return the logits."""
        passed: list[tuple[Tensor, Tensor]] = []
        gives = x
        for i, stage in enumerate(self.stages):
            reads = gives.detach().requires_grad_(i > 0)
            gives = stage(reads)
            passed.append((reads, gives))
        delta = -self._error(gives, y) / len(x)
        for stage, (reads, predicted) in zip(reversed(self.stages), reversed(passed), strict=True):
            delta = learn(stage, [predicted], [delta], reads if reads.requires_grad else None)
        return gives.detach()

    def _error(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the error of the output ``[b, n_classes]``: minus the slope of each image's loss."""
        logits = logits.detach()
        return one_hot(y, logits) - (logits.softmax(1) if self.output == "cross_entropy" else logits)

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.output == "cross_entropy":
            return F.cross_entropy(logits, y)
        return (one_hot(y, logits) - logits).square().sum(1).mean() / 2
