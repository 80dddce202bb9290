"""The published way to compute a spiking network: a Python loop over time steps around snnTorch's neurons."""

import torch
from torch import Tensor, nn

from neuropil.bench.contestants import Masked
from neuropil.models import SpikingEnsembleNet


class PublishedNet(nn.Module):
    """A network of ours, computed the published way: same wiring, weights and neurons, so the same loss.

    In every time step each layer multiplies its dense weights with a mask, and an snnTorch ``Leaky`` takes the product.

    Args:
        net: to take all from; its neurons are ``learned`` or ``fixed``.

    Raises:
        ImportError: snnTorch is not installed.

    Reference:
        The public spiking code of G2GNet, arXiv 2508.14140.
    """

    def __init__(self, net: SpikingEnsembleNet) -> None:
        super().__init__()
        try:
            import snntorch
            from snntorch import surrogate
        except ImportError as error:
            raise ImportError("snnTorch is not installed; try pip install snntorch") from error
        self.encode = nn.Sequential(net.features, net.encoder)
        self.layers = nn.ModuleList(Masked.of(layer) for layer, _ in net.stages)
        learned = net.arguments["neurons"] == "learned"
        self.neurons = nn.ModuleList(
            snntorch.Leaky(
                beta=unit.decay.item(),  # type: ignore[operator]
                threshold=unit.threshold.item(),  # type: ignore[operator]
                learn_beta=learned,
                learn_threshold=learned,
                spike_grad=surrogate.atan(alpha=2.0) if learned else surrogate.fast_sigmoid(slope=25),
            )
            for _, unit in net.stages
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the spike counts of the classes, ``[b, n_classes]``, of images ``[b, c, h, w]``."""
        potentials = [neurons.init_leaky() for neurons in self.neurons]  # type: ignore[operator]
        counts = []
        for spikes in self.encode(images):
            for i, (layer, neurons) in enumerate(zip(self.layers, self.neurons, strict=True)):
                spikes, potentials[i] = neurons(layer(spikes), potentials[i])
            counts.append(spikes)
        return torch.stack(counts).sum(0)
