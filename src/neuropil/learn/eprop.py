"""E-prop: spiking networks that learn forward in time, from traces at their synapses and errors that are broadcast."""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropil.connect import SparseLinear, back_product
from neuropil.learn.eligibility import LayerTraces
from neuropil.learn.forward_pass import set_gradients
from neuropil.learn.rule import LearningRule, MakeOptimizer, accuracy, one_hot
from neuropil.learn.settings import check_choice
from neuropil.learn.spiking_stages import MeanPotential, SpikingStage, spiking_stages_of, step_with_slope
from neuropil.units import LIF
from neuropil.units.unit import State

Signals = Literal["symmetric", "random", "adaptive"]
Order = Literal["forward", "reverse"]


class EProp(LearningRule):
    """Learn from L_j(t), an error that reaches each neuron at once, times what its synapses remember, at every step.

    The read-out leaks, y_t = α y_{t−1} + W_out z_t + b, and answers at every step: its error is e_t = softmax(y_t) less
    the label, and the loss is the cross-entropy averaged over steps and batch. With the eligibility traces of
    :class:`neuropil.learn.eligibility.Traces`:

        ∂E/∂w_ji = Σ_t L_j(t) ē_ji(t),  L_j(t) = Σ_k B_jk e_k(t)

    This is the gradient if nothing flows back over a synapse between neurons: neither from step to step over
    recurrent connections nor from layer to layer; only over the read-out and within each neuron. ψ, the derivative
    of a spike, is the surrogate of the units. The published one is a triangle of area 0.3:
    ``Triangle(width=threshold, area=0.3)``. Only weights and biases learn.

    Args:
        model: an encoder, then layers (``nn.Linear`` or ``SparseLinear`` of any wiring) and units in turn, in an
            ``nn.Sequential``: LIF, IF or AdaptiveLIF, with recurrent connections as :class:`neuropil.units.Recurrent`,
            and a LeakyIntegrator of one decay at the end; or a ``spiking_ensemble_net(…, output="potentials")``.
            Without an encoder, inputs are ``[t, b, n]``.
        feedback: B of the last hidden layer: ``symmetric``: W_outᵀ; ``random``: fixed; ``adaptive``: random at first,
            it learns by the same products as W_out, and comes to agree with it by weight decay. Layers before
            have a B of their own, from the read-out's error straight to them: fixed, or learned if ``adaptive``.
        order: ``forward``: traces at every synapse are carried forward in time, without a graph: memory does
            not grow with the number of steps, but is one or two numbers a synapse and *sample*. ``reverse``: the same
            sums, from the last step to the first, layer by layer: memory is two or three numbers a neuron and step,
            and the time that of backpropagation, so it is faster by far. Gradients are equal up to rounding.
        optimizer: makes the optimizer; default: Adam of rate 0.003. ``adaptive`` needs one with weight decay.
        clip_norm: as for :class:`LearningRule`.
        generator: where B comes from.

    Raises:
        ValueError: the model has a part that cannot be trained, or a setting is unknown.

    Reference:
        G. Bellec et al., Nature Communications 11, 3625 (2020). There, losses are summed over steps, neurons have a
        refractory time, and firing rates are regularized; B of deeper networks is ours. B starts as Glorot's uniform
        weights.

    Example:
        >>> from neuropil.units import LeakyIntegrator
        >>> from neuropil.units.encode import CurrentEncoder
        >>> model = nn.Sequential(CurrentEncoder(5), nn.Linear(4, 8), LIF(), nn.Linear(8, 3), LeakyIntegrator())
        >>> rule = EProp(model)
        >>> sorted(rule.step(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
        >>> rule.predictor(torch.rand(5, 4)).shape
        torch.Size([5, 3])
    """

    is_local = True
    is_average = True
    transports_weights = True  # with feedback="symmetric"; instances with another one say False

    def __init__(
        self,
        model: nn.Module,
        feedback: Signals = "symmetric",
        *,
        order: Order = "forward",
        optimizer: MakeOptimizer = partial(torch.optim.Adam, lr=0.003),  # noqa: B008 (never changed)
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("EProp", "feedback", feedback, Signals)
        check_choice("EProp", "order", order, Order)
        self._stages = spiking_stages_of(model, who="EProp")
        self.feedback, self.order = feedback, order
        self.transports_weights = feedback == "symmetric"  # type: ignore[misc]
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        hidden, layer = self._stages.hidden, self._stages.layer
        broadcast = hidden[:-1] if feedback == "symmetric" else hidden
        parts = {
            str(i): _error_weights(stage, layer.weight, layer.out_features, feedback == "adaptive", generator)
            for i, stage in enumerate(broadcast)
        }
        of_readout = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        learned = [parameter for stage in hidden for parameter in stage.parameters()] + of_readout
        if feedback == "adaptive":
            learned += [parameter for part in parts.values() for parameter in part.parameters()]
        super().__init__(model, learned, optimizer, parts=parts, clip_norm=clip_norm, generator=generator)
        self._of_readout = of_readout
        self._predictor = model if hasattr(model, "stages") else MeanPotential(model, self._stages)
        if feedback == "adaptive" and any(not group.get("weight_decay") for group in self.optimizer.param_groups):
            raise ValueError(
                "EProp: with feedback 'adaptive' the optimizer must have a weight decay above 0, by which feedback "
                "comes to agree with the read-out, got none; try 1e-3"
            )

    @property
    def predictor(self) -> nn.Module:
        """From inputs to logits: potentials of the read-out, summed (``SpikingEnsembleNet``) or averaged over time."""
        return self._predictor

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Learn from one batch; see :meth:`LearningRule.step`."""
        inputs = self._stages.encode(x)
        self.optimizer.zero_grad(set_to_none=True)
        learn = self._learn_forward if self.order == "forward" else self._learn_in_reverse
        loss, logits = learn(inputs, one_hot(y, inputs.new_empty(len(y), self._stages.layer.out_features)))
        self.update()
        return {"loss": loss, "accuracy": accuracy(logits, y)}

    @torch.no_grad()
    def _learn_forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Set gradients from one pass forward in time; return loss and mean potentials."""
        hidden, layer, smoothing = self._stages.hidden, self._stages.layer, self._stages.readout.effective_decay()
        runs = [_Run(stage, smoothing, inputs[0]) for stage in hidden]
        potential = torch.zeros_like(targets)
        total, loss = torch.zeros_like(targets), inputs.new_zeros(())
        of_weight, of_bias, constant = (
            torch.zeros_like(layer.weight),
            torch.zeros_like(targets[0]),
            inputs.new_zeros(()),
        )
        for now in inputs:
            spikes = now
            for run in runs:
                spikes = run.advance(spikes)
            potential = smoothing * potential + layer(spikes)
            total, loss = total + potential, loss + F.cross_entropy(potential, targets)
            error = (potential.softmax(1) - targets) / (len(inputs) * len(targets))
            constant = smoothing * constant + 1  # what a bias has come to in the potential
            of_bias += constant * error.sum(0)
            of_weight += _of_weight(layer, runs[-1].smooth, error)
            for i, run in enumerate(runs):
                run.learn(self._signals(i, error), error if self.feedback == "adaptive" else None)
        set_gradients(pair for run in runs for pair in run.gradients())
        found = {layer.weight: of_weight, layer.bias: of_bias}
        set_gradients((parameter, found[parameter]) for parameter in self._of_readout)
        if self.feedback == "adaptive":
            set_gradients((self._error_weight(i), run.of_error) for i, run in enumerate(runs))
        return loss / len(inputs), total / len(inputs)

    def _learn_in_reverse(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Set gradients stage by stage, each through its own neurons alone; return loss and mean potentials."""
        stages, reads = self._stages, inputs
        given = []
        for stage in stages.hidden:
            current = stage.layer(reads)
            if stage.among is None:
                spikes, _ = stage.neurons(current)
                reads = spikes.detach()
            else:
                with torch.no_grad():
                    reads, _ = stage.unit(current.detach())
                    before = torch.cat([torch.zeros_like(reads[:1]), reads[:-1]])
                spikes, _ = stage.neurons(current + stage.among(before))
            given.append((stage, spikes, reads))
        potentials, _ = stages.readout(stages.layer(reads))
        answers = potentials.detach()
        steps, batch = len(inputs), len(targets)
        loss = F.cross_entropy(answers.flatten(0, 1), targets.repeat(steps, 1))
        error = (answers.softmax(2) - targets) / (steps * batch)
        set_gradients(zip(self._of_readout, _gradients(potentials, self._of_readout, error), strict=True))
        with torch.no_grad():
            later, _ = stages.readout(error.flip(0))  # what errors from each step on come to there
            later = later.flip(0)
        for i, (stage, spikes, reads) in enumerate(given):
            parameters = stage.parameters()
            set_gradients(zip(parameters, _gradients(spikes, parameters, self._signals(i, later)), strict=True))
            if self.feedback == "adaptive":
                set_gradients([(self._error_weight(i), torch.einsum("tbk,tbj->kj", later, reads))])
        return loss, answers.mean(0)

    @torch.no_grad()
    def _signals(self, i: int, error: Tensor) -> Tensor:
        """Return what errors ``[…, n_classes]`` come to at the neurons of a hidden stage."""
        layer = self._stages.layer
        if str(i) in self.parts:
            return error @ self._error_weight(i)
        return back_product(layer, error) if isinstance(layer, SparseLinear) else error @ layer.weight

    def _error_weight(self, i: int) -> nn.Parameter:
        weight = self.parts[str(i)].weight
        assert isinstance(weight, nn.Parameter)
        return weight


class _Run:
    """A hidden stage on its way forward in time, with the traces of its synapses."""

    def __init__(self, stage: SpikingStage, smoothing: Tensor, like: Tensor) -> None:
        assert isinstance(stage.neurons, LIF)
        self._stage, self._smoothing = stage, smoothing
        self._traces = LayerTraces(stage.layer, stage.neurons, smoothing, like)
        self._among = None if stage.among is None else LayerTraces(stage.among, stage.neurons, smoothing, like)
        self._spikes = like.new_zeros(len(like), stage.layer.out_features)
        self._state: State = stage.neurons.rest(self._spikes)
        self.smooth = torch.zeros_like(self._spikes)
        self.of_error: Tensor | None = None

    def advance(self, reads: Tensor) -> Tensor:
        """Go one step; return spikes."""
        stage, before = self._stage, self._spikes
        current = stage.layer(reads)
        if stage.among is not None:
            current = current + stage.among(before)
        self._spikes, self._state, slopes = step_with_slope(stage.neurons, current, self._state)
        self._traces.advance(reads, before, slopes)
        if self._among is not None:
            self._among.advance(before, before, slopes)
        self.smooth = self._smoothing * self.smooth + self._spikes
        return self._spikes

    def learn(self, signals: Tensor, error: Tensor | None) -> None:
        """Add to the gradients of the stage, and, given an error, to those of the weights that broadcast it."""
        self._traces.learn(signals)
        if self._among is not None:
            self._among.learn(signals)
        if error is not None:
            product = error.T @ self.smooth
            self.of_error = product if self.of_error is None else self.of_error + product

    def gradients(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return the parameters of the stage with their gradients."""
        return self._traces.gradients() + ([] if self._among is None else self._among.gradients())


def _error_weights(
    stage: SpikingStage, like: Tensor, n_classes: int, learned: bool, generator: torch.Generator
) -> nn.Module:
    """Return B, ``[n_classes, n_units]``, as a layer."""
    n_units = stage.layer.out_features
    weights = nn.Linear(n_units, n_classes, bias=False, device="meta")  # draws nothing
    uniform = torch.rand(n_classes, n_units, generator=generator, device="cpu", dtype=like.dtype) * 2 - 1
    weights.weight = nn.Parameter(uniform * (6 / (n_classes + n_units)) ** 0.5, requires_grad=learned)
    return weights


def _of_weight(layer: nn.Linear | SparseLinear, reads: Tensor, delta: Tensor) -> Tensor:
    """Return the gradient of a layer's weights, as they are stored, for one of its output."""
    if isinstance(layer, nn.Linear):
        return delta.T @ reads
    with torch.enable_grad():
        return torch.autograd.grad(layer(reads), layer.weight, delta)[0]


def _gradients(outputs: Tensor, parameters: list[nn.Parameter], delta: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of parameters; none are wanted of a stage that is frozen."""
    return torch.autograd.grad(outputs, parameters, delta) if parameters else ()
