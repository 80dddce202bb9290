"""The network of Diehl and Cook: excitatory neurons that compete, each of them by way of an inhibitory one."""

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.randomness import stream
from neuropil.units.encode.rate import bernoulli

_MOST_TRIES = 40  # of an image that makes hardly anyone spike


class DiehlCookNet(nn.Module):
    """Excitatory and inhibitory conductance-based neurons that read images as Poisson spikes, and vote by their labels.

    Inputs reach all excitatory neurons over weights that learn (:class:`STDP`). Each of these drives one inhibitory
    neuron (10.4), which inhibits all the others (17). An image is shown for 350 ms, each pixel x in [0, 1] firing at
    255 x / 8 · intensity Hz, and 150 ms of silence follow; if fewer than 5 spikes came, it is shown again with an
    intensity that is larger by 1. A neuron's label is the class to which it responds most, and the logit of a class is
    the mean spike count of the neurons with its label.

        100 ms dv/dt = −65 mV − v − g_e v + g_i (−100 mV − v),  spike: v > θ − 72 mV, reset to −65 mV, 5 ms of rest
        10 ms dv/dt = −60 mV − v − g_e v,                        spike: v > −40 mV, reset to −45 mV, 2 ms of rest

    Conductances decay with 1 ms (g_e) and 2 ms (g_i); θ starts at 20 mV. Steps are of 0.5 ms, by Euler's rule; where a
    step would overshoot the equilibrium of a potential, as after many inhibitory spikes at once, it ends there.

    Args:
        n_inputs: pixels of an image.
        n_classes: number of classes.
        n_neurons: excitatory neurons, and as many inhibitory ones.
        total: sum of a neuron's weights, to which they are scaled before each image that they learn from.
        intensity: factor on firing rates.
        generator: where weights come from.

    Attributes:
        weight: ``[n_neurons, n_inputs]``, in [0, 1]; at first U(0.003, 0.303).
        thresholds: θ, ``[n_neurons]``, mV.
        responses: spikes of each neuron summed for each class, those long past fading, ``[n_classes, n_neurons]``.
        shown: how many images of each class that is.
        state, traces: of neurons and of inputs, at the end of the last image.

    Shape:
        images ``[b, …]``, in [0, 1] → logits ``[b, n_classes]``, float32. Each image starts from neurons at rest
        (published: from where the last one has left them), with the same draws at each call.

    Raises:
        ValueError: a number is out of range; at the call: images have other sizes or numbers.

    Reference:
        P. Diehl, M. Cook, Frontiers in Computational Neuroscience 9, 99 (2015), with the numbers of the public code.
        Left out are the delays of its input synapses (0 to 10 ms at random). Traces and thresholds decay exactly, and
        potentials do not overshoot, which by Euler's rule alone makes them explode.

    Example:
        >>> net = DiehlCookNet(64, 10, n_neurons=20, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))).shape
        torch.Size([2, 10])
    """

    thresholds: Tensor
    responses: Tensor
    shown: Tensor
    state: Tensor
    traces: Tensor

    def __init__(
        self,
        n_inputs: int,
        n_classes: int,
        *,
        n_neurons: int = 400,
        total: float = 78.0,
        intensity: float = 2.0,
        generator: torch.Generator | None = None,
    ) -> None:
        from neuropil.learn.diehl_cook_loops import N_ROWS, OFFSET, REST_POTENTIAL_E, REST_POTENTIAL_I, V_E, V_I

        super().__init__()
        if min(n_inputs, n_classes, n_neurons) < 1 or total <= 0 or intensity <= 0:
            raise ValueError(
                "DiehlCookNet: n_inputs, n_classes and n_neurons must be at least 1, total and intensity above 0, got "
                f"{n_inputs}, {n_classes}, {n_neurons}, {total:g} and {intensity:g}"
            )
        self.total, self.intensity = total, intensity
        uniform = torch.rand(n_neurons, n_inputs, generator=generator, device="cpu")
        self.weight = nn.Parameter(0.3 * (uniform + 0.01), requires_grad=False)
        self.register_buffer("thresholds", torch.full((n_neurons,), OFFSET, dtype=torch.float64))
        self.register_buffer("responses", torch.zeros(n_classes, n_neurons, dtype=torch.float64))
        self.register_buffer("shown", torch.zeros(n_classes, dtype=torch.float64))
        state = torch.zeros(N_ROWS, n_neurons, dtype=torch.float64)
        state[V_E], state[V_I] = REST_POTENTIAL_E, REST_POTENTIAL_I
        self.register_buffer("state", state)
        self.register_buffer("traces", torch.zeros(n_inputs, dtype=torch.float64))
        self._at_rest = state.numpy().copy()

    @property
    def labels(self) -> Tensor:
        """The class of each neuron, ``[n_neurons]``; −1: it has responded to nobody."""
        rates = self.responses / self.shown.clamp(min=1e-12)[:, None]
        return torch.where(rates.amax(0) > 0, rates.argmax(0), -1)

    def logits(self, counts: Tensor) -> Tensor:
        """Return the mean spike count of each class's neurons, ``[b, n_classes]``, of counts ``[b, n_neurons]``."""
        labels = self.labels
        votes = (labels[:, None] == torch.arange(len(self.shown), device="cpu")).float()
        return counts.float() @ (votes / votes.sum(0).clamp(min=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, none of which changes the network."""
        weights = self.weight.T.double().contiguous().numpy()
        thresholds, generator, counts = self.thresholds.numpy(), stream(0, "DiehlCookNet"), []
        for image in self.checked(images):
            state, traces = self._at_rest.copy(), np.zeros(len(weights))
            counts.append(self.show(image, weights, thresholds, state, traces, generator, None))
        return self.logits(torch.stack(counts) if counts else self.weight.new_zeros(0, len(self.weight)))

    def show(
        self,
        image: Tensor,
        weights: np.ndarray,
        thresholds: np.ndarray,
        state: np.ndarray,
        traces: np.ndarray,
        generator: torch.Generator,
        rates: tuple[float, float, float] | None,
    ) -> Tensor:
        """Show one image until it makes 5 spikes; return the spikes of each neuron, ``[n_neurons]``.

        Args:
            image: ``[n_inputs]``.
            weights, thresholds, state, traces: as for :func:`neuropil.learn.diehl_cook_loops.present`.
            generator: where spikes come from.
            rates: depression, potentiation and step of thresholds, of a network that learns; None: it does not.
        """
        from neuropil.learn.diehl_cook_loops import STEP, present

        intensity, counts = self.intensity, np.zeros(0)
        for _ in range(_MOST_TRIES):
            if rates is not None:
                weights *= self.total / weights.sum(0)
            probability = (image * (255 / 8 * intensity * STEP / 1000)).clamp(max=1)
            spikes = bernoulli(probability, round(350 / STEP), generator=generator, dtype=torch.uint8).numpy()
            counts = present(
                spikes, round(150 / STEP), weights, thresholds, state, traces, rates is not None, *(rates or (0.0,) * 3)
            )
            if counts.sum() >= 5 or not bool(image.any()):
                break
            intensity += 1
        return torch.from_numpy(counts)

    def checked(self, images: Tensor) -> Tensor:
        """Return images as rows ``[b, n_inputs]`` in float32.

        Raises:
            ValueError: they have another size, lie outside [0, 1], or are not on the CPU.
        """
        flat = images.detach().flatten(1).float()
        n_inputs = self.weight.shape[1]
        if flat.shape[1] != n_inputs:
            raise ValueError(f"DiehlCookNet: images must have {n_inputs} pixels, got {list(images.shape)}")
        if flat.device.type != "cpu" or self.weight.device.type != "cpu":
            raise ValueError(f"DiehlCookNet: network and images must be on the CPU, got {flat.device}")
        if flat.numel() and not (flat.min() >= 0 and flat.max() <= 1):
            raise ValueError(
                f"DiehlCookNet: pixels must be in [0, 1], got {flat.min():g} … {flat.max():g}; try "
                "dataset.in_unit_range()"
            )
        return flat
