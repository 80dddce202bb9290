"""The prune and growth rules of the field, by what they look at."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropil.connect.block_grid import IntArray
from neuropil.rewire import scores
from neuropil.rewire.pool import Pool
from neuropil.rewire.rule import Rule
from neuropil.rewire.select import Scores, Strip, smallest
from neuropil.rewire.site import Site


@dataclass(frozen=True)
class Magnitude(Rule):
    """Prune what has the smallest |w|; a block counts by the mean of its synapses.

    Reference:
        RigL, arXiv 1911.11134, and most others; see :class:`SignedMagnitude` for SET's.
    """

    can_prune: ClassVar[bool] = True

    def live(self, site: Site) -> Scores:
        """Return |w| of each live block."""
        return site.magnitudes()


@dataclass(frozen=True)
class SignedMagnitude(Magnitude):
    """Prune the smallest positive and the largest negative weights, in proportion to how many there are of each.

    A block has the sign of its mean weight, and new weights, which are 0, count as positive.

    Reference:
        SET, arXiv 1707.04780.
    """

    def drop(self, site: Site, n: int, eligible: NDArray[np.bool_]) -> IntArray:
        """Return the numbers of the n live blocks that go; see :meth:`Rule.drop`."""
        worth = site.magnitudes()
        negative = site.of_blocks(site.layer.weight.detach()) < 0
        sides = [np.flatnonzero(eligible & side) for side in (negative, ~negative)]
        n_negative = round(n * len(sides[0]) / max(1, len(sides[0]) + len(sides[1])))
        counts = (n_negative, n - n_negative)
        gone = [side[smallest(worth[side], count, site.generator)] for side, count in zip(sides, counts, strict=True)]
        return np.sort(np.concatenate(gone))


@dataclass(frozen=True)
class Random(Rule):
    """Prune or grow by chance, every block alike."""

    can_prune: ClassVar[bool] = True
    can_grow: ClassVar[bool] = True

    def live(self, site: Site) -> Scores:
        """Return a random number for each live block."""
        values: Scores = torch.rand(site.wiring.n_blocks, generator=site.generator).numpy()
        return values

    def grid(self, site: Site) -> Strip:
        """Return a random number for each cell in a slice of rows."""
        n_columns = site.wiring.grid[1]
        return lambda rows: torch.rand(rows.stop - rows.start, n_columns, generator=site.generator).numpy()

    def grow(self, site: Site, pool: Pool, n: int) -> IntArray:
        """Return n cells of the pool, each set equally likely."""
        return pool.draw(n, site.generator)


@dataclass(frozen=True)
class Hebbian(Rule):
    """Prune what is least, grow what is most correlated: C_H of :func:`neuropil.rewire.scores.hebbian_correlation`.

    Args:
        centered: Pearson's correlation in place of the cosine.
        absolute: its absolute value: what never fires together is as informative as what always does.
        window: how many of the latest training steps are looked at; 1 as published: the last batch alone.

    Raises:
        ValueError: the window is not positive.

    Reference:
        G2GNet, arXiv 2508.14140, after the laboratory's public spiking code; ``absolute`` is ours.
    """

    centered: bool = False
    absolute: bool = False
    window: int = 1
    can_prune: ClassVar[bool] = True
    can_grow: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"pre", "post"})  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_window(self)

    def grid(self, site: Site) -> Strip:
        """Return C_H of all cells in a slice of rows."""
        return site.products(*self.activity(site), absolute=self.absolute)

    def activity(self, site: Site) -> tuple[Tensor, Tensor]:
        """Return the activities, of targets and of sources, whose products are C_H, ``[samples, neurons]``."""
        post, pre = (
            scores.unit_columns(recorded(self, site, name), centered=self.centered) for name in ("post", "pre")
        )
        return post, pre


@dataclass(frozen=True)
class Contribution(Rule):
    """Prune what carries least: the smallest |w| · |C_H|, a weight counting as far as its two neurons go together.

    Pruning by C_H alone takes away inhibition, for what a strong negative weight joins rarely fires together, and
    takes no notice of what has been learnt; this rule keeps both.

    Args:
        centered: Pearson's correlation in place of the cosine.
        window: how many of the latest training steps are looked at.

    Raises:
        ValueError: the window is not positive.

    Reference:
        Ours, after what G2GNet's Hebbian pruning was found to do on digits; see ``results/`` in the repository.
    """

    centered: bool = True
    window: int = 1
    can_prune: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"pre", "post"})  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_window(self)

    def live(self, site: Site) -> Scores:
        """Return |w| · |C_H| of each live block."""
        hebbian = Hebbian(centered=self.centered, absolute=True, window=self.window)
        if site.wiring.block == (1, 1):
            return hebbian.live(site) * site.magnitudes()
        weight = scores.magnitude(site.layer.weight.detach())
        return site.of_blocks(weight * site.live_products(*hebbian.activity(site)).abs_())


@dataclass(frozen=True)
class Gradient(Rule):
    """Grow where the loss would fall fastest: the largest |∂L/∂w| of connections that are not there.

    The gradient is taken from inputs and output gradients of the last step; nothing is kept for it otherwise.

    Reference:
        RigL, arXiv 1911.11134.
    """

    can_prune: ClassVar[bool] = True
    can_grow: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"pre", "gradient"})  # type: ignore[misc]

    def grid(self, site: Site) -> Strip:
        """Return |∂L/∂w| of all cells in a slice of rows."""
        gradient, pre = recorded(self, site, "gradient"), recorded(self, site, "pre")
        return site.products(gradient, pre, absolute=True)


@dataclass(frozen=True)
class Momentum(Rule):
    """Grow where the gradient has long pointed the same way: the largest |m|, m ← decay · m + (1 − decay) · ∂L/∂w.

    The average is taken over the latest ``window`` steps, so that nothing is computed in the others. Published is
    one over all steps, of which steps further back make up decay^window: a tenth with the defaults.

    Args:
        decay: in (0, 1).
        window: how many of the latest steps are averaged.

    Raises:
        ValueError: the decay lies outside (0, 1), or the window is not positive.

    Reference:
        T. Dettmers and L. Zettlemoyer, SNFS, arXiv 1907.04840.
    """

    decay: float = 0.9
    window: int = 22
    can_prune: ClassVar[bool] = True
    can_grow: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"pre", "gradient"})  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_window(self)
        if not 0 < self.decay < 1:
            raise ValueError(f"Momentum: decay must lie in (0, 1), got {self.decay:g}")

    def grid(self, site: Site) -> Strip:
        """Return |m| of all cells in a slice of rows."""
        pre = recorded(self, site, "pre")
        steps = [step.gradient for step in site.samples[-self.window :] if step.gradient is not None]
        recorded(self, site, "gradient")
        faded = [g * (1 - self.decay) * self.decay**age for age, g in enumerate(reversed(steps))]
        return site.products(torch.cat(faded[::-1]), pre, absolute=True)


@dataclass(frozen=True)
class MagnitudeAndGradient(Rule):
    """Prune what is small and hardly changes: the smallest |w| + coefficient · |∂L/∂w|.

    Args:
        coefficient: at least 0.

    Raises:
        ValueError: the coefficient is negative.

    Reference:
        MEST (NeurIPS 2021), with the coefficient of its re-implementation in the CHT repository.
    """

    coefficient: float = 0.01
    can_prune: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ValueError(f"MagnitudeAndGradient: coefficient must be at least 0, got {self.coefficient:g}")

    def live(self, site: Site) -> Scores:
        """Return |w| + coefficient · |∂L/∂w| of each live block."""
        weight = site.layer.weight.detach()
        worth = scores.magnitude_and_gradient(weight, weight_gradient(self, site), coefficient=self.coefficient)
        return site.of_blocks(worth)


@dataclass(frozen=True)
class Sensitivity(Rule):
    """Prune what the loss depends on least: the smallest |w · ∂L/∂w|.

    Reference:
        The score of SNIP, arXiv 1810.02340, taken in the course of training.
    """

    can_prune: ClassVar[bool] = True

    def live(self, site: Site) -> Scores:
        """Return |w · ∂L/∂w| of each live block."""
        return site.of_blocks(scores.sensitivity(site.layer.weight.detach(), weight_gradient(self, site)))


@dataclass(frozen=True)
class CannistraciHebb(Rule):
    """Grow what the wiring itself predicts: pairs joined by many short paths whose nodes have few links elsewhere.

    Looks at the grid of blocks as a graph; neither weights nor activity matter. Costs two products of the dense
    grid with itself, and memory for one matrix of sources by sources.

    Args:
        order: 3 (CH3-L3n) or 2 (CH2-L3n).

    Raises:
        ValueError: the order is neither.

    Reference:
        CHT (ICLR 2024) and CHTs, arXiv 2501.19107.
    """

    order: int = 3
    can_grow: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"CannistraciHebb: order must be 2 or 3, got {self.order!r}")

    def grid(self, site: Site) -> Strip:
        """Return the score of all cells in a slice of rows."""
        mask = torch.zeros(site.wiring.grid, device="cpu")
        mask.view(-1)[torch.from_numpy(site.remaining_cells())] = 1.0
        sources = scores.common_neighbours(mask.T, slice(None), order=self.order)

        def strip(rows: slice) -> Scores:
            targets = scores.common_neighbours(mask, rows, order=self.order)
            values: Scores = (mask[rows] @ sources.T + targets @ mask).numpy()
            return values

        return strip


def recorded(rule: Rule, site: Site, name: str) -> Tensor:
    """Return what was recorded of a layer in the rule's latest steps, ``[samples, neurons]``.

    Raises:
        ValueError: nothing was.
    """
    values = [getattr(samples, name) for samples in site.samples[-rule.window :]]
    if not values or any(value is None for value in values):
        what = {"pre": "the input", "post": "the activity", "gradient": "the output gradient"}[name]
        raise ValueError(
            f"Rewirer: {type(rule).__name__} needs {what} of layer {site.name!r} in the step before, none was "
            "recorded; try a forward and backward pass of the model in training mode before each step, and for a "
            "compiled model see the docstring of Rewirer"
        )
    return torch.cat(values)


def weight_gradient(rule: Rule, site: Site) -> Tensor:
    """Return the gradient of a layer's weight.

    Raises:
        ValueError: there is none.
    """
    gradient = site.layer.weight.grad
    if gradient is None:
        raise ValueError(
            f"Rewirer: {type(rule).__name__} needs the gradient of layer {site.name!r}, there is none; try zero_grad "
            "after the rewirer's step, not before"
        )
    return gradient


def check_window(rule: Rule) -> None:
    """Raise a ``ValueError`` unless a rule looks at one step at least."""
    if rule.window < 1:
        raise ValueError(f"{type(rule).__name__}: window must be at least 1, got {rule.window}")
