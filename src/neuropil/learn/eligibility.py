"""What each synapse remembers of the activity of both its sides."""

import torch
from torch import Tensor, nn

from neuropil.connect import SparseLinear
from neuropil.learn.spiking_stages import Connected
from neuropil.units import LIF, AdaptiveLIF


class Traces:
    """Eligibility traces of the synapses of one layer, and the gradient that they gather, forward in time.

        ε_i ← β ε_i + z_i;  e_ji = ψ_j (ε_i − κ a_ji);  a_ji ← ρ a_ji + e_ji;  ē_ji ← α ē_ji + e_ji

    β, κ and ρ are those of the target neurons (κ = 0: there is no a), α is the decay of the read-out. After a spike
    of j, ε starts again from 0 where that resets to 0. With one β for all and no such reset, ε is kept once a source.

    Args:
        targets, sources: neurons of each weight, which broadcast to the weight's shape.
        neurons: the targets.
        smoothing: α.
        like: activity ``[b, …]`` whose batch and type the traces have.
    """

    def __init__(self, targets: Tensor, sources: Tensor, neurons: LIF, smoothing: Tensor, like: Tensor) -> None:
        self._targets, self._sources = targets.to(like.device), sources.to(like.device)
        self._neurons, self._smoothing = neurons, smoothing
        shape = (targets + sources).shape
        self.gradient = like.new_zeros(shape)
        self._smooth = like.new_zeros(len(like), *shape)
        self._adapted = torch.zeros_like(self._smooth) if isinstance(neurons, AdaptiveLIF) else None
        self._is_per_source = neurons.decay.dim() == 0 and neurons.reset != "zero"
        self._presynaptic = like.new_zeros(()) if self._is_per_source else torch.zeros_like(self._smooth)

    def advance(self, reads: Tensor, spiked: Tensor, slopes: Tensor) -> None:
        """Go one time step.

        Args:
            reads: what the synapses read, z, ``[b, n_sources]``.
            spiked: spikes of the targets one step before, ``[b, n_targets]``.
            slopes: ψ, ``[b, n_targets]``.
        """
        neurons, decay = self._neurons, self._neurons.effective_decay()
        if self._is_per_source:
            self._presynaptic = decay * self._presynaptic + reads
            drive = self._presynaptic[:, self._sources]
        else:
            kept = decay * (1 - spiked) if neurons.reset == "zero" else decay.expand_as(spiked)
            drive = self._presynaptic.mul_(kept[:, self._targets]).add_(reads[:, self._sources])
        if self._adapted is None:
            self._smooth.mul_(self._smoothing).addcmul_(slopes[:, self._targets], drive)
            return
        assert isinstance(neurons, AdaptiveLIF)
        strength, persistence = (self._of_targets(number, spiked) for number in neurons.effective_adaptation())
        eligibility = (drive - strength * self._adapted).mul_(slopes[:, self._targets])
        self._adapted.mul_(persistence).add_(eligibility)
        self._smooth.mul_(self._smoothing).add_(eligibility)

    def learn(self, signals: Tensor) -> None:
        """Add what the traces and the learning signals of the targets, ``[b, n_targets]``, make of the gradient."""
        self.gradient.add_((self._smooth * signals[:, self._targets]).sum(0))

    def _of_targets(self, number: Tensor, spiked: Tensor) -> Tensor:
        return number.to(spiked.dtype).expand(spiked.shape[1])[self._targets]


class LayerTraces:
    """Traces of all that a layer learns, weights and biases.

    Args:
        layer: dense, or of any wiring.
        neurons: that it drives.
        smoothing: decay of the read-out.
        like: activity ``[b, …]``.
    """

    def __init__(self, layer: Connected, neurons: LIF, smoothing: Tensor, like: Tensor) -> None:
        self._layer = layer
        if isinstance(layer, SparseLinear):
            targets, sources = layer.weight_units()
            self._is_live = (layer.wiring.mask() if layer.stores_dense else (targets >= 0) & (sources >= 0)).to(like)
            targets, sources = targets.clamp(min=0), sources.clamp(min=0)
        else:
            targets = torch.arange(layer.out_features, device="cpu")[:, None]
            sources = torch.arange(layer.in_features, device="cpu")[None, :]
            self._is_live = like.new_ones(())
        self._one = like.new_ones(len(like), 1)  # what biases read
        self._of: dict[nn.Parameter, Traces] = {}
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, nn.Parameter)
        if weight.requires_grad:
            self._of[weight] = Traces(targets, sources, neurons, smoothing, like)
        if bias is not None and bias.requires_grad:
            everyone = torch.arange(layer.out_features, device="cpu")
            self._of[bias] = Traces(everyone, torch.zeros_like(everyone), neurons, smoothing, like)

    def advance(self, reads: Tensor, spiked: Tensor, slopes: Tensor) -> None:
        """Go one time step, see :meth:`Traces.advance`."""
        for parameter, traces in self._of.items():
            traces.advance(reads if parameter is self._layer.weight else self._one, spiked, slopes)

    def learn(self, signals: Tensor) -> None:
        """Add to the gradients, see :meth:`Traces.learn`."""
        for traces in self._of.values():
            traces.learn(signals)

    def gradients(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return each parameter with its gradient."""
        return [
            (parameter, traces.gradient * self._is_live if parameter is self._layer.weight else traces.gradient)
            for parameter, traces in self._of.items()
        ]
