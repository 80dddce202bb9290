"""Emergence of a layered network: paths from inactive to active units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from neuropil.connect import Wiring
from neuropil.measure.path_count import (
    Transition,
    edge_transition,
    full_transition,
    most_paths_if_full,
    paths_from_to,
    paths_if_full,
    wiring_transition,
)
from neuropil.measure.unit_layers import layer_transitions, unit_activations
from neuropil.measure.weight_chain import weight_chain

Rule = Literal["mean", "any", "rate"]
Units = Literal["channels", "positions"]
Variant = Literal["paths", "quoted"]

_OF_RMS = 1e-2  # default threshold, as a share of the layer's root mean square


@dataclass(frozen=True)
class Emergence:
    """How many directed paths lead from inactive to active units of later layers.

    Attributes:
        emergence: E, at least 0; ``inf`` where it is beyond the range of float64.
        log10: log₁₀ E, finite for any E but 0, where it is −inf.
        relative_to_weights: E over the number of weights that join the layers.
        relative_to_most: E over the most that fully connected layers of these widths can have, whichever units are
            active, in [0, 1]. For sparse layers, too, since the maximum over their own connections is not known.
        n_units: units of each layer, first to last.
        n_active: active ones among them.
        variant: ``paths`` or ``quoted``, see :func:`emergence_of_units`.
        rule: how active units were told: ``mean``, ``any`` or ``rate``; None: they were given.
        thresholds: what each layer's activations were compared with; None: active units were given.
    """

    emergence: float
    log10: float
    relative_to_weights: float
    relative_to_most: float
    n_units: tuple[int, ...]
    n_active: tuple[int, ...]
    variant: Variant = "paths"
    rule: Rule | None = None
    thresholds: tuple[float, ...] | None = None


@torch.inference_mode(mode=False)
def emergence_of_units(
    active: Sequence[ArrayLike | Tensor],
    connections: Sequence[Wiring | Tensor | None] | None = None,
    *,
    variant: Variant = "paths",
) -> Emergence:
    """Count the paths from inactive to active units of layers whose active units are known.

    E = Σ_{i<j} Σ_u Σ_v (1 − x_u) x_v P(u, v), where x_u is 1 for an active unit u of layer i, and P(u, v) is the number
    of directed paths from it to unit v of layer j. Between fully connected layers with a_i active units of n_i it
    is E = Σ_{i<j} (n_i − a_i) a_j Π_{i<k<j} n_k, counted in whole numbers of any size. Otherwise one sweep in float64
    follows the connections: exact below 2⁵³, beyond with a relative error of some 1e-14. E is 0 when all units are
    active and when none is, so it does not grow with activity; it never grows when connections are removed.

    Time and memory are linear in the number of connections, of a wiring in that of its blocks; it is never made a dense
    matrix.

    Args:
        active: for each layer, first to last, which units are active, bool ``[n_i]``.
        connections: for each layer but the last, what joins it to the next: a wiring, a mask bool
            ``[n_{i+1}, n_i]``, or None for all to all; default: all to all throughout.
        variant: ``paths``, or ``quoted``: the product runs over all k > i, up to the last layer. That is no number of
            paths, and means something for fully connected layers only.

    Returns:
        E as such, and relative to the number of connections and to its maximum.

    Raises:
        ValueError: fewer than two layers, sizes that do not fit, an unknown variant, or ``quoted`` where layers are
            not fully connected.

    Reference:
        AlShinaifi et al., arXiv 2409.01568. The formula itself could not be read there, only in a review that quotes
        it with the product up to the last layer; whether the paper has it so is not known. As a number of paths it
        must end before layer j, which is our default. By what the paper divides E is not known either.

    Example:
        >>> layers = [torch.arange(n) < a for n, a in zip([6, 5, 4, 3], [3, 0, 2, 1])]
        >>> emergence_of_units(layers).emergence, emergence_of_units(layers, variant="quoted").emergence
        (122.0, 726.0)
        >>> chain = Wiring(2, 2, [0, 1], [0, 1])  # 0 → 0 → 0, 1 → 1 → 1
        >>> on = torch.tensor([True, True])
        >>> emergence_of_units([~on, ~on, on], [chain, chain]).emergence
        4.0
    """
    _check_choice("emergence_of_units", "variant", variant, get_args(Variant))
    layers = [torch.as_tensor(layer).cpu() for layer in active]
    for i, layer in enumerate(layers):
        if layer.dtype != torch.bool or layer.dim() != 1 or not len(layer):
            raise ValueError(
                f"emergence_of_units: active must hold one bool for each unit of a layer, got {layer.dtype} of shape "
                f"{list(layer.shape)} for layer {i}"
            )
    if len(layers) < 2:
        raise ValueError(f"emergence_of_units: active must have at least two layers, got {len(layers)}")
    joined = [None] * (len(layers) - 1) if connections is None else list(connections)
    if len(joined) != len(layers) - 1:
        raise ValueError(
            f"emergence_of_units: connections must join each of the {len(layers)} layers to the next, got "
            f"{len(joined)} of them"
        )
    transitions = []
    for i, (joins, before, after) in enumerate(zip(joined, layers, layers[1:], strict=False)):
        shape = (len(after), len(before))
        if joins is None:
            transitions.append(full_transition(len(before), len(after)))
            continue
        if tuple(joins.shape) != shape or (isinstance(joins, Tensor) and joins.dtype != torch.bool):
            told = "a wiring" if isinstance(joins, Wiring) else str(joins.dtype)
            raise ValueError(
                f"emergence_of_units: connections must be bool of shape [out, in] = {list(shape)} between layers {i} "
                f"and {i + 1}, got {told} of shape {list(joins.shape)}"
            )
        if isinstance(joins, Wiring):
            transitions.append(wiring_transition(joins))
        else:
            targets, sources = joins.cpu().nonzero(as_tuple=True)
            transitions.append(edge_transition(targets, sources, shape[1], shape[0]))
    return _count(layers, transitions, variant=variant, caller="emergence_of_units")


@torch.inference_mode(mode=False)
def emergence(
    model: nn.Module,
    x: Tensor,
    *,
    threshold: float | Sequence[float] | None = None,
    rule: Rule = "mean",
    rate: float = 0.5,
    units: Units = "channels",
    inputs: bool = True,
    variant: Variant = "paths",
) -> Emergence:
    """Run a batch through a model in evaluation mode and count the paths from its inactive to its active units.

    The formula is that of :func:`emergence_of_units`. Layers of units are found while the batch passes: the model's
    input, and what each linear layer or convolution gives. A unit's activation is what the next of these layers reads,
    behind non-linearity, normalization and pooling; in the last one, the layer's own output. Whatever lies between is
    taken to act on each unit alone. A connection counts whatever its weight; silent ones
    (:meth:`neuropil.connect.SparseLinear.set_silent`), and those masked by ``torch.nn.utils.prune``, do not.

    E depends on the threshold and the rule by orders of magnitude, and grows with width: compare networks of the same
    widths, with the same rule. The default threshold follows the activations; to hold it fixed while a network learns,
    give the ``thresholds`` of the first call to those that follow.

    Time is that of a forward pass and a count linear in connections; with ``positions``, a few convolutions of one
    sample more. Memory is that of a training step.

    Args:
        model: its linear layers and convolutions form a chain, whose links pass gradients; an encoder before the first
            of them need not.
        x: input ``[b, …]``, at least one sample.
        threshold: one number of at least 0, or one for each layer of units; default: 0.01 of the root mean square of
            the layer's activations on this batch.
        rule: a unit is active when, over the batch, the mean of its |activation| exceeds the threshold (``mean``);
            when that of any sample does (``any``); when that of more than a share ``rate`` of the samples does
            (``rate``). Time steps, positions of a channel, and other leading axes count as samples.
        rate: in [0, 1), for that rule only.
        units: what is a unit of an image: ``channels``, coarse, joined where any tap of the kernel joins them, and
            flattened in the order (channel, row, column) when a linear layer follows; ``positions``, every place of
            every channel, joined through the taps that it is read by, and through pooling modules.
        inputs: whether the model's input is the first layer.
        variant: as for :func:`emergence_of_units`.

    Returns:
        E, the number of units and active ones, and the thresholds, for each layer. Weights that positions share
        count once.

    Raises:
        ValueError: an argument is out of range; activations are not finite; layers branch, are called more than once
            or have residual connections; there are other modules with weight matrices; what one layer gives is not
            what the next reads, unit by unit; or, with ``positions``, it is padded by anything but zeros, or pooled
            unevenly.

    Reference:
        arXiv 2409.01568, with the reservations of :func:`emergence_of_units`. Neither its threshold, nor its rule, nor
        its treatment of convolutions and of the input could be read: these are our choices.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> _ = net[0].weight.data.fill_(1.0), net[0].bias.data.copy_(torch.tensor([-9.0, 0.0, 0.0]))
        >>> found = emergence(net, torch.tensor([[1.0, 0.0]]))  # from input 1: 2 + 3 paths; from hidden unit 0: 1
        >>> found.emergence, found.n_units, found.n_active
        (6.0, (2, 3, 1), (1, 2, 1))
    """
    for name, value, known in (("rule", rule, Rule), ("units", units, Units), ("variant", variant, Variant)):
        _check_choice("emergence", name, value, get_args(known))
    if not 0 <= rate < 1:
        raise ValueError(f"emergence: rate must lie in [0, 1), got {rate!r}")
    if x.dim() < 1 or not x.numel():
        raise ValueError(f"emergence: x must hold at least one sample, got shape {list(x.shape)}")
    calls = weight_chain(model, x)
    images = units == "positions"
    layers, joins = unit_activations(calls, images), layer_transitions(calls, images)
    if not inputs:
        if len(calls) < 2:
            raise ValueError("emergence: a model with a single layer must be measured with inputs=True, got False")
        layers, joins = layers[1:], joins[1:]
    thresholds = _thresholds(threshold, layers)
    active = [_active(layer, value, rule, rate) for layer, value in zip(layers, thresholds, strict=True)]
    # what is between pooling and a convolution is no unit: paths neither begin nor end there
    starts, ends = [~active[0]], [active[0]]
    for chain, layer in zip(joins, active[1:], strict=True):
        relays = [torch.zeros(transition.n_out, dtype=torch.bool) for transition in chain[:-1]]
        starts += [*relays, ~layer]
        ends += [*relays, layer]
    flat = [transition for chain in joins for transition in chain]
    return _count(active, flat, starts, ends, variant=variant, caller="emergence", rule=rule, thresholds=thresholds)


def _check_choice(caller: str, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{caller}: {name} must be one of {', '.join(known)}, got {value!r}")


def _count(
    active: Sequence[Tensor],
    transitions: Sequence[Transition],
    starts: Sequence[Tensor] | None = None,
    ends: Sequence[Tensor] | None = None,
    *,
    variant: Variant,
    caller: str,
    rule: Rule | None = None,
    thresholds: tuple[float, ...] | None = None,
) -> Emergence:
    n_units, n_active = (tuple(len(layer) for layer in active), tuple(int(layer.sum()) for layer in active))
    quoted = variant == "quoted"
    full = len(transitions) == len(active) - 1 and all(transition.full for transition in transitions)
    if quoted and not full:
        raise ValueError(f"{caller}: variant 'quoted' must be of fully connected layers, got others; try 'paths'")
    if full:
        paths = paths_if_full(n_units, n_active, quoted=quoted)
    else:
        paths = paths_from_to(starts or [~layer for layer in active], ends or active, transitions)
    return Emergence(
        emergence=_ratio(paths, 1),
        log10=math.log10(paths) if paths else -math.inf,
        relative_to_weights=_ratio(paths, sum(transition.n_weights for transition in transitions)),
        relative_to_most=_ratio(paths, most_paths_if_full(n_units, quoted=quoted)),
        n_units=n_units,
        n_active=n_active,
        variant=variant,
        rule=rule,
        thresholds=thresholds,
    )


def _ratio(numerator: int, denominator: int) -> float:
    """Divide whole numbers of any size; 0 over 0 is 0, and what float64 cannot hold is inf."""
    try:
        return numerator / denominator if numerator else 0.0
    except OverflowError:
        return math.inf


# Which units are active


def _thresholds(threshold: float | Sequence[float] | None, layers: Sequence[Tensor]) -> tuple[float, ...]:
    if threshold is None:
        return tuple(_OF_RMS * float(layer.square().mean().sqrt()) for layer in layers)
    values = tuple(threshold) if isinstance(threshold, Sequence) else (threshold,) * len(layers)
    if len(values) != len(layers) or not all(value >= 0 for value in values):
        raise ValueError(
            f"emergence: threshold must be a number of at least 0, or one for each of the {len(layers)} layers of "
            f"units, got {threshold!r}"
        )
    return tuple(float(value) for value in values)


def _active(layer: Tensor, threshold: float, rule: Rule, rate: float) -> Tensor:
    """Return which units ``[n]`` are active, from activations ``[n, samples]``."""
    if rule == "mean":
        return layer.abs().mean(1) > threshold
    above = layer.abs() > threshold
    return above.any(1) if rule == "any" else above.double().mean(1) > rate
