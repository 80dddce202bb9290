"""Errors that come back over other weights than those that signals went forward by."""

import math
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.learn.feedback import Along, Feedback, mean_fans, send_back
from neuropil.learn.forward_pass import Passed, pass_forward
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy
from neuropil.learn.settings import check_choice
from neuropil.learn.stages import hidden_and_readout, n_outputs, weight_of

_SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9)


class FeedbackAlignment(LearningRule):
    """Carry errors back over fixed random weights in place of the transposed ones.

    δ_l = (δ_{l+1} B_{l+1}) ⊙ f'(z_l), and each layer learns from its own δ and its own input. Forward weights come to
    agree with the feedback: the angle between them falls below 90°.

    Args:
        model: an ``nn.Sequential``, or a network of ensembles, see :func:`neuropil.learn.stages_of`; of any wiring.
        optimizer: makes the optimizer from the model's parameters; default: SGD of rate 0.02 and momentum 0.9.
        along: of sparse layers, where feedback connects: ``wiring`` or ``dense``, see :class:`Feedback`.
        clip_norm: as for :class:`LearningRule`.
        generator: where the feedback weights come from.

    Raises:
        ValueError: the model has a part that cannot be trained, no hidden layer or no read-out.

    Reference:
        T. Lillicrap et al., arXiv 1411.0247; B starts as Glorot's uniform weights, as in the biotorch library.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = FeedbackAlignment(model, generator=torch.Generator().manual_seed(0))
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    is_average = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = _SGD,
        along: Along = "wiring",
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        who = type(self).__name__
        check_choice(who, "along", along, Along)
        hidden, readout = hidden_and_readout(model, who=who)
        self.stages = [*hidden, readout]
        self._along = along
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        parts = self._make_feedback(generator)
        learned = [parameter for part in parts.values() for parameter in part.parameters() if parameter.requires_grad]
        parameters = [*model.parameters(), *learned]
        super().__init__(
            model, parameters, optimizer, parts=parts, clip_norm=clip_norm, generator=generator
        )  # fmt: skip

    def _make_feedback(self, generator: torch.Generator, *, learned: bool = False) -> dict[str, nn.Module]:
        """Return what carries errors back, for each stage but the first, by its number."""
        return {
            str(i): Feedback(stage.layer, along=self._along, learned=learned, generator=generator)
            for i, stage in enumerate(self.stages)
            if i
        }

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`."""
        passed = pass_forward(self.stages, x)
        logits = passed[-1].gives.detach().requires_grad_()
        loss = F.cross_entropy(logits, y)
        (error,) = torch.autograd.grad(loss, logits)
        delta = error
        for i in reversed(range(len(passed))):
            here = passed[i]
            of_current = here.learn(delta)
            if i:
                delta = self._send_back(i, here, of_current, error, passed[i - 1].gives.shape)
        self.update()
        return {"loss": loss.detach(), "accuracy": accuracy(logits, y)}

    def _send_back(self, i: int, here: Passed, delta: Tensor, error: Tensor, shape: torch.Size) -> Tensor:
        """Return what stands for the gradient of what the stage before gives.

        Args:
            i: number of the stage.
            here: its forward pass.
            delta: what stands for the gradient of its current.
            error: of the loss by the logits.
            shape: of what the stage before gives.
        """
        layer, feedback = here.stage.layer, self.parts[str(i)]
        assert isinstance(feedback, Feedback)
        feedback.follow(layer, self.optimizer, self.generator)
        sent: Tensor = feedback(layer, delta, shape)
        return sent


