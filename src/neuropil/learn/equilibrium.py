"""Units that settle together, once free and once nudged towards the label; the difference is what is learned."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.settings import check_choice
from neuropil.learn.settling import learn, weights_held
from neuropil.learn.stages import Stage, activation_of, hidden_and_readout

Nudging = Literal["symmetric", "one_sided"]
Activation = Literal["model", "hard_sigmoid"]
_BOUNDED = (nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.Softsign, nn.ReLU6)
_SHAPING = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Identity
)  # fmt: skip


class EquilibriumNet(nn.Module):
    """A model whose hidden units settle together, connected in both directions by the same weights.

    Hidden activity starts at 0 and follows the primitive function Φ = Σ_l h_{l+1} · f_l(h_l), f_l a layer with its
    bias and its pools: h ← σ(∂Φ/∂h), all layers at once. The logits are what the read-out makes of the last hidden
    layer, upon which it does not act back.

    Args:
        model: whose layers these are; it is shared, not copied.
        free_steps: steps in which activity settles, at least 1.
        activation: σ: ``model``: the activation that follows each layer, bounded, taken to act on what pools give;
            ``hard_sigmoid``: (1 + clip(x − 1, −1, 1)) / 2 in their place.

    Shape:
        inputs, as the model takes them → logits ``[b, n_classes]``.
    """

    def __init__(self, model: nn.Module, free_steps: int, activation: Activation) -> None:
        super().__init__()
        self.model = model
        self.free_steps = free_steps
        self.hidden, self.readout = hidden_and_readout(model, who="EquilibriumPropagation")
        self._sigma: list[nn.Module] = [_sigma(stage, activation) for stage in self.hidden]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``[b, n_classes]`` of the settled activity."""
        with torch.inference_mode(False), weights_held([*self.hidden, self.readout]):
            settled = self.settle(self.drive(0, x), self.free_steps)
        return self.logits(settled)

    def unrest(self, x: Tensor) -> float:
        """Return by how much one more step would change activity, averaged over units and inputs: 0 where it settled.

        Gradients of equilibrium propagation are only as good as this is small.
        """
        with torch.inference_mode(False), weights_held([*self.hidden, self.readout]):
            of_input = self.drive(0, x)
            settled = self.settle(of_input, self.free_steps)
            moved = self.settle(of_input, 1, settled)
        changes = [(after - before).abs().flatten(1) for before, after in zip(settled, moved, strict=True)]
        return torch.cat(changes, 1).mean().item()

    def logits(self, h: Sequence[Tensor]) -> Tensor:
        """Return what the read-out makes of activity."""
        return self.readout(h[-1])

    def drive(self, i: int, reads: Tensor) -> Tensor:
        """Return what the hidden units of a stage get from below, ∂Φ/∂h without what comes back from above.

        Args:
            i: number of the stage.
            reads: activity of the stage before it, or the input.
        """
        drive = self.hidden[i].current(reads)
        for module in self.hidden[i].after:
            if isinstance(module, _SHAPING):
                drive = module(drive)
        return drive

    @torch.enable_grad()
    def settle(
        self,
        of_input: Tensor,
        n_steps: int,
        start: Sequence[Tensor] | None = None,
        *,
        beta: float = 0.0,
        y: Tensor | None = None,
    ) -> list[Tensor]:
        """Return the activity of each hidden layer after some steps.

        Args:
            of_input: what the first layer's units get from the input.
            n_steps: number of steps.
            start: activity to start from; None: 0.
            beta: how strongly activity is nudged down the loss; Φ has −beta · loss then.
            y: labels, int64 ``[b]``, where it is nudged.
        """
        of_input = of_input.detach()
        h = self._rest(of_input) if start is None else list(start)
        for _ in range(n_steps):
            drives = [of_input]
            for i in range(1, len(h)):
                reads = h[i - 1].detach().requires_grad_()
                drive = self.drive(i, reads)
                (back,) = torch.autograd.grad(drive, reads, h[i])
                drives[-1] = drives[-1] + back
                drives.append(drive.detach())
            if y is not None:
                reads = h[-1].detach().requires_grad_()
                logits = self.readout(reads)
                (back,) = torch.autograd.grad(logits, reads, error_of(logits, y))
                drives[-1] = drives[-1] - beta * back
            h = [sigma(drive) for sigma, drive in zip(self._sigma, drives, strict=True)]
        return h

    @torch.no_grad()
    def _rest(self, of_input: Tensor) -> list[Tensor]:
        h = [torch.zeros_like(of_input)]
        for i in range(1, len(self.hidden)):
            h.append(torch.zeros_like(self.drive(i, h[-1])))
        return h


