"""Pruning at initialization: which connections a network starts with, chosen before it learns."""

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuropil.connect import Wiring
from neuropil.connect.densities import DensityMethod
from neuropil.rewire.attempt import Batch, Loss, loss_of, outputs_of
from neuropil.rewire.candidates import Candidates
from neuropil.rewire.scores import sensitivity


def snip(
    model: nn.Module,
    batch: Batch,
    *,
    density: float,
    loss: Loss = F.cross_entropy,
    block: tuple[int, int] = (1, 1),
    skip: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> dict[str, Wiring]:
    """Keep the connections on which the loss depends most before training: SNIP, in one shot.

    Score of a synapse: |w · ∂L/∂w|, its effect on the loss if it goes, to first order. A block's is the sum over its
    synapses. The largest scores of all layers together are kept: exactly round(density · possible) connections, or
    with larger blocks as near to it as whole blocks allow.

    Args:
        model: any module with ``nn.Linear``, ``nn.Conv2d`` or their sparse kinds; it is not changed. It is scored in
            the mode it is in; noise such as dropout is drawn from the generator's stream.
        batch: inputs and targets, about 10 samples of each class.
        density: connections kept over those of the same layers if dense, in (0, 1]. A sparse layer can only lose some.
        loss: one number from the model's output, one tensor, and the targets.
        block: shape ``(rows, columns)`` of the blocks that dense layers are made of; sparse ones have theirs. A
            convolution counts as its matrix from taps (channel, row, column) to channels.
        skip: names of layers, or of modules that contain them, that stay as they are and are not counted.
        generator: breaks ties; default: one seeded with 0.

    Returns:
        A wiring for each layer by name; :func:`with_wirings` puts them in place.

    Raises:
        ValueError: there is no layer, a name is unknown, the batch does not fit, the loss is not finite, or the
            density is out of range or leaves a layer without a connection.

    Reference:
        N. Lee et al., SNIP, arXiv 1810.02340. The authors' code also prunes biases, which always stay here, and
        scores in evaluation mode. Blocks are ours.

    Example:
        >>> model = nn.Linear(3, 1, bias=False)
        >>> nn.init.constant_(model.weight, 1.0).shape
        torch.Size([1, 3])
        >>> batch = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.0]])
        >>> snip(model, batch, density=0.67, loss=F.mse_loss)[""].mask().int().tolist()
        [[1, 0, 1]]
    """
    candidates = Candidates.of("snip", model, block=block, skip=skip)
    wanted, generator = candidates.count(density), _own(generator)
    with candidates.scratch(model, generator) as network:
        weights = [layer.weight for layer in candidates.layers(network)]
        value = loss_of("snip", network, batch, loss)
        gradients = torch.autograd.grad(value, weights, materialize_grads=True)
    pairs = zip(weights, gradients, strict=True)
    scores = candidates.of_blocks([sensitivity(w.detach().double(), g.double()) for w, g in pairs])
    return candidates.keep(scores, wanted, generator).wirings


def grasp(
    model: nn.Module,
    batch: Batch,
    *,
    density: float,
    loss: Loss = F.cross_entropy,
    temperature: float = 200.0,
    block: tuple[int, int] = (1, 1),
    skip: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> dict[str, Wiring]:
    """Keep the connections that carry the flow of gradients before training: GraSP, in one shot.

    Score of a synapse: w · (H g), signed, with the gradient g and the Hessian H of the loss over the weights of all
    layers in question; the **largest** are kept. The loss falls at the rate gᵀg while the network learns. Taking a
    weight away is a step δ = −w along its axis, which changes the rate by 2 δᵀ H g = −2 w (H g): where w (H g) is
    large, learning would slow down most, and where it is below 0, speed up.

    Args:
        model, batch, density, block, skip, generator: as for :func:`snip`.
        loss: one number from the model's output, divided by the temperature, and the targets.
        temperature: above 0; at 200 the outputs hardly differ, and neither does the loss between classes.

    Returns:
        A wiring for each layer by name; :func:`with_wirings` puts them in place.

    Raises:
        ValueError: as for :func:`snip`; the temperature is not above 0, or the model's output is not one tensor.

    Reference:
        C. Wang et al., GraSP (ICLR 2020), arXiv 2002.07376. The paper's score is −w (H g), of which it keeps the
        smallest. The authors' code takes g and H g in separate passes over two halves of the batch, whose gradients
        it adds up; here both come from one pass over all of it. It also draws new weights (Xavier) for the linear
        layers while it scores; here those are scored that the model has. Blocks are ours.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[1.0, -0.2]]))
        >>> batch = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0]])
        >>> grasp(model, batch, density=0.5, loss=F.mse_loss, temperature=1.0)[""].mask().int().tolist()
        [[1, 0]]
    """
    candidates = Candidates.of("grasp", model, block=block, skip=skip)
    wanted, generator = candidates.count(density), _own(generator)
    if not temperature > 0:
        raise ValueError(f"grasp: temperature must be above 0, got {temperature!r}")
    # only the plain form of attention can be differentiated twice
    with candidates.scratch(model, generator) as network, sdpa_kernel(SDPBackend.MATH):
        weights = [layer.weight for layer in candidates.layers(network)]
        value = loss_of("grasp", network, batch, lambda outputs, targets: loss(outputs / temperature, targets))
        gradients = torch.autograd.grad(value, weights, create_graph=True, materialize_grads=True)
        rate = sum(((g.detach() * g).sum() for g in gradients), value.new_zeros(()))
        if rate.requires_grad:
            products = torch.autograd.grad(rate, weights, materialize_grads=True)
        else:  # a loss that is linear in the weights: its Hessian is 0
            products = tuple(torch.zeros_like(weight) for weight in weights)
    pairs = zip(weights, products, strict=True)
    scores = candidates.of_blocks([w.detach().double() * p.double() for w, p in pairs])
    return candidates.keep(scores, wanted, generator).wirings


def synflow(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    density: float,
    rounds: int = 100,
    block: tuple[int, int] = (1, 1),
    skip: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> dict[str, Wiring]:
    """Keep the connections that lie on the strongest paths from inputs to outputs: SynFlow, without any data.

    Score of a synapse: |w · ∂R/∂w|, R the sum of the outputs for an input of ones, with every parameter and buffer
    replaced by its absolute value, in float64 and in evaluation mode. In round k of n the largest scores of all
    layers together are kept at density d₀ (d / d₀)^(k / n), from the density d₀ at the start, 1 for dense layers, to
    d; the others get new scores. Without biases and with ReLU, the scores of each layer add up to R: a layer with
    few connections left has high ones, so that layers empty together, not one before another. Activations that
    saturate, and normalizations that take the scale away, such as ``nn.LayerNorm``, break this.

    Args:
        model, density, block, skip, generator: as for :func:`snip`.
        input_shape: of one input, without the batch: ``(64,)``, or ``(1, 8, 8)`` for images.
        rounds: n, at least 1.

    Returns:
        A wiring for each layer by name; :func:`with_wirings` puts them in place.

    Raises:
        ValueError: as for :func:`snip`, without batch and loss; the number of rounds is below 1, the shape does not
            fit the model, or nothing flows, or infinitely much.

    Reference:
        H. Tanaka et al., SynFlow, arXiv 2006.05467, with the paper's 100 rounds (their code's default is 1) and
        float64 (which their code has switched off). The sparse start and blocks are ours.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 1.0]]))
        ...     _ = model[2].weight.copy_(torch.tensor([[-4.0, 1.0]]))
        >>> wirings = synflow(model, (2,), density=0.34)
        >>> wirings["0"].mask().int().tolist(), wirings["2"].mask().int().tolist()
        ([[0, 1], [0, 0]], [[1, 0]])
    """
    candidates = Candidates.of("synflow", model, block=block, skip=skip)
    wanted, generator = candidates.count(density), _own(generator)
    start = candidates.n_connections / candidates.n_possible
    if rounds < 1:
        raise ValueError(f"synflow: rounds must be at least 1, got {rounds!r}")
    with candidates.scratch(model, generator) as network:
        network.double().eval()
        with torch.no_grad():
            for tensor in network.state_dict().values():
                if isinstance(tensor, Tensor) and tensor.is_floating_point():
                    tensor.abs_()
        layers = candidates.layers(network)
        ones = torch.ones((1, *input_shape), dtype=torch.float64, device=layers[0].weight.device)
        for k in range(1, rounds + 1):
            outputs = outputs_of("synflow", network, ones, f"input_shape must fit the model, got {tuple(input_shape)}")
            weights = [layer.weight for layer in layers]
            gradients = torch.autograd.grad(outputs.sum(), weights, materialize_grads=True)
            scores = candidates.of_blocks([sensitivity(w, g) for w, g in zip(weights, gradients, strict=True)])
            if not scores.any():
                raise ValueError(
                    f"synflow: something must flow from the inputs to the outputs, got a flow of 0 in round {k}; try "
                    "more rounds, a higher density, or activations that do not saturate"
                )
            reached = round(start * (density / start) ** (k / rounds) * candidates.n_possible)
            candidates = candidates.keep(scores, wanted if k == rounds else reached, generator)
            for layer, wiring in zip(layers, candidates.wirings.values(), strict=True):
                layer.rewire(wiring)
    return candidates.wirings


def random_masks(
    model: nn.Module,
    *,
    density: float,
    method: DensityMethod = "erk",
    block: tuple[int, int] = (1, 1),
    skip: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> dict[str, Wiring]:
    """Keep connections by chance, as many in each layer as a rule says: the control for the other methods.

    Args:
        model, density, block, skip: as for :func:`snip`.
        method: how connections are shared out, see :func:`neuropil.connect.layer_densities`. A sparse layer that
            would get more than it has keeps all, and the others share the rest.
        generator: where the choice comes from; default: one seeded with 0.

    Returns:
        A wiring for each layer by name; :func:`with_wirings` puts them in place.

    Raises:
        ValueError: there is no layer, a name or the method is unknown, or the density is out of range or leaves a
            layer without a connection.

    Reference:
        U. Evci et al., RigL, arXiv 1911.11134, for ``erk``, with exact numbers of connections.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> [wiring.n_connections for wiring in random_masks(model, density=0.2).values()]
        [330, 144]
    """
    candidates = Candidates.of("random_masks", model, block=block, skip=skip)
    wanted = candidates.count(density)
    if method not in get_args(DensityMethod):
        raise ValueError(f"random_masks: method must be one of {', '.join(get_args(DensityMethod))}, got {method!r}")
    blocks = sum(wiring.n_blocks for wiring in candidates.wirings.values())
    return candidates.keep_by_layer(np.zeros(blocks), wanted, method, _own(generator)).wirings


def _own(generator: torch.Generator | None) -> torch.Generator:
    return torch.Generator().manual_seed(0) if generator is None else generator
