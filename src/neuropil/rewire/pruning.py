"""Magnitude pruning of networks that have learnt, with retraining: once, in rounds, or back to earlier weights."""

from collections.abc import Iterable
from typing import get_args

import numpy as np
import torch
from torch import nn

from neuropil.connect import Wiring
from neuropil.rewire.candidates import Candidates
from neuropil.rewire.rewind import Rewind
from neuropil.rewire.rewiring import Rewiring
from neuropil.rewire.rules import Magnitude
from neuropil.rewire.schedule import Rounds, Schedule, Scope
from neuropil.rewire.scores import magnitude


def magnitude_masks(
    model: nn.Module,
    *,
    density: float,
    scope: Scope = "global",
    block: tuple[int, int] = (1, 1),
    skip: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> dict[str, Wiring]:
    """Keep the connections with the largest weights of any model, dense or sparse.

    A block counts by the mean |w| of its synapses. :func:`with_wirings` puts what is chosen into the model itself,
    whose other weights stay (one-shot pruning), or into an earlier copy of it (a lottery ticket); either is then
    trained by :func:`neuropil.train.fit` with a new optimizer. At a density of 1 nothing goes: that makes any model
    ready for :class:`Rewirer` and the ways to prune in the course of training, single weights of convolutions included.

    Args:
        model: any module with ``nn.Linear``, ``nn.Conv2d`` or their sparse kinds; it is not changed. Convolutions with
            groups, or padded with anything but zeros on either side alike, stay as they are.
        density: connections kept over those of the same layers if dense, in (0, 1]. A sparse layer can only lose some.
        scope: ``global``: the largest of all layers together; ``layer``: each layer comes to the same density, where a
            sparse one that has less keeps all, and the others share the rest.
        block: shape ``(rows, columns)`` of the blocks that dense layers are made of; sparse ones have theirs. A
            convolution counts as its matrix from taps (channel, row, column) to channels.
        skip: names of layers, or of modules that contain them, that stay as they are and are not counted.
        generator: breaks ties; default: one seeded with 0.

    Returns:
        A wiring for each layer by name.

    Raises:
        ValueError: there is no layer, a name is unknown, a weight is shared between layers or not finite, or the
            density is out of range or leaves a layer without a connection.

    Reference:
        S. Han et al., arXiv 1506.02626, one threshold a layer; ``global`` as in arXiv 1803.03635 for deep networks.

    Example:
        >>> import copy
        >>> from neuropil import data, train
        >>> from neuropil.rewire import with_wirings
        >>> digits = data.load("digits")
        >>> def trained(net, epochs):
        ...     optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        ...     return train.fit(net, digits, optimizer, epochs=epochs, batch_size=64).test_accuracy
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        >>> start = copy.deepcopy(net)
        >>> accuracy = trained(net, epochs=3)
        >>> wirings = magnitude_masks(net, density=0.2)
        >>> wirings["3"].density < 0.2 < wirings["0"].density
        True
        >>> trained(with_wirings(net, wirings), epochs=2) > 0.9  # goes on from the weights that it has learnt
        True
        >>> trained(with_wirings(start, wirings), epochs=3) > 0.9  # the ticket, from the weights of the start
        True
    """
    candidates = Candidates.of("magnitude_masks", model, block=block, skip=skip)
    wanted = candidates.count(density)
    if scope not in get_args(Scope):
        raise ValueError(f"magnitude_masks: scope must be layer or global, got {scope!r}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    with candidates.scratch(model, generator) as network:
        scores = candidates.of_blocks([magnitude(layer.weight) for layer in candidates.layers(network)])
    scores /= np.concatenate([wiring.block_sizes() for wiring in candidates.wirings.values()])
    if scope == "global":
        return candidates.keep(scores, wanted, generator).wirings
    return candidates.keep_by_layer(scores, wanted, "uniform", generator).wirings


def one_shot(density: float, *, after: int | float = 0.5, scope: Scope = "global") -> Rewiring:
    """One-shot magnitude pruning: once, the smallest weights go; then the others learn on.

    Those that stay keep their values and the optimizer's state. Outside of training, :func:`magnitude_masks` chooses
    the same connections.

    Args:
        density: at the end, in (0, 1].
        after: when: a share of training in (0, 1), or a whole number of steps; what is left of training retrains.
        scope: ``global``: all layers are cut by one threshold on |w|; ``layer``: each to the same density.

    Raises:
        ValueError: a number lies outside its range.

    Reference:
        S. Han et al., arXiv 1506.02626, who set a threshold for each layer and retrain at a lower learning rate; here
        the rate goes by the schedule of the whole training.

    Example:
        >>> import torch
        >>> from neuropil import data, models, train
        >>> from neuropil.connect import ErdosRenyi
        >>> digits = data.load("digits")
        >>> net = models.ensemble_net(
        ...     digits.input_shape, digits.n_classes, hidden=[64], pattern=ErdosRenyi(1.0), readout=ErdosRenyi(1.0)
        ... )
        >>> optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        >>> rewirer = one_shot(0.1).attach(net, optimizer)
        >>> result = train.fit(net, digits, optimizer, epochs=4, batch_size=64, rewirer=rewirer)
        >>> sum(layer.wiring.n_connections for layer in net.sparse_layers()), result.test_accuracy > 0.8
        (474, True)
    """
    timing: dict[str, object] = {"every": after} if isinstance(after, int) else {"at": (after,)}
    return _pruning(Rounds(density, 1, scope), timing)


def iterative_magnitude(
    density: float,
    *,
    rounds: int = 5,
    every: int | None = None,
    per_epoch: float | None = None,
    scope: Scope = "global",
) -> Rewiring:
    """Iterative magnitude pruning: in rounds, the same share of the smallest weights goes, and the others learn on.

    After round k of n the density is d₀ (d / d₀)^(k / n), from the density d₀ at the start to d.

    Args:
        density: d, in (0, 1].
        rounds: n, at least 1.
        every, per_epoch: steps between rounds, or rounds in an epoch, the first after as many steps; default: rounds
            cut training into n + 1 equal parts, the last of which retrains.
        scope: ``global``: all layers are cut by one threshold on |w|; ``layer``: each to the same density.

    Raises:
        ValueError: a number lies outside its range.

    Reference:
        S. Han et al., arXiv 1506.02626; the same share in each round: J. Frankle and M. Carbin, arXiv 1803.03635.
    """
    return _pruning(Rounds(density, rounds, scope), _evenly(rounds, every, per_epoch))


def lottery_ticket(
    density: float,
    *,
    rounds: int = 5,
    every: int | None = None,
    per_epoch: float | None = None,
    rewind_to: int | float = 0,
    redraw: bool = False,
    scope: Scope = "global",
) -> Rewiring:
    """Lottery ticket: prune in rounds by magnitude, and after each round set the network back to early weights.

    All that is left of the model goes back: weights, biases, all other parameters, statistics of normalization. What
    the optimizer keeps is cleared. So the last part of training is that of the ticket: a network of the wiring that
    was found, from the weights that it would have had at the start.

    That part is as long as the others: twins in a comparison, which train all the time, have an advantage. The network
    with redrawn weights has none, so it is the one to compare with.

    The learning rate is not set back by itself. With a constant one, every round trains alike, as published; with
    another schedule, give :func:`neuropil.train.fit` a scheduler that starts anew with each round, such as
    :func:`neuropil.train.cosine_in_rounds`, which recipes with the schedule ``cosine`` use. The order of the data goes
    on.

    Args:
        density: at the end, in (0, 1].
        rounds: n, at least 1; each takes away the same share of what is left.
        every, per_epoch: steps between rounds, or rounds in an epoch, the first after as many steps; default: rounds
            cut training into n + 1 equal parts, the last of which trains the ticket.
        rewind_to: to which weights: those after a whole number of steps, 0: the initial ones; or after a share of
            training in (0, 1). It must come before the first round.
        redraw: the control: the same wiring, and in the last part other weights to start from, see :class:`Rewind`.
        scope: ``global``: all layers are cut by one threshold on |w|; ``layer``: each to the same density.

    Raises:
        ValueError: a number lies outside its range.

    Reference:
        J. Frankle and M. Carbin, arXiv 1803.03635; back to weights after some steps: J. Frankle et al., arXiv
        1912.05671. Published tickets of small networks are cut layer by layer, the read-out at half the rate.
    """
    schedule = _evenly(rounds, every, per_epoch)
    return _pruning(Rounds(density, rounds, scope), schedule, Rewind(rewind_to, redraw))


def _evenly(rounds: int, every: int | None, per_epoch: float | None) -> dict[str, object]:
    """Return the times of rounds; by default they cut training into equal parts."""
    if every is None and per_epoch is None:
        return {"at": tuple(k / (rounds + 1) for k in range(1, rounds + 1))}
    return {"every": every, "per_epoch": per_epoch}


def _pruning(density: Rounds, timing: dict[str, object], rewind: Rewind | None = None) -> Rewiring:
    schedule = Schedule(fraction=None, density=density, **timing)  # type: ignore[arg-type]
    return Rewiring(Magnitude(), None, schedule, rewind=rewind)
