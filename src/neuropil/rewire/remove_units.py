"""Structured pruning: whole neurons and channels go, and the network that is left is a smaller one."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.connect import SparseConv2d, SparseLinear
from neuropil.connect.convert import check_names, is_inside
from neuropil.evaluation import run_watched
from neuropil.rewire.attempt import tried
from neuropil.rewire.cut import cut_
from neuropil.rewire.select import largest
from neuropil.rewire.unit_links import Link, find_links

UnitScore = Literal["l1", "l2", "activity"]


@dataclass(frozen=True)
class RemovedUnits:
    """What :func:`remove_units` gives.

    Attributes:
        model: the smaller network.
        removed: by the name of the layer, the numbers that its removed units had, int64, ascending.
        left: the other layers, and in words why their units stay.
    """

    model: nn.Module
    removed: dict[str, Tensor]
    left: dict[str, str] = field(default_factory=dict)


def remove_units(
    model: nn.Module,
    keep: float | Mapping[str, float] = 0.5,
    *,
    score: UnitScore = "l1",
    sample: Tensor | None = None,
    skip: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> RemovedUnits:
    """Take the least worthy output neurons and channels out of a network, with all that belongs to them.

    With a unit go its row of the weight, its bias, its share of normalization, and what the next layer has for it: the
    result is what the network computes when the next layer does not listen to the unit, with a smaller, no sparser
    matrix. Then train it, with a new optimizer.

    Units can be removed from ``nn.Linear``, ``nn.Conv2d``, :class:`neuropil.connect.SparseLinear` and
    :class:`neuropil.connect.SparseConv2d` where exactly one such layer reads them, and what lies in between treats each
    unit by itself: activations, batch normalization, dropout, pooling, flattening. So the units that enter a sum or a
    concatenation stay, and those that the model returns. Attributes in which a model repeats its sizes, such as
    ``arguments`` of :class:`neuropil.models.EnsembleNet`, are not changed.

    Args:
        model: any module that ``torch.fx`` can follow; it is not changed.
        keep: share of the units of each layer that stays, in (0, 1], at least one; or of layers by name, and the
            others stay whole.
        score: what a unit is worth: ``l1`` or ``l2``: that norm of its incoming weights; ``activity``: the mean
            absolute value that the next layer reads of it, over samples and places.
        sample: a batch for ``activity``, run in evaluation mode.
        skip: names of layers, or of modules that contain them, whose units stay.
        generator: breaks ties; default: one seeded with 0.

    Raises:
        ValueError: the model cannot be followed, no layer has units that can be removed, a layer that is named has
            none, a number is out of range, a score is not finite, ``activity`` lacks a sample, or a sparse layer would
            lose all its connections.

    Reference:
        ``l1``: H. Li et al., arXiv 1608.08710, who take the same share of each layer's filters, or more of those that
        matter less; ``activity``: H. Hu et al., arXiv 1607.03250, who count how often it is 0.

    Example:
        >>> from neuropil import data, train
        >>> digits = data.load("digits")
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
        >>> result = train.fit(net, digits, torch.optim.Adam(net.parameters(), lr=5e-3), epochs=3)
        >>> smaller = remove_units(net, keep=0.25)
        >>> smaller.model[0], smaller.model[3]
        (Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1)), Linear(in_features=144, out_features=10, bias=True))
        >>> {name: len(units) for name, units in smaller.removed.items()}, smaller.left
        ({'0': 12}, {'3': 'its units are what the model returns'})
        >>> retrained = train.fit(
        ...     smaller.model, digits, torch.optim.Adam(smaller.model.parameters(), lr=5e-3), epochs=2
        ... )
        >>> retrained.test_accuracy > 0.9
        True
    """
    shares = _shares(model, keep, skip)
    if score not in get_args(UnitScore):
        raise ValueError(f"remove_units: score must be one of {', '.join(get_args(UnitScore))}, got {score!r}")
    if score == "activity" and sample is None:
        raise ValueError("remove_units: score activity needs a batch, got sample=None")
    links, left = find_links("remove_units", model)
    if isinstance(keep, Mapping):
        for name in keep:
            if name not in links:
                why = left.get(name, "it is no linear or convolutional layer")
                raise ValueError(
                    f"remove_units: layer {name!r} must have units that can be removed, got one where {why}"
                )
    chosen = {name: link for name, link in links.items() if shares(name) is not None}
    left |= dict.fromkeys(links.keys() - chosen.keys(), "it is to stay as it is")
    if not chosen:
        why = "; ".join(f"{name!r}: {reason}" for name, reason in left.items()) or "it has no layers"
        raise ValueError(f"remove_units: the model must have a layer whose units can be removed, got none: {why}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    worth = _activity(model, chosen, cast("Tensor", sample)) if score == "activity" else _norms(model, chosen, score)
    kept: dict[str, Tensor] = {}
    for name, link in chosen.items():
        if not np.isfinite(worth[name]).all():
            raise ValueError(
                f"remove_units: every unit must have a finite score, got {worth[name].sum():g} in {name!r}"
            )
        n = max(1, round(cast("float", shares(name)) * link.n_units))
        kept[name] = torch.from_numpy(largest(worth[name], n, generator))
    return RemovedUnits(_without(model, chosen, kept), _others(chosen, kept), left)


def _shares(model: nn.Module, keep: Any, skip: Iterable[str]) -> Any:
    """Return a function that gives the share of a layer's units that stays, None where all do."""
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    by_name = dict(keep) if isinstance(keep, Mapping) else {}
    check_names("remove_units", model, (*skip, *by_name))
    for share in by_name.values() if isinstance(keep, Mapping) else (keep,):
        if not isinstance(share, float | int) or not 0 < share <= 1:
            raise ValueError(f"remove_units: keep must be a share of units in (0, 1], got {share!r}")
    return lambda name: None if is_inside(name, skip) else by_name.get(name) if isinstance(keep, Mapping) else keep


