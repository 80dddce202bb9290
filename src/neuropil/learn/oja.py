"""Principal components by Hebbian products with forgetting."""

import torch
from torch import Tensor, nn

from neuropil.learn.hebbian import Anneal, HebbianRule, Order, PerLayer, ReadoutTime, Response
from neuropil.learn.readout_only import ADAM
from neuropil.learn.rule import MakeOptimizer


class Oja(HebbianRule):
    """Turn each neuron towards the first principal component of what it reads: Δw = η y (x − y w).

    y = w·x is the neuron's current; products are averaged over the batch, and over places. The component is that of
    E[x xᵀ], of centred data that of the covariance; the weights come to length 1. Neurons that read the same learn the
    same, up to the sign: a layer is worth more than one neuron only where its wiring is sparse.

    Args:
        learning_rate: η of hidden layers, one for all or one each; stable well below 2 / (largest eigenvalue).
        model, anneal, unsupervised, order, readout, optimizer, clip_norm, generator: as for :class:`HebbianRule`.

    Raises:
        ValueError: as for :class:`HebbianRule`.

    Reference:
        E. Oja, J. Math. Biol. 15, 1982, with one neuron and one input at a time.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
        >>> rule = Oja(model, learning_rate=0.02)
        >>> sorted(rule.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))
        ['accuracy', 'loss']
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: PerLayer = 1e-3,
        anneal: Anneal = "constant",
        unsupervised: float = 0.5,
        order: Order = "together",
        readout: ReadoutTime = "after",
        optimizer: MakeOptimizer = ADAM,
        clip_norm: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            model, learning_rate=learning_rate, anneal=anneal, unsupervised=unsupervised, order=order, readout=readout,
            optimizer=optimizer, clip_norm=clip_norm, generator=generator,
        )  # fmt: skip

    def _respond(self, i: int, u: Tensor, reads: Tensor) -> Response:
        return Response(u / len(u), u.square().mean(0))


class Sanger(Oja):
    """Turn neurons towards the principal components of what they read, in order: ΔW = η (y xᵀ − LT(y yᵀ) W).

    LT keeps what is on and below the diagonal: neuron k learns from what those up to it leave over, so the first learns
    as by :class:`Oja`, and the k-th comes to the k-th component. In a sparse layer it learns so at its live
    connections; in a convolution in groups, from the neurons of its group.

    Args:
        model, learning_rate, anneal, unsupervised, order, readout, optimizer, clip_norm, generator: as for
            :class:`Oja`.

    Reference:
        T. Sanger, Neural Networks 2, 1989: the generalized Hebbian algorithm (GHA), with one input at a time.
    """

    def _respond(self, i: int, u: Tensor, reads: Tensor) -> Response:
        decay = (u.T @ u / len(u)).tril()
        layer = self.hidden[i].layer
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            group = torch.arange(len(decay), device=decay.device) // (len(decay) // layer.groups)
            decay = decay * (group[:, None] == group)
        return Response(u / len(u), decay)