class EquilibriumPropagation(LearningRule):
    """Learn from how activity changes when the output is nudged towards the label.

    Activity h settles freely (see :class:`EquilibriumNet`), and from there anew with Φ − beta · L, L the loss. For
    small beta, what each layer has at its two ends in both states gives the gradient of the loss of settled activity:

    dL/dθ = −(∂Φ/∂θ at h^β₂ − ∂Φ/∂θ at h^β₁) / (β₂ − β₁).

    Signals go up and back over the same weights, so the rule transports weights. What predicts is :attr:`predictor`:
    the model's forward pass is not what is trained.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring. Its
            hidden layers have one activation each, pools perhaps, and no normalization.
        nudging: ``symmetric``: states nudged by +beta and −beta are compared, which removes the error of first order
            in beta, and without which deep convolutional networks do not learn; ``one_sided``: the free state and
            that of +beta, two phases in place of three.
        free_steps, nudged_steps: steps in which activity settles, at least 1. Gradients are good only where it does,
            which :meth:`EquilibriumNet.unrest` measures: with weights too large, activity oscillates for ever.
        beta: how strongly activity is nudged, above 0.
        activation: as for :class:`EquilibriumNet`.
        optimizer: makes the optimizer from the model's parameters; default: SGD of rate 0.08.
        clip_norm: as for :class:`LearningRule`.

    Raises:
        ValueError: the model has a part that cannot be trained, no hidden layer or no read-out; a hidden layer has no
            activation, more than one, an unbounded one, a normalization or dropout; a setting is out of range.

    Reference:
        B. Scellier, Y. Bengio, arXiv 1602.05179; A. Laborieux et al., arXiv 2006.03824, and their code, whose settings
        for MNIST are the defaults. The read-out stands outside the system, as in their variant for cross-entropy;
        their other one, squared errors of output units that belong to the system, is not here.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
        >>> rule = EquilibriumPropagation(model)
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    is_local = True
    is_average = True
    transports_weights = True

    def __init__(
        self,
        model: nn.Module,
        nudging: Nudging = "symmetric",
        *,
        free_steps: int = 30,
        nudged_steps: int = 10,
        beta: float = 0.1,
        activation: Activation = "model",
        optimizer: MakeOptimizer = partial(torch.optim.SGD, lr=0.08),  # noqa: B008 (never changed)
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("EquilibriumPropagation", "nudging", nudging, Nudging)
        check_choice("EquilibriumPropagation", "activation", activation, Activation)
        if min(free_steps, nudged_steps) < 1 or beta <= 0:
            raise ValueError(
                f"EquilibriumPropagation: free_steps and nudged_steps must be at least 1 and beta above 0, got "
                f"{free_steps}, {nudged_steps} and {beta:g}"
            )
        self.net = EquilibriumNet(model, free_steps, activation)
        self.nudging, self.nudged_steps, self.beta = nudging, nudged_steps, beta
        super().__init__(model, model.parameters(), optimizer, clip_norm=clip_norm, generator=generator)

    @property
    def predictor(self) -> nn.Module:
        """The model with settled activity."""
        return self.net

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`. The loss is that of free activity."""
        net = self.net
        of_input = net.drive(0, x.detach())
        with weights_held([*net.hidden, net.readout]):
            free = net.settle(of_input, net.free_steps)
            logits = net.logits(free)
            nudged = net.settle(of_input, self.nudged_steps, free, beta=self.beta, y=y)
            other = free
            if self.nudging == "symmetric":
                other = net.settle(of_input, self.nudged_steps, free, beta=-self.beta, y=y)
        self._learn(of_input, nudged, other, y)
        self.update()
        return {"loss": F.cross_entropy(logits, y), "accuracy": accuracy(logits, y)}

    def _learn(self, of_input: Tensor, nudged: Sequence[Tensor], other: Sequence[Tensor], y: Tensor) -> None:
        """Set the gradients from activity nudged by beta, and by −beta or not at all."""
        net = self.net
        n_states = 2 if self.nudging == "symmetric" else 1
        scale = 1 / (n_states * self.beta * len(y))
        learn(net.hidden[0], [of_input], [scale * (other[0] - nudged[0])])
        for i in range(1, len(nudged)):
            gives = [net.drive(i, nudged[i - 1]), net.drive(i, other[i - 1])]
            learn(net.hidden[i], gives, [-scale * nudged[i], scale * other[i]])
        logits = [net.logits(h) for h in (nudged, other)[:n_states]]
        learn(net.readout, logits, [error_of(of_state, y) / (n_states * len(y)) for of_state in logits])


def error_of(logits: Tensor, y: Tensor) -> Tensor:
    """Return the slope of each image's cross-entropy by its logits."""
    logits = logits.detach()
    return logits.softmax(1) - one_hot(y, logits)


def _sigma(stage: Stage, activation: Activation) -> nn.Module:
    """Return the activation of a stage's units, or raise a ``ValueError`` where they cannot settle."""
    found = [module for module in stage.after if not isinstance(module, _SHAPING)]
    if len(found) != 1:
        names = ", ".join(type(module).__name__ for module in found) or "none"
        raise ValueError(
            f"EquilibriumPropagation: a hidden layer must be followed by one activation, and by pools at most, got "
            f"{names} after {stage.name!r}"
        )
    if activation == "hard_sigmoid":
        return HardSigmoid()
    if not isinstance(found[0], _BOUNDED):
        raise ValueError(  # noqa: TRY004 (it is the model that is wrong)
            f"EquilibriumPropagation: activations must be bounded, got a {type(found[0]).__name__} after "
            f"{stage.name!r}; try activation='hard_sigmoid', which stands in for it, or nn.Hardtanh(0, 1)"
        )
    return activation_of(stage)


class HardSigmoid(nn.Module):
    """(1 + clip(x − 1, −1, 1)) / 2."""

    def forward(self, x: Tensor) -> Tensor:
        """Return values in [0, 1]."""
        return F.hardtanh(x / 2, 0.0, 1.0)