def _norms(model: nn.Module, links: Mapping[str, Link], score: str) -> dict[str, Any]:
    """Return the norm of the incoming weights of each unit, by layer."""
    norms = {}
    for name in links:
        layer = model.get_submodule(name)
        sparse = isinstance(layer, SparseLinear | SparseConv2d)
        weight = layer.dense_weight() if sparse else layer.get_parameter("weight")  # type: ignore[operator]
        norms[name] = torch.linalg.vector_norm(weight.detach().double().flatten(1), ord=int(score[1]), dim=1)
    return {name: norm.cpu().numpy() for name, norm in norms.items()}


@torch.no_grad()
def _activity(model: nn.Module, links: Mapping[str, Link], sample: Tensor) -> dict[str, Any]:
    """Return the mean |activity| of each unit as the layer that reads it sees it, by layer."""
    found: dict[str, Any] = {}

    def watcher(link: Link) -> Any:
        def watch(reader: nn.Module, inputs: tuple[Tensor, ...], given: dict[str, Tensor], _: Tensor) -> None:
            read = (*inputs, *given.values())[0].double().abs()
            is_image = isinstance(reader, nn.Conv2d | SparseConv2d)
            by_input = read.mean((0, 2, 3)) if is_image else read.flatten(0, -2).mean(0)
            found[link.name] = by_input.reshape(link.n_units, link.width).mean(1).cpu().numpy()

        return watch

    watchers = [(model.get_submodule(link.reader), watcher(link)) for link in links.values()]
    wording = f"sample must be a batch that fits the model, got shape {tuple(sample.shape)}"
    tried("remove_units", lambda: run_watched(model, sample, watchers), wording)
    return found


def _without(model: nn.Module, links: Mapping[str, Link], kept: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a model that has, of the layers linked, only the units kept."""
    units: dict[str, Tensor] = dict(kept)
    inputs: dict[str, Tensor] = {}
    for name, link in links.items():
        inputs[link.reader] = _expanded(kept[name], link.width)
        units |= {module: _expanded(kept[name], width) for module, width in link.between.items()}
    smaller = copy.deepcopy(model)
    for name in dict.fromkeys((*units, *inputs)):
        try:
            cut_(smaller, name, units.get(name), inputs.get(name))
        except ValueError as error:
            raise ValueError(f"remove_units: layer {name!r}: {error}") from error
    return smaller


def _expanded(units: Tensor, width: int) -> Tensor:
    return (units[:, None] * width + torch.arange(width)).flatten()


def _others(links: Mapping[str, Link], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    removed = {}
    for name, link in links.items():
        stays = torch.zeros(link.n_units, dtype=torch.bool)
        stays[kept[name]] = True
        removed[name] = (~stays).nonzero().flatten()
    return removed
