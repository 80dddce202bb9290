"""The connections that a method may keep before training, and the choice of the best of them over all layers."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear, Wiring, layer_densities
from neuropil.connect.block_grid import IntArray
from neuropil.connect.convert import can_be_sparse, check_names, check_not_shared, is_inside
from neuropil.connect.densities import DensityMethod
from neuropil.rewire.apply_wirings import synapses_of, with_wirings
from neuropil.rewire.select import largest

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """The blocks of a model's linear and convolutional layers among which a method chooses.

    Attributes:
        owner: name of the method, for errors.
        wirings: all that may be kept, by layer: every block of a dense layer, the live ones of a sparse layer.
    """

    owner: str
    wirings: dict[str, Wiring]

    @classmethod
    def of(cls, owner: str, model: nn.Module, *, block: tuple[int, int], skip: Iterable[str]) -> "Candidates":
        """Return all blocks of a model's layers, convolutions as matrices from taps to channels.

        Convolutions with groups, or padded with anything but zeros on either side alike, are left out.

        Raises:
            ValueError: the block is none, a name is unknown, a weight is shared, or there is no layer.
        """
        if len(block) != 2 or min(block) < 1:
            raise ValueError(f"{owner}: block must be two positive integers (rows, columns), got {block!r}")
        skip = (skip,) if isinstance(skip, str) else tuple(skip)
        check_names(owner, model, skip)
        wirings: dict[str, Wiring] = {}
        for name, layer in model.named_modules():
            if is_inside(name, skip):
                continue
            if isinstance(layer, SparseConv2d):
                wirings[name] = layer.wiring
            elif isinstance(layer, SparseLinear):
                if name.removesuffix(".synapses") in wirings:
                    continue  # those of a convolution
                wirings[name] = layer.wiring
            elif isinstance(layer, nn.Linear | nn.Conv2d) and can_be_sparse(layer):
                wirings[name] = _complete(layer.weight[0].numel(), len(layer.weight), block)
            else:
                continue
            check_not_shared(owner, model, *_with_weight(name, layer))
        if not wirings:
            what = "only skipped ones" if skip else "none"
            raise ValueError(
                f"{owner}: the model must have an nn.Linear, an nn.Conv2d, or a sparse layer, got {what} that can be "
                "pruned"
            )
        return cls(owner, wirings)

    @property
    def n_possible(self) -> int:
        """Number of connections of these layers if they were dense."""
        return sum(wiring.in_features * wiring.out_features for wiring in self.wirings.values())

    @property
    def n_connections(self) -> int:
        """Number of connections that may be kept."""
        return sum(wiring.n_connections for wiring in self.wirings.values())

    def count(self, density: float) -> int:
        """Return how many connections a density stands for.

        Raises:
            ValueError: the density lies outside (0, 1], leaves nothing, or exceeds what there is.
        """
        if not isinstance(density, float | int) or not 0 < density <= 1:
            raise ValueError(f"{self.owner}: density must lie in (0, 1], got {density!r}")
        wanted, available = round(density * self.n_possible), self.n_connections
        if wanted < 1:
            raise ValueError(
                f"{self.owner}: density must leave at least one of {self.n_possible} connections, got {density:g}"
            )
        if wanted > available:
            raise ValueError(
                f"{self.owner}: density must be at most {available / self.n_possible:.4g}, which the layers have, "
                f"got {density:g}"
            )
        return wanted

    # Scoring

    @contextmanager
    def scratch(self, model: nn.Module, generator: torch.Generator) -> Iterator[nn.Module]:
        """Give a copy of the model in which every layer is sparse, and all that chance there can change is put back."""
        seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
        devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
        with torch.random.fork_rng(devices=list(devices)), torch.inference_mode(False), torch.enable_grad():
            torch.default_generator.manual_seed(seed)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            network = with_wirings(model, self.wirings, kernel="masked")
            for layer in self.layers(network):
                layer.weight.requires_grad_()
            yield network

    def layers(self, network: nn.Module) -> list[SparseLinear]:
        """Return the layers of a copy that :meth:`scratch` gave."""
        found = [synapses_of(network.get_submodule(name)) for name in self.wirings]
        return [layer for layer in found if layer is not None]

    def of_blocks(self, values: Sequence[Tensor]) -> Scores:
        """Return the sum over the synapses of each block, of all layers in a row, ``[n_blocks]``.

        Args:
            values: of each synapse, shaped like the layers' weights, 0 where nothing connects.

        Raises:
            ValueError: a value is not finite.
        """
        parts = []
        for wiring, value in zip(self.wirings.values(), values, strict=True):
            exact = value.detach().to(device="cpu", dtype=torch.float64)
            if exact.dim() == 2:  # of all cells
                parts.append(exact.reshape(-1)[torch.from_numpy(wiring.cells())].numpy())
            else:
                parts.append(exact.sum(dim=(1, 2)).numpy())
        scores: Scores = np.concatenate(parts)
        if not np.isfinite(scores).all():
            raise ValueError(f"{self.owner}: every score must be finite, got {scores[~np.isfinite(scores)][0]}")
        return scores

    # Choosing

    def keep(self, scores: Scores, n_connections: int, generator: torch.Generator) -> "Candidates":
        """Return the blocks with the largest scores, over all layers, that make up a number of connections.

        Raises:
            ValueError: a layer is left without a connection.
        """
        sizes = [wiring.block_sizes() for wiring in self.wirings.values()]
        kept = best(scores, np.concatenate(sizes), n_connections, generator)
        return self.keep_each(np.split(kept, np.cumsum([len(size) for size in sizes])[:-1]))

    def keep_by_layer(
        self, scores: Scores, n_connections: int, method: DensityMethod, generator: torch.Generator
    ) -> "Candidates":
        """Return the blocks of each layer with the largest scores, a number of connections shared out by a rule.

        Chance decides among equals. Fractions of a connection, or of a block, go to the next layer, so that the total
        is met.

        Raises:
            ValueError: a layer is left without a connection.
        """
        wirings, left_over, chosen = list(self.wirings.values()), 0.0, []
        by_layer = np.split(scores, np.cumsum([wiring.n_blocks for wiring in wirings])[:-1])
        for wiring, count, own in zip(wirings, _shares(wirings, n_connections, method), by_layer, strict=True):
            sizes = wiring.block_sizes()
            kept = best(own, sizes, count + left_over, generator)
            left_over += count - float(sizes[kept].sum())
            chosen.append(kept)
        return self.keep_each(chosen)

    def keep_each(self, chosen: Sequence[NDArray[np.bool_]]) -> "Candidates":
        """Return those blocks of each layer that are marked.

        Raises:
            ValueError: a layer is left without a connection.
        """
        empty = [name for name, kept in zip(self.wirings, chosen, strict=True) if not kept.any()]
        if empty:
            raise ValueError(
                f"{self.owner}: density must leave a connection in every layer, got none in {empty[0]!r}; try a "
                f"higher density, or skip=({empty[0]!r},)"
            )
        pairs = zip(self.wirings.items(), chosen, strict=True)
        return replace(
            self,
            wirings={
                name: wiring.rewired(wiring.block_rows[kept], wiring.block_columns[kept])
                for (name, wiring), kept in pairs
            },
        )


def best(scores: Scores, sizes: IntArray, n_wanted: float, generator: torch.Generator) -> NDArray[np.bool_]:
    """Mark the largest scores, as many as bring the sum of their sizes nearest to a number; chance breaks ties.

    Args:
        scores, sizes: ``[n]``; sizes are positive.
        n_wanted: sum of the sizes of those marked; where two numbers of them are equally near, the smaller one is.
        generator: breaks ties.

    Returns:
        bool ``[n]``.
    """
    kept = np.zeros(len(scores), dtype=np.bool_)
    if sizes.min() == sizes.max():  # nothing needs to be sorted
        n = min(len(scores), math.ceil(n_wanted / int(sizes[0]) - 0.5))
        kept[largest(cast("NDArray[np.float32]", scores), n, generator)] = True  # of any precision, in fact
        return kept
    shuffled = torch.randperm(len(scores), generator=generator, device="cpu").numpy()
    order = shuffled[np.argsort(-scores[shuffled], kind="stable")]
    reached = np.concatenate([[0], np.cumsum(sizes[order])])
    kept[order[: int(np.argmin(np.abs(reached - n_wanted)))]] = True
    return kept


def _shares(wirings: Sequence[Wiring], n_wanted: int, method: DensityMethod) -> list[float]:
    """Return how many connections each layer gets; one that would get more than it has keeps all."""
    counts = [float(wiring.n_connections) for wiring in wirings]
    sizes = [wiring.in_features * wiring.out_features for wiring in wirings]
    free = list(range(len(wirings)))
    while free:
        left = n_wanted - sum(count for i, count in enumerate(counts) if i not in free)
        density = min(1.0, max(0.0, left / sum(sizes[i] for i in free)))
        densities = layer_densities([wirings[i].shape for i in free], density, method)
        shares = {i: d * sizes[i] for i, d in zip(free, densities, strict=True)}
        fitting = [i for i in free if shares[i] <= counts[i]]
        if len(fitting) == len(free):
            for i, share in shares.items():
                counts[i] = share
            break
        free = fitting
    return counts


def _with_weight(name: str, layer: nn.Module) -> tuple[str, Tensor]:
    """Return a layer's weight, and the name of the module that it belongs to."""
    if isinstance(layer, SparseConv2d):
        return f"{name}.synapses" if name else "synapses", layer.synapses.weight
    assert isinstance(layer.weight, Tensor)
    return name, layer.weight


def _complete(in_features: int, out_features: int, block: tuple[int, int]) -> Wiring:
    """Return the wiring that connects all, in blocks of a shape."""
    n_rows, n_columns = -(-out_features // block[0]), -(-in_features // block[1])
    rows, columns = np.divmod(np.arange(n_rows * n_columns), n_columns)
    return Wiring(in_features, out_features, rows, columns, block=block)