class DirectFeedbackAlignment(FeedbackAlignment):
    """Send the error of the logits to every hidden layer directly, over fixed random weights.

    δ_l = (e B_l) ⊙ f'(z_l), e the gradient of the loss by the logits; the read-out learns from e itself. Where a pool
    follows an activation, e B_l is taken for the gradient of what the pool gives. B_l goes to every neuron of a layer,
    whatever the wiring.

    Args:
        model, optimizer, clip_norm, generator: as for :class:`FeedbackAlignment`.

    Reference:
        A. Nøkland, arXiv 1609.01596; B starts as Glorot's uniform weights, as in the biotorch library.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = _SGD,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, optimizer=optimizer, along="dense", clip_norm=clip_norm, generator=generator)

    def _make_feedback(self, generator: torch.Generator, *, learned: bool = False) -> dict[str, nn.Module]:
        return {str(i): Broadcast(n_outputs(self.stages[-1]), generator) for i in range(1, len(self.stages))}

    def _send_back(self, i: int, here: Passed, delta: Tensor, error: Tensor, shape: torch.Size) -> Tensor:
        sent: Tensor = self.parts[str(i)](error, shape)
        return sent


class Broadcast(nn.Module):
    """Fixed random weights from the error of each class to every unit of a layer, drawn when its size is known.

    Attributes:
        weight: ``[n_classes, n_units]``, empty before the first call.
    """

    weight: Tensor

    def __init__(self, n_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self._n_classes = n_classes
        self._seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
        self.register_buffer("weight", torch.empty(0), persistent=False)

    def forward(self, error: Tensor, shape: torch.Size) -> Tensor:
        """Return what errors ``[b, n_classes]`` come to at the units of ``shape``, ``[b, …]``."""
        n_units = shape[1:].numel()
        if not self.weight.numel():
            generator = torch.Generator().manual_seed(self._seed)
            uniform = torch.rand(self._n_classes, n_units, generator=generator, device="cpu") * 2 - 1
            self.weight = (uniform * self._bound(n_units)).to(error)
        return (error @ self.weight).view(shape)

    def _bound(self, n_units: int) -> float:
        """Return the largest size of a weight: Glorot's."""
        return math.sqrt(6 / (self._n_classes + n_units))

    def get_extra_state(self) -> Tensor:
        """Return the seed of the weights, which stands for them in a stored state."""
        return torch.tensor(self._seed)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over a seed."""
        self._seed = int(state)
        self.weight = self.weight.new_empty(0)


Form = Literal["uniform", "fresh", "fixed"]


class SignSymmetry(FeedbackAlignment):
    """Carry errors back over weights that have the signs of the forward ones, at every step, and other magnitudes.

    Signs are transported, so the rule is not free of weight transport.

    Args:
        form: magnitudes of the feedback: ``uniform``: √(2 / (fan_in + fan_out)) for all (uSF); ``fresh``: random, drawn
            anew at each step (brSF); ``fixed``: random, drawn once (frSF).
        model, optimizer, clip_norm, generator: as for :class:`FeedbackAlignment`.

    Reference:
        Q. Liao, J. Leibo, T. Poggio, arXiv 1510.05067; W. Xiao et al., arXiv 1811.03567; the three forms as in the
        biotorch library, random magnitudes |R| with R Glorot's uniform weights.
    """

    transports_weights = True

    def __init__(
        self,
        model: nn.Module,
        form: Form = "uniform",
        *,
        optimizer: MakeOptimizer = _SGD,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("SignSymmetry", "form", form, Form)
        self.form = form
        super().__init__(model, optimizer=optimizer, clip_norm=clip_norm, generator=generator)

    def _make_feedback(self, generator: torch.Generator, *, learned: bool = False) -> dict[str, nn.Module]:
        return super()._make_feedback(generator) if self.form == "fixed" else {}

    def _send_back(self, i: int, here: Passed, delta: Tensor, error: Tensor, shape: torch.Size) -> Tensor:
        layer = here.stage.layer
        synapses = layer.synapses if isinstance(layer, SparseConv2d) else layer
        signs = synapses.weight.detach().sign()
        along = synapses if isinstance(synapses, SparseLinear) else None
        if self.form == "fixed":
            feedback = self.parts[str(i)]
            assert isinstance(feedback, Feedback)
            feedback.follow(layer, self.optimizer, self.generator)
            return send_back(layer, delta, shape, feedback.weight.abs() * signs, along=along)
        fans = sum(mean_fans(layer))
        if self.form == "uniform":
            return send_back(layer, delta, shape, signs * (2 / fans) ** 0.5, along=along)
        random = torch.rand(signs.shape, generator=self.generator, device="cpu").to(signs)
        return send_back(layer, delta, shape, signs * random * (6 / fans) ** 0.5, along=along)


class KolenPollack(FeedbackAlignment):
    """Carry errors back over weights that learn by the same local products as the forward ones, and decay with them.

    Both get the gradient δ hᵀ of their synapse and the same weight decay, so their difference decays: B comes to agree
    with W without being told of it.

    Args:
        model, clip_norm, generator, along: as for :class:`FeedbackAlignment`; biases too have decay.
        optimizer: makes the optimizer, whose weight decay must be above 0; default: SGD of rate 0.02, momentum 0.9 and
            weight decay 5e-4. One without memory of the past, or SGD with momentum, keeps both in step; adaptive ones
            do so as well, since both weights get the same gradients.

    Raises:
        ValueError: also where the optimizer has no weight decay.

    Reference:
        J. Kolen, J. Pollack, 1994; M. Akrout et al., arXiv 1904.05391, whose convolutional networks it trains. Weight
        decay is the optimizer's here.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer = partial(_SGD, weight_decay=5e-4),  # noqa: B008 (never changed)
        along: Along = "wiring",
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, optimizer=optimizer, along=along, clip_norm=clip_norm, generator=generator)
        if any(not group.get("weight_decay") for group in self.optimizer.param_groups):
            raise ValueError(
                "KolenPollack: the optimizer must have a weight decay above 0, by which feedback comes to agree with "
                "the weights, got none; try 5e-4"
            )

    def _make_feedback(self, generator: torch.Generator, *, learned: bool = True) -> dict[str, nn.Module]:
        for stage in self.stages[1:]:
            if self._along == "dense" and isinstance(stage.layer, SparseLinear | SparseConv2d):
                raise ValueError("KolenPollack: feedback must go along the wiring of sparse layers, got along='dense'")
        return super()._make_feedback(generator, learned=True)

    def _send_back(self, i: int, here: Passed, delta: Tensor, error: Tensor, shape: torch.Size) -> Tensor:
        feedback = self.parts[str(i)]
        assert isinstance(feedback, Feedback)
        sent = super()._send_back(i, here, delta, error, shape)
        feedback.weight.grad = weight_of(here.stage).grad
        return sent
