"""What is sparse about a model, said in full: where, since when, in what structure, what is counted, how fast."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from neuropil.connect import SparseLinear
from neuropil.measure.trained_function import live_entries

WHEN = ("static", "rewired", "thinned out", "pruned after", "never", "not stated")
_WORDS = {
    "static": "sparse from the start, the same connections throughout",
    "rewired": "sparse from the start, connections exchanged while learning",
    "thinned out": "sparser and sparser while learning",
    "pruned after": "dense while learning, sparse afterwards",
    "never": "dense throughout",
    "not stated": "not stated",
}
_NOT_CONNECTIONS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class LayerStatement:
    """What one weight, a tensor of at least two axes, has of connections.

    Attributes:
        name: of the weight.
        kind: of the module that has it.
        is_sparse: whether its connections are given by a wiring.
        shape: sizes of the matrix of a sparse layer, (out, in); of the tensor of another.
        block: (target neurons, source neurons) of a unit of connection; None for others.
        n_groups: groups that neurons belong to; None where they belong to none.
        connections: live weights, silent ones among them.
        possible: what there would be if all were connected.
        silent: live weights that transmit nothing.
        zeros: live weights that are exactly 0 just now, as pruning by a mask leaves them; they count as live.
        is_embedding: whether it is a table of vectors.
        is_readout: whether it is the one that was named as read-out.
    """

    name: str
    kind: str
    is_sparse: bool
    shape: tuple[int, ...]
    block: tuple[int, int] | None
    n_groups: int | None
    connections: int
    possible: int
    silent: int
    zeros: int
    is_embedding: bool
    is_readout: bool

    @property
    def density(self) -> float:
        """Live over possible connections, in [0, 1]; 1 where none are possible."""
        return self.connections / self.possible if self.possible else 1.0


@dataclass(frozen=True)
class SparsityStatement:
    """What is sparse about a model; ``str`` puts it in plain words.

    Attributes:
        layers: one entry for each weight, in the order of the model.
        other_parameters: biases and other vectors, all of them dense, never counted as connections.
        when: see :func:`sparsity_statement`.
        seconds: measured, (sparse, dense); None: not measured.
    """

    layers: tuple[LayerStatement, ...]
    other_parameters: int
    when: str
    seconds: tuple[float, float] | None

    @property
    def density(self) -> float:
        """Of all weights together, embeddings and read-out among them, in [0, 1]."""
        return _density(self.layers)

    @property
    def density_without_embeddings(self) -> float:
        """Of all weights that are no embeddings, in [0, 1]."""
        return _density(layer for layer in self.layers if not layer.is_embedding)

    @property
    def density_inside(self) -> float:
        """Of all weights that are neither embeddings nor read-out, in [0, 1]."""
        return _density(layer for layer in self.layers if not (layer.is_embedding or layer.is_readout))

    @property
    def density_of_sparse_layers(self) -> float:
        """Of sparse layers alone, in [0, 1]; 1 where there are none."""
        return _density(layer for layer in self.layers if layer.is_sparse)

    @property
    def speed_up(self) -> float | None:
        """Seconds dense over seconds sparse, as they were measured; None: not measured."""
        return None if self.seconds is None else self.seconds[1] / self.seconds[0]

    def __str__(self) -> str:
        """Return the statement in plain words, several lines."""
        sparse = sum(layer.is_sparse for layer in self.layers)
        connections, possible = (sum(getattr(layer, of) for layer in self.layers) for of in ("connections", "possible"))
        silent, zeros = (sum(getattr(layer, of) for layer in self.layers) for of in ("silent", "zeros"))
        readouts = ", ".join(layer.name for layer in self.layers if layer.is_readout)
        speed = "not measured"
        if self.seconds is not None and self.speed_up is not None:
            speed = f"{self.seconds[0]:g} s sparse, {self.seconds[1]:g} s dense: {self.speed_up:.3g} times as fast"
        lines = [
            f"where: {sparse} of {len(self.layers)} weights are sparse",
            *(f"  {_line(layer)}" for layer in self.layers),
            f"density, all weights: {self.density:.4g} ({connections} of {possible})",
            f"density, without embeddings: {self.density_without_embeddings:.4g}",
            f"density, without embeddings and read-out ({readouts or 'none named'}): {self.density_inside:.4g}",
            f"density, sparse layers alone: {self.density_of_sparse_layers:.4g}",
            f"when: {_WORDS[self.when]}",
            f"counted: {connections} live weights, {silent} of them silent, {zeros} of them exactly 0; not "
            f"{self.other_parameters} biases and other vectors",
            f"speed: {speed}",
        ]
        return "\n".join(lines)


def sparsity_statement(
    model: nn.Module,
    *,
    when: str = "not stated",
    readout: str | None = None,
    seconds: tuple[float, float] | None = None,
) -> SparsityStatement:
    """Say what is sparse about a model as it is now, so that no figure of density stands without what it is of.

    Density = live weights / possible weights, in [0, 1], over the weights named. A weight is any parameter of at least
    two axes; one that layers share counts once. Only a wiring makes a weight sparse: zeros in a dense one, which cost
    as much as any number, are told, but count as live. One pass over the parameters; the model is only read.

    Args:
        model: any module.
        when: ``static``, ``rewired``, ``thinned out``, ``pruned after``, ``never`` or ``not stated``; a model does not
            tell.
        readout: name of the weight or the module that reads out; None: none is told apart.
        seconds: measured for the same work, (this model, a dense one), both above 0.

    Raises:
        ValueError: an argument is out of range, or no weight belongs to the read-out named.

    Reference:
        The questions are those of S. Liu and Z. Wang, arXiv 2302.02596; which of them to answer, and how, is ours.

    Example:
        >>> from neuropil.connect import Ensembles
        >>> layer = SparseLinear(Ensembles(n_groups=4, p_inter=0.0).wire(16, 16))
        >>> print(sparsity_statement(nn.Sequential(layer, nn.Linear(16, 4)), when="static", readout="1"))
        where: 1 of 2 weights are sparse
          0.weight (SparseLinear, 16 × 16): density 0.25, block 1 × 1, 4 groups
          1.weight (Linear, 4 × 16): dense, read-out
        density, all weights: 0.4 (128 of 320)
        density, without embeddings: 0.4
        density, without embeddings and read-out (1.weight): 0.25
        density, sparse layers alone: 0.25
        when: sparse from the start, the same connections throughout
        counted: 128 live weights, 0 of them silent, 0 of them exactly 0; not 20 biases and other vectors
        speed: not measured
    """
    if when not in WHEN:
        raise ValueError(f"sparsity_statement: when must be one of {', '.join(WHEN)}, got {when!r}")
    if seconds is not None and not all(0 < value < float("inf") for value in seconds):
        raise ValueError(f"sparsity_statement: seconds must be two finite numbers above 0, got {seconds}")
    layers, others, seen = [], 0, set()
    for path, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            if parameter.dim() < 2:
                others += parameter.numel()
                continue
            name = f"{path}.{own}" if path else own
            is_readout = readout is not None and (name == readout or name.startswith(f"{readout}."))
            layers.append(_stated(name, module, parameter, is_readout))
    if readout is not None and not any(layer.is_readout for layer in layers):
        raise ValueError(
            f"sparsity_statement: readout must name a weight or a module with one, got {readout!r}; try one of "
            f"{[layer.name for layer in layers]}"
        )
    return SparsityStatement(tuple(layers), others, when, seconds)


@torch.no_grad()
def _stated(name: str, module: nn.Module, weight: nn.Parameter, is_readout: bool) -> LayerStatement:
    is_sparse = isinstance(module, SparseLinear)
    shape, connections, possible = tuple(weight.shape), weight.numel(), weight.numel()
    block, n_groups, silent, values = None, None, 0, weight.detach()
    if isinstance(module, SparseLinear):
        wiring = module.wiring
        shape, block = wiring.shape, wiring.block
        n_groups = wiring.n_groups or None
        connections, possible = wiring.n_connections, wiring.in_features * wiring.out_features
        silent, values = connections - module.n_transmitting, values[live_entries(module)]
    return LayerStatement(
        name=name,
        kind=type(module).__name__,
        is_sparse=is_sparse,
        shape=shape,
        block=block,
        n_groups=n_groups,
        connections=connections,
        possible=possible,
        silent=silent,
        zeros=int((values == 0).sum()),
        is_embedding=isinstance(module, _NOT_CONNECTIONS),
        is_readout=is_readout,
    )


def _density(layers: Iterable[LayerStatement]) -> float:
    counts = [(layer.connections, layer.possible) for layer in layers]
    possible = sum(count[1] for count in counts)
    return sum(count[0] for count in counts) / possible if possible else 1.0


def _line(layer: LayerStatement) -> str:
    sizes = " × ".join(str(size) for size in layer.shape)
    told = ["dense"]
    if layer.block is not None:
        groups = "no groups" if layer.n_groups is None else f"{layer.n_groups} groups"
        told = [f"density {layer.density:.4g}", f"block {layer.block[0]} × {layer.block[1]}", groups]
    told += [word for word, holds in (("embedding", layer.is_embedding), ("read-out", layer.is_readout)) if holds]
    told += [f"{n} {word}" for word, n in (("silent", layer.silent), ("exactly 0", layer.zeros)) if n]
    return f"{layer.name} ({layer.kind}, {sizes}): {', '.join(told)}"
